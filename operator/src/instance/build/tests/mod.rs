//! What is in the objects, by tables. That the API server takes them is shown by `tests/api`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod exposure;
mod pods;

use std::collections::BTreeMap;

use serde_json::Value;

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
