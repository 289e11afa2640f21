//! The objects of an instance. Pure: the same plan builds the same objects.

mod access;
mod cleanup;
mod deployment;
mod documents;
mod exposure;
mod monitoring;
mod pod;
mod scaling;
#[cfg(test)]
mod tests;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::api::ObjectMeta;
use kube::core::ApiResource;

use super::plan::Plan;
use crate::apply::Object;
use crate::optional::{Optional, certificate, http_route, prometheus_rule, service_monitor};

/// All objects, in the order in which they are applied: what pods need first.
#[must_use]
pub(super) fn all(plan: &Plan, optional: &Optional) -> Vec<Object> {
    let mut objects = vec![documents::documents(plan)];
    objects.extend(documents::storage(plan));
    objects.extend(access::service_account(plan));
    objects.extend(access::network_policy(plan));
    objects.extend(scaling::claim(plan));
    objects.extend(exposure::certificate(plan, optional));
    objects.push(exposure::service(plan));
    objects.push(exposure::metrics_service(plan));
    objects.push(deployment::deployment(plan));
    objects.extend(cleanup::cleanup(plan));
    objects.push(scaling::disruption_budget(plan));
    objects.extend(scaling::autoscaler(plan));
    objects.extend(exposure::ingress(plan));
    objects.extend(exposure::routes(plan, optional));
    objects.extend(monitoring::service_monitor(plan, optional));
    objects.extend(monitoring::prometheus_rule(plan, optional));
    objects
}

/// Kinds of which an instance may have no object any more. A claim is never deleted before its instance: it has bytes.
#[must_use]
pub(super) fn prunable(optional: &Optional) -> Vec<ApiResource> {
    let mut kinds = vec![
        ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        ApiResource::erase::<Ingress>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<CronJob>(&()),
        // The store's credentials, where it has become one without. The keys do not have the labels.
        ApiResource::erase::<Secret>(&()),
    ];
    kinds.extend(optional.gateway.then(http_route));
    kinds.extend(optional.cert_manager.then(certificate));
    kinds.extend(optional.service_monitor.then(service_monitor));
    kinds.extend(optional.prometheus_rule.then(prometheus_rule));
    kinds
}

/// Name, labels and owner of an object.
fn metadata(plan: &Plan, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(plan.id.namespace.clone()),
        labels: Some(plan.labels()),
        owner_references: Some(vec![plan.owner.clone()]),
        ..ObjectMeta::default()
    }
}
