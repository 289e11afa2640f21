//! The bucket of an instance: its cleanup as a job, and purging with kubectl.

use std::time::Duration;

use serde_json::json;

use crate::installation::{Installation, Instance, within};

/// Requests of the instance's pods for manifests and blobs.
async fn gets(instance: &Instance<'_>) -> u64 {
    let mut sum = 0.0;
    for pod in instance.pods().await {
        let metrics = instance.admin(&pod, "/metrics").await;
        let lines = metrics.lines().filter(|line| {
            line.starts_with("dependency_proxy_upstream_requests_total") && line.contains("method=\"GET\"")
        });
        sum += lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
    }
    sum as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cleanups_job_runs_on_a_node_and_the_status_tells_what_it_did() {
    let Some(installation) = Installation::alone().await else { return };
    let instance = installation.instance("cleaned", 30518, 1).await;
    instance.ci(1).pull("app", "1").await;
    let kubectl = instance.kubectl();
    let job = ["create", "job", "-n", &instance.name, "now", "--from=cronjob/main-dependency-proxy-cleanup"];
    kubectl.run(&job).await.succeeds();
    kubectl.wait(&instance.name, "job/now", "condition=Complete").await;
    let told = async || instance.status("cleanup").await["succeeded"] == json!(true);
    within(Duration::from_secs(60), "the status tells of it", told).await;
    let cleanup = instance.status("cleanup").await;
    harness::say!("cleanup on a node: {cleanup}");
    assert!(cleanup["keptBytes"].as_u64() > Some(300_000), "{cleanup}");
    let log = kubectl.run(&["logs", "-n", &instance.name, "job/now"]).await.succeeds().text;
    assert!(log.contains("verified") && log.contains("0 damaged"), "{log}");

    // What a person runs in a pod finds documents and store.
    let image = format!("{}/{}/dependency_proxy/containers/app:1", instance.host(1), instance.name);
    let pod = ["exec", "-n", &instance.name, "deployment/main-dependency-proxy", "--", "/dependency-proxy"];
    let explain = [&pod[..], &["explain", &image, "--as", "ci"]].concat();
    let explained = kubectl.run(&explain).await.succeeds().text;
    assert!(explained.contains("group     cleaned"), "{explained}");
    kubectl.run(&[&pod[..], &["check"]].concat()).await.succeeds();
    instance.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_group_has_cached_is_forgotten_when_it_is_annotated() {
    let Some(installation) = Installation::alone().await else { return };
    let instance = installation.instance("purged", 30519, 1).await;
    instance.ci(1).pull("app", "1").await;
    let before = gets(&instance).await;
    instance.ci(1).pull("app", "1").await;
    assert_eq!(gets(&instance).await, before, "it is cached");
    let kubectl = instance.kubectl();
    for (annotation, field, value) in [("purge", "purged", "monday"), ("purge-image", "purgedImage", "app:1")]
    {
        let before = gets(&instance).await;
        let annotation = format!("dependencyproxy.dev/{annotation}={value}");
        let annotate = ["annotate", "-n", &instance.name, "dependencyproxygroup/team", &annotation];
        kubectl.run(&annotate).await.succeeds();
        let taken = format!("jsonpath={{.status.{field}}}={value}");
        kubectl.wait(&instance.name, "dependencyproxygroup/team", &taken).await;
        let fetched = async || {
            instance.ci(1).pull("app", "1").await;
            gets(&instance).await > before
        };
        within(Duration::from_secs(10), &format!("it is fetched again: {annotation}"), fetched).await;
    }
    instance.end().await;
}
