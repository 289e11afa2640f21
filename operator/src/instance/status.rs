//! What is true of an instance, in words. Only from what was applied and what pods said.

use config::Problem;
use crds::{CleanupStatus, DependencyProxy, DependencyProxyStatus, Storage};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::exposure::Exposure;
use super::plan::Refusal;
use super::trouble::{not_made, waiting};
use crate::condition::{Conditions, State};
use crate::context::is_passing;
use crate::optional::Optional;
use crate::pods::Pods;
use crate::world::Rendering;

/// What whoever suspends an instance shall not forget.
const SUSPENDED: &str =
    "suspended: no change reaches the pods, also none that takes rights away, until spec.suspend is false";

/// What a status is made of.
pub(super) struct Findings<'a> {
    pub proxy: &'a DependencyProxy,
    pub rendering: &'a Rendering,
    pub refusal: Option<Refusal>,
    /// Errors of the object itself.
    pub problems: &'a [Problem],
    pub deployment: Option<&'a Deployment>,
    pub service: Option<&'a Service>,
    /// Or why they are not known.
    pub pods: Result<&'a Pods, &'a kube::Error>,
    /// The cleanup that ended last, of which a pod is left.
    pub cleanup: Option<CleanupStatus>,
    /// Something that pods wait for, in words: they say only that they are being made.
    pub missing: Option<String>,
    pub exposure: Exposure,
    pub optional: Optional,
    pub now: Timestamp,
}

pub(super) fn status(findings: &Findings<'_>) -> DependencyProxyStatus {
    let proxy = findings.proxy;
    let before = proxy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let mut conditions = Conditions::of(before, proxy.metadata.generation, findings.now);
    accepted(&mut conditions, findings);
    match findings.pods {
        Ok(pods) => {
            available(&mut conditions, findings, pods);
            storage_reachable(&mut conditions, findings, pods);
        }
        Err(error) => unlisted(&mut conditions, before, error),
    }
    exposed(&mut conditions, findings);
    let wanted = ["Accepted", "Available", "StorageReachable", "Exposed"];
    if !proxy.spec.enabled {
        conditions.switch_off("switched off: every pull gets 404; set spec.enabled to true");
    }
    let (reason, message) = well(findings);
    let ready = conditions.sum_up(&wanted, reason, &message);
    let said = proxy.status.clone().unwrap_or_default();
    let status = DependencyProxyStatus {
        observed_generation: proxy.metadata.generation,
        ready: Some(ready),
        selector: Some(crate::pods::selector(&crate::world::id_of(proxy))),
        groups: findings
            .rendering
            .config
            .as_ref()
            .map(|config| i32::try_from(config.groups.len()).unwrap_or(i32::MAX)),
        storage: Some(storage_kind(&proxy.spec.storage).to_owned()),
        config_bytes: i64::try_from(findings.rendering.documents.len()).ok(),
        // It is told until another one has ended, though its pod is gone.
        cleanup: findings.cleanup.clone().or(said.cleanup),
        conditions: conditions.finish(),
        ..said
    };
    let Ok(pods) = findings.pods else { return status };
    let hash = findings.rendering.hash().unwrap_or_default();
    let mut ready_pods = pods.ready().filter_map(|seen| seen.status.as_ref());
    DependencyProxyStatus {
        replicas: Some(i32::try_from(pods.all.len()).unwrap_or(i32::MAX)),
        ready_replicas: Some(i32::try_from(pods.that_have(hash)).unwrap_or(i32::MAX)),
        config_hash: pods.all_have(hash).then(|| hash.to_owned()),
        version: ready_pods.next().map(|status| status.version.clone()),
        key_ids: pods.shared_keys().into_iter().rev().take(16).collect(),
        ..status
    }
}

/// What was said of the pods holds while the API server is busy for a moment.
fn unlisted(conditions: &mut Conditions, before: &[Condition], error: &kube::Error) {
    let said = match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    };
    for kind in ["Available", "Progressing", "StorageReachable"] {
        if !is_passing(error) || before.iter().all(|condition| condition.type_ != kind) {
            let message = format!("the API server does not list the pods: {said}");
            conditions.set(kind, State::Unknown, "PodsNotListed", message);
        }
    }
}

/// What there is to say of an instance that is ready.
fn well(findings: &Findings<'_>) -> (&'static str, String) {
    let spec = &findings.proxy.spec;
    let serving = format!("Serving {}", spec.external_url);
    let in_part = if findings.problems.is_empty() {
        serving
    } else {
        format!("{serving}, in part: {}", sentences(findings.problems))
    };
    if spec.suspend {
        ("Suspended", format!("{in_part}; {SUSPENDED}"))
    } else if findings.problems.is_empty() {
        ("AllReplicasReady", in_part)
    } else {
        ("AcceptedInPart", in_part)
    }
}

fn accepted(conditions: &mut Conditions, findings: &Findings<'_>) {
    let problem = findings.problems.first();
    match (&findings.refusal, problem) {
        (Some(_), Some(problem)) => {
            let reason = problem.reason.to_string();
            conditions.set("Accepted", State::False, &reason, sentences(findings.problems));
        }
        (Some(refusal), None) => {
            conditions.set("Accepted", State::False, refusal.reason, refusal.message.clone());
        }
        (None, Some(problem)) if findings.rendering.is_proxy_older() => {
            let message = format!("{}; its last good version is served", sentences(findings.problems));
            conditions.set("Accepted", State::False, problem.reason.as_str(), message);
        }
        // It serves, without a part.
        (None, Some(_)) => {
            conditions.set("Accepted", State::True, "AcceptedInPart", sentences(findings.problems));
        }
        (None, None) => conditions.set("Accepted", State::True, "Accepted", ""),
    }
}

