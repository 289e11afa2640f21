//! A replica that is killed, stands still or cannot be reached: whoever pulls elsewhere notices nothing.

use std::time::{Duration, Instant};

use harness::hostile::{Fault, noise};
use harness::pull::Answer;
use harness::replicas::Instance;
use harness::tool;
use http::Method;
use oci::Digest;
use tokio::task::JoinHandle;

use crate::MIB;
use crate::crowd::Crowd;

const BYTES: usize = 12 * MIB;

/// How long a replica stands still.
const STANDSTILL: Duration = Duration::from_secs(60);
const BLOB: &str = "library/a/blobs/";

/// Clients on all replicas in the middle of a cold blob: 4 on each, and which replica downloads it. Beside them real
/// clients pull other images.
struct Halfway {
    it: Instance,
    crowd: Crowd,
    bytes: Vec<u8>,
    leader: usize,
    pulls: Vec<(usize, JoinHandle<Answer>)>,
}

impl Halfway {
    async fn begin() -> Self {
        let it = Instance::start().await;
        let bytes = noise(1, BYTES);
        let digest = it.upstream.blob("library/a", bytes.clone());
        it.upstream.on(BLOB).method(Method::GET).fault(Fault::Throttle(3 * MIB as u64 / 2));
        let crowd = Crowd::begin(&it).await;
        let mut pulls = Vec::new();
        for replica in 0..3 {
            for _ in 0..4 {
                let client = it.client(replica);
                pulls.push((replica, tokio::spawn(async move { client.blob("library/a", digest).await })));
            }
        }
        let leader = leader(&it, digest).await;
        Self { it, crowd, bytes, leader, pulls }
    }

    /// Waits for the clients of all replicas but the lost one, and says how upstream was asked.
    async fn survivors(&mut self) -> usize {
        for (replica, pull) in self.pulls.drain(..) {
            let answer = pull.await.unwrap();
            if replica != self.leader {
                assert!(answer.bytes() == &self.bytes, "the bytes are upstream's");
            } else {
                assert!(self.bytes.starts_with(&answer.body), "nothing wrong is served");
            }
        }
        self.gets()
    }

    fn gets(&self) -> usize {
        self.it.upstream.count(Method::GET, BLOB)
    }
}

