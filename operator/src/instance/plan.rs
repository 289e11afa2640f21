//! From what was judged to what shall be built. Pure.

use std::collections::BTreeMap;

use config::{ObjectId, fingerprint};
use crds::{DependencyProxySpec, PersistentVolumeClaim, PullPolicy, Storage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use url::Url;

use crate::apply::{Object, Outcome};
use crate::world::{Rendering, id_of};

/// The port of the registry in pods and Service.
pub(super) const REGISTRY_PORT: i32 = 5000;
/// Where replicas reach each other.
pub(super) const REPLICA_PORT: i32 = 5001;

/// Everything that builders need. It can only be made of a rendering that pods can serve: what is built without one
/// is nothing.
pub(super) struct Plan {
    pub id: ObjectId,
    pub spec: DependencyProxySpec,
    pub owner: OwnerReference,
    pub url: Url,
    pub image: String,
    /// Compressed documents.
    pub documents: Vec<u8>,
    /// Documents of the store's credentials; empty: none.
    pub storage: String,
    /// The Secret with the certificate of the pods' own port.
    pub tls_secret: Option<String>,
    pub service_account: String,
    /// The operator's namespace, which may read metrics and status.
    pub operator_namespace: String,
    /// Changes with what pods read at their start only.
    pub boot: String,
}

/// Why nothing is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    /// What keeps an object from being as it shall, if anything does.
    pub(super) fn of(object: &Object, outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Unchanged | Outcome::Written => None,
            Outcome::Taken => Some(Self { reason: "NameConflict", message: object.taken() }),
            Outcome::Refused(message) => Some(Self { reason: "InvalidSpec", message }),
        }
    }
}

/// The bytes that a Secret may have.
pub(super) const LARGEST_SECRET: usize = 1_048_576;

impl Plan {
    /// Takes an instance that the judge took.
    ///
    /// # Errors
    /// What keeps it from being built, in words for its owner.
    pub(super) fn of(rendering: &Rendering, image: &str, operator_namespace: &str) -> Result<Self, Refusal> {
        let (Some(proxy), Some(_)) = (rendering.served.proxy.as_deref(), &rendering.config) else {
            let message = "the specification is refused".to_owned();
            return Err(Refusal { reason: "InvalidSpec", message });
        };
        let id = id_of(proxy);
        let spec = proxy.spec.clone();
        if rendering.documents.len() > LARGEST_SECRET {
            let message = format!(
                "the documents have {} bytes, a Secret takes {LARGEST_SECRET}; move some groups to another DependencyProxy",
                rendering.documents.len()
            );
            return Err(Refusal { reason: "TooManyDocuments", message });
        }
        let Ok(url) = Url::parse(&spec.external_url) else {
            let message = "spec.externalURL is no URL; correct it".to_owned();
            return Err(Refusal { reason: "InvalidSpec", message });
        };
        let Some(owner) = proxy.controller_owner_ref(&()) else {
            let message = "the object has no uid yet".to_owned();
            return Err(Refusal { reason: "Pending", message });
        };
        let name = child(&id);
        Ok(Self {
            image: image_of(&spec, image),
            documents: rendering.documents.clone(),
            storage: rendering.storage.clone(),
            tls_secret: tls_secret(&spec, &name),
            service_account: service_account(&spec, &name),
            operator_namespace: operator_namespace.to_owned(),
            boot: boot(&spec, &rendering.storage),
            id,
            spec,
            owner,
            url,
        })
    }

    /// The name of most objects of the instance.
    #[must_use]
    pub(super) fn name(&self) -> String {
        child(&self.id)
    }

    /// The labels that select the pods.
    #[must_use]
    pub(super) fn selector(&self) -> BTreeMap<String, String> {
        let label = |key: &str, value: &str| (format!("app.kubernetes.io/{key}"), value.to_owned());
        BTreeMap::from([
            label("name", "dependency-proxy"),
            label("instance", &self.id.name),
            label("component", "proxy"),
        ])
    }

