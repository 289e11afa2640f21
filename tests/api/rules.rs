//! Each rule of the definitions accepts what works and refuses what does not, with its own words.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cases::{Case, cases, immutable, merge};
use crate::ground::{Ground, definitions, least};

#[tokio::test]
async fn each_rule_accepts_what_works_and_refuses_what_does_not() {
    let Some(ground) = Ground::new().await else { return };
    let cases = cases();
    for Case { kind, field, message, accepted, refused } in &cases {
        let object = patched(kind, accepted);
        let complaints = ground.complaints(&object).await;
        assert!(complaints.is_empty(), "{kind} {field} {message:?}: {complaints:?}\n{object:#}");
        let object = patched(kind, refused);
        let complaints = ground.complaints(&object).await;
        let complains = complaints.iter().any(|c| is_of(&c.field, field) && c.message.contains(message));
        assert!(complains, "{kind} {field} is not refused with {message:?}: {complaints:?}\n{object:#}");
    }
}

#[tokio::test]
async fn what_names_are_made_from_cannot_be_changed() {
    let Some(ground) = Ground::new().await else { return };
    ground.create(least("DependencyProxyGroup")).await;
    ground.create(least("VirtualRegistry")).await;
    for (kind, field, message, change) in immutable() {
        let complaints = ground.complaints_about_change(kind, "main", &json!({"spec": change})).await;
        let complains = complaints.iter().any(|c| c.field == field && c.message.contains(message));
        assert!(complains, "{kind} {field} is not refused with {message:?}: {complaints:?}");
    }
    let enabled = json!({"spec": {"enabled": false}});
    assert_eq!(ground.complaints_about_change("DependencyProxyGroup", "main", &enabled).await, []);
}

#[tokio::test]
async fn bounds_and_unique_names_are_kept_by_the_schema() {
    let Some(ground) = Ground::new().await else { return };
    let upstreams = |count: usize| (0..count).map(|n| json!({"name": format!("u{n}")})).collect::<Vec<_>>();
    let alias = json!({"prefix": "a", "groupRef": {"name": "a"}});
    let rule = json!({"name": "a", "action": "Deny", "repository": "*"});
    assert_eq!(
        ground.complaints(&patched("VirtualRegistry", &json!({"spec": {"upstreams": upstreams(5)}}))).await,
        []
    );
    for (kind, field, words, spec) in [
        ("VirtualRegistry", "spec.upstreams", "at most 5", json!({"upstreams": upstreams(6)})),
        ("VirtualRegistry", "spec.upstreams", "at least 1", json!({"upstreams": []})),
        (
            "RegistryUpstream",
            "spec.cacheValidityHours",
            "greater than or equal to 0",
            json!({"cacheValidityHours": -1}),
        ),
        ("RegistryUpstream", "spec.rules[1]", "Duplicate value", json!({"rules": [rule.clone(), rule]})),
        ("RegistryUpstream", "spec.whenRefused", "supported values", json!({"whenRefused": "Panic"})),
        ("DependencyProxy", "spec.aliases[1]", "Duplicate value", json!({"aliases": [alias.clone(), alias]})),
        ("DependencyProxy", "spec.drainSeconds", "less than or equal to 3600", json!({"drainSeconds": 3601})),
        ("DependencyProxy", "spec.externalURL", "Required value", json!({"externalURL": null})),
        ("PullBinding", "spec.serviceAccounts[1]", "Duplicate value", json!({"serviceAccounts": ["a", "a"]})),
    ] {
        let complaints = ground.complaints(&patched(kind, &json!({"spec": spec}))).await;
        let complains = complaints.iter().any(|c| c.field == field && c.message.contains(words));
        assert!(complains, "{kind} {field} is not refused with {words:?}: {complaints:?}");
    }
}

#[test]
fn every_rule_has_a_case() {
    let mut rules = BTreeSet::new();
    for definition in definitions() {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        collect(&kind, "", schema, &mut rules);
    }
    assert!(rules.len() > 30, "{rules:?}");
    let of = |kind: &str, field: &str, message: &str| [kind, field, message].map(str::to_owned);
    let tried = cases().iter().map(|c| of(c.kind, c.field, c.message)).collect::<BTreeSet<_>>();
    let changed = immutable().map(|(kind, field, message, _)| of(kind, field, message));
    let tried = tried.into_iter().chain(changed).collect::<BTreeSet<_>>();
    assert_eq!(rules, tried, "rules and cases differ");
}

/// The rules below this part of a schema, as kind, field and message.
fn collect(kind: &str, path: &str, schema: &Value, rules: &mut BTreeSet<[String; 3]>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message =
            rule["message"].as_str().unwrap_or_else(|| panic!("{kind} {path}: {rule} has no message"));
        rules.insert([kind, path, message].map(str::to_owned));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(kind, &path, field, rules);
    }
    if schema["items"].is_object() {
        collect(kind, &format!("{path}[]"), &schema["items"], rules);
    }
}

/// Whether the API server's name of a field, such as `spec.aliases[0]`, is this one of the schema.
fn is_of(named: &str, field: &str) -> bool {
    let mut parts = named.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    let named = parts.fold(first, |all, part| all + "[]" + part.split_once(']').map_or("", |(_, rest)| rest));
    // The root of an object has no name.
    named == field || (field.is_empty() && named == "<nil>")
}

fn patched(kind: &str, patch: &Value) -> Value {
    let mut object = least(kind);
    merge(&mut object, patch);
    object
}
