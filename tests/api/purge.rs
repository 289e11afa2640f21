//! The annotation that asks for what is cached to be forgotten.

use serde_json::{Value, json};

use crate::pod::FakePod;
use crate::stage::{Stage, group, object, proxy, upstream};

const ANNOTATION: &str = "dependencyproxy.dev/purge";

async fn annotate(stage: &Stage, kind: &str, name: &str, value: &str) {
    stage.patch(kind, name, json!({"metadata": {"annotations": {ANNOTATION: value}}})).await;
}

fn done(value: &'static str) -> impl Fn(&Value) -> bool {
    move |object| object["status"]["purged"] == value
}

#[tokio::test]
async fn an_annotation_has_a_pod_purge_once_for_each_value_and_the_status_tells() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(upstream("hub")).await;
    let mut team = group("team", "team");
    team["spec"]["upstreamRef"] = json!({"name": "hub"});
    stage.apply(team).await;
    let spec = json!({"groupRef": {"name": "team"}, "upstreams": [{"name": "hub"}]});
    stage.apply(object("VirtualRegistry", "all", spec)).await;
    let pod = FakePod::of(&stage, "main").await;
    stage.until("DependencyProxyGroup", "team", "is ready", |team| team["status"]["ready"] == "True").await;
    assert!(pod.purges().is_empty());

    annotate(&stage, "DependencyProxyGroup", "team", "monday").await;
    stage.until("DependencyProxyGroup", "team", "tells of it", done("monday")).await;
    annotate(&stage, "VirtualRegistry", "all", "1").await;
    stage.until("VirtualRegistry", "all", "tells of it", done("1")).await;
    annotate(&stage, "RegistryUpstream", "hub", "x").await;
    stage.until("RegistryUpstream", "hub", "tells of it", done("x")).await;
    annotate(&stage, "DependencyProxyGroup", "team", "tuesday").await;
    stage.until("DependencyProxyGroup", "team", "tells of it again", done("tuesday")).await;
    // Other changes ask for nothing.
    stage.patch("DependencyProxyGroup", "team", json!({"spec": {"recheckAfterSeconds": 9}})).await;
    let seen = |team: &Value| team["status"]["observedGeneration"] == team["metadata"]["generation"];
    stage.until("DependencyProxyGroup", "team", "is as it was changed", seen).await;
    let namespace = &stage.namespace;
    let team = format!("group={namespace}%2Fteam");
    assert_eq!(
        pod.purges(),
        [team.clone(), format!("registry={namespace}.all"), format!("upstream={namespace}%2Fhub"), team,]
    );
}

#[tokio::test]
async fn an_annotation_waits_for_a_pod_that_does_it() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(group("team", "team")).await;
    let pod = FakePod::of(&stage, "main").await;
    pod.refuses_to_purge(true);
    annotate(&stage, "DependencyProxyGroup", "team", "now").await;
    let served = |team: &Value| team["status"]["ready"] == "True";
    stage.until("DependencyProxyGroup", "team", "is served", served).await;
    assert!(stage.get("DependencyProxyGroup", "team").await.unwrap()["status"]["purged"].is_null());
    pod.refuses_to_purge(false);
    stage.until("DependencyProxyGroup", "team", "tells of it", done("now")).await;
}
