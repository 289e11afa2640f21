//! What the parts of every status are.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What was forgotten of the cache, of objects that can be asked for it by annotations.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct Purged {
    /// The value of the annotation dependencyproxy.dev/purge that was done last.
    #[serde(rename = "purged", skip_serializing_if = "Option::is_none")]
    pub everything: Option<String>,
    /// The value of the annotation dependencyproxy.dev/purge-image that was done last.
    #[serde(rename = "purgedImage", skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Conditions are a list map by type, so that two writers of different conditions do not undo each other.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<Condition>();
    json_schema!({
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
