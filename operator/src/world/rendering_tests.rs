#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Read;

use std::collections::BTreeMap;

use config::{Options, Origin, Reason};
use crds::RegistryUpstream;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;

use super::super::contents::Contents;
use super::super::rendered::Renderings;
use super::*;
use crate::watch::Shelf;

/// A cluster in a few lines.
pub(crate) struct Cluster {
    pub(crate) members: Members,
    pub(crate) contents: Contents,
    renderings: Renderings,
    /// All, also those that nobody refers to.
    pub(crate) upstreams: BTreeMap<ObjectId, Arc<RegistryUpstream>>,
}

pub(crate) fn of<K: DeserializeOwned>(yaml: &str) -> K {
    serde_yaml::from_str(yaml).unwrap()
}

pub(crate) fn id(name: &str) -> ObjectId {
    ObjectId { namespace: "n".to_owned(), name: name.to_owned() }
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let mut cluster = Self {
            members: Members::default(),
            contents: Contents::default(),
            renderings: Renderings::default(),
            upstreams: BTreeMap::new(),
        };
        cluster.proxy("storage: {ephemeral: {}}");
        let key = "k".repeat(64);
        let data = format!("{{instance: {key}, current: a, signing.a: {key}}}");
        cluster.secret("main-dependency-proxy-keys", "dependencyproxy.dev/keys", &data);
        cluster
    }

    pub(crate) fn secret(&mut self, name: &str, kind: &str, data: &str) {
        let texts = serde_yaml::from_str::<BTreeMap<String, String>>(data).unwrap();
        let data = texts.into_iter().map(|(name, text)| (name, k8s_openapi::ByteString(text.into_bytes())));
        let mut secret =
            Secret { type_: Some(kind.to_owned()), data: Some(data.collect()), ..Secret::default() };
        secret.metadata.name = Some(name.to_owned());
        secret.metadata.namespace = Some("n".to_owned());
        secret.metadata.uid = Some(name.to_owned());
        secret.metadata.resource_version = Some(format!("{:?}", secret.data));
        self.contents.secrets.insert(id(name), Arc::new(secret));
    }

    pub(crate) fn proxy(&mut self, spec: &str) {
        let generation = spec.bytes().map(i64::from).sum::<i64>() + 1;
        let yaml = format!(
            "{{metadata: {{name: main, namespace: n, uid: p, generation: {generation}}}, apiVersion: v, kind: k, \
             spec: {{externalURL: 'http://proxy:5000', {spec}}}}}"
        );
        self.members.proxy = Some(Arc::new(of(&yaml)));
    }

    pub(crate) fn group(&mut self, name: &str, spec: &str) {
        let generation = spec.bytes().map(i64::from).sum::<i64>() + 1;
        let yaml = format!(
            "{{metadata: {{name: {name}, namespace: n, uid: {name}, generation: {generation}}}, apiVersion: v, kind: k, \
             spec: {{proxyRef: {{name: main}}, path: {name}{spec}}}}}"
        );
        self.members.groups.insert(id(name), Arc::new(of(&yaml)));
    }

    pub(crate) fn upstream(&mut self, name: &str, spec: &str) {
        let generation = spec.bytes().map(i64::from).sum::<i64>() + 1;
        let yaml = format!(
            "{{metadata: {{name: {name}, namespace: n, uid: {name}, generation: {generation}}}, apiVersion: v, kind: k, \
             spec: {{url: 'https://registry.example'{spec}}}}}"
        );
        let upstream = Arc::new(of(&yaml));
        self.members.upstreams.insert(id(name), Arc::clone(&upstream));
        self.upstreams.insert(id(name), upstream);
    }

    pub(crate) fn render(&mut self, before: Option<&Arc<Rendering>>) -> Arc<Rendering> {
        let namespaces = Shelf { stores: Vec::new(), listed: Vec::new() };
        let mut upstreams = Writer::default();
        for upstream in self.upstreams.values() {
            upstreams.apply_watcher_event(&Event::Apply(upstream.as_ref().clone()));
        }
        let upstreams = Shelf { stores: vec![upstreams.as_reader()], listed: Vec::new() };
        self.renderings.turn();
        let (contents, renderings) = (&self.contents, &mut self.renderings);
        let mut sources = Sources { contents, namespaces: &namespaces, upstreams: &upstreams, renderings };
        render(&self.members, &mut sources, before).unwrap()
    }
}

