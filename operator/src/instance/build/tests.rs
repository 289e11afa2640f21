//! What is in the objects, by tables. That the API server takes them is shown by `tests/api`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::all;
use crate::instance::plan::Plan;
use crate::optional::Optional;

/// The objects of the instance `n/main` with these fields, by kind and what their names have behind the instance's.
fn built(fields: &str) -> BTreeMap<String, Value> {
    let optional =
        Optional { gateway: true, cert_manager: true, service_monitor: true, prometheus_rule: true };
    let objects = all(&Plan::example(fields), &optional).into_iter().map(|object| {
        let suffix = object.name.strip_prefix("main-dependency-proxy").unwrap().to_owned();
        (format!("{}{suffix}", object.resource.kind), object.value)
    });
    objects.collect()
}

/// Asserts what an object has at these places; null: nothing.
#[track_caller]
fn has(objects: &BTreeMap<String, Value>, object: &str, rows: &[(&str, Value)]) {
    for (pointer, expected) in rows {
        let found = objects[object].pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(found, *expected, "{object} {pointer}");
    }
}

#[test]
fn a_load_balancer_listens_at_the_port_that_clients_use() {
    let registry = json!({"name": "registry", "port": 5000, "targetPort": "registry", "protocol": "TCP"});
    let external =
        |port: u16| json!({"name": "external", "port": port, "targetPort": "registry", "protocol": "TCP"});
    for (kind, url, expected) in [
        ("LoadBalancer", "https://registry.example.com", json!([registry, external(443)])),
        ("LoadBalancer", "http://registry.example.com", json!([registry, external(80)])),
        ("LoadBalancer", "https://registry.example.com:8443", json!([registry, external(8443)])),
        ("LoadBalancer", "http://registry.example.com:5000", json!([registry])),
        ("ClusterIP", "https://registry.example.com", json!([registry])),
        ("NodePort", "https://registry.example.com", json!([registry])),
    ] {
        let objects = built(&format!(
            "{{externalURL: '{url}', tls: {{secretRef: {{name: t}}}}, expose: {{service: {{type: {kind}}}}}}}"
        ));
        has(&objects, "Service", &[("/spec/type", json!(kind)), ("/spec/ports", expected)]);
    }
}
