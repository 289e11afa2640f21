//! DependencyProxy: one installation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

mod auth;
mod cleanup;
mod expose;
mod pods;
mod storage;

pub use auth::{Auth, SigningKeys};
pub use cleanup::{CleanupJob, CleanupStatus};
pub use expose::{Expose, Gateway, Ingress, IssuerReference, ParentReference, Service, ServiceType, Tls};
pub use pods::{
    Autoscaling, Egress, Image, Metrics, NetworkPolicy, PodDisruptionBudget, PodTemplate, PullPolicy, Wanted,
};
pub use storage::{Azure, Ephemeral, Gcs, PersistentVolumeClaim, S3, Storage};

use crate::{AllowedNamespaces, NamespacedReference, Quota};

/// One installation of the dependency proxy: its pods, its store, and who may attach groups to it.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "dependencyproxy.dev",
    version = "v1alpha1",
    kind = "DependencyProxy",
    plural = "dependencyproxies",
    namespaced,
    status = "DependencyProxyStatus",
    shortname = "dp",
    category = "dependency-proxy",
    doc = "One installation of the dependency proxy.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Groups", type_ = "integer", json_path = ".status.groups"),
    printcolumn(name = "Storage", type_ = "string", json_path = ".status.storage"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.externalURL"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    validation = Rule::new("size(self.metadata.name) <= 40")
        .message("name must have at most 40 characters, because names of other objects are made from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!(has(self.replicas) && has(self.autoscaling))",
    "set replicas or autoscaling, not both"
))]
#[x_kube(validation = (
    "!has(self.storage.ephemeral) || ((!has(self.replicas) || self.replicas <= 1) && !has(self.autoscaling))",
    "ephemeral storage is for one replica; use object storage for more"
))]
#[x_kube(validation = (
    "!has(self.storage.persistentVolumeClaim) || ((!has(self.replicas) || self.replicas <= 1) && !has(self.autoscaling))",
    "a volume is for one replica; use object storage for more"
))]
pub struct DependencyProxySpec {
    /// What clients reach the proxy at: http or https, no path, query or user name.
    #[serde(rename = "externalURL")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = (
            "isURL(self) && url(self).getScheme() in ['https', 'http'] && url(self).getHostname() != ''",
            "must be an http or https URL"
        ),
        validation = (
            "isURL(self) && url(self).getEscapedPath() in ['', '/'] && size(url(self).getQuery()) == 0 && !self.contains('@') && !self.contains('#')",
            "must have no path, query, fragment or user name: clients require the registry at the root of the host"
        ),
    )]
    pub external_url: String,
    /// Other URLs of the same service, such as its cluster-internal name; at most 16. The sign-in challenge
    /// names the one whose host the client used. Default: none.
    #[serde(rename = "additionalURLs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 2048)))]
    #[x_kube(validation = (
        "self.all(u, isURL(u) && url(u).getScheme() in ['https', 'http'] && url(u).getHostname() != '' && url(u).getEscapedPath() in ['', '/'] && !u.contains('?') && !u.contains('#') && !u.contains('@'))",
        "each must be an http or https URL without path, query, fragment or user name"
    ))]
    pub additional_urls: Vec<String>,
    /// The administrator's off switch: false answers every pull with 404 and a sentence. Default: true.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// The container image of the pods. Default: the one that the operator was installed with.
    #[serde(default)]
    pub image: Image,
    /// Number of pods, 0 to 100; not together with `autoscaling`. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: Option<i32>,
    /// Lets a HorizontalPodAutoscaler set the number of pods. Default: `replicas` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Where blobs are kept: exactly one kind. A change restarts the pods.
    pub storage: Storage,
    /// The bounded local folder of each pod.
    #[serde(default)]
    pub local_cache: LocalCache,
    /// How much all groups together may keep in the storage. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// When it is looked for what may be forgotten.
    #[serde(default)]
    pub cleanup: CleanupJob,
    /// How clients sign in.
    #[serde(default)]
    pub auth: Auth,
    /// Where upstreams may be.
    #[serde(default)]
    pub upstream_networks: UpstreamNetworks,
    /// The RegistryUpstream of groups that name none. Default: Docker Hub, anonymously.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_upstream_ref: Option<NamespacedReference>,
    /// Old image prefixes that keep working; at most 100. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["prefix".into()]))]
    pub aliases: Vec<Alias>,
    /// Host names for clients that take a mirror's host but no path; at most 100. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into()]))]
    pub mirrors: Vec<Mirror>,
    /// Seconds that running transfers may take after SIGTERM, 0 to 3600. Default: 120.
    #[serde(default = "drain_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: i64,
    /// Namespaces whose groups may attach. Default: the instance's own.
    #[serde(default)]
    pub allowed_groups: AllowedNamespaces,
    /// Virtual registries per top-level group, those of its subgroups counted, 1 to 1000; the oldest count.
    /// Default: 5.
    #[serde(default = "max_registries_per_group")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_registries_per_group: i64,
    /// How clients reach the pods: Service, Ingress, Gateway.
    #[serde(default)]
    pub expose: Expose,
    /// The certificate of the pods' own port. Default: plain http, for an Ingress or Gateway that ends TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How the pods reach upstreams.
    #[serde(default)]
    pub egress: Egress,
    /// Who may reach the pods.
    #[serde(default)]
    pub network_policy: NetworkPolicy,
    /// How many pods may be away at once when nodes are drained.
    #[serde(default)]
    pub pod_disruption_budget: PodDisruptionBudget,
    /// Objects of the Prometheus operator.
    #[serde(default)]
    pub metrics: Metrics,
    /// What the pods have besides.
    #[serde(default)]
    pub pod_template: PodTemplate,
    /// True: the operator changes nothing of this installation, and says so in its status. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// The bounded local folder of each pod: running downloads and blobs in frequent use.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalCache {
    /// Bound of the folder, a Kubernetes quantity. Default: 10Gi.
    #[serde(default = "size_limit")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = ("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))", "must be a quantity above zero, such as 10Gi"))]
    pub size_limit: String,
}

