//! The local folder: its bound, and what is in it after a crash.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use harness::documents::Documents;
use harness::hostile::{Fault, Gate, Upstream, noise};
use harness::proxy::ProxyProcess;
use harness::pull::Client;
use http::Method;
use oci::Digest;
use serde_json::json;

use crate::MIB;
use crate::ground::{client, documents, files, prepared, proxy_of, run, settled};

fn bound(size: &'static str) -> impl FnOnce(&mut Documents) {
    move |d| d.spec("DependencyProxy", "main")["localCache"] = json!({"sizeLimit": size})
}

/// Asks for a blob and reads its beginning, so that the download is certain to run.
async fn begin(client: &Client, path: &str) -> reqwest::Response {
    let mut response = client.open(Method::GET, path, &[]).await;
    assert_eq!(response.status(), 200);
    response.chunk().await.unwrap().unwrap();
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_never_holds_more_than_its_bound_and_says_what_it_evicted() {
    const LIMIT: f64 = 8.0 * 1024.0 * 1024.0;
    let upstream = Upstream::start().await;
    let proxy = proxy_of(&upstream, bound("8Mi")).await;
    let client = client(&proxy);
    let digests: Vec<_> = (0..12).map(|n| upstream.blob("library/a", noise(n + 1, 2 * MIB))).collect();
    let pulls = async {
        for pair in digests.chunks(2) {
            for answer in join_all(pair.iter().map(|digest| client.blob("library/a", digest))).await {
                assert_eq!(answer.bytes().len(), 2 * MIB);
            }
            // What is not on the disk yet has its room, too.
            settled(&proxy).await;
        }
    };
    let watch = async {
        loop {
            let bytes = proxy.metric("local_bytes").await;
            assert!(bytes <= LIMIT, "{bytes} bytes");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! { () = pulls => {}, () = watch => {} }
    settled(&proxy).await;
    let kept = files(&proxy.data().join("dp.main/v1/blobs"));
    let evicted = proxy.metric("evictions_total").await;
    assert!(kept.len() <= 4 && !kept.is_empty(), "{kept:?}");
    assert_eq!(kept.len() as f64 + evicted, 12.0, "every blob was kept, and is there or was evicted");
    assert_eq!(proxy.metric("cached_bytes").await, (kept.len() * 2 * MIB) as f64);
    assert_eq!(proxy.metric("local_bytes").await, (kept.len() * 2 * MIB) as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_blob_goes_first() {
    let upstream = Upstream::start().await;
    let proxy = proxy_of(&upstream, bound("7Mi")).await;
    let client = client(&proxy);
    let digests: Vec<_> = (0..4).map(|n| upstream.blob("library/a", noise(n + 1, 2 * MIB))).collect();
    for digest in [0, 1, 2, 0, 3].map(|n| digests[n]) {
        client.blob("library/a", digest).await.bytes();
        settled(&proxy).await;
    }
    let kept = files(&proxy.data().join("dp.main/v1/blobs"));
    let is_kept = |n: usize| kept.iter().any(|file| file.ends_with(&digests[n].hex()));
    assert_eq!([0, 1, 2, 3].map(is_kept), [true, false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_blob_that_is_larger_than_the_folder_share_one_get_and_nothing_is_kept() {
    let upstream = Upstream::start().await;
    let bytes = noise(1, 4 * MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    upstream.on("/blobs/").method(Method::GET).fault(Fault::Delay(Duration::from_millis(1500)));
    let proxy = proxy_of(&upstream, bound("1Mi")).await;
    let client = client(&proxy);
    for answer in join_all((0..8).map(|_| client.blob("library/a", digest))).await {
        assert!(answer.bytes() == &bytes);
    }
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
    settled(&proxy).await;
    assert_eq!(files(&proxy.data().join("dp.main/v1/blobs")), Vec::<String>::new());
    assert_eq!(files(&proxy.data().join("spool")), Vec::<String>::new());
    assert_eq!(proxy.metric("local_bytes").await, 0.0);
    assert!(proxy.metric("store_operations_total{result=\"error\"}").await > 0.0);
    // It is not there, so it is fetched again.
    assert!(client.blob("library/a", digest).await.bytes() == &bytes);
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_was_killed_leaves_nothing_and_the_next_pull_is_right() {
    let upstream = Upstream::start().await;
    let bytes = noise(1, 4 * MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    let gate = Gate::closed();
    upstream.on("/blobs/").method(Method::GET).times(1).fault(Fault::Pause(2 * MIB as u64, gate));
    let mut proxy = proxy_of(&upstream, |_| {}).await;
    let path = format!("library/a/blobs/{digest}");
    let running = begin(&client(&proxy), &path).await;
    assert_eq!(files(&proxy.data().join("spool")).len(), 1, "a download is in progress");
    proxy.kill9();
    drop(running);
    assert_eq!(files(&proxy.data().join("spool")).len(), 1, "kill -9 leaves it where it is");

    proxy.restart().await;
    assert_eq!(files(&proxy.data().join("spool")), Vec::<String>::new());
    assert_eq!(proxy.metric("local_bytes").await, 0.0);
    let client = client(&proxy);
    assert!(client.blob("library/a", digest).await.bytes() == &bytes);
    settled(&proxy).await;
    assert!(client.blob("library/a", digest).await.bytes() == &bytes);
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 2, "one was killed, one was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_before_a_kill_is_served_after_it() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[noise(1, 100_000)]);
    let mut proxy = proxy_of(&upstream, |_| {}).await;
    client(&proxy).pull("library/a", "1").await;
    settled(&proxy).await;
    proxy.restart().await;
    upstream.stop().await;
    client(&proxy).pull("library/a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_blob_that_was_cut_is_fetched_again() {
    let upstream = Upstream::start().await;
    let bytes = noise(1, 100_000);
    let digest = upstream.blob("library/a", bytes.clone());
    let mut proxy = proxy_of(&upstream, |_| {}).await;
    let cut =
        |proxy: &ProxyProcess| File::options().write(true).open(kept(proxy, digest)).unwrap().set_len(99_999);
    client(&proxy).blob("library/a", digest).await.bytes();
    settled(&proxy).await;
    cut(&proxy).unwrap();
    assert!(client(&proxy).blob("library/a", digest).await.bytes() == &bytes, "while it runs");
    settled(&proxy).await;
    proxy.kill9();
    cut(&proxy).unwrap();
    proxy.restart().await;
    assert!(client(&proxy).blob("library/a", digest).await.bytes() == &bytes, "while it did not");
    settled(&proxy).await;
    assert!(client(&proxy).blob("library/a", digest).await.bytes() == &bytes);
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_blob_that_is_cut_while_it_is_sent_never_ends_cleanly() {
    let upstream = Upstream::start().await;
    // More than the system holds for a client that does not read.
    let length = 64 * MIB;
    let digest = upstream.blob("library/a", noise(1, length));
    let proxy = proxy_of(&upstream, |_| {}).await;
    let client = client(&proxy);
    client.blob("library/a", digest).await.bytes();
    settled(&proxy).await;
    let response = begin(&client, &format!("library/a/blobs/{digest}")).await;
    File::options().write(true).open(kept(&proxy, digest)).unwrap().set_len(length as u64 - 1).unwrap();
    assert!(response.bytes().await.is_err(), "it ended as if it were whole");
}

/// The file of a kept blob.
fn kept(proxy: &ProxyProcess, digest: Digest) -> PathBuf {
    let hex = digest.hex();
    proxy.data().join("dp.main/v1/blobs/sha256").join(&hex[..2]).join(hex)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_proxy_on_the_same_folder_says_so_and_the_first_goes_on() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    let proxy = proxy_of(&upstream, |_| {}).await;
    let data = proxy.data();
    let file = data.with_file_name("second.yaml");
    documents("http://127.0.0.1:1", &upstream).write(&file);
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    let second =
        ["serve", "-f", file, "--data-dir", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let second = run(&second);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("is in use by another proxy; give each its own --data-dir"), "{said}");
    client(&proxy).pull("library/a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_folder_stops_no_start() {
    let upstream = Upstream::start().await;
    let (one, two) = (noise(1, 10_000), noise(2, 10_000));
    let digests = [upstream.blob("library/a", one.clone()), upstream.blob("library/a", two.clone())];
    let mut proxy = prepared(&upstream, |_| {}).start().await;
    client(&proxy).blob("library/a", digests[0]).await.bytes();
    settled(&proxy).await;
    proxy.kill9();

    let blobs = proxy.data().join("dp.main/v1/blobs");
    let shard = blobs.join("sha256").join(&digests[0].hex()[..2]);
    std::fs::write(shard.join("no-digest"), "garbage").unwrap();
    std::fs::write(blobs.join("sha256/a-file"), "garbage").unwrap();
    std::fs::create_dir_all(blobs.join("sha256/zz/a-folder")).unwrap();
    std::fs::create_dir_all(shard.join("0".repeat(64))).unwrap();
    for file in files(&proxy.data()).iter().filter(|file| file.contains("_links") || file.contains("_tags")) {
        std::fs::write(proxy.data().join(file), [0xff, 0x00, b'{']).unwrap();
    }

    proxy.restart().await;
    let client = client(&proxy);
    assert_eq!(client.blob("library/a", digests[0]).await.bytes(), &one);
    assert_eq!(client.blob("library/a", digests[1]).await.bytes(), &two);
}
