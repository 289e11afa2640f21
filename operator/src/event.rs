//! Events: what a person should know of an object, when it happens.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder};

/// Bytes that a note may have.
const LONGEST: usize = 1000;

/// Tells of `Ready` where it changed. What is not told is no error: the status says it too.
pub async fn announce(
    recorder: &Recorder,
    object: &ObjectReference,
    before: &[Condition],
    now: &[Condition],
) {
    let ready = |conditions: &[Condition]| {
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
        ready.map(|condition| (condition.status.clone(), condition.reason.clone(), condition.message.clone()))
    };
    let Some((status, reason, message)) = ready(now) else { return };
    if ready(before).is_some_and(|before| (before.0, before.1) == (status.clone(), reason.clone())) {
        return;
    }
    // Waiting is no news; what comes of it is.
    if reason == "Pending" {
        return;
    }
    let type_ = if status == "True" { EventType::Normal } else { EventType::Warning };
    let note = message.chars().take(LONGEST).collect::<String>();
    let event = Event { type_, reason, note: Some(note), action: "Reconcile".to_owned(), secondary: None };
    if let Err(error) = recorder.publish(&event, object).await {
        tracing::debug!(%error, "an event could not be written");
    }
}
