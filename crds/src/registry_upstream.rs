//! RegistryUpstream: where images come from.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AllowedNamespaces, LocalReference, Purged};

/// A registry that images come from, and how it is asked.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "dependencyproxy.dev",
    version = "v1alpha1",
    kind = "RegistryUpstream",
    namespaced,
    status = "RegistryUpstreamStatus",
    shortname = "ups",
    category = "dependency-proxy",
    doc = "A registry that images come from.",
    selectable = ".spec.url",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Account", type_ = "string", json_path = ".status.account"),
    printcolumn(name = "Validity", type_ = "integer", json_path = ".spec.cacheValidityHours"),
    printcolumn(name = "Limit", type_ = "string", json_path = ".status.limit"),
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
    "self.url.startsWith('https:') || (has(self.insecure) && self.insecure)",
    "an http upstream needs insecure: true"
))]
pub struct RegistryUpstreamSpec {
    /// URL of the registry, https, without user name and query. A path is part of the URL; `/v2` is not.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = (
            "isURL(self) && url(self).getScheme() in ['https', 'http'] && url(self).getHostname() != ''",
            "must be an http or https URL"
        ),
        validation = ("!self.contains('@')", "put credentials in credentialsSecretRef, never in the URL"),
        validation = ("!self.contains('?') && !self.contains('#')", "must have no query and no fragment"),
    )]
    pub url: String,
    /// Whether plain http is allowed. Default: false. It changes nothing for https.
    #[serde(default)]
    pub insecure: bool,
    /// Whether this is Docker Hub or a full copy of it: short names mean `library/`, and mirrors of `docker.io`
    /// are answered. Default: true for Docker Hub's own hosts, else false.
    #[serde(default)]
    pub docker_hub: bool,
    /// Secret of type kubernetes.io/basic-auth. Default: the registry is asked anonymously.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
    /// ConfigMap with a PEM bundle under `ca.crt`: a private CA of the registry. Default: the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<LocalReference>,
    /// Hours that a virtual registry serves a tag without asking again, 0 to 8760. 0: it never asks again.
    /// Default: 24.
    #[serde(default = "cache_validity_hours")]
    #[schemars(range(min = 0, max = 8760))]
    pub cache_validity_hours: i64,
    /// What a cached tag is worth when the registry answers 401, 403 or 404: ServeCached or Refuse. Default:
    /// ServeCached.
    #[serde(default)]
    pub when_refused: WhenRefused,
    /// Milliseconds that a cached answer waits for the check of its tag, 0 to 60000; the check goes on behind
    /// it. Default: 1000.
    #[serde(default = "recheck_budget_milliseconds")]
    #[schemars(range(min = 0, max = 60000))]
    pub recheck_budget_milliseconds: i64,
    /// Which repositories may be pulled; at most 20. A deny rule wins; where there are allow rules, one must
    /// match. Default: all may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<RepositoryRule>,
    /// How gently the registry is used.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// Host names of token services outside the registry's own site, lower case, without port; at most 16.
    /// Credentials are sent there. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub token_hosts: Vec<String>,
    /// Namespaces whose groups and virtual registries may refer to it. Default: its own.
    #[serde(default)]
    pub allowed_groups: AllowedNamespaces,
}

/// What a cached tag is worth when upstream answers 401, 403 or 404.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum WhenRefused {
    #[default]
    ServeCached,
    Refuse,
}

/// A rule on repositories as the registry names them.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryRule {
    /// Name of the rule, as answers state it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Allow or Deny.
    pub action: Action,
    /// Wildcard on the repository: `*` stands for any characters, `/` among them, `?` for one.
    #[schemars(length(min = 1, max = 255))]
    pub repository: String,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Action {
    Allow,
    Deny,
}

/// How gently the registry is used.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Pulls of the registry's quota that are kept for images of which there is no copy, 0 to 1000000. Default: 10.
    #[serde(default = "reserve_pulls")]
    #[schemars(range(min = 0, max = 1000000))]
    pub reserve_pulls: i64,
    /// Requests to the registry at once, 1 to 1000. Default: 16.
    #[serde(default = "max_concurrent_requests")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent_requests: i64,
    /// Checks of tags per minute, 1 to 1000000; beyond it a cached tag is answered as stale. Default: 600.
    #[serde(default = "max_checks_per_minute")]
    #[schemars(range(min = 1, max = 1000000))]
    pub max_checks_per_minute: i64,
}

/// What is true of the upstream.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryUpstreamStatus {
    /// The generation that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `True`, or the reason why the object is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The account's user name, or `anonymous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The registry's pull limit as last seen, such as `200/6h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    #[serde(flatten)]
    pub purged: Purged,
    /// Ready, Accepted, Reachable, CredentialsValid, Purged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            reserve_pulls: reserve_pulls(),
            max_concurrent_requests: max_concurrent_requests(),
            max_checks_per_minute: max_checks_per_minute(),
        }
    }
}

fn cache_validity_hours() -> i64 {
    24
}

fn recheck_budget_milliseconds() -> i64 {
    1000
}

fn reserve_pulls() -> i64 {
    10
}

fn max_concurrent_requests() -> i64 {
    16
}

fn max_checks_per_minute() -> i64 {
    600
}
