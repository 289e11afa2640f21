//! The annotation that asks for what is cached to be forgotten.

use axum::http::StatusCode;
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
    pod.refuses_to_purge(Some(StatusCode::SERVICE_UNAVAILABLE));
    annotate(&stage, "DependencyProxyGroup", "team", "now").await;
    let served = |team: &Value| team["status"]["ready"] == "True";
    stage.until("DependencyProxyGroup", "team", "is served", served).await;
    stage.says("DependencyProxyGroup", "team", "Purged", "Unknown", "Pending").await;
    assert!(stage.get("DependencyProxyGroup", "team").await.unwrap()["status"]["purged"].is_null());
    pod.refuses_to_purge(None);
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

#[tokio::test]
async fn a_mistake_in_one_annotation_does_not_hide_that_the_other_waits() {
    let Some((stage, pod)) = served().await else { return };
    let team = "DependencyProxyGroup";
    stage.says(team, "team", "Ready", "True", "Programmed").await;
    pod.refuses_to_purge(Some(StatusCode::SERVICE_UNAVAILABLE));
    let both = json!({ANNOTATION: "now", IMAGE_ANNOTATION: "library//alpine"});
    stage.patch(team, "team", json!({"metadata": {"annotations": both}})).await;
    let message = stage.says(team, "team", "Purged", "False", "InvalidAnnotation").await;
    let waits = format!(
        "annotation {ANNOTATION} waits: no pod of DependencyProxy {}/main has taken it yet; annotation \
         {IMAGE_ANNOTATION} forgets nothing: ",
        stage.namespace
    );
    assert!(message.starts_with(&waits), "{message}");
    pod.refuses_to_purge(None);
    let object = stage.until(team, "team", "tells of it", done("now")).await;
    let purged = condition_of(&object, "Purged");
    assert_eq!(purged["reason"], "InvalidAnnotation");
    assert!(!purged["message"].as_str().unwrap().contains("waits"), "{purged}");
    assert_eq!(pod.purges().len(), 1);
}

#[tokio::test]
async fn what_an_older_operator_remembered_in_part_is_not_purged_again() {
    let Some((stage, pod)) = served().await else { return };
    let team = "DependencyProxyGroup";
    stage.says(team, "team", "Ready", "True", "Programmed").await;
    let value = format!("Thu Nov 26 05:09:34 UTC 2026 {}", "because ".repeat(9));
    stage.patch_status(team, "team", json!({"purged": &value[..64]})).await;
    annotate(&stage, team, "team", &value).await;
    let is_done = |team: &Value| team["status"]["purged"] == value.as_str();
    stage.until(team, "team", "remembers all of it", is_done).await;
    stage.says(team, "team", "Purged", "True", "Purged").await;
    assert!(pod.purges().is_empty());
}

/// An instance beside the first, with a group of its own that has this upstream.
async fn add_second(stage: &Stage, upstream: &str) {
    let mut second = proxy("second");
    second["spec"]["defaultUpstreamRef"] = json!({"name": "hub"});
    stage.apply(second).await;
    let mut other = group("other", "other");
    other["spec"]["proxyRef"] = json!({"name": "second"});
    other["spec"]["upstreamRef"] = json!({"name": upstream});
    stage.apply(other).await;
    stage.says("DependencyProxyGroup", "team", "Ready", "True", "Programmed").await;
    stage.says("DependencyProxyGroup", "other", "ResolvedRefs", "True", "ResolvedRefs").await;
}

#[tokio::test]
async fn an_instance_that_has_taken_it_is_not_asked_again_while_another_has_no_pod() {
    let Some((stage, pod)) = served().await else { return };
    add_second(&stage, "hub").await;
    let kind = "RegistryUpstream";
    annotate(&stage, kind, "hub", "now").await;
    let message = stage.says(kind, "hub", "Purged", "Unknown", "Pending").await;
    // It is looked at again and again.
    for hours in 1..=3 {
        stage.patch(kind, "hub", json!({"spec": {"cacheValidityHours": hours}})).await;
        let seen = |hub: &Value| hub["status"]["observedGeneration"] == hub["metadata"]["generation"];
        stage.until(kind, "hub", "is as it was changed", seen).await;
    }
    let once = [format!("upstream={}%2Fhub", stage.namespace)];
    assert_eq!(pod.purges(), once);
    let second = format!("{}/second", stage.namespace);
    let expected =
        format!("annotation {ANNOTATION} waits: no pod of DependencyProxy {second} has taken it yet");
    assert_eq!(message, expected);
    let late = FakePod::of(&stage, "second").await;
    stage.until(kind, "hub", "tells of it", done("now")).await;
    assert_eq!((pod.purges(), late.purges()), (once.to_vec(), once.to_vec()));
}

#[tokio::test]
async fn an_instance_whose_pods_serve_nothing_of_it_is_not_waited_for() {
    let Some((stage, pod)) = served().await else { return };
    stage.apply(upstream("own")).await;
    add_second(&stage, "own").await;
    let stranger = FakePod::of(&stage, "second").await;
    stage.says("DependencyProxyGroup", "other", "Ready", "True", "Programmed").await;
    stranger.refuses_to_purge(Some(StatusCode::SERVICE_UNAVAILABLE));
    annotate(&stage, "RegistryUpstream", "hub", "now").await;
    let message = stage.says("RegistryUpstream", "hub", "Purged", "Unknown", "Pending").await;
    assert!(message.contains(&format!("{}/second has", stage.namespace)), "{message}");
    // What the second port answers where neither a group nor a virtual registry has it.
    stranger.refuses_to_purge(Some(StatusCode::NOT_FOUND));
    stage.until("RegistryUpstream", "hub", "tells of it", done("now")).await;
    assert_eq!(pod.purges(), [format!("upstream={}%2Fhub", stage.namespace)]);
}

#[tokio::test]
async fn a_pod_that_does_not_know_a_group_yet_is_asked_until_it_does() {
    let Some((stage, pod)) = served().await else { return };
    stage.says("DependencyProxyGroup", "team", "Ready", "True", "Programmed").await;
    pod.freeze();
    pod.refuses_to_purge(Some(StatusCode::NOT_FOUND));
    let mut back = group("back", "back");
    back["metadata"]["annotations"] = json!({ANNOTATION: "now"});
    stage.apply(back).await;
    let message = stage.says("DependencyProxyGroup", "back", "Purged", "Unknown", "Pending").await;
    assert!(message.contains(&format!("{}/main has", stage.namespace)), "{message}");
    pod.refuses_to_purge(None);
    pod.thaw();
    stage.until("DependencyProxyGroup", "back", "tells of it", done("now")).await;
    assert_eq!(pod.purges(), [format!("group={}%2Fback", stage.namespace)]);
}
