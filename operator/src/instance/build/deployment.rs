//! The pods.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, HTTPGetAction, PodAffinity, PodSpec, PodTemplateSpec, Probe,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::{metadata, pod};
use crate::apply::Object;
use crate::instance::plan::{Plan, REGISTRY_PORT, REPLICA_PORT};
use crate::pods::ADMIN_PORT;

/// Seconds during which a pod that was told to stop still accepts connections, and some to end in order.
const LINGER_AND_MARGIN: i64 = 20;

pub(super) fn deployment(plan: &Plan) -> Object {
    let replicas = match &plan.spec.autoscaling {
        // The autoscaler owns the number.
        Some(_) => None,
        None => Some(plan.spec.replicas.unwrap_or(1)),
    };
    Object::of(&Deployment {
        metadata: metadata(plan, plan.name()),
        spec: DeploymentSpec {
            replicas,
            selector: LabelSelector { match_labels: Some(plan.selector()), ..LabelSelector::default() },
            strategy: Some(strategy(plan)),
            revision_history_limit: Some(3),
            template: template(plan),
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    })
}

/// No pod goes before another has come. A volume that one node mounts is the exception: the old pod must leave it.
fn strategy(plan: &Plan) -> DeploymentStrategy {
    if plan.spec.storage.persistent_volume_claim.is_some() {
        return DeploymentStrategy { type_: Some("Recreate".to_owned()), ..DeploymentStrategy::default() };
    }
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_unavailable: Some(IntOrString::Int(0)),
            max_surge: Some(IntOrString::Int(1)),
        }),
    }
}

fn template(plan: &Plan) -> PodTemplateSpec {
    let extra = &plan.spec.pod_template;
    let mut labels = extra.labels.clone();
    labels.extend(plan.labels());
    let mut annotations = extra.annotations.clone();
    annotations.insert("dependencyproxy.dev/boot".to_owned(), plan.boot.clone());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            termination_grace_period_seconds: Some(plan.spec.drain_seconds + LINGER_AND_MARGIN),
            topology_spread_constraints: Some(vec![spread(plan, "kubernetes.io/hostname")]),
            affinity: plan.spec.storage.persistent_volume_claim.is_some().then(|| affinity(plan)),
            ..pod::pod(plan, container(plan))
        }),
    }
}

/// While a cleanup runs, its node has the volume: elsewhere a new pod would wait for its end.
fn affinity(plan: &Plan) -> Affinity {
    let term = WeightedPodAffinityTerm { weight: 100, pod_affinity_term: pod::beside(plan.cleanup_labels()) };
    Affinity {
        pod_affinity: Some(PodAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// One node that goes takes as few pods along as possible; where there are too few nodes, pods share.
fn spread(plan: &Plan, key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(plan.selector()),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    }
}

fn container(plan: &Plan) -> Container {
    let port = |name: &str, port| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mut ports = vec![port("registry", REGISTRY_PORT), port("metrics", ADMIN_PORT.into())];
    if plan.is_shared() {
        ports.push(port("replica", REPLICA_PORT));
    }
    Container {
        ports: Some(ports),
        readiness_probe: Some(probe("/readyz", 2, 1)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        startup_probe: Some(probe("/livez", 1, 60)),
        ..pod::container(plan, "proxy", arguments(plan))
    }
}

fn arguments(plan: &Plan) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend([
        format!("--listen=[::]:{REGISTRY_PORT}"),
        format!("--admin-listen=[::]:{ADMIN_PORT}"),
        "--log-format=json".to_owned(),
    ]);
    if plan.is_shared() {
        arguments.push(format!("--replica-address=$(POD_IP):{REPLICA_PORT}"));
    }
    if plan.has_tls() {
        arguments.push(format!("--tls-certificate={}/tls.crt", pod::TLS));
        arguments.push(format!("--tls-key={}/tls.key", pod::TLS));
    }
    arguments
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("metrics".to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}
