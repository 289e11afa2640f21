//! One upstream download however many ask, and everyone reads from it while it runs.

use std::time::Duration;

use futures_util::future::join_all;
use harness::hostile::{Fault, Gate, Upstream, noise};
use harness::pull::Client;
use harness::server::Proxy;
use http::Method;
use oci::Digest;

use crate::MIB;

/// A blob of 4 MiB whose first download stands still after 1 MiB.
struct Paused {
    upstream: Upstream,
    proxy: Proxy,
    bytes: Vec<u8>,
    digest: Digest,
    gate: Gate,
}

async fn paused() -> Paused {
    let upstream = Upstream::start().await;
    let bytes = noise(1, 4 * MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    let gate = Gate::closed();
    upstream.on("/blobs/").method(Method::GET).fault(Fault::Pause(MIB as u64, gate.clone()));
    let proxy = Proxy::of(&upstream).await;
    Paused { upstream, proxy, bytes, digest, gate }
}

impl Paused {
    /// Asks for the blob and reads what can be read before the gate opens, so that the fill is certain to run.
    async fn first(&self, client: &Client) -> (reqwest::Response, Vec<u8>) {
        let mut response = client.open(Method::GET, &format!("library/a/blobs/{}", self.digest), &[]).await;
        assert_eq!(response.status(), 200);
        let mut got = Vec::new();
        // The last piece may be held back until the digest is known; what comes before it may not.
        while got.len() < MIB - 64 * 1024 {
            let chunk = tokio::time::timeout(Duration::from_secs(5), response.chunk()).await;
            got.extend_from_slice(
                &chunk.expect("bytes that upstream has sent come through").unwrap().unwrap(),
            );
        }
        (response, got)
    }

    async fn rest(&self, (mut response, mut got): (reqwest::Response, Vec<u8>)) {
        while let Some(chunk) = response.chunk().await.unwrap() {
            got.extend_from_slice(&chunk);
        }
        assert!(got == self.bytes, "the bytes are upstream's");
    }

    fn gets(&self) -> usize {
        self.upstream.count(Method::GET, "/blobs/")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_clients_of_a_cold_blob_cost_one_get() {
    let it = paused().await;
    let client = it.proxy.client();
    let first = join_all((0..32).map(|_| it.first(&client))).await;
    it.gate.open();
    join_all(first.into_iter().map(|f| it.rest(f))).await;
    assert_eq!(it.gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_clients_of_a_cold_tag_cost_one_get() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[vec![1]]);
    upstream.on("/manifests/").fault(Fault::Delay(Duration::from_millis(300)));
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    for answer in join_all((0..32).map(|_| client.manifest("library/a", "1"))).await {
        assert_eq!(answer.bytes(), &image.manifest);
    }
    assert_eq!(upstream.count(Method::GET, "/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_latecomer_reads_from_the_running_fill() {
    let it = paused().await;
    let first = it.first(&it.proxy.client()).await;
    let late = it.first(&it.proxy.client()).await;
    it.gate.open();
    it.rest(first).await;
    it.rest(late).await;
    assert_eq!(it.gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_inside_what_has_come_is_answered_at_once() {
    let it = paused().await;
    let first = it.first(&it.proxy.client()).await;
    let range = it.proxy.client();
    let range = range.range("library/a", it.digest, "bytes=1000-1999");
    let part = tokio::time::timeout(Duration::from_secs(5), range).await.expect("it need not wait");
    assert_eq!((part.status.as_u16(), part.header("content-range")), (206, "bytes 1000-1999/4194304"));
    assert_eq!(part.bytes(), &it.bytes[1000..2000]);
    it.gate.open();
    it.rest(first).await;
    assert_eq!(it.gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_ahead_of_the_fill_waits_for_it() {
    let it = paused().await;
    let first = it.first(&it.proxy.client()).await;
    let client = it.proxy.client();
    let digest = it.digest;
    let ahead = tokio::spawn(async move { client.range("library/a", digest, "bytes=3000000-3000009").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!ahead.is_finished(), "these bytes are not there yet");
    it.gate.open();
    let part = ahead.await.unwrap();
    assert_eq!(part.status, 206);
    assert_eq!(part.bytes(), &it.bytes[3_000_000..3_000_010]);
    it.rest(first).await;
    assert_eq!(it.gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_cold_blob_fills_the_whole_blob_once() {
    let it = paused().await;
    it.gate.open();
    let client = it.proxy.client();
    let part = client.range("library/a", it.digest, "bytes=-10").await;
    assert_eq!((part.status.as_u16(), part.header("content-range")), (206, "bytes 4194294-4194303/4194304"));
    assert_eq!(part.bytes(), &it.bytes[4 * MIB - 10..]);
    assert!(client.blob("library/a", it.digest).await.bytes() == &it.bytes);
    assert_eq!(it.gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_nothing() {
    let it = paused().await;
    let first = it.first(&it.proxy.client()).await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(it.upstream.in_flight(), 1, "the download goes on without its first reader");
    it.gate.open();
    assert!(it.proxy.client().blob("library/a", it.digest).await.bytes() == &it.bytes);
    assert_eq!(it.gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_first_byte_cancels_nothing() {
    let upstream = Upstream::start().await;
    let bytes = noise(2, MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    upstream.on("/blobs/").fault(Fault::Delay(Duration::from_millis(500)));
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    let leaver = tokio::spawn({
        let client = client.clone();
        async move { client.blob("library/a", digest).await }
    });
    upstream.wait_for_count(1, Method::GET, "/blobs/").await;
    leaver.abort();
    assert!(leaver.await.unwrap_err().is_cancelled());
    assert!(client.blob("library/a", digest).await.bytes() == &bytes);
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_holds_nobody_up() {
    let it = paused().await;
    let client = it.proxy.client();
    let idle = client.open(Method::GET, &format!("library/a/blobs/{}", it.digest), &[]).await;
    it.gate.open();
    let whole = tokio::time::timeout(Duration::from_secs(10), client.blob("library/a", it.digest)).await;
    assert!(whole.expect("the idle reader is not waited for").bytes() == &it.bytes);
    it.rest((idle, Vec::new())).await;
    assert_eq!(it.gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_a_cold_blob_or_tag_costs_no_get() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(3, 1000)]);
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    let blob = client.head_blob("library/a", image.layers[0]).await;
    assert_eq!((blob.status.as_u16(), blob.header("content-length"), blob.body.len()), (200, "1000", 0));
    let tag = client.head("library/a", "1").await;
    assert_eq!(tag.status, 200);
    assert_eq!(tag.header("docker-content-digest"), image.digest.to_string());
    assert_eq!(tag.header("content-length"), image.manifest.len().to_string());
    assert_eq!(upstream.count(Method::GET, "/library/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pull_asks_upstream_for_no_blob() {
    let upstream = Upstream::start().await;
    upstream.index("library/a", "1");
    let proxy = Proxy::of(&upstream).await;
    assert_eq!(proxy.client().pull("library/a", "1").await, 4);
    upstream.forget();
    assert_eq!(proxy.client().pull("library/a", "1").await, 4);
    assert_eq!(upstream.count(Method::GET, "/v2/"), 0);
    assert_eq!(upstream.count(Method::HEAD, "/blobs/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_password_does_not_share_a_refusal() {
    let upstream = Upstream::start().await;
    let layer = noise(4, 1000);
    let image = upstream.image("library/a", "1", std::slice::from_ref(&layer));
    upstream.require_basic("robot", "right");
    upstream.on("/library/").fault(Fault::Delay(Duration::from_millis(300)));
    for (asked, bytes) in [
        ("manifests/1".to_owned(), &image.manifest[..]),
        (format!("manifests/{}", image.digest), &image.manifest[..]),
        (format!("blobs/{}", image.layers[0]), &layer[..]),
    ] {
        let builder = Proxy::builder().upstream("wrong", &upstream).upstream("right", &upstream);
        let builder = builder.group("team-a").registry("hub", "team-a", &["right"]).edit(|documents| {
            for (name, password) in [("wrong", "wrong"), ("right", "right")] {
                documents.credentials(name, "robot", password);
            }
            documents.spec("DependencyProxyGroup", "team-a")["upstreamRef"]["name"] = "wrong".into();
        });
        // A proxy for each: a password that was refused is not tried again.
        let proxy = builder.start().await;
        let path = format!("library/a/{asked}");
        upstream.forget();
        let refused = async { proxy.client().send(Method::GET, &path, &[]).await };
        let served = async {
            upstream.wait_for(1, |request| request.path.contains(&path)).await;
            proxy.client().registry("dp.hub").send(Method::GET, &path, &[]).await
        };
        let (refused, served) = tokio::join!(refused, served);
        refused.refused(502, "DENIED", "refused this group's credentials");
        assert_eq!(served.bytes(), bytes, "{asked}");
    }
}
