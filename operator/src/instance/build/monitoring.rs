//! Objects of the Prometheus operator, where the cluster has it.

use crds::Wanted;
use serde_json::{Value, json};

use super::metadata;
use crate::apply::Object;
use crate::instance::plan::Plan;
use crate::optional::{self, Optional};

/// The alerts, as Prometheus without its operator reads them too.
const ALERTS: &str = include_str!("../../../../deploy/alerts/dependency-proxy.yaml");

pub(super) fn service_monitor(plan: &Plan, optional: &Optional) -> Option<Object> {
    let wanted = plan.spec.metrics.service_monitor == Wanted::Auto && optional.service_monitor;
    wanted.then(|| {
        let mut labels = plan.selector();
        labels.insert("app.kubernetes.io/component".to_owned(), "metrics".to_owned());
        let value = json!({
            "metadata": metadata(plan, plan.name()),
            "spec": {
                "selector": {"matchLabels": labels},
                "endpoints": [{"port": "metrics", "interval": "30s"}],
            },
        });
        Object::dynamic(optional::service_monitor(), value)
    })
}

pub(super) fn prometheus_rule(plan: &Plan, optional: &Optional) -> Option<Object> {
    let wanted = plan.spec.metrics.prometheus_rule == Wanted::Auto && optional.prometheus_rule;
    let groups = serde_yaml::from_str::<Value>(ALERTS).ok().filter(|_| wanted)?;
    let value = json!({"metadata": metadata(plan, plan.name()), "spec": {"groups": groups["groups"]}});
    Some(Object::dynamic(optional::prometheus_rule(), value))
}
