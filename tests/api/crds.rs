//! The kinds as people meet them: columns, names, explanations, subresources.

use serde_json::{Value, json};

use crate::ground::{Ground, least};

const KINDS: [(&str, &str, &str); 5] = [
    ("DependencyProxy", "dp", "NAME READY REPLICAS GROUPS STORAGE URL AGE MESSAGE"),
    ("DependencyProxyGroup", "dpg", "NAME READY PATH ENABLED UPSTREAM PREFIX AGE MESSAGE"),
    ("RegistryUpstream", "ups", "NAME READY URL ACCOUNT VALIDITY LIMIT AGE MESSAGE"),
    ("VirtualRegistry", "vreg", "NAME READY ID UPSTREAMS PREFIX AGE MESSAGE"),
    ("PullBinding", "pb", "NAME READY GROUP SECRET EXPIRES AGE MESSAGE"),
];

#[tokio::test]
async fn kubectl_get_shows_whether_it_works_and_why_not() {
    let Some(ground) = Ground::new().await else { return };
    let namespace = &ground.namespace;
    for (kind, short, columns) in KINDS {
        ground.create(least(kind)).await;
        let condition = json!({
            "type": "Ready", "status": "False", "reason": "NotYet", "message": "a sentence",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        });
        let status = json!({"status": {"ready": "NotYet", "conditions": [condition]}}).to_string();
        let patch =
            ["patch", "-n", namespace, short, "main", "--subresource=status", "--type=merge", "-p", &status];
        ground.kubectl.run(&patch).await.succeeds();
        let shown = ground.kubectl.run(&["get", short, "-n", namespace, "-o", "wide"]).await.succeeds().text;
        let lines = shown.lines().collect::<Vec<_>>();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>().join(" "), columns);
        assert!(lines[1].starts_with("main ") && lines[1].contains(" NotYet "), "{shown}");
        assert!(lines[1].ends_with(" a sentence"), "{shown}");
        let narrow = ground.kubectl.run(&["get", short, "-n", namespace]).await.succeeds().text;
        assert!(!narrow.contains("a sentence"), "{narrow}");
    }
}

#[tokio::test]
async fn one_word_names_all_kinds() {
    let Some(ground) = Ground::new().await else { return };
    for (kind, ..) in KINDS {
        ground.create(least(kind)).await;
    }
    let get = ["get", "dependency-proxy", "-n", &ground.namespace, "-o", "name"];
    let named = ground.kubectl.run(&get).await.succeeds().text;
    for (kind, ..) in KINDS {
        assert!(named.contains(&format!("{}.dependencyproxy.dev/main", kind.to_lowercase())), "{named}");
    }
}

#[tokio::test]
async fn every_field_is_explained() {
    let Some(ground) = Ground::new().await else { return };
    let documents = ground.kubectl.run(&["get", "--raw=/openapi/v3/apis/dependencyproxy.dev/v1alpha1"]).await;
    let documents = serde_json::from_str::<Value>(&documents.succeeds().text).unwrap();
    let schemas = &documents["components"]["schemas"];
    let mut silent = Vec::new();
    let mut fields = 0;
    for (kind, ..) in KINDS {
        let schema = &schemas[format!("dev.dependencyproxy.v1alpha1.{kind}")];
        for part in ["spec", "status"] {
            walk(&format!("{kind}.{part}"), &schema["properties"][part], &mut silent, &mut fields);
        }
    }
    assert!(fields > 200, "{fields} fields: the test looks at too little");
    assert!(silent.is_empty(), "not described:\n{}", silent.join("\n"));

    let explain = ["explain", "dependencyproxygroup.spec.recheckAfterSeconds"];
    let explained = ground.kubectl.run(&explain).await.succeeds().text;
    assert!(explained.contains("Seconds that a tag is served without a check"), "{explained}");
}

/// Collects the fields that have no description.
fn walk(path: &str, schema: &Value, silent: &mut Vec<String>, fields: &mut usize) {
    *fields += 1;
    if schema["description"].as_str().is_none_or(|text| text.trim().is_empty()) {
        silent.push(path.to_owned());
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, silent, fields);
    }
    // An item or a value is what its list or map says; its fields speak for themselves.
    for inside in ["items", "additionalProperties"] {
        for (name, field) in schema[inside]["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), field, silent, fields);
        }
    }
}

#[tokio::test]
async fn an_instance_is_scaled_as_a_deployment_is() {
    let Some(ground) = Ground::new().await else { return };
    let (kubectl, namespace) = (&ground.kubectl, ground.namespace.as_str());
    ground.create(least("DependencyProxy")).await;
    kubectl.run(&["scale", "-n", namespace, "dp/main", "--replicas=3"]).await.succeeds();
    let status = json!({"status": {"replicas": 2, "selector": "app=proxy"}}).to_string();
    let patch =
        ["patch", "-n", namespace, "dp", "main", "--subresource=status", "--type=merge", "-p", &status];
    kubectl.run(&patch).await.succeeds();
    let path =
        format!("/apis/dependencyproxy.dev/v1alpha1/namespaces/{namespace}/dependencyproxies/main/scale");
    let scale = kubectl.run(&["get", &format!("--raw={path}")]).await.succeeds().text;
    let scale = serde_json::from_str::<Value>(&scale).unwrap();
    assert_eq!(scale["spec"]["replicas"], 3);
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=proxy"}));
}

#[tokio::test]
async fn a_status_is_written_apart_and_is_no_new_generation() {
    let Some(ground) = Ground::new().await else { return };
    let (kubectl, namespace) = (&ground.kubectl, ground.namespace.as_str());
    for (kind, short, _) in KINDS {
        ground.create(least(kind)).await;
        let status = json!({"status": {"ready": "True", "observedGeneration": 1}}).to_string();
        let patch = ["patch", "-n", namespace, short, "main", "--type=merge", "-p", &status];
        kubectl.run(&patch).await.succeeds();
        let object = kubectl.json(&["get", "-n", namespace, short, "main"]).await;
        assert_eq!(object["status"], Value::Null, "{kind}: a status that was written with the object");
        kubectl.run(&[&patch[..], &["--subresource=status"]].concat()).await.succeeds();
        let object = kubectl.json(&["get", "-n", namespace, short, "main"]).await;
        assert_eq!(object["status"]["ready"], "True");
        assert_eq!(object["metadata"]["generation"], 1);
    }
}
