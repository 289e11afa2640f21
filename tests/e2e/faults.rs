//! What breaks, and what goes on.

use std::time::{Duration, Instant};

use harness::blob::Blob;
use serde_json::Value;

use crate::installation::{Installation, Instance, within};
use crate::kubelet::served_by;
use crate::load::Load;

#[tokio::test(flavor = "multi_thread")]
async fn transfers_that_a_killed_pod_breaks_succeed_at_their_first_retry() {
    let Some(installation) = Installation::alone().await else { return };
    let instance = installation.instance("killed", 30511, 3).await;
    let blob = Blob::random(32 << 20);
    installation.cluster.upstream("library/big").await.push_blob(&blob).await;
    // In every replica's reach before the kill.
    instance.ci(1).blob("big", &blob.digest).await.bytes();
    reach_every_pod(&instance).await;
    // Sixteen seconds for each: longer than a pod lives that is killed.
    let pulls: Vec<_> = (0..18)
        .map(|number| {
            let client = instance.ci(1 + number % 2).fresh().slow(2 << 20);
            let digest = blob.digest;
            tokio::spawn(async move { client.blob("big", digest).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let victim = instance.pods().await.swap_remove(0);
    let kill = ["delete", "pod", "-n", &instance.name, &victim, "--force", "--grace-period=0"];
    instance.kubectl().run(&kill).await.succeeds();
    let mut broken = 0;
    for (number, pull) in (0..).zip(pulls) {
        let answer = pull.await.unwrap();
        if answer.broken {
            broken += 1;
            let again = instance.ci(1 + number % 2).fresh().blob("big", blob.digest).await;
            assert_eq!(*again.bytes(), blob.bytes, "it succeeds at its first retry");
        } else {
            assert_eq!(*answer.bytes(), blob.bytes);
        }
    }
    harness::say!("{broken} of 18 transfers broken by the kill, each succeeded at its first retry");
    assert!((1..18).contains(&broken), "{broken} of 18 were at the pod that was killed");
    instance.end().await;
}

/// Waits until connections to each node come to every pod: its kube-proxy hears of pods in its own time.
async fn reach_every_pod(instance: &Instance<'_>) {
    let answered = async || {
        let mut answered = Vec::new();
        for pod in instance.pods().await {
            answered.push(served_by(instance, &pod, "manifest").await);
        }
        answered
    };
    for node in [1, 2] {
        let before = answered().await;
        let is_spread = async || {
            instance.ci(node).fresh().manifest("app", "1").await.bytes();
            answered().await.iter().zip(&before).all(|(now, before)| now != before)
        };
        within(Duration::from_secs(60), "every pod is reached", is_spread).await;
    }
}

/// The pod that downloads a blob from upstream, when a third of it is there.
async fn downloading(instance: &Instance<'_>, digest: &str, size: u64) -> String {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        for name in instance.pods().await {
            let status = instance.admin(&name, "/status").await;
            let status: Value = serde_json::from_str(&status).unwrap_or_default();
            let downloads = status["downloads"].as_array().cloned().unwrap_or_default();
            let leads = |d: &&Value| d["digest"] == *digest && d["source"] == "upstream";
            if downloads.iter().find(leads).is_some_and(|d| d["bytes"].as_u64() > Some(size / 3)) {
                return name;
            }
        }
    }
    panic!("no pod is seen while it downloads");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_killed_while_it_downloads_breaks_only_its_own_pulls() {
    let Some(installation) = Installation::on_our_nodes().await else { return };
    let instance = installation.instance("filling", 30521, 3).await;
    let blob = Blob::random(64 << 20);
    installation.cluster.upstream("library/cold").await.push_blob(&blob).await;
    installation.cluster.throttle("upstream", "app=registry", "50mbit").await;
    reach_every_pod(&instance).await;
    let pulls: Vec<_> = (0..9)
        .map(|number| {
            let (client, digest) = (instance.ci(1 + number % 2).fresh(), blob.digest);
            tokio::spawn(async move { client.blob("cold", digest).await })
        })
        .collect();
    let victim = downloading(&instance, &blob.digest.to_string(), 64 << 20).await;
    let kill = ["delete", "pod", "-n", &instance.name, &victim, "--force", "--grace-period=0"];
    instance.kubectl().run(&kill).await.succeeds();
    let mut broken = 0;
    for pull in pulls {
        let answer = pull.await.unwrap();
        if answer.broken {
            broken += 1;
            assert!(blob.bytes.starts_with(&answer.body), "nothing wrong is served");
            assert_eq!(*instance.ci(1).fresh().blob("cold", blob.digest).await.bytes(), blob.bytes);
        } else {
            assert_eq!(*answer.bytes(), blob.bytes);
        }
    }
    let log = ["logs", "-n", "upstream", "deployment/registry", "--tail=-1"];
    let log = instance.kubectl().run(&log).await.succeeds().text;
    let path = format!("GET /v2/library/cold/blobs/{}", blob.digest);
    let gets = log.lines().filter(|line| line.contains(&path) && line.contains("HTTP/1.1\" 20")).count();
    harness::say!(
        "downloading pod killed: {broken} of 9 pulls broke and succeeded at their first retry; {gets} GETs upstream (asked at most 2)"
    );
    assert!(broken < 9 && (1..=2).contains(&gets), "{broken} broken, {gets} GETs:\n{log}");
    installation.cluster.throttle("upstream", "app=registry", "10gbit").await;
    instance.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_go_on_while_the_store_is_away() {
    let Some(installation) = Installation::alone().await else { return };
    let instance = installation.instance("storeless", 30512, 2).await;
    let load = Load::begin(&instance);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let kubectl = instance.kubectl();
    kubectl.run(&["scale", "-n", "store", "deployment/s3", "--replicas=0"]).await.succeeds();
    let at = Instant::now();
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (pulls, p99) = load.since(at).await;
    let failures = load.end().await;
    kubectl.run(&["scale", "-n", "store", "deployment/s3", "--replicas=1"]).await.succeeds();
    installation.rolled_out("store", "s3").await;
    harness::say!("S3 away: {pulls} pulls, {} failed, p99 {p99:?}", failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(pulls > 20, "{pulls} pulls only");
    instance.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_document_is_in_every_pod_within_two_seconds() {
    let Some(installation) = Installation::alone().await else { return };
    let instance = installation.instance("documents", 30513, 3).await;
    let pods = instance.pods().await;
    assert_eq!(pods.len(), 3);
    let hash = async |pod: &str| {
        let status = instance.admin(pod, "/status").await;
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        status["configHash"].as_str().map(str::to_owned)
    };
    let mut times = Vec::new();
    for seconds in [61, 62, 63] {
        let before = hash(&pods[0]).await.expect("the pod answers");
        let patch = format!(r#"{{"spec":{{"recheckAfterSeconds":{seconds}}}}}"#);
        instance.patch("dependencyproxygroup/team", &patch).await;
        let at = Instant::now();
        for pod in &pods {
            within(Duration::from_secs(10), "the pod has it", async || {
                hash(pod).await.is_some_and(|now| now != before)
            })
            .await;
        }
        times.push(at.elapsed());
    }
    times.sort();
    harness::say!("a changed document in all of 3 pods: {times:?} (asked 2 s)");
    // Two processors run both nodes: two of the three may find them busy.
    assert!(times[0] <= Duration::from_secs(2) && times[1] <= Duration::from_secs(5), "{times:?}");
    let after = instance.pods().await;
    assert_eq!(pods.len(), after.len(), "no pod was replaced");
    assert!(pods.iter().all(|pod| after.contains(pod)));
    instance.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_member_is_refused_within_five_seconds() {
    let Some(installation) = Installation::alone().await else { return };
    let instance = installation.instance("revoked", 30514, 2).await;
    let alice = [1, 2].map(|node| instance.client(node, "alice", "change-me"));
    for client in &alice {
        assert_eq!(client.manifest("app", "1").await.status, 200);
    }
    instance.patch("dependencyproxygroup/team", r#"{"spec":{"members":[]}}"#).await;
    let at = Instant::now();
    // A port leads to any of the replicas: often enough for each to be asked, and with the token of before as well.
    let refused = async || {
        for client in alice.iter().cycle().take(6) {
            if client.fresh().manifest("app", "1").await.status != 403
                || client.manifest("app", "1").await.status != 403
            {
                return false;
            }
        }
        true
    };
    within(Duration::from_secs(5), "alice is refused", refused).await;
    harness::say!("a revoked member refused after {:?} (asked 5 s)", at.elapsed());
    assert_eq!(instance.ci(1).manifest("app", "1").await.status, 200);
    instance.end().await;
}
