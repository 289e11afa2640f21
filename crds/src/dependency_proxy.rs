//! DependencyProxy: one installation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{AllowedNamespaces, LocalReference, NamespacedReference};

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
    "!has(self.storage.ephemeral) || !has(self.replicas) || self.replicas <= 1",
    "ephemeral storage is for one replica; use object storage for more"
))]
#[x_kube(validation = (
    "!has(self.storage.persistentVolumeClaim) || !has(self.replicas) || self.replicas <= 1 || (has(self.storage.persistentVolumeClaim.accessModes) && 'ReadWriteMany' in self.storage.persistentVolumeClaim.accessModes)",
    "a ReadWriteOnce volume is for one replica; use object storage or accessModes: [ReadWriteMany]"
))]
pub struct DependencyProxySpec {
    /// What clients reach the proxy at: http or https, no path, query or user name.
    #[serde(rename = "externalURL")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = ("isURL(self) && url(self).getScheme() in ['https', 'http']", "must be an http or https URL"),
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
        "self.all(u, isURL(u) && url(u).getScheme() in ['https', 'http'] && url(u).getEscapedPath() in ['', '/'] && !u.contains('?') && !u.contains('#') && !u.contains('@'))",
        "each must be an http or https URL without path, query, fragment or user name"
    ))]
    pub additional_urls: Vec<String>,
    /// The administrator's off switch: false answers every pull with 404 and a sentence. Default: true.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Number of pods, 0 to 100. Default: 1.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,
    /// Where blobs are kept: exactly one kind. A change restarts the pods.
    pub storage: Storage,
    /// The bounded local folder of each pod.
    #[serde(default)]
    pub local_cache: LocalCache,
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
}

/// Where blobs are kept. Exactly one field.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.s3), has(self.gcs), has(self.azure), has(self.persistentVolumeClaim), has(self.ephemeral)].filter(x, x).size() == 1",
    "set exactly one of s3, gcs, azure, persistentVolumeClaim and ephemeral"
))]
pub struct Storage {
    /// An S3 bucket, or one of a server that speaks S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A bucket of Google Cloud Storage. Comes later: refused until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcs: Option<Gcs>,
    /// A container of Azure Blob Storage. Comes later: refused until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// A volume that outlives the pod. Outside a cluster: the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaim>,
    /// The pod's own disk; what is cached is lost with the pod. Outside a cluster: the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Ephemeral>,
}

/// An S3 bucket.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// Name of the bucket, 3 to 63 characters. It must exist.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// Region of the bucket. Default: from the environment, else us-east-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// URL of an S3 server, http or https. Default: AWS in `region`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = ("isURL(self) && url(self).getScheme() in ['https', 'http'] && !self.contains('@')", "must be an http or https URL without user name"))]
    pub endpoint: Option<String>,
    /// Prefix of every key, without slashes at its ends. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = ("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//')", "must have no slash at its ends and no empty part"))]
    pub prefix: Option<String>,
    /// Whether the bucket stands in the path instead of the host name, as most own S3 servers want. Default: false.
    #[serde(default)]
    pub path_style: bool,
    /// Secret with `accessKeyID`, `secretAccessKey` and, optionally, `sessionToken` (or the names of the AWS
    /// environment variables). Default: the environment or the identity of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
    /// ConfigMap with a PEM bundle under `ca.crt`: a private CA of the S3 server. Default: the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<LocalReference>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gcs {
    /// Name of the bucket.
    #[schemars(length(min = 3, max = 222))]
    pub bucket: String,
    /// Secret with a service account's key. Default: the identity of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// Name of the storage account.
    #[schemars(length(min = 3, max = 24))]
    pub account: String,
    /// Name of the container.
    #[schemars(length(min = 3, max = 63))]
    pub container: String,
    /// Secret with the account's key. Default: the identity of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

/// A volume that outlives the pod.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaim {
    /// Size of the volume, a Kubernetes quantity such as 100Gi.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = ("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))", "must be a quantity above zero, such as 100Gi"))]
    pub size: String,
    /// Storage class. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Access modes; more than one replica needs ReadWriteMany. Default: ReadWriteOnce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 32)))]
    pub access_modes: Vec<String>,
}

/// The pod's own disk.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
pub struct Ephemeral {}

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

/// How clients sign in.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Seconds that a token opens what it opens, 60 to 3600. Default: 900.
    #[serde(rename = "tokenTTLSeconds", default = "token_ttl_seconds")]
    #[schemars(range(min = 60, max = 3600))]
    pub token_ttl_seconds: i64,
    /// Secret with an htpasswd file (bcrypt only) under `users`. Default: no static users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_users_secret_ref: Option<LocalReference>,
    /// Secret of type dependencyproxy.dev/keys with the instance's keys, written by the operator. Default: the
    /// proxy keeps keys of its own in its data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_secret_ref: Option<LocalReference>,
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

impl Default for Auth {
    fn default() -> Self {
        Self { token_ttl_seconds: token_ttl_seconds(), static_users_secret_ref: None, keys_secret_ref: None }
    }
}

fn enabled() -> bool {
    true
}

fn replicas() -> i32 {
    1
}

fn drain_seconds() -> i64 {
    120
}

fn size_limit() -> String {
    "10Gi".to_owned()
}

fn token_ttl_seconds() -> i64 {
    900
}
