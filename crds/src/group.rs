//! DependencyProxyGroup: a team and its path.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AllowedNamespaces, LocalReference, NamespacedReference, Purged};

/// A team: its path, its members, and where its images come from.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "dependencyproxy.dev",
    version = "v1alpha1",
    kind = "DependencyProxyGroup",
    namespaced,
    status = "DependencyProxyGroupStatus",
    shortname = "dpg",
    category = "dependency-proxy",
    doc = "A team: its path, its members, and where its images come from.",
    selectable = ".spec.proxyRef.name",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.path"),
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enabled"),
    printcolumn(name = "Upstream", type_ = "string", json_path = ".status.upstream"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".status.imagePrefix"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DependencyProxyGroupSpec {
    /// The DependencyProxy that serves the group; it must allow the group's namespace. Cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("proxyRef cannot be changed"))]
    pub proxy_ref: NamespacedReference,
    /// Path in image names: team-a, or parent/child for a subgroup; lower case, at most 20 segments and 255
    /// characters. The namespace of the oldest group owns the first segment. Cannot be changed.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("path cannot be changed: it is part of every image name"),
        validation = (
            "self.matches('^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*){0,19}$')",
            "must be lower-case segments such as team-a or team-a/child"
        ),
        validation = (
            "!('dependency_proxy' in self.split('/')) && !('virtual_registries' in self.split('/'))",
            "must not have the segments dependency_proxy and virtual_registries"
        ),
    )]
    pub path: String,
    /// The owner's switch: false answers pulls with 404 and a sentence. Default: true.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Seconds that a tag is served without a check, 0 to 31536000. 0: every pull checks it. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 31536000))]
    pub recheck_after_seconds: i64,
    /// The RegistryUpstream. Default: the instance's `defaultUpstreamRef`, else Docker Hub, anonymously.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ref: Option<NamespacedReference>,
    /// Who may do what; at most 100. Members of a parent group are members here. Default: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<Member>,
    /// Credentials of machines; at most 100. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub deploy_tokens: Vec<DeployToken>,
    /// Which cached images are forgotten. Default: none.
    #[serde(default)]
    pub cleanup: Cleanup,
    /// How much the group may keep. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// Namespaces whose PullBindings may refer to the group. Default: its own.
    #[serde(default)]
    pub allowed_consumers: AllowedNamespaces,
}

/// A member of the group.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of the entry.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Guest (pulls), Reporter, Developer, Maintainer or Owner (purges).
    pub role: Role,
    /// Who it is.
    pub subject: Subject,
}

/// A role, in the order of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Role {
    Guest,
    Reporter,
    Developer,
    Maintainer,
    Owner,
}

/// Who a member is.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
// `namespace` is a reserved word of CEL; the API server knows the field under its escaped name.
#[x_kube(validation = (
    "(self.kind == 'ServiceAccount') == has(self.__namespace__)",
    "namespace is required for a ServiceAccount and forbidden otherwise"
))]
pub struct Subject {
    /// User, Group or ServiceAccount. Only users can sign in today.
    pub kind: SubjectKind,
    /// Name of the user, group or service account.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the service account; with `kind: ServiceAccount` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// What kind of subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SubjectKind {
    User,
    Group,
    ServiceAccount,
}

/// A deploy token.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployToken {
    /// Name of the token, as answers state it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Secret of type kubernetes.io/basic-auth with the token's user name and password.
    pub secret_ref: LocalReference,
    /// What the token may do; at least one. read_registry is what pulling needs.
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<Scope>,
    /// When the token ends, RFC 3339. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// What a deploy token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    ReadRegistry,
    WriteRegistry,
    ReadVirtualRegistry,
    WriteVirtualRegistry,
}

/// Which cached images are forgotten.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cleanup {
    /// Images under the group's prefix.
    #[serde(default)]
    pub dependency_proxy: DependencyProxyCleanup,
    /// Images of the group's virtual registries.
    #[serde(default)]
    pub virtual_registries: VirtualRegistryCleanup,
}

/// Cleanup of images under the group's prefix.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DependencyProxyCleanup {
    /// Whether images are forgotten at all. Default: false.
    #[serde(default)]
    pub enabled: bool,
    /// Days since the last pull after which an image is forgotten, 1 to 365. Default: 90.
    #[serde(default = "ttl_days")]
    #[schemars(range(min = 1, max = 365))]
    pub ttl_days: i64,
}

/// Cleanup of images of virtual registries.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualRegistryCleanup {
    /// Whether images are forgotten at all. Default: false.
    #[serde(default)]
    pub enabled: bool,
    /// Days since the last pull after which an image is forgotten, 1 to 365. Default: 30.
    #[serde(default = "keep_days_after_download")]
    #[schemars(range(min = 1, max = 365))]
    pub keep_days_after_download: i64,
    /// Days between two runs: 1, 7, 14, 30 or 90. Default: 7.
    #[serde(default = "cadence_days")]
    #[x_kube(validation = ("self in [1, 7, 14, 30, 90]", "must be one of 1, 7, 14, 30 and 90"))]
    pub cadence_days: i64,
}

/// How much may be kept.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Bound of the stored blobs in bytes, a Kubernetes quantity such as 500Gi. What was not pulled for the longest time
    /// is forgotten first.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = ("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))", "must be a quantity above zero, such as 500Gi"))]
    pub storage_bytes: String,
}

/// What is true of the group.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DependencyProxyGroupStatus {
    /// The generation that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `True`, or the reason why the object is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The upstream that holds, `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// What stands before an image's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_prefix: Option<String>,
    /// What `docker login` takes: host and, unless it is the scheme's own, port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(flatten)]
    pub purged: Purged,
    /// Ready, Accepted, ResolvedRefs, Programmed, Purged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
}

impl Default for DependencyProxyCleanup {
    fn default() -> Self {
        Self { enabled: false, ttl_days: ttl_days() }
    }
}

impl Default for VirtualRegistryCleanup {
    fn default() -> Self {
        Self {
            enabled: false,
            keep_days_after_download: keep_days_after_download(),
            cadence_days: cadence_days(),
        }
    }
}

fn enabled() -> bool {
    true
}

fn ttl_days() -> i64 {
    90
}

fn keep_days_after_download() -> i64 {
    30
}

fn cadence_days() -> i64 {
    7
}
