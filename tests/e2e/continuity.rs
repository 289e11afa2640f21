//! No pull fails because of what an administrator does, and none takes long because of it.

use std::time::{Duration, Instant};

use crate::installation::{Installation, NAMESPACE, RELEASE, chart, within};
use crate::lifecycle::older_chart;
use crate::load::{LOOPS, Load, Moment};

const REPLICAS: usize = 3;
/// How long pulls are watched at rest.
const REST: Duration = Duration::from_secs(20);
/// The same at each change: about 300 of them. Of fewer, the 99th percentile would be the one pull that came to a new pod
/// first, which reads everything from the bucket.
const WATCHED: Duration = Duration::from_secs(10);
/// How long upstream is away. A cached answer waits for an upstream that has gone no longer than
/// `recheckBudgetMilliseconds`, and on each replica once.
const AWAY: Duration = Duration::from_secs(60);
/// What is asked for is twice the steady time, which is printed, and beside it how much of the processors the machine's
/// host gave to others meanwhile: they run both nodes and the tests, so within this the test does not fail.
const FLOOR: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn no_pull_fails_while_everything_is_changed() {
    let Some(installation) = Installation::alone().await else { return };
    let second = installation.nodes[1].name.as_str();
    let instance = installation.instance("continuity", 30510, 1).await;
    let load = Load::begin(&instance);
    // What every connection needs once is no steady pull.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rest = Moment::now();
    let (pulls, steady) = watch(&load, rest.at, REST).await;
    harness::say!("steady: {pulls} pulls, p99 {steady:?}, {}", rest.stolen());
    let phase = async |since: Moment, watched: Duration, what: &str| {
        let (pulls, p99) = watch(&load, since.at, watched).await;
        let (took, times) = (since.at.elapsed().as_secs_f64(), p99.as_secs_f64() / steady.as_secs_f64());
        harness::say!(
            "{what}: {pulls} pulls in {took:.1} s, p99 {p99:?}, {times:.1} times the steady one (asked 2), {}",
            since.stolen()
        );
        harness::say!("  slowest: {}", load.slowest(since.at).await);
        assert!(p99 <= (steady * 2).max(FLOOR), "{what}: p99 {p99:?}, steady {steady:?}");
    };
    let changes = Moment::now();
    let kubectl = instance.kubectl();

    instance.patch("dependencyproxy/main", &format!(r#"{{"spec":{{"replicas":{REPLICAS}}}}}"#)).await;
    let are_ready = async || instance.status("readyReplicas").await == REPLICAS;
    within(Duration::from_secs(90), "three replicas", are_ready).await;
    phase(changes, WATCHED, "scaled to 3").await;

    let at = Moment::now();
    instance.change(r#"{"spec":{"localCache":{"sizeLimit":"900Mi"}}}"#).await;
    phase(at, WATCHED, "rolled").await;

    let at = Moment::now();
    let drain = ["drain", second, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"];
    kubectl.run(&drain).await.succeeds();
    kubectl.run(&["uncordon", second]).await.succeeds();
    phase(at, WATCHED, "a node drained").await;

    let at = Moment::now();
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
        instance.object("api/v1", "secrets/main-dependency-proxy-keys").await["data"]["current"].clone()
    };
    let first = signs().await;
    within(Duration::from_secs(60), "a new key signs", async || signs().await != first).await;
    assert_ne!(before, instance.status("keyIDs").await);
    phase(at, WATCHED, "keys rotated").await;

    let at = Moment::now();
    let operator = format!("deployment/{RELEASE}-operator");
    kubectl.run(&["rollout", "restart", "-n", NAMESPACE, &operator]).await.succeeds();
    kubectl.run(&["rollout", "status", "-n", NAMESPACE, &operator, "--timeout=120s"]).await.succeeds();
    phase(at, WATCHED, "operator restarted").await;

    let at = Moment::now();
    let older = older_chart();
    installation.install(older.path()).await.succeeds();
    installation.install(&chart()).await.succeeds();
    phase(at, WATCHED, "the release upgraded").await;

    let at = Moment::now();
    instance.patch("dependencyproxygroup/team", r#"{"spec":{"quota":{"storageBytes":"10Gi"}}}"#).await;
    kubectl.wait(&instance.name, "dependencyproxygroup/team", "condition=Programmed").await;
    phase(at, WATCHED, "documents changed").await;

    let at = Moment::now();
    kubectl.run(&["scale", "-n", "upstream", "deployment/registry", "--replicas=0"]).await.succeeds();
    phase(at, AWAY, "upstream stopped").await;
    let waited = load.slower(Duration::from_millis(500), at.at).await;
    harness::say!("  {waited} pulls waited for it (asked at most one of each loop at each replica)");
    phase(changes, Duration::ZERO, "all of it").await;

    let failures = load.end().await;
    harness::say!("{} failed (asked 0)", failures.len());
    kubectl.run(&["scale", "-n", "upstream", "deployment/registry", "--replicas=1"]).await.succeeds();
    installation.refill().await;
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(waited <= LOOPS.len() * REPLICAS, "{waited} pulls waited for an upstream that was away");
    instance.end().await;
}

/// The number of pulls since then, once it is that long ago, and their 99th percentile.
async fn watch(load: &Load, since: Instant, watched: Duration) -> (usize, Duration) {
    tokio::time::sleep(watched.saturating_sub(since.elapsed())).await;
    let (pulls, p99) = load.since(since).await;
    assert!(pulls > 0, "nothing is pulled");
    (pulls, p99)
}
