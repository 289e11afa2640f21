//! No pull fails because of what an administrator does, and none takes long because of it.
//!
//! Containers that start and end take the processors from everything on these nodes. How long pulls take because of that
//! alone is seen on a second instance, of which nothing is changed, in the same minutes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::installation::{Installation, NAMESPACE, RELEASE, within};
use crate::load::Load;

/// What is asked for is twice the steady time. Two processors that run both nodes and the tests are busy with whatever
/// starts and ends, so it is held against what a pull takes beside it where nothing is changed; both are printed.
/// Within this nobody could tell them apart.
const FLOOR: Duration = Duration::from_millis(300);
/// A cached answer waits no longer for an upstream that has gone (`recheckBudgetMilliseconds`), once on each replica.
const BUDGET: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn no_pull_fails_while_everything_is_changed() {
    let Some(installation) = Installation::alone().await else { return };
    let control = installation.instance("control", 30517, 1).await;
    // Not on the node that is drained.
    let [first, second] = installation.nodes.each_ref().map(|node| node.name.as_str());
    let pin = json!({"spec": {"podTemplate": {"nodeSelector": {"kubernetes.io/hostname": first}}}});
    control.change(&pin.to_string()).await;
    let instance = installation.instance("continuity", 30510, 1).await;
    let load = Both { changed: Load::begin(&instance), control: Load::begin(&control) };
    // What every connection needs once is no steady pull.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (steady, _) = load.phase(began, "steady").await;
    let changes = Instant::now();
    let kubectl = instance.kubectl();

    instance.patch("dependencyproxy/main", r#"{"spec":{"replicas":3}}"#).await;
    within(Duration::from_secs(90), "three replicas", async || instance.status("readyReplicas").await == 3)
        .await;
    load.phase(changes, "scaled to 3").await;

    let at = Instant::now();
    instance.change(r#"{"spec":{"localCache":{"sizeLimit":"900Mi"}}}"#).await;
    load.phase(at, "rolled").await;

    let at = Instant::now();
    let drain = ["drain", second, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"];
    kubectl.run(&drain).await.succeeds();
    kubectl.run(&["uncordon", second]).await.succeeds();
    load.phase(at, "a node drained").await;

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
        instance.object("api/v1", "secrets/main-dependency-proxy-keys").await["data"]["current"].clone()
    };
    let first = signs().await;
    within(Duration::from_secs(60), "a new key signs", async || signs().await != first).await;
    assert_ne!(before, instance.status("keyIDs").await);
    load.phase(at, "keys rotated").await;

    let at = Instant::now();
    let operator = format!("deployment/{RELEASE}-operator");
    kubectl.run(&["rollout", "restart", "-n", NAMESPACE, &operator]).await.succeeds();
    kubectl.run(&["rollout", "status", "-n", NAMESPACE, &operator, "--timeout=120s"]).await.succeeds();
    load.phase(at, "operator restarted").await;

    let at = Instant::now();
    instance.patch("dependencyproxygroup/team", r#"{"spec":{"recheckAfterSeconds":1}}"#).await;
    kubectl.wait(&instance.name, "dependencyproxygroup/team", "condition=Programmed").await;
    load.phase(at, "documents changed").await;

    let at = Instant::now();
    kubectl.run(&["scale", "-n", "upstream", "deployment/registry", "--replicas=0"]).await.succeeds();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (stopped, _) = load.phase(at, "upstream stopped").await;
    let (p99, unchanged) = load.phase(changes, "all of it").await;

    let failures = load.changed.end().await;
    harness::say!(
        "{} failed (asked 0); p99 {p99:?}, steady {steady:?}, beside it where nothing is changed {unchanged:?} (asked at most twice)",
        failures.len()
    );
    let control_failures = load.control.end().await;
    kubectl.run(&["scale", "-n", "upstream", "deployment/registry", "--replicas=1"]).await.succeeds();
    installation.refill().await;
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(control_failures.is_empty(), "{control_failures:#?}");
    let bound = (unchanged * 2).max(FLOOR);
    assert!(p99 <= bound, "p99 {p99:?}, where nothing is changed {unchanged:?}");
    assert!(stopped <= BUDGET + FLOOR, "p99 {stopped:?} while upstream is stopped");
    instance.end().await;
    control.end().await;
}

/// The same pulls from the instance that is changed and from one that is not.
struct Both {
    changed: Load,
    control: Load,
}

impl Both {
    /// Prints what came of the pulls since then; the 99th percentile of each.
    async fn phase(&self, since: Instant, what: &str) -> (Duration, Duration) {
        let ((pulls, p99), (beside, unchanged)) =
            tokio::join!(self.changed.since(since), self.control.since(since));
        harness::say!(
            "{what}: {pulls} pulls in {:.1} s, p99 {p99:?}; {beside} where nothing is changed, p99 {unchanged:?}",
            since.elapsed().as_secs_f64()
        );
        harness::say!("  slowest: {}", self.changed.slowest(since).await);
        assert!(pulls > 0 && beside > 0, "nothing is pulled");
        (p99, unchanged)
    }
}
