//! The YAML documents of an instance, as a person would write them, and changes to them.

use std::path::Path;

use serde_json::{Value, json};

use crate::hostile::Upstream;

/// All documents are in this namespace unless a test says otherwise.
pub const NAMESPACE: &str = "dp";

/// Documents by kind and name.
#[derive(Clone, Debug)]
pub struct Documents(Vec<Value>);

impl Documents {
    /// An instance at this URL whose upstreams may be on this machine, with the users alice and bob (passwords
    /// `alice-password`, `bob-password`) and the Secret of the deploy token `ci` (password `ci-password`).
    pub fn new(external_url: &str) -> Self {
        let mut documents = Self(Vec::new());
        documents.add(
            "DependencyProxy",
            "main",
            json!({
                "externalURL": external_url,
                "storage": {"ephemeral": {}},
                "auth": {"staticUsersSecretRef": {"name": "users"}},
                "upstreamNetworks": {"allowedCIDRs": ["127.0.0.0/8"]},
                "allowedGroups": {"from": "All"},
            }),
        );
        let users = ["alice", "bob"].map(|name| {
            // The lowest cost there is: these tests are not about bcrypt.
            format!("{name}:{}\n", bcrypt::hash(format!("{name}-password"), 4).unwrap())
        });
        documents.secret("users", json!({"users": users.concat()}));
        documents.secret("ci", json!({"username": "ci", "password": "ci-password"}));
        documents
    }

    /// Adds a document of ours.
    pub fn add(&mut self, kind: &str, name: &str, spec: Value) {
        self.0.push(json!({
            "apiVersion": "dependencyproxy.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
        }));
    }

    /// Adds a Secret with `stringData`.
    pub fn secret(&mut self, name: &str, data: Value) {
        let kind = if data.get("password").is_some() { "kubernetes.io/basic-auth" } else { "Opaque" };
        self.0.push(json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": data,
        }));
    }

    /// Adds a ConfigMap.
    pub fn config_map(&mut self, name: &str, data: Value) {
        self.0.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": NAMESPACE}, "data": data,
        }));
    }

    /// Adds a RegistryUpstream, with plain HTTP allowed.
    pub fn upstream(&mut self, name: &str, upstream: &Upstream) {
        self.add(
            "RegistryUpstream",
            name,
            json!({"url": upstream.url().as_str().trim_end_matches('/'), "insecure": true}),
        );
    }

    /// Gives an upstream a Secret with credentials.
    pub fn credentials(&mut self, upstream: &str, user: &str, password: &str) {
        let secret = format!("{upstream}-credentials");
        self.remove("Secret", &secret);
        self.secret(&secret, json!({"username": user, "password": password}));
        self.spec("RegistryUpstream", upstream)["credentialsSecretRef"] = json!({"name": secret});
    }

    /// Adds a group of that path on an upstream: alice is a Guest, `ci` is its deploy token, bob has no role.
    pub fn group(&mut self, path: &str, upstream: &str) {
        self.add(
            "DependencyProxyGroup",
            &path.replace('/', "-"),
            json!({
                "proxyRef": {"name": "main", "namespace": NAMESPACE},
                "path": path,
                "upstreamRef": {"name": upstream},
                "members": [{"name": "alice", "role": "Guest", "subject": {"kind": "User", "name": "alice"}}],
                "deployTokens": [{"name": "ci", "secretRef": {"name": "ci"}, "scopes": ["read_registry"]}],
            }),
        );
    }

    /// Adds a virtual registry of a group; its registry id is `dp.<name>`.
    pub fn registry(&mut self, name: &str, group: &str, upstreams: &[&str]) {
        let upstreams = upstreams.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        self.add("VirtualRegistry", name, json!({"groupRef": {"name": group}, "upstreams": upstreams}));
    }

    /// The document, to change it.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&mut self, kind: &str, name: &str) -> &mut Value {
        let found = self.0.iter_mut().find(|d| d["kind"] == kind && d["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// Its spec.
    pub fn spec(&mut self, kind: &str, name: &str) -> &mut Value {
        &mut self.get(kind, name)["spec"]
    }

    /// Takes a document away, if it is there.
    pub fn remove(&mut self, kind: &str, name: &str) {
        self.0.retain(|d| d["kind"] != kind || d["metadata"]["name"] != name);
    }

    /// All of them as the text of one file.
    #[must_use]
    pub fn yaml(&self) -> String {
        let texts = self.0.iter().map(|d| serde_yaml::to_string(d).unwrap()).collect::<Vec<_>>();
        texts.join("---\n")
    }

    /// Writes them all as one file. The file changes at once: a reader sees all of the old or all of the new.
    pub fn write(&self, file: &Path) {
        let new = file.with_extension("new");
        std::fs::write(&new, self.yaml()).unwrap();
        std::fs::rename(&new, file).unwrap();
    }
}