    /// The labels of all objects.
    #[must_use]
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert("app.kubernetes.io/part-of".to_owned(), "dependency-proxy".to_owned());
        labels.insert("app.kubernetes.io/managed-by".to_owned(), "dependency-proxy-operator".to_owned());
        labels
    }

    /// The labels of the cleanup and its pods: no Service finds those.
    #[must_use]
    pub(super) fn cleanup_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert("app.kubernetes.io/component".to_owned(), "cleanup".to_owned());
        labels
    }

    /// Whether the pods' own port speaks TLS.
    #[must_use]
    pub(super) fn has_tls(&self) -> bool {
        self.tls_secret.is_some()
    }

    /// Whether replicas find each other's downloads through their store.
    pub(super) fn is_shared(&self) -> bool {
        self.spec.storage.s3.is_some()
    }
}

/// Whether another pod than the proxy's reaches what it keeps.
#[must_use]
pub(super) fn has_cleanup(storage: &Storage) -> bool {
    let is_for_one_pod =
        |claim: &PersistentVolumeClaim| claim.access_modes.iter().any(|mode| mode == "ReadWriteOncePod");
    storage.s3.is_some()
        || storage.persistent_volume_claim.as_ref().is_some_and(|claim| !is_for_one_pod(claim))
}

/// The name of an instance's objects.
#[must_use]
pub fn child(instance: &ObjectId) -> String {
    format!("{}-dependency-proxy", instance.name)
}

/// The Secret with the certificate of the pods' own port.
#[must_use]
pub(super) fn tls_secret(spec: &DependencyProxySpec, name: &str) -> Option<String> {
    let tls = spec.tls.as_ref()?;
    match &tls.secret_ref {
        Some(reference) => Some(reference.name.clone()),
        // cert-manager writes it.
        None => Some(format!("{name}-tls")),
    }
}

/// The user's own, or the one that is made.
fn service_account(spec: &DependencyProxySpec, name: &str) -> String {
    spec.pod_template.service_account_name.clone().unwrap_or_else(|| name.to_owned())
}

fn image_of(spec: &DependencyProxySpec, default: &str) -> String {
    let image = &spec.image;
    match (&image.repository, &image.digest, &image.tag) {
        (None, ..) => default.to_owned(),
        (Some(repository), Some(digest), _) => format!("{repository}@{digest}"),
        (Some(repository), None, Some(tag)) => format!("{repository}:{tag}"),
        (Some(repository), None, None) => repository.clone(),
    }
}

/// Pods read the store's settings at their start only: a change of them rolls the pods.
fn boot(spec: &DependencyProxySpec, storage: &str) -> String {
    let settings = serde_json::to_string(&(&spec.storage, &spec.local_cache)).unwrap_or_default();
    fingerprint(&[settings.as_bytes(), storage.as_bytes()])
}

/// The pull policy as Kubernetes writes it.
#[must_use]
pub(super) fn pull_policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
impl Plan {
    /// Of the instance `n/main` with these fields of its specification beside the least.
    pub(super) fn example(fields: &str) -> Self {
        let mut spec = serde_json::json!({"externalURL": "https://proxy.example.com"});
        let fields = serde_yaml::from_str::<serde_json::Value>(fields).unwrap();
        spec.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
        spec.as_object_mut()
            .unwrap()
            .entry("storage")
            .or_insert_with(|| serde_json::json!({"s3": {"bucket": "blobs"}}));
        let spec = serde_json::from_value::<DependencyProxySpec>(spec).unwrap();
        let id = ObjectId { namespace: "n".to_owned(), name: "main".to_owned() };
        let name = child(&id);
        Self {
            url: Url::parse(&spec.external_url).unwrap(),
            image: image_of(&spec, "registry.example.com/default:1"),
            documents: b"documents".to_vec(),
            storage: String::new(),
            tls_secret: tls_secret(&spec, &name),
            service_account: service_account(&spec, &name),
            operator_namespace: "operators".to_owned(),
            boot: boot(&spec, ""),
            owner: OwnerReference { uid: "u".to_owned(), ..OwnerReference::default() },
            id,
            spec,
        }
    }
}
