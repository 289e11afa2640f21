//! The annotation that asks for what is cached to be forgotten.

use serde_json::{Value, json};

use crate::pod::FakePod;
use crate::stage::{Stage, condition_of, group, object, proxy, upstream};

const ANNOTATION: &str = "dependencyproxy.dev/purge";
const IMAGE_ANNOTATION: &str = "dependencyproxy.dev/purge-image";

async fn annotate(stage: &Stage, kind: &str, name: &str, value: &str) {
    stage.patch(kind, name, json!({"metadata": {"annotations": {ANNOTATION: value}}})).await;
}

async fn annotate_image(stage: &Stage, kind: &str, name: &str, value: &str) {
    stage.patch(kind, name, json!({"metadata": {"annotations": {IMAGE_ANNOTATION: value}}})).await;
}

fn done(value: &'static str) -> impl Fn(&Value) -> bool {
    move |object| object["status"]["purged"] == value
}

/// A group, a virtual registry and their upstream, served by a pod.
async fn served() -> Option<(Stage, FakePod)> {
    let stage = Stage::new().await?;
    stage.apply(proxy("main")).await;
    stage.apply(upstream("hub")).await;
    let mut team = group("team", "team");
    team["spec"]["upstreamRef"] = json!({"name": "hub"});
    stage.apply(team).await;
    let spec = json!({"groupRef": {"name": "team"}, "upstreams": [{"name": "hub"}]});
    stage.apply(object("VirtualRegistry", "all", spec)).await;
    let pod = FakePod::of(&stage, "main").await;
    Some((stage, pod))
}

#[tokio::test]
async fn an_annotation_has_a_pod_purge_once_for_each_value_and_the_status_tells() {
    let Some((stage, pod)) = served().await else { return };
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
    stage.says("DependencyProxyGroup", "team", "Purged", "Unknown", "Pending").await;
    assert!(stage.get("DependencyProxyGroup", "team").await.unwrap()["status"]["purged"].is_null());
    pod.refuses_to_purge(false);
    stage.until("DependencyProxyGroup", "team", "tells of it", done("now")).await;
}

#[tokio::test]
async fn an_image_a_tag_or_a_digest_alone_is_purged_and_again_when_the_value_is_new() {
    let Some((stage, pod)) = served().await else { return };
    annotate(&stage, "DependencyProxyGroup", "team", "monday").await;
    stage.until("DependencyProxyGroup", "team", "tells of it", done("monday")).await;
    let digest = format!("sha256:{}", "a1".repeat(32));
    let by_digest = format!("library/alpine@{digest}");
    let values = [
        ("DependencyProxyGroup", "team", "library/alpine:3"),
        ("DependencyProxyGroup", "team", "library/alpine:3 Thu Nov 26 05:09:34 UTC 2026"),
        ("DependencyProxyGroup", "team", by_digest.as_str()),
        ("VirtualRegistry", "all", "library/alpine"),
        ("RegistryUpstream", "hub", digest.as_str()),
    ];
    for (kind, name, value) in values {
        annotate_image(&stage, kind, name, value).await;
        let is_done = |object: &Value| object["status"]["purgedImage"] == value;
        stage.until(kind, name, &format!("tells of {value}"), is_done).await;
        stage.says(kind, name, "Purged", "True", "Purged").await;
    }
    // Each annotation is remembered for itself: the first one is not done again.
    let team = stage.get("DependencyProxyGroup", "team").await.unwrap();
    assert_eq!(team["status"]["purged"], "monday");
    let namespace = &stage.namespace;
    let digest = digest.replace(':', "%3A");
    let team = format!("group={namespace}%2Fteam");
    assert_eq!(
        pod.purges(),
        [
            team.clone(),
            format!("{team}&image=library%2Falpine&tag=3"),
            format!("{team}&image=library%2Falpine&tag=3"),
            format!("{team}&image=library%2Falpine&digest={digest}"),
            format!("registry={namespace}.all&image=library%2Falpine"),
            format!("upstream={namespace}%2Fhub&digest={digest}"),
        ]
    );
}

#[tokio::test]
async fn what_is_mistyped_is_told_and_purges_nothing_until_it_is_mended() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(group("team", "team")).await;
    let pod = FakePod::of(&stage, "main").await;
    let team = "DependencyProxyGroup";
    stage.says(team, "team", "Ready", "True", "Programmed").await;
    annotate_image(&stage, team, "team", "library/Alpine:3").await;
    let message = stage.says(team, "team", "Purged", "False", "InvalidAnnotation").await;
    assert_eq!(
        message,
        "annotation dependencyproxy.dev/purge-image forgets nothing: \"library/Alpine:3\": a repository name is \
         lower case; write the group and the image in lower case; write library/alpine, library/alpine:3, \
         library/alpine@sha256:… or sha256:…"
    );
    // An image in the annotation that means everything.
    annotate(&stage, team, "team", "library/alpine:3").await;
    let tells = |team: &Value| {
        let message = condition_of(team, "Purged")["message"].clone();
        message.as_str().is_some_and(|said| said.contains("use dependencyproxy.dev/purge-image for an image"))
    };
    let object = stage.until(team, "team", "tells of both", tells).await;
    assert_eq!(condition_of(&object, "Ready")["status"], "True", "it serves all the same");
    let mended = json!({ANNOTATION: null, IMAGE_ANNOTATION: "library/alpine:3"});
    stage.patch(team, "team", json!({"metadata": {"annotations": mended}})).await;
    stage.says(team, "team", "Purged", "True", "Purged").await;
    assert_eq!(pod.purges(), [format!("group={}%2Fteam&image=library%2Falpine&tag=3", stage.namespace)]);
    let none = json!({ANNOTATION: null, IMAGE_ANNOTATION: null});
    stage.patch(team, "team", json!({"metadata": {"annotations": none}})).await;
    let is_silent = |team: &Value| condition_of(team, "Purged").is_null();
    stage.until(team, "team", "says nothing of it any more", is_silent).await;
}
