//! No pull fails because of what an administrator does.

use std::time::{Duration, Instant};

use crate::installation::{Installation, NAMESPACE, RELEASE, within};
use crate::load::Load;

/// Below this the 99th percentile says more of two busy processors than of the proxy.
const FLOOR: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread")]
async fn no_pull_fails_while_everything_is_changed() {
    let Some(installation) = Installation::alone().await else { return };
    let instance = installation.instance("continuity", 30510, 1).await;
    let load = Load::begin(&instance);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (pulls, steady) = load.since(began + Duration::from_secs(2)).await;
    assert!(pulls > 20, "{pulls} pulls only");
    say!("steady: {pulls} pulls, p99 {steady:?}");
    let changes = Instant::now();
    let kubectl = instance.kubectl();

    instance.patch("dependencyproxy/main", r#"{"spec":{"replicas":3}}"#).await;
    within(Duration::from_secs(90), "three replicas", async || instance.status("readyReplicas").await == 3)
        .await;
    phase(&load, changes, "scaled to 3").await;

    let at = Instant::now();
    instance.patch("dependencyproxy/main", r#"{"spec":{"localCache":{"sizeLimit":"900Mi"}}}"#).await;
    kubectl
        .wait(&instance.name, "deployment/main-dependency-proxy", "jsonpath={.status.observedGeneration}=3")
        .await;
    instance.rolled_out().await;
    phase(&load, at, "rolled").await;

    let at = Instant::now();
    let drain = ["drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"];
    kubectl.run(&drain).await.succeeds();
    kubectl.run(&["uncordon", "node2"]).await.succeeds();
    phase(&load, at, "node2 drained").await;

    let at = Instant::now();
    let before = instance.status("keyIDs").await;
    kubectl
        .run(&[
            "annotate",
            "-n",
            &instance.name,
            "dependencyproxy/main",
            "dependencyproxy.dev/rotate-keys=now",
        ])
        .await
        .succeeds();
    let signs = async || {
        let secret =
            kubectl.json(&["get", "secret", "-n", &instance.name, "main-dependency-proxy-keys"]).await;
        secret["data"]["current"].clone()
    };
    let first = signs().await;
    within(Duration::from_secs(60), "a new key signs", async || signs().await != first).await;
    assert_ne!(before, instance.status("keyIDs").await);
    phase(&load, at, "keys rotated").await;

    let at = Instant::now();
    let operator = format!("deployment/{RELEASE}-operator");
    kubectl.run(&["rollout", "restart", "-n", NAMESPACE, &operator]).await.succeeds();
    kubectl.run(&["rollout", "status", "-n", NAMESPACE, &operator, "--timeout=120s"]).await.succeeds();
    phase(&load, at, "operator restarted").await;

    let at = Instant::now();
    instance.patch("dependencyproxygroup/team", r#"{"spec":{"recheckAfterSeconds":1}}"#).await;
    kubectl.wait(&instance.name, "dependencyproxygroup/team", "condition=Programmed").await;
    phase(&load, at, "documents changed").await;

    let at = Instant::now();
    kubectl.run(&["scale", "-n", "upstream", "deployment/registry", "--replicas=0"]).await.succeeds();
    tokio::time::sleep(Duration::from_secs(10)).await;
    phase(&load, at, "upstream stopped").await;

    let (pulls, p99) = load.since(changes).await;
    let failures = load.end().await;
    say!(
        "{pulls} pulls through all changes, {} failed (asked 0), p99 {p99:?}, steady {steady:?} (asked at most twice)",
        failures.len()
    );
    kubectl.run(&["scale", "-n", "upstream", "deployment/registry", "--replicas=1"]).await.succeeds();
    installation.refill().await;
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(p99 <= (steady * 2).max(FLOOR), "p99 {p99:?}, steady {steady:?}");
    instance.end().await;
}

async fn phase(load: &Load, since: Instant, what: &str) {
    let (pulls, p99) = load.since(since).await;
    say!("{what}: {pulls} pulls in {:.1} s, p99 {p99:?}", since.elapsed().as_secs_f64());
}
