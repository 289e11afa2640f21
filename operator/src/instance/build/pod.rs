//! What all pods of an instance have in common: those that serve, and those that clean up.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, LocalObjectReference,
    ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodAffinityTerm, PodDNSConfig,
    PodDNSConfigOption, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::instance::plan::{Plan, pull_policy};

const DOCUMENTS: &str = "/etc/dependency-proxy/documents";
const STORAGE: &str = "/etc/dependency-proxy/storage";
pub(super) const TLS: &str = "/etc/dependency-proxy/tls";
const DATA: &str = "/var/lib/dependency-proxy";
/// The user of the image.
const USER: i64 = 65532;

/// A pod with one container, as the restricted Pod Security Standard wants it.
pub(super) fn pod(plan: &Plan, container: Container) -> PodSpec {
    let extra = &plan.spec.pod_template;
    let secrets = plan.spec.image.pull_secrets.iter();
    PodSpec {
        service_account_name: Some(plan.service_account.clone()),
        // A pod asks nothing of the API server. Workload identity brings a token of its own.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // Not every file of a volume anew, with each pod that comes to it.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
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
        dns_config: Some(dns()),
        volumes: Some(volumes(plan)),
        containers: vec![container],
        ..PodSpec::default()
    }
}

/// The node of a pod with these labels.
pub(super) fn beside(labels: BTreeMap<String, String>) -> PodAffinityTerm {
    PodAffinityTerm {
        label_selector: Some(LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    }
}

/// A question to a DNS server that has just gone is lost, and by default asked again after five seconds (resolv.conf(5)):
/// longer than a pull waits for anything.
fn dns() -> PodDNSConfig {
    let option = |name: &str, value: &str| PodDNSConfigOption {
        name: Some(name.to_owned()),
        value: Some(value.to_owned()),
    };
    PodDNSConfig {
        options: Some(vec![option("timeout", "1"), option("attempts", "3")]),
        ..PodDNSConfig::default()
    }
}

/// The proxy's program with these arguments.
pub(super) fn container(plan: &Plan, name: &str, arguments: Vec<String>) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(plan.image.clone()),
        image_pull_policy: Some(pull_policy(plan.spec.image.pull_policy).to_owned()),
        command: Some(vec!["/dependency-proxy".to_owned()]),
        args: Some(arguments),
        env: Some(environment(plan)),
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

/// What is to be served, and from where: as variables, so that what a person runs in the pod finds it too.
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
    let documents =
        if plan.storage.is_empty() { DOCUMENTS.to_owned() } else { format!("{DOCUMENTS},{STORAGE}") };
    let mut variables = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_IP", "status.podIP"),
        value("DEPENDENCY_PROXY_FILE", &documents),
        value("DEPENDENCY_PROXY_INSTANCE", &plan.id.to_string()),
        value("DEPENDENCY_PROXY_DATA_DIR", DATA),
    ];
    variables.extend(egress.https_proxy.iter().map(|url| value("HTTPS_PROXY", url)));
    variables.extend(egress.http_proxy.iter().map(|url| value("HTTP_PROXY", url)));
    if !egress.no_proxy.is_empty() {
        variables.push(value("NO_PROXY", &egress.no_proxy.join(",")));
    }
    variables
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
