//! Why there are fewer pods than there should be, in Kubernetes' own words.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ContainerState;

use crate::pods::Pods;

/// Why pods are not even made, such as for a service account that is not there.
pub(super) fn not_made(deployment: &Deployment) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.iter().flatten();
    let mut failures = conditions
        .filter(|c| c.type_.as_deref() == Some("ReplicaFailure") && c.status.as_deref() == Some("True"));
    failures.find_map(|condition| condition.message.clone())
}

/// Why a pod does not start, in Kubernetes' own words.
pub(super) fn waiting(pods: &Pods) -> Option<String> {
    pods.all.iter().filter(|seen| !seen.is_ready).find_map(|seen| {
        let status = seen.pod.status.as_ref()?;
        let state = |state: &ContainerState| {
            if let Some(waiting) = &state.waiting {
                let message = waiting.message.clone().unwrap_or_default();
                return Some(format!("{} {message}", waiting.reason.clone().unwrap_or_default()));
            }
            let ended = state.terminated.as_ref()?;
            Some(format!("it ended with exit code {}", ended.exit_code))
        };
        let containers = status.container_statuses.iter().flatten();
        let of_container = containers
            .filter_map(|container| container.state.as_ref())
            .find_map(state)
            .filter(|text| !text.starts_with("ContainerCreating"));
        let unscheduled = || {
            let conditions = status.conditions.iter().flatten();
            conditions
                .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
                .find_map(|condition| condition.message.clone())
        };
        of_container.or_else(unscheduled).map(|text| text.trim().to_owned())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::pods::Seen;
    use serde_json::{Value, json};

    fn pods(all: &[(bool, Value)]) -> Pods {
        let seen = |(is_ready, status): &(bool, Value)| Seen {
            pod: serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap(),
            is_ready: *is_ready,
            status: None,
        };
        Pods { all: all.iter().map(seen).collect() }
    }

    fn container(state: Value) -> Value {
        let container = json!({"name": "proxy", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state});
        json!({"containerStatuses": [container]})
    }

    fn is_waiting(reason: &str, message: &str) -> Value {
        container(json!({"waiting": {"reason": reason, "message": message}}))
    }

    #[test]
    fn why_a_pod_does_not_start_is_told() {
        let unscheduled = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"},
        ]});
        let scheduled = json!({"conditions": [{"type": "PodScheduled", "status": "True", "message": "x"}]});
        for (status, expected) in [
            (
                is_waiting("ImagePullBackOff", "Back-off pulling image \"a\""),
                Some("ImagePullBackOff Back-off pulling image \"a\""),
            ),
            (container(json!({"waiting": {"reason": "CrashLoopBackOff"}})), Some("CrashLoopBackOff")),
            (container(json!({"terminated": {"exitCode": 64}})), Some("it ended with exit code 64")),
            (unscheduled, Some("0/3 nodes are available")),
            (is_waiting("ContainerCreating", ""), None),
            (container(json!({"running": {}})), None),
            (scheduled, None),
            (json!({}), None),
        ] {
            assert_eq!(waiting(&pods(&[(false, status.clone())])).as_deref(), expected, "{status}");
        }
        let broken = is_waiting("ErrImagePull", "no");
        assert_eq!(waiting(&pods(&[(true, broken.clone())])), None, "a ready pod waits for nothing");
        let second = pods(&[(true, json!({})), (false, json!({})), (false, broken)]);
        assert_eq!(waiting(&second).as_deref(), Some("ErrImagePull no"));
    }

    #[test]
    fn why_no_pod_is_made_is_told() {
        let deployment = |kind: &str, status: &str| {
            let condition = json!({"type": kind, "status": status, "message": "service account not found"});
            let spec = json!({"selector": {}, "template": {}});
            serde_json::from_value::<Deployment>(
                json!({"metadata": {}, "spec": spec, "status": {"conditions": [condition]}}),
            )
            .unwrap()
        };
        for (kind, status, expected) in [
            ("ReplicaFailure", "True", Some("service account not found")),
            ("ReplicaFailure", "False", None),
            ("Available", "True", None),
        ] {
            assert_eq!(not_made(&deployment(kind, status)).as_deref(), expected, "{kind} {status}");
        }
        assert_eq!(not_made(&Deployment::default()), None);
    }
}
