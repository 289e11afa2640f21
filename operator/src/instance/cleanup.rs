//! What the last cleanup did, from the termination message of its pod.

use config::ObjectId;
use crds::CleanupStatus;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Deserialize;

/// What of the message is taken into the status. Unknown fields of a newer version are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Message {
    blobs: Blobs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Blobs {
    deleted: i64,
    bytes: i64,
    kept_bytes: i64,
}

/// The run that ended last; `None` where no pod of one is left.
///
/// # Errors
/// When the API server does not list pods.
pub(super) async fn last(client: &Client, id: &ObjectId) -> Result<Option<CleanupStatus>, kube::Error> {
    let labels = format!(
        "app.kubernetes.io/name=dependency-proxy,app.kubernetes.io/component=cleanup,app.kubernetes.io/instance={}",
        id.name
    );
    let api = Api::<Pod>::namespaced(client.clone(), &id.namespace);
    let pods = api.list(&ListParams::default().labels(&labels)).await?;
    let ended = pods.items.iter().filter_map(terminated);
    Ok(ended.max_by_key(|state| state.finished_at.clone()).map(status))
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?.terminated.as_ref()
}

fn status(state: &ContainerStateTerminated) -> CleanupStatus {
    let message = state.message.as_deref().unwrap_or_default();
    let read = serde_json::from_str::<Message>(message);
    let succeeded = state.exit_code == 0 && read.is_ok();
    let blobs = read.unwrap_or_default().blobs;
    CleanupStatus {
        ended_at: state.finished_at.clone(),
        succeeded,
        deleted_blobs: blobs.deleted,
        freed_bytes: blobs.bytes,
        kept_bytes: blobs.kept_bytes,
        message: if succeeded {
            String::new()
        } else {
            let why: String = message.chars().take(256).collect();
            format!("exit code {}; the log of its pod says why. {why}", state.exit_code).trim_end().to_owned()
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn ended(exit_code: i32, message: &str) -> CleanupStatus {
        status(&ContainerStateTerminated {
            exit_code,
            message: Some(message.to_owned()),
            ..ContainerStateTerminated::default()
        })
    }

    #[test]
    fn a_run_tells_what_it_freed() {
        let status =
            ended(0, r#"{"startedAt":"x","blobs":{"examined":9,"deleted":3,"bytes":30,"keptBytes":60}}"#);
        assert!(status.succeeded && status.message.is_empty());
        assert_eq!((status.deleted_blobs, status.freed_bytes, status.kept_bytes), (3, 30, 60));
    }

    #[test]
    fn a_run_that_failed_says_where_to_look() {
        let status = ended(1, "the object store failed: permission denied");
        assert!(!status.succeeded);
        assert_eq!(
            status.message,
            "exit code 1; the log of its pod says why. the object store failed: permission denied"
        );
    }
}
