//! Bounds: of the local folder, of what an upstream is asked at once, and what happens beyond them.

use std::path::Path;

use futures_util::future::join_all;
use harness::documents::Documents;
use harness::hostile::{Fault, Gate, Upstream, noise};
use harness::server::Proxy;
use http::Method;
use oci::Digest;
use serde_json::json;

use crate::MIB;

async fn bounded(upstream: &Upstream, limit: &str) -> Proxy {
    let limit = json!({"sizeLimit": limit});
    let builder = Proxy::builder().upstream("upstream", upstream).group("team-a");
    builder.edit(|d| d.spec("DependencyProxy", "main")["localCache"] = limit).start().await
}

fn blobs(upstream: &Upstream, count: u64, length: usize) -> Vec<(Digest, Vec<u8>)> {
    let blob = |seed| {
        let bytes = noise(seed, length);
        (upstream.blob("library/a", bytes.clone()), bytes)
    };
    (1..=count).map(blob).collect()
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> u64 {
    let entries =
        std::fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let size = |entry: &std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.iter().map(size).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_stays_within_its_bound_and_keeps_what_was_read_last() {
    let upstream = Upstream::start().await;
    let blobs = blobs(&upstream, 8, MIB);
    let proxy = bounded(&upstream, "4Mi").await;
    let client = proxy.client();
    for (digest, bytes) in &blobs {
        assert!(client.blob("library/a", digest).await.bytes() == bytes);
        // Read again and again: this one is never the least recently used.
        client.blob("library/a", blobs[0].0).await.bytes();
        // A file that is renamed while the folder is walked would count twice.
        while proxy.sum("dependency_proxy_fills_in_flight", &[]).await > 0.0 {
            tokio::task::yield_now().await;
        }
        let size = size_of(&proxy.data_dir());
        assert!(size <= 4 * MIB as u64 + 100_000, "{size} bytes");
    }
    upstream.forget();
    client.blob("library/a", blobs[0].0).await.bytes();
    client.blob("library/a", blobs[7].0).await.bytes();
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 0);
    assert!(client.blob("library/a", blobs[1].0).await.bytes() == &blobs[1].1);
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
    assert!(proxy.sum("dependency_proxy_evictions_total", &[]).await >= 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_larger_than_the_folder_is_passed_through() {
    let upstream = Upstream::start().await;
    let blobs = blobs(&upstream, 1, 6 * MIB);
    let proxy = bounded(&upstream, "2Mi").await;
    for _ in 0..2 {
        assert!(proxy.client().blob("library/a", blobs[0].0).await.bytes() == &blobs[0].1);
    }
    assert!(size_of(&proxy.data_dir()) <= 2 * MIB as u64 + 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_full_of_downloads_passes_others_through() {
    let upstream = Upstream::start().await;
    let blobs = blobs(&upstream, 3, 2 * MIB);
    let gate = Gate::closed();
    upstream.on(&blobs[0].0.to_string()).fault(Fault::Pause(MIB as u64, gate.clone()));
    upstream.on(&blobs[1].0.to_string()).fault(Fault::Pause(MIB as u64, gate.clone()));
    let proxy = bounded(&upstream, "5Mi").await;
    let client = proxy.client();
    let open = |digest: Digest| {
        let client = client.clone();
        async move { client.open(Method::GET, &format!("library/a/blobs/{digest}"), &[]).await }
    };
    let running = join_all([open(blobs[0].0), open(blobs[1].0)]).await;
    assert!(client.blob("library/a", blobs[2].0).await.bytes() == &blobs[2].1);
    gate.open();
    for (response, (_, bytes)) in running.into_iter().zip(&blobs) {
        assert!(response.bytes().await.unwrap() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_taken_away_is_a_cold_one() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[noise(1, MIB)]);
    upstream.image("library/b", "1", &[noise(2, MIB)]);
    let proxy = Proxy::of(&upstream).await;
    proxy.client().pull("library/a", "1").await;
    // Somebody cleans up by hand, and finds a folder not empty that the proxy is just writing to.
    let folders =
        || std::fs::read_dir(proxy.data_dir()).unwrap().flatten().map(|e| e.path()).filter(|p| p.is_dir());
    while folders().map(std::fs::remove_dir_all).any(|removed| removed.is_err()) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    proxy.client().pull("library/a", "1").await;
    proxy.client().pull("library/b", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_that_a_crash_left_unfinished_are_wiped() {
    let upstream = Upstream::start().await;
    let mut proxy = Proxy::of(&upstream).await;
    let left_over = proxy.data_dir().join("spool/left-over");
    proxy.restart_after(|| std::fs::write(&left_over, b"half a blob").unwrap()).await;
    assert!(!left_over.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_asked_no_more_at_once_than_its_document_says() {
    let upstream = Upstream::start().await;
    let blobs = blobs(&upstream, 8, 1000);
    let gate = Gate::closed();
    upstream.on("/blobs/").fault(Fault::Pause(500, gate.clone()));
    let two = |d: &mut Documents| {
        d.spec("RegistryUpstream", "upstream")["rateLimit"] = json!({"maxConcurrentRequests": 2})
    };
    let proxy = Proxy::builder().upstream("upstream", &upstream).group("team-a").edit(two).start().await;
    let client = proxy.client();
    let pulls = blobs.iter().map(|(digest, _)| {
        let (client, digest) = (client.clone(), *digest);
        tokio::spawn(async move { client.blob("library/a", digest).await })
    });
    let pulls = pulls.collect::<Vec<_>>();
    upstream.wait_for_count(2, Method::GET, "/blobs/").await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 2);
    gate.open();
    for pull in pulls {
        pull.await.unwrap().bytes();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_for_all_who_wait_for_it() {
    let upstream = Upstream::start().await;
    upstream.require_bearer();
    let blobs = blobs(&upstream, 12, 1000);
    upstream.on("/token").fault(Fault::Delay(std::time::Duration::from_millis(200)));
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    for answer in join_all(blobs.iter().map(|(digest, _)| client.blob("library/a", digest))).await {
        answer.bytes();
    }
    assert_eq!(upstream.count(Method::GET, "/token"), 1);
}