pub(crate) fn text(rendering: &Rendering) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(rendering.documents.as_slice()).read_to_string(&mut text).unwrap();
    text
}

pub(crate) fn paths(rendering: &Rendering) -> Vec<&str> {
    rendering.config.as_ref().unwrap().groups.keys().map(String::as_str).collect()
}

#[test]
fn pods_that_read_the_documents_name_the_same_hash_and_find_no_problem() {
    let mut cluster = Cluster::new();
    cluster.upstream("up", "");
    cluster.group("a", ", upstreamRef: {name: up}");
    let rendering = cluster.render(None);
    let (documents, problems) = config::parse(&text(&rendering), "documents.yaml", Origin::Rendered);
    let options = Options { instance: Some(id("main")), ..Options::default() };
    let judgement = judge(&documents, &options);
    assert_eq!((problems.as_slice(), judgement.problems.as_slice()), (&[][..], &[][..]));
    assert_eq!(Some(judgement.config.unwrap().hash.as_str()), rendering.hash());
}

#[test]
fn nothing_is_rendered_again_where_nothing_changed() {
    let mut cluster = Cluster::new();
    cluster.group("a", "");
    let first = cluster.render(None);
    assert!(Arc::ptr_eq(&first, &cluster.render(Some(&first))));
    cluster.group("b", "");
    assert!(!Arc::ptr_eq(&first, &cluster.render(Some(&first))));
}

#[test]
fn an_edit_of_the_instance_that_changes_no_text_is_of_its_generation_all_the_same() {
    let mut cluster = Cluster::new();
    let first = cluster.render(None);
    cluster.proxy("storage: {ephemeral: {}}, aliases: []");
    let second = cluster.render(Some(&first));
    assert_ne!(second.proxy.metadata.generation, first.proxy.metadata.generation);
    assert_eq!(second.served.proxy.as_ref().unwrap().metadata.generation, second.proxy.metadata.generation);
    assert_eq!(second.hash(), first.hash());
    assert_eq!(second.documents, first.documents);
}

#[test]
fn what_is_refused_is_not_rendered_and_the_others_are() {
    let mut cluster = Cluster::new();
    cluster.group("a", "");
    cluster.group("b", ", upstreamRef: {name: nowhere}");
    let rendering = cluster.render(None);
    assert_eq!(paths(&rendering), ["a"]);
    let problems = &rendering.problems[&(Kind::DependencyProxyGroup, id("b"))];
    assert_eq!(problems[0].reason, Reason::UpstreamNotFound);
    assert!(!text(&rendering).contains("nowhere"));
}

#[test]
fn a_deploy_tokens_password_is_not_rendered_also_when_its_secret_is_no_good() {
    let mut cluster = Cluster::new();
    cluster.secret("good", "kubernetes.io/basic-auth", "{username: u, password: pass-good}");
    cluster.secret("bad", "Opaque", "{username: u, password: pass-bad}");
    let token =
        |name: &str| format!("{{name: {name}, secretRef: {{name: {name}}}, scopes: [read_registry]}}");
    cluster.group("a", &format!(", deployTokens: [{}, {}]", token("good"), token("bad")));
    let rendering = cluster.render(None);
    assert!(!text(&rendering).contains("pass-"));
    let credentials = &rendering.config.as_ref().unwrap().credentials;
    assert_eq!(
        credentials.named("u").map(|credential| credential.owner.to_string()).collect::<Vec<_>>(),
        ["good"]
    );
}

