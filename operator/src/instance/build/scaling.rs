//! How many pods, how many of them may be away, and the volume of one.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::apply::Object;
use crate::instance::plan::Plan;

pub(super) fn disruption_budget(plan: &Plan) -> Object {
    Object::of(&PodDisruptionBudget {
        metadata: metadata(plan, plan.name()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(plan.spec.pod_disruption_budget.max_unavailable)),
            selector: Some(LabelSelector { match_labels: Some(plan.selector()), ..LabelSelector::default() }),
            // A pod that does not start must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

pub(super) fn autoscaler(plan: &Plan) -> Option<Object> {
    let bounds = plan.spec.autoscaling.as_ref()?;
    Some(Object::of(&HorizontalPodAutoscaler {
        metadata: metadata(plan, plan.name()),
        spec: HorizontalPodAutoscalerSpec {
            min_replicas: Some(bounds.min_replicas),
            max_replicas: bounds.max_replicas,
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: plan.name(),
            },
            metrics: Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(bounds.target_cpu_percent),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]),
            ..HorizontalPodAutoscalerSpec::default()
        },
        ..HorizontalPodAutoscaler::default()
    }))
}

pub(super) fn claim(plan: &Plan) -> Option<Object> {
    let claim = plan.spec.storage.persistent_volume_claim.as_ref()?;
    let modes = match claim.access_modes.as_slice() {
        [] => vec!["ReadWriteOnce".to_owned()],
        modes => modes.to_vec(),
    };
    Some(Object::of(&PersistentVolumeClaim {
        metadata: metadata(plan, plan.name()),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes),
            storage_class_name: claim.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(claim.size.clone()))])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }))
}