/// Waits until a third of the blob is at every replica; the one that has it from upstream.
async fn leader(it: &Instance, digest: Digest) -> usize {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        let mut leader = None;
        let mut far = 0;
        for (number, replica) in it.replicas.iter().enumerate() {
            let status = replica.status().await;
            let downloads = status["downloads"].as_array().cloned().unwrap_or_default();
            let download = downloads.iter().find(|download| download["digest"] == digest.to_string());
            far += usize::from(download.is_some_and(|d| d["bytes"].as_u64() > Some(BYTES as u64 / 3)));
            if download.is_some_and(|download| download["source"] == "upstream") {
                leader = Some(number);
            }
        }
        if let (Some(leader), 3) = (leader, far) {
            return leader;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no replica is seen while it downloads:\n{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_downloading_replica_is_killed_another_goes_on_from_there() {
    let mut halfway = Halfway::begin().await;
    let leader = halfway.leader;
    halfway.it.replicas[leader].proxy.kill9();
    let gets = halfway.survivors().await;
    harness::say!(
        "filling replica killed: {gets} GETs upstream (asked at most 2), 0 of 8 other pulls failed"
    );
    assert_eq!(gets, 2, "{}", halfway.it.logs());
    let requests = halfway.it.upstream.requests();
    let of_blob = requests.iter().filter(|request| request.path.contains(BLOB));
    let ranges: Vec<_> = of_blob.filter_map(|r| r.header("range").map(str::to_owned)).collect();
    let from = ranges
        .first()
        .and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
    assert!(from.is_some_and(|from| from >= BYTES / 3), "only what is missing is asked for: {ranges:?}");
    halfway.crowd.end(Some(leader)).await.all_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_downloading_replica_stands_still_the_others_go_on_without_it() {
    let mut halfway = Halfway::begin().await;
    let leader = halfway.leader;
    halfway.it.replicas[leader].proxy.pause();
    let paused = Instant::now();
    let others: Vec<_> = (0..halfway.pulls.len()).filter(|n| halfway.pulls[*n].0 != leader).collect();
    for number in others.into_iter().rev() {
        let (_, pull) = halfway.pulls.remove(number);
        assert!(pull.await.unwrap().bytes() == &halfway.bytes);
    }
    let (gets, after) = (halfway.gets(), paused.elapsed());
    harness::say!(
        "filling replica paused: {gets} GETs upstream (asked at most 2), 0 of 8 other pulls failed, all had ended after {after:.1?}"
    );
    // Three to five seconds until it counts as gone, and the rest of the blob.
    assert!(after < Duration::from_secs(40), "{after:?}: {}", halfway.it.logs());
    assert_eq!(gets, 2, "{}", halfway.it.logs());
    // The others pull on for as long as it stands still, and it comes back to a world that went on.
    tokio::time::sleep(STANDSTILL.saturating_sub(paused.elapsed())).await;
    halfway.it.replicas[leader].proxy.resume();
    for (_, pull) in halfway.pulls.drain(..) {
        assert!(halfway.bytes.starts_with(&pull.await.unwrap().body), "nothing wrong is served");
    }
    let again = halfway.it.client(leader).blob("library/a", digest_of(&halfway.bytes)).await;
    assert!(again.bytes() == &halfway.bytes);
    halfway.crowd.end(Some(leader)).await.all_well();
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(oci::Algorithm::Sha256, bytes)
}

/// Packets to a port of this machine are dropped until this is.
struct Partition(u16);

impl Partition {
    fn of(port: u16) -> Self {
        Self::rule("-I", port);
        Self(port)
    }

    fn rule(action: &str, port: u16) {
        let port = port.to_string();
        let rule = [action, "INPUT", "-i", "lo", "-p", "tcp", "--dport", &port, "-j", "DROP"];
        let iptables = tool::installed("iptables").unwrap();
        assert!(std::process::Command::new(iptables).arg("-w").args(rule).status().unwrap().success());
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        Self::rule("-D", self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_do_not_reach_each_other_serve_all_the_same() {
    if tool::left_out(&["iptables"], true) {
        return;
    }
    let mut halfway = Halfway::begin().await;
    let _partitions: Vec<_> = halfway.it.replicas.iter().map(|replica| Partition::of(replica.port)).collect();
    for (_, pull) in halfway.pulls.drain(..) {
        assert!(pull.await.unwrap().bytes() == &halfway.bytes, "{}", halfway.it.logs());
    }
    let gets = halfway.gets();
    harness::say!("replicas apart: {gets} GETs upstream (asked at most 3), 0 of 12 pulls failed");
    assert!(gets <= 3, "{}", halfway.it.logs());
    halfway.crowd.end(None).await.all_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_before_and_bytes_to_which_nobody_has_a_right_are_no_answer() {
    let mut it = Instance::start().await;
    let bytes = noise(1, MIB);
    let digest = it.upstream.blob("library/a", bytes.clone());
    it.client(0).blob("library/a", digest).await.bytes();
    it.settled().await;
    // Its claim stands a moment longer, and it comes back at the same address.
    it.replicas[0].proxy.restart().await;
    assert_eq!(it.s3_keys("_fills").len(), 1, "the claim was left behind");
    for key in it.s3_keys("_links") {
        std::fs::remove_file(it.s3_file(&key)).unwrap();
    }
    assert!(it.client(1).blob("library/a", digest).await.bytes() == &bytes, "{}", it.logs());
    assert_eq!(it.upstream.count(Method::GET, BLOB), 2, "it was delivered anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_dead_replica_left_behind_costs_nothing() {
    let mut it = Instance::start().await;
    let bytes = noise(1, 4 * MIB);
    let digest = it.upstream.blob("library/a", bytes.clone());
    it.upstream.on("/blobs/").times(1).fault(Fault::Hang);
    let client = it.client(0);
    let abandoned = tokio::spawn(async move { client.blob("library/a", digest).await });
    it.upstream.wait_for_count(1, Method::GET, "/blobs/").await;
    it.replicas[0].proxy.kill9();
    assert!(abandoned.await.unwrap().broken);
    assert!(it.client(1).blob("library/a", digest).await.bytes() == &bytes, "{}", it.logs());
}