#[test]
fn users_of_good_lines_are_rendered_and_others_are_not() {
    let mut cluster = Cluster::new();
    let hash = "$2y$10$qtaK1cXYXblil7rCqX7TNuAuwPaGsFiL1AT0ozFRp6VSNGdOjfjDS";
    cluster.secret("users", "Opaque", &format!("{{users: \"alice:{hash}\\nbob:plain\\n\"}}"));
    cluster.proxy("storage: {ephemeral: {}}, auth: {staticUsersSecretRef: {name: users}}");
    let rendering = cluster.render(None);
    let text = text(&rendering);
    assert!(text.contains("alice:$2y$10$") && !text.contains("bob"));
}

#[test]
fn an_object_that_goes_bad_stays_as_it_was() {
    let mut cluster = Cluster::new();
    cluster.group("a", ", recheckAfterSeconds: 60");
    let first = cluster.render(None);
    cluster.group("a", ", recheckAfterSeconds: -1");
    let second = cluster.render(Some(&first));
    assert_eq!(second.config.as_ref().unwrap().groups["a"].recheck_after.as_secs(), 60);
    assert!(!second.problems.is_empty());
}

#[test]
fn an_instance_without_its_keys_is_not_served_yet() {
    let mut cluster = Cluster::new();
    cluster.contents.secrets.clear();
    assert!(cluster.render(None).config.is_none());
}

#[test]
fn a_bindings_passwords_are_good_and_rendered_as_hashes() {
    let mut cluster = Cluster::new();
    cluster.group("a", "");
    let binding = "{metadata: {name: b, namespace: n, uid: b, generation: 1}, apiVersion: v, kind: k, \
                   spec: {groupRef: {name: a}, pullSecretName: s, serviceAccounts: [default]}}";
    cluster.members.bindings.insert(id("b"), Arc::new(of(binding)));
    let data = "{username: n.b, current: '1', password.1: pass-old, expires.1: '2030-01-01T00:00:00Z', password.2: pass-new}";
    cluster.secret("b-dependency-proxy-credentials", "dependencyproxy.dev/credentials", data);
    let rendering = cluster.render(None);
    assert!(rendering.problems.is_empty(), "{:?}", rendering.problems);
    assert_eq!(rendering.config.as_ref().unwrap().credentials.named("n.b").count(), 2);
    assert!(!text(&rendering).contains("pass-"));
}

#[test]
fn a_binding_that_names_credentials_itself_gets_the_operators_all_the_same() {
    let mut cluster = Cluster::new();
    cluster.group("a", "");
    let binding = "{metadata: {name: b, namespace: n, uid: b, generation: 1}, apiVersion: v, kind: k, \
                   spec: {groupRef: {name: a}, pullSecretName: s, credentialsSecretRef: {name: mine}}}";
    cluster.members.bindings.insert(id("b"), Arc::new(of(binding)));
    let rendering = cluster.render(None);
    assert!(rendering.problems.is_empty(), "{:?}", rendering.problems);
    assert!(rendering.pages.contains_key(&(Kind::PullBinding, id("b"))));
}

#[test]
fn several_bindings_of_a_namespace_are_rendered() {
    let mut cluster = Cluster::new();
    cluster.group("a", "");
    for name in ["b", "c"] {
        let binding = format!(
            "{{metadata: {{name: {name}, namespace: n, uid: {name}, generation: 1}}, apiVersion: v, kind: k, \
             spec: {{groupRef: {{name: a}}, pullSecretName: pull-{name}}}}}"
        );
        cluster.members.bindings.insert(id(name), Arc::new(of(&binding)));
    }
    let rendering = cluster.render(None);
    assert!(rendering.problems.is_empty(), "{:?}", rendering.problems);
    assert!(["b", "c"].iter().all(|name| rendering.pages.contains_key(&(Kind::PullBinding, id(name)))));
}
