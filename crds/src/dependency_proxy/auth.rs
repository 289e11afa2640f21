//! How clients sign in.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::LocalReference;

/// How clients sign in.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "self.signingKeys.overlapSeconds >= self.tokenTTLSeconds",
    "signingKeys.overlapSeconds must be at least tokenTTLSeconds: tokens of the key before are still in use"
))]
pub struct Auth {
    /// Seconds that a token opens what it opens, 60 to 3600. Default: 900.
    #[serde(rename = "tokenTTLSeconds", default = "token_ttl_seconds")]
    #[schemars(range(min = 60, max = 3600))]
    pub token_ttl_seconds: i64,
    /// Secret with an htpasswd file (bcrypt only) under `users`. Default: no static users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_users_secret_ref: Option<LocalReference>,
    /// Secret of type dependencyproxy.dev/keys with the instance's keys. The operator neither makes nor renews keys where
    /// it is set. Default: in a cluster the operator's own, elsewhere keys that the proxy keeps in its data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_secret_ref: Option<LocalReference>,
    /// How often the operator renews the keys that tokens are signed with.
    #[serde(default)]
    pub signing_keys: SigningKeys,
}

/// How often the keys that tokens are signed with are renewed.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "self.overlapSeconds < self.rotationPeriodSeconds",
    "overlapSeconds must be less than rotationPeriodSeconds"
))]
pub struct SigningKeys {
    /// Seconds until a new key signs, 3600 to 31536000. Default: 2592000, thirty days.
    #[serde(default = "rotation_period_seconds")]
    #[schemars(range(min = 3600, max = 31536000))]
    pub rotation_period_seconds: i64,
    /// Seconds that tokens of the key before are still accepted, at least tokenTTLSeconds, up to 2592000.
    /// Default: 7200.
    #[serde(default = "overlap_seconds")]
    #[schemars(range(min = 60, max = 2592000))]
    pub overlap_seconds: i64,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            token_ttl_seconds: token_ttl_seconds(),
            static_users_secret_ref: None,
            keys_secret_ref: None,
            signing_keys: SigningKeys::default(),
        }
    }
}

impl Default for SigningKeys {
    fn default() -> Self {
        Self { rotation_period_seconds: rotation_period_seconds(), overlap_seconds: overlap_seconds() }
    }
}

fn token_ttl_seconds() -> i64 {
    900
}

fn rotation_period_seconds() -> i64 {
    2_592_000
}

fn overlap_seconds() -> i64 {
    7200
}