/// Where upstreams may be.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamNetworks {
    /// Private networks that upstreams may be in, such as 10.1.0.0/16; at most 64. Link-local addresses never
    /// may. Default: none, public addresses only.
    #[serde(rename = "allowedCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = ("self.all(c, isCIDR(c))", "each must be a network such as 10.1.0.0/16"))]
    pub allowed_cidrs: Vec<String>,
}

/// An old image prefix. Exactly one of the references.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.groupRef) != has(self.virtualRegistryRef)", "set exactly one of groupRef and virtualRegistryRef"))]
pub struct Alias {
    /// The prefix as image names write it, such as harbor/dockerhub, without slashes at its ends.
    #[schemars(length(min = 1, max = 255))]
    pub prefix: String,
    /// The group that it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_ref: Option<NamespacedReference>,
    /// The virtual registry that it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_registry_ref: Option<NamespacedReference>,
}

/// A mirror host. Exactly one of the references.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.groupRef) != has(self.virtualRegistryRef)", "set exactly one of groupRef and virtualRegistryRef"))]
pub struct Mirror {
    /// Host name, lower case, with the port if clients state one.
    #[schemars(length(min = 1, max = 259))]
    pub host: String,
    /// The group that it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_ref: Option<NamespacedReference>,
    /// The virtual registry that it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_registry_ref: Option<NamespacedReference>,
}

/// What is true of the installation.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DependencyProxyStatus {
    /// The generation that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `True`, or the reason why the object is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Label selector of the pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Number of attached groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<i32>,
    /// The kind of storage, such as s3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// Number of pods that are ready and have the current documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Hash of the documents that every ready pod has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// Bytes of the rendered documents, compressed; the bound is 1048576.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_bytes: Option<i64>,
    /// Version of the proxy in the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Ids of the keys that tokens are accepted from, the one that signs first. Never the keys.
    #[serde(rename = "keyIDs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub key_ids: Vec<String>,
    /// The cleanup that ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<CleanupStatus>,
    /// Ready, Available, Progressing, StorageReachable, Exposed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
}

impl Default for LocalCache {
    fn default() -> Self {
        Self { size_limit: size_limit() }
    }
}

fn enabled() -> bool {
    true
}

fn drain_seconds() -> i64 {
    120
}

fn max_registries_per_group() -> i64 {
    5
}

fn size_limit() -> String {
    "10Gi".to_owned()
}
