//! Who the pods are, and who may reach them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::apply::Object;
use crate::instance::plan::{Plan, REGISTRY_PORT, REPLICA_PORT};
use crate::pods::ADMIN_PORT;

/// The label of namespaces that may read metrics.
const METRICS_LABEL: &str = "dependencyproxy.dev/metrics";

/// One without rights; none where the user names an own one.
pub(super) fn service_account(plan: &Plan) -> Option<Object> {
    plan.spec.pod_template.service_account_name.is_none().then(|| {
        Object::of(&ServiceAccount {
            metadata: metadata(plan, plan.name()),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        })
    })
}

/// The registry is open to all; metrics, status and log level are not, and what replicas ask each other is for them.
pub(super) fn network_policy(plan: &Plan) -> Option<Object> {
    let port = |port: i32| {
        Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".to_owned()),
            ..NetworkPolicyPort::default()
        }])
    };
    let namespaces = |label: &str, value: &str| NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(label.to_owned(), value.to_owned())])),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    };
    let replicas = NetworkPolicyPeer {
        pod_selector: Some(LabelSelector { match_labels: Some(plan.selector()), ..LabelSelector::default() }),
        ..NetworkPolicyPeer::default()
    };
    let name = "kubernetes.io/metadata.name";
    plan.spec.network_policy.enabled.then(|| {
        Object::of(&NetworkPolicy {
            metadata: metadata(plan, plan.name()),
            spec: Some(NetworkPolicySpec {
                pod_selector: Some(LabelSelector {
                    match_labels: Some(plan.selector()),
                    ..LabelSelector::default()
                }),
                policy_types: Some(vec!["Ingress".to_owned()]),
                ingress: Some(vec![
                    NetworkPolicyIngressRule { ports: port(REGISTRY_PORT), from: None },
                    NetworkPolicyIngressRule {
                        ports: port(ADMIN_PORT.into()),
                        from: Some(vec![
                            namespaces(name, &plan.operator_namespace),
                            namespaces(name, &plan.id.namespace),
                            namespaces(METRICS_LABEL, "true"),
                        ]),
                    },
                    NetworkPolicyIngressRule { ports: port(REPLICA_PORT), from: Some(vec![replicas]) },
                ]),
                ..NetworkPolicySpec::default()
            }),
        })
    })
}
