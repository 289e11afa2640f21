//! The files of deploy/examples on real nodes: what they ask for comes up. The quickstart is in `lifecycle`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use harness::kubectl::Kubectl;
use serde_json::Value;

use crate::installation::{Installation, chart, within};

const OURS: &str = "dependencyproxy.dev/v1alpha1";

#[tokio::test(flavor = "multi_thread")]
async fn every_example_comes_up_as_it_is_written() {
    let Some(installation) = Installation::alone().await else { return };
    let kubectl = &installation.kubectl;
    let folder = chart().join("../../deploy/examples");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name != "quickstart.yaml").collect::<BTreeSet<_>>();
    assert!(names.len() >= 7, "{names:?}");
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    for name in names {
        let mut example = text(&name);
        let for_one_machine = name == "laptop.yaml";
        // What a team applies is served by what the platform team has applied.
        if !example.contains("kind: DependencyProxy\n") && !for_one_machine {
            example = format!("{}---\n{example}", text("platform.yaml"));
        }
        let objects = objects(&example);
        for namespace in objects.iter().filter_map(|object| object["metadata"]["namespace"].as_str()) {
            let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
            kubectl.apply(&namespace).await;
        }
        kubectl.apply(&example).await;
        for object in objects.iter().filter(|object| object["apiVersion"] == OURS) {
            let (condition, wanted) = match object["kind"].as_str().unwrap() {
                // Whether a bucket or a registry of that name can be reached is not the example's.
                "DependencyProxy" => ("Available", "True"),
                "RegistryUpstream" => ("Accepted", "True"),
                _ if for_one_machine => ("Ready", "ProxyNotFound"),
                _ => ("Ready", "True"),
            };
            is(kubectl, &name, object, condition, wanted).await;
        }
        let table = kubectl.run(&["get", "dp,dpg,ups,vreg,pb", "--all-namespaces"]).await.succeeds().text;
        harness::say!("{name}:\n{table}");
        let ours = objects.iter().filter(|object| object["kind"] != "Namespace").map(Value::to_string);
        let ours = ours.collect::<Vec<_>>().join("\n---\n");
        kubectl.run_with(&["delete", "-f", "-", "--ignore-not-found"], &ours).await.succeeds();
    }
    kubectl.run(&["delete", "namespace", "team-a", "ci", "--wait=false"]).await.succeeds();
}

fn objects(documents: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(documents);
    documents.map(|document| serde::Deserialize::deserialize(document).unwrap()).collect()
}

/// Waits until a condition has this status, or is False for this reason.
async fn is(kubectl: &Kubectl, example: &str, object: &Value, condition: &str, wanted: &str) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]));
    let namespace = text(&object["metadata"]["namespace"]);
    let is_so = async || {
        let live = kubectl.json(&["get", "-n", &namespace, &name]).await;
        let conditions = live["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|found| found["type"] == condition).unwrap_or_default();
        live["status"]["observedGeneration"] == live["metadata"]["generation"]
            && (found["status"] == wanted || found["reason"] == wanted)
    };
    within(Duration::from_secs(90), &format!("{example}: {name} {condition} {wanted}"), is_so).await;
}