/// Pods that are ready and have the documents, beside those that are wanted.
fn available(conditions: &mut Conditions, findings: &Findings<'_>, pods: &Pods) {
    let spec = &findings.proxy.spec;
    let deployed = findings.deployment.and_then(|deployment| deployment.spec.replicas);
    let wanted = deployed.or(spec.replicas).unwrap_or(1);
    let ready = pods.ready().count();
    let current = pods.that_have(findings.rendering.hash().unwrap_or_default());
    let wanted = usize::try_from(wanted).unwrap_or_default();
    let trouble = || {
        let known = waiting(pods).or_else(|| findings.deployment.and_then(not_made));
        let missing = findings.missing.clone();
        missing.or(known).unwrap_or_else(|| "pods are starting".to_owned())
    };
    if wanted == 0 {
        conditions.set("Available", State::False, "ScaledToZero", "spec.replicas is 0");
    } else if ready == 0 {
        let message = format!("0 of {wanted} pods are ready: {}", trouble());
        conditions.set("Available", State::False, "MinimumReplicasUnavailable", message);
    } else {
        conditions.set(
            "Available",
            State::True,
            "MinimumReplicasAvailable",
            format!("{ready} of {wanted} pods are ready"),
        );
    }
    let rolled_out = findings.deployment.is_some_and(is_rolled_out);
    if spec.suspend {
        conditions.set("Progressing", State::False, "Suspended", SUSPENDED);
    } else if ready >= wanted && current == ready && rolled_out {
        conditions.set("Progressing", State::False, "UpToDate", "every pod has the current documents");
    } else if ready < wanted || !rolled_out {
        let message = format!("{ready} of {wanted} pods are ready: {}", trouble());
        conditions.set("Progressing", State::True, "RollingOut", message);
    } else {
        let message = format!("{current} of {ready} ready pods have the current documents");
        conditions.set("Progressing", State::True, "Distributing", message);
    }
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or_default() >= deployment.spec.replicas.unwrap_or(1)
        && status.replicas.unwrap_or_default() == status.updated_replicas.unwrap_or_default()
}

fn storage_reachable(conditions: &mut Conditions, findings: &Findings<'_>, pods: &Pods) {
    let store = pods.store();
    match store.and_then(|store| store.reachable) {
        Some(false) => {
            let store = store.cloned().unwrap_or_default();
            let reason = store.reason.unwrap_or_else(|| "Unreachable".to_owned());
            conditions.set("StorageReachable", State::False, &reason, store.message.unwrap_or_default());
        }
        Some(true) => conditions.set("StorageReachable", State::True, "Reachable", ""),
        None if findings.proxy.spec.storage.s3.is_none() => {
            conditions.set("StorageReachable", State::True, "Local", "");
        }
        None => {
            conditions.set("StorageReachable", State::Unknown, "Pending", "no pod has asked the store yet")
        }
    }
}

fn exposed(conditions: &mut Conditions, findings: &Findings<'_>) {
    let spec = &findings.proxy.spec;
    let balancer = spec.expose.service.kind == crds::ServiceType::LoadBalancer;
    let has_address = findings.service.is_some_and(|service| {
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        status.and_then(|status| status.ingress.as_ref()).is_some_and(|ingress| !ingress.is_empty())
    });
    let (reason, message) = if findings.service.is_none() {
        ("Pending", "the Service is not there yet")
    } else if spec.expose.gateway.is_some() && !findings.optional.gateway {
        (
            "NoGatewayAPI",
            "spec.expose.gateway needs the Gateway API, which this cluster does not have; install it, or use ingress or service",
        )
    } else if spec.tls.as_ref().is_some_and(|tls| tls.issuer_ref.is_some()) && !findings.optional.cert_manager
    {
        (
            "NoCertManager",
            "spec.tls.issuerRef needs cert-manager, which this cluster does not have; install it, or use secretRef",
        )
    } else if balancer && !has_address {
        ("Pending", "the load balancer has no address yet")
    } else if let Some((reason, message)) = &findings.exposure.refusal {
        (*reason, message.as_str())
    } else {
        conditions.set("Exposed", State::True, "Exposed", findings.exposure.remarks.join("; "));
        return;
    };
    conditions.set("Exposed", State::False, reason, message);
}

/// Several problems as one text.
pub(crate) fn sentences(problems: &[Problem]) -> String {
    let texts = problems.iter().map(|problem| match problem.field.as_str() {
        "" => problem.message.clone(),
        field => format!("{field}: {}", problem.message),
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn storage_kind(storage: &Storage) -> &'static str {
    if storage.s3.is_some() {
        "s3"
    } else if storage.gcs.is_some() {
        "gcs"
    } else if storage.azure.is_some() {
        "azure"
    } else if storage.persistent_volume_claim.is_some() {
        "persistentVolumeClaim"
    } else {
        "ephemeral"
    }
}
