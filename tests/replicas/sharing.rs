//! One request to upstream for what several replicas are asked for at a time.

use std::time::Duration;

use futures_util::future::join_all;
use harness::hostile::{Fault, Gate, noise};
use harness::replicas::{Instance, Plan};
use http::Method;
use serde_json::json;

use crate::MIB;

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_all_replicas_read_one_download_of_a_cold_blob() {
    let it = Instance::start().await;
    let bytes = noise(1, 8 * MIB);
    let digest = it.upstream.blob("library/a", bytes.clone());
    it.upstream.on("/blobs/").method(Method::GET).fault(Fault::Throttle(8 * MIB as u64));
    let clients: Vec<_> = it.clients().into_iter().flat_map(|client| vec![client; 8]).collect();
    for answer in join_all(clients.iter().map(|client| client.blob("library/a", digest))).await {
        assert!(answer.bytes() == &bytes, "the bytes are upstream's");
    }
    assert_eq!(it.upstream.count(Method::GET, "/blobs/"), 1, "{}", it.logs());
    assert_eq!(it.upstream.count(Method::HEAD, "/blobs/"), 0, "who waits for it has shown its right");
    it.settled().await;
    assert!(it.metric("served_bytes_total{source=\"replica\"}").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_has_the_first_bytes_before_the_download_is_complete() {
    let it = Instance::start().await;
    let bytes = noise(1, 4 * MIB);
    let digest = it.upstream.blob("library/a", bytes.clone());
    let gate = Gate::closed();
    it.upstream.on("/blobs/").method(Method::GET).fault(Fault::Pause(MIB as u64, gate.clone()));
    let mut open = Vec::new();
    for client in it.clients() {
        let mut response = client.open(Method::GET, &format!("library/a/blobs/{digest}"), &[]).await;
        let mut got = Vec::new();
        while got.len() < MIB - 64 * 1024 {
            let chunk = tokio::time::timeout(Duration::from_secs(10), response.chunk()).await;
            got.extend_from_slice(&chunk.expect("what upstream has sent comes through").unwrap().unwrap());
        }
        open.push((response, got));
    }
    gate.open();
    for (mut response, mut got) in open {
        while let Some(chunk) = response.chunk().await.unwrap() {
            got.extend_from_slice(&chunk);
        }
        assert!(got == bytes, "the bytes are upstream's");
    }
    assert_eq!(it.upstream.count(Method::GET, "/blobs/"), 1, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_ahead_of_another_replicas_download_waits_for_it() {
    let it = Instance::start().await;
    let bytes = noise(1, 4 * MIB);
    let digest = it.upstream.blob("library/a", bytes.clone());
    it.upstream.on("/blobs/").method(Method::GET).fault(Fault::Throttle(4 * MIB as u64));
    let clients = it.clients();
    let (whole, part) = tokio::join!(
        clients[0].blob("library/a", digest),
        clients[1].range("library/a", digest, "bytes=3000000-3000099"),
    );
    assert!(whole.bytes() == &bytes);
    assert_eq!(part.bytes(), &bytes[3_000_000..3_000_100]);
    assert_eq!(it.upstream.count(Method::GET, "/blobs/"), 1, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_group_follows_only_when_upstream_lets_it_in() {
    let mut plan = Plan::new().await;
    plan.documents.add(
        "RegistryUpstream",
        "refused",
        json!({"url": plan.upstream.url().as_str().trim_end_matches('/'), "insecure": true}),
    );
    plan.documents.group("team-b", "refused");
    let it = plan.start().await;
    let bytes = noise(1, 4 * MIB);
    let digest = it.upstream.blob("library/a", bytes.clone());
    let gate = Gate::closed();
    it.upstream.on("/blobs/").method(Method::GET).fault(Fault::Pause(MIB as u64, gate.clone()));
    let first = it.client(0).open(Method::GET, &format!("library/a/blobs/{digest}"), &[]).await;
    assert_eq!(first.status(), 200);
    it.upstream.behave();
    it.upstream.on("/blobs/").fault(Fault::Status(403));
    let stranger = it.client(1).group("team-b").blob("library/a", digest).await;
    assert!(!stranger.status.is_success(), "{}: {}", stranger.status, it.logs());
    assert!(it.upstream.count(Method::HEAD, "/blobs/") > 0);
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_upstream_answers_no_head_another_group_downloads_for_itself() {
    let mut plan = Plan::new().await;
    plan.documents.group("team-b", "upstream");
    let it = plan.start().await;
    let bytes = noise(1, 4 * MIB);
    let digest = it.upstream.blob("library/a", bytes.clone());
    it.upstream.on("/blobs/").method(Method::HEAD).fault(Fault::Status(405));
    it.upstream.on("/blobs/").method(Method::GET).fault(Fault::Throttle(4 * MIB as u64));
    let first = it.client(0).open(Method::GET, &format!("library/a/blobs/{digest}"), &[]).await;
    let second = it.client(1).group("team-b").blob("library/a", digest).await;
    assert!(second.bytes() == &bytes);
    assert!(first.bytes().await.unwrap() == bytes);
    assert_eq!(it.upstream.count(Method::GET, "/blobs/"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_image_costs_one_get_of_each_part_for_all_replicas() {
    let it = Instance::start().await;
    let image = it.upstream.image("library/a", "1", &[noise(1, MIB), noise(2, 1000)]);
    // Long enough for all to find the tag cold.
    it.upstream.on("/manifests/").fault(Fault::Delay(Duration::from_millis(1500)));
    join_all(it.clients().iter().map(|client| client.pull("library/a", "1"))).await;
    let gets = it.upstream.count(Method::GET, "/manifests/");
    assert_eq!(gets, 1, "{}", it.logs());
    assert_eq!(it.upstream.count(Method::HEAD, "/manifests/"), 1, "{}", it.logs());
    assert_eq!(it.upstream.count(Method::GET, "/blobs/"), 3, "{}", it.logs());
    for client in it.clients() {
        let answer = client.manifest("library/a", &image.digest.to_string()).await;
        assert_eq!(answer.bytes(), &image.manifest);
    }
    assert_eq!(it.upstream.count(Method::GET, "/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_claim_is_left_when_replicas_have_stopped() {
    let mut it = Instance::start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    it.client(0).pull("library/a", "1").await;
    it.settled().await;
    for replica in &mut it.replicas {
        replica.proxy.sigterm();
    }
    for replica in &mut it.replicas {
        assert!(replica.proxy.ended().await.success());
    }
    for folder in ["_fills", "_checks"] {
        let left = it.s3_keys(folder);
        assert!(left.is_empty(), "{left:?}");
    }
}
