//! When the store is brought within its bounds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The job that forgets what the groups' cleanup policies and quotas say, and frees what nobody has a right to.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupJob {
    /// When it runs, in UTC, as a CronJob has it: minute, hour, day of month, month, day of week. What loses its last
    /// right in one run is deleted in the next. Default: 0 3 * * *, once a day.
    #[serde(default = "schedule")]
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = (
        "self.matches('^[0-9*,/-]+( [0-9A-Za-z*,/?-]+){4}$')",
        "must be five fields of a CronJob's schedule, such as 0 3 * * *"
    ))]
    pub schedule: String,
    /// For how many minutes each run besides reads stored blobs, and drops those whose bytes no longer have their digest:
    /// the next pull fetches them again. A run goes on where the one before stopped. 0: never. Default: 10.
    #[serde(default = "verify_minutes")]
    #[schemars(range(min = 0, max = 1440))]
    pub verify_minutes: i64,
    /// True: it does not run, and what is cached stays. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// What the cleanup that ended last did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupStatus {
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Whether it did all that it should.
    pub succeeded: bool,
    /// Blobs that it deleted.
    pub deleted_blobs: i64,
    /// Bytes that deleting them freed.
    pub freed_bytes: i64,
    /// Bytes of blobs in the store afterwards.
    pub kept_bytes: i64,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Default for CleanupJob {
    fn default() -> Self {
        Self { schedule: schedule(), verify_minutes: verify_minutes(), suspend: false }
    }
}

fn verify_minutes() -> i64 {
    10
}

fn schedule() -> String {
    "0 3 * * *".to_owned()
}
