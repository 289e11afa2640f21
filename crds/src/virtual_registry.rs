//! VirtualRegistry: several upstreams as one registry.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{LocalReference, NamespacedReference, Purged};

/// Several upstreams as one registry; the first that has the image serves it. Its registry id in image names
/// is `<namespace>.<name>`.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "dependencyproxy.dev",
    version = "v1alpha1",
    kind = "VirtualRegistry",
    plural = "virtualregistries",
    namespaced,
    status = "VirtualRegistryStatus",
    shortname = "vreg",
    category = "dependency-proxy",
    doc = "Several upstreams as one registry.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "ID", type_ = "string", json_path = ".status.registryID"),
    printcolumn(name = "Upstreams", type_ = "string", json_path = ".status.upstreams"),
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
pub struct VirtualRegistrySpec {
    /// The group whose members may pull; at most five registries per top-level group. Cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("groupRef cannot be changed"))]
    pub group_ref: LocalReference,
    /// The RegistryUpstreams in the order in which they are asked, 1 to 5, each once.
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = (
            "self.all(u, self.exists_one(v, v.name == u.name && (has(v.__namespace__) ? v.__namespace__ : '') == (has(u.__namespace__) ? u.__namespace__ : '')))",
            "each upstream may stand in the list once"
        ),
    )]
    pub upstreams: Vec<NamespacedReference>,
}

/// What is true of the virtual registry.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualRegistryStatus {
    /// The generation that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `True`, or the reason why the object is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// `<namespace>.<name>`.
    #[serde(rename = "registryID", skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    /// Names of the upstreams in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstreams: Option<String>,
    /// What stands before an image's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_prefix: Option<String>,
    #[serde(flatten)]
    pub purged: Purged,
    /// Ready, Accepted, ResolvedRefs, Programmed, Purged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
}
