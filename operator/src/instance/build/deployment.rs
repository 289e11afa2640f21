//! The pods.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext,
    PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::metadata;
use crate::apply::Object;
use crate::instance::plan::{Plan, REGISTRY_PORT, REPLICA_PORT, pull_policy};
use crate::pods::ADMIN_PORT;

const DOCUMENTS: &str = "/etc/dependency-proxy/documents";
const STORAGE: &str = "/etc/dependency-proxy/storage";
const TLS: &str = "/etc/dependency-proxy/tls";
const DATA: &str = "/var/lib/dependency-proxy";
/// The user of the image.
const USER: i64 = 65532;
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
    let secrets = plan.spec.image.pull_secrets.iter();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(plan.service_account.clone()),
            // A pod asks nothing of the API server. Workload identity brings a token of its own.
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(plan.spec.drain_seconds + LINGER_AND_MARGIN),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            image_pull_secrets: Some(
                secrets.map(|secret| LocalObjectReference { name: secret.name.clone() }).collect(),
            )
            .filter(|secrets: &Vec<_>| !secrets.is_empty()),
            node_selector: Some(extra.node_selector.clone()).filter(|selector| !selector.is_empty()),
            tolerations: Some(extra.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
            priority_class_name: extra.priority_class_name.clone(),
            topology_spread_constraints: Some(vec![spread(plan, "kubernetes.io/hostname")]),
            volumes: Some(volumes(plan)),
            containers: vec![container(plan)],
            ..PodSpec::default()
        }),
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
        name: "proxy".to_owned(),
        image: Some(plan.image.clone()),
        image_pull_policy: Some(pull_policy(plan.spec.image.pull_policy).to_owned()),
        command: Some(vec!["/dependency-proxy".to_owned()]),
        args: Some(arguments(plan)),
        env: Some(environment(plan)),
        ports: Some(ports),
        readiness_probe: Some(probe("/readyz", 2, 1)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        startup_probe: Some(probe("/livez", 1, 60)),
        resources: Some(plan.spec.pod_template.resources.clone().unwrap_or_else(|| ResourceRequirements {
            requests: Some(BTreeMap::from([
                ("cpu".to_owned(), Quantity("100m".to_owned())),
                ("memory".to_owned(), Quantity("128Mi".to_owned())),
            ])),
            ..ResourceRequirements::default()
        })),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(plan)),
        ..Container::default()
    }
}

fn arguments(plan: &Plan) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned(), format!("--file={DOCUMENTS}")];
    if !plan.storage.is_empty() {
        arguments.push(format!("--file={STORAGE}"));
    }
    arguments.extend([
        format!("--instance={}", plan.id),
        format!("--listen=[::]:{REGISTRY_PORT}"),
        format!("--admin-listen=[::]:{ADMIN_PORT}"),
        format!("--data-dir={DATA}"),
        "--log-format=json".to_owned(),
    ]);
    if plan.is_shared() {
        arguments.push(format!("--replica-address=$(POD_IP):{REPLICA_PORT}"));
    }
    if plan.has_tls() {
        arguments.push(format!("--tls-certificate={TLS}/tls.crt"));
        arguments.push(format!("--tls-key={TLS}/tls.key"));
    }
    arguments
}

fn environment(plan: &Plan) -> Vec<EnvVar> {
    let egress = &plan.spec.egress;
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                api_version: Some("v1".to_owned()),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let value = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    };
    let mut variables = vec![field("POD_NAME", "metadata.name"), field("POD_IP", "status.podIP")];
    variables.extend(egress.https_proxy.iter().map(|url| value("HTTPS_PROXY", url)));
    variables.extend(egress.http_proxy.iter().map(|url| value("HTTP_PROXY", url)));
    if !egress.no_proxy.is_empty() {
        variables.push(value("NO_PROXY", &egress.no_proxy.join(",")));
    }
    variables
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

fn volumes(plan: &Plan) -> Vec<Volume> {
    let secret = |name: &str, secret: String| Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource { secret_name: Some(secret), ..SecretVolumeSource::default() }),
        ..Volume::default()
    };
    let mut volumes = vec![secret("documents", format!("{}-documents", plan.name()))];
    if !plan.storage.is_empty() {
        volumes.push(secret("storage", format!("{}-storage", plan.name())));
    }
    volumes.extend(plan.tls_secret.iter().map(|name| secret("tls", name.clone())));
    volumes.push(match &plan.spec.storage.persistent_volume_claim {
        Some(_) => Volume {
            name: "data".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: plan.name(),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        },
        None => Volume {
            name: "data".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
    });
    volumes
}

fn mounts(plan: &Plan) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    // Folders, never a subPath: that would not follow changes.
    let mut mounts = vec![mount("documents", DOCUMENTS, true)];
    if !plan.storage.is_empty() {
        mounts.push(mount("storage", STORAGE, true));
    }
    if plan.has_tls() {
        mounts.push(mount("tls", TLS, true));
    }
    mounts.push(mount("data", DATA, false));
    mounts
}
