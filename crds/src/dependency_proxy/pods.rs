//! What the pods are made of.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::LocalReference;

/// The container image of the pods.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.repository) || !(has(self.tag) || has(self.digest))",
    "tag and digest need repository"
))]
pub struct Image {
    /// Image name without tag. Default: the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub repository: Option<String>,
    /// Tag. Default: none, which runtimes take for latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub tag: Option<String>,
    /// Digest, such as sha256:…; it wins over the tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 160))]
    pub digest: Option<String>,
    /// Always, IfNotPresent or Never. Default: IfNotPresent.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Pull secrets for the image, at most 8. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub pull_secrets: Vec<LocalReference>,
}

/// When the image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// Bounds of a HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.minReplicas <= self.maxReplicas", "minReplicas must be at most maxReplicas"))]
pub struct Autoscaling {
    /// Least number of pods, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,
    /// Largest number of pods, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,
    /// Percent of the requested CPU above which pods are added, 1 to 1000. Default: 70.
    #[serde(rename = "targetCPUPercent", default = "target_cpu_percent")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_percent: i32,
}

/// How the pods reach upstreams.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// URL of an egress proxy for https upstreams. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = ("!self.contains('@')", "must have no user name or password"))]
    pub https_proxy: Option<String>,
    /// URL of an egress proxy for plain http upstreams. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = ("!self.contains('@')", "must have no user name or password"))]
    pub http_proxy: Option<String>,
    /// Hosts and networks that are reached without it; at most 64. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub no_proxy: Vec<String>,
}

/// Who may reach the pods.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Whether a NetworkPolicy is made: the registry port is open to all, the second port (metrics, status, and without
    /// a sign-in purge, freeze and log level) to the namespaces of operator and instance and to those with the label
    /// `dependencyproxy.dev/metrics: "true"`. Default: true.
    #[serde(default = "enabled")]
    pub enabled: bool,
}

/// How many pods may be away at once when nodes are drained.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDisruptionBudget {
    /// Pods, 1 to 100. Default: 1.
    #[serde(default = "max_unavailable")]
    #[schemars(range(min = 1, max = 100))]
    pub max_unavailable: i32,
}

/// Objects of the Prometheus operator.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// A ServiceMonitor: Auto (where the cluster has the kind) or Never. Default: Auto.
    #[serde(default)]
    pub service_monitor: Wanted,
    /// A PrometheusRule with the alerts: Auto (where the cluster has the kind) or Never. Default: Auto.
    #[serde(default)]
    pub prometheus_rule: Wanted,
}

/// Whether an optional object is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Wanted {
    #[default]
    Auto,
    Never,
}

/// What the pods have besides.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels of the pods; at most 64. Default: none but the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods; at most 64. Default: none but the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// CPU and memory. Default: requests of 100m and 128Mi, no limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels of the nodes that may run the pods; at most 64. Default: any node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate; at most 32. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
    /// Name of the PriorityClass. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Service account of the pods, for a bucket that is opened by workload identity; it must exist. Default: one
    /// without rights, made by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Default for PodDisruptionBudget {
    fn default() -> Self {
        Self { max_unavailable: max_unavailable() }
    }
}

fn enabled() -> bool {
    true
}

fn max_unavailable() -> i32 {
    1
}

fn target_cpu_percent() -> i32 {
    70
}
