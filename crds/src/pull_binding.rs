//! PullBinding: credentials where the images are pulled.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{LocalReference, NamespacedReference};

/// A pull secret and CI variables in the namespace where a group's images are pulled.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "dependencyproxy.dev",
    version = "v1alpha1",
    kind = "PullBinding",
    namespaced,
    status = "PullBindingStatus",
    shortname = "pb",
    category = "dependency-proxy",
    doc = "A pull secret and CI variables in the namespace where a group's images are pulled.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.groupRef.name"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".spec.pullSecretName"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.pullSecretName) || has(self.ciVariables)",
    "ask for at least one of pullSecretName and ciVariables"
))]
#[x_kube(validation = (
    "!has(self.credentialsSecretRef)",
    "credentialsSecretRef is for documents in files: in a cluster the operator keeps credentials of its own; take it out"
))]
#[x_kube(validation = (
    "!has(self.serviceAccounts) || size(self.serviceAccounts) == 0 || has(self.pullSecretName)",
    "serviceAccounts need pullSecretName: that is the Secret that they get"
))]
pub struct PullBindingSpec {
    /// The group; its `allowedConsumers` must allow this namespace.
    pub group_ref: NamespacedReference,
    /// Name of the pull secret to write, of type kubernetes.io/dockerconfigjson. Default: none is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "must be a name: lower-case letters, digits, '-' and '.'"
    ))]
    pub pull_secret_name: Option<String>,
    /// Service accounts that get the pull secret; at most 20. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = (
            "self.all(n, n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))",
            "each must be a name: lower-case letters, digits, '-' and '.'"
        ),
    )]
    pub service_accounts: Vec<String>,
    /// Where the `CI_DEPENDENCY_PROXY_*` variables are written. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ci_variables: Option<CiVariables>,
    /// Seconds until the written credential is renewed, 3600 to 2592000. Default: 86400, a day.
    #[serde(rename = "tokenTTLSeconds", default = "token_ttl_seconds")]
    #[schemars(range(min = 3600, max = 2592000))]
    pub token_ttl_seconds: i64,
    /// Seconds that a renewed credential keeps working, so that a job that runs goes on, 0 to 2592000. Default:
    /// 86400, a day.
    #[serde(default = "overlap_seconds")]
    #[schemars(range(min = 0, max = 2592000))]
    pub overlap_seconds: i64,
    /// Secret of type dependencyproxy.dev/credentials with what the binding pulls with, for documents in files. A
    /// cluster refuses it: there the operator keeps credentials of its own. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

/// Where the CI variables are written.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CiVariables {
    /// ConfigMap for the variables that are not secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "must be a name: lower-case letters, digits, '-' and '.'"
    ))]
    pub config_map_name: String,
    /// Secret for user name and password.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "must be a name: lower-case letters, digits, '-' and '.'"
    ))]
    pub secret_name: String,
}

/// What is true of the binding.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullBindingStatus {
    /// The generation that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `True`, or the reason why the object is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// When the written credential ends, its overlap counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Image prefix of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_prefix: Option<String>,
    /// Ready, Accepted, ResolvedRefs, Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
}

fn token_ttl_seconds() -> i64 {
    86400
}

fn overlap_seconds() -> i64 {
    86400
}
