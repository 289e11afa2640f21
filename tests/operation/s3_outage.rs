//! A bucket that is away, hangs or refuses: pulls go on.

use std::time::Duration;

use futures_util::future::join_all;
use harness::hostile::{Upstream, noise};
use harness::proxy::ProxyProcess;
use harness::s3::S3;
use http::Method;

use crate::MIB;
use crate::ground::{client, files, proxy_of, settled};
use crate::s3::store;

async fn ground() -> (Upstream, S3, ProxyProcess) {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let _folder = s3.bucket("blobs");
    let proxy = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    (upstream, s3, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_away_a_cold_blob_costs_one_get_and_then_hits_the_local_copy() {
    let (upstream, mut s3, proxy) = ground().await;
    let bytes = noise(1, 3 * MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    s3.stop();
    let client = client(&proxy);
    for answer in join_all((0..16).map(|_| client.blob("library/a", digest))).await {
        assert!(answer.bytes() == &bytes);
    }
    settled(&proxy).await;
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
    assert!(proxy.metric("store_operations_total{result=\"error\"}").await > 0.0);

    let again = client.blob("library/a", digest).await;
    assert!(again.bytes() == &bytes);
    assert_eq!(again.header("x-cache"), "hit");
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cached_before_the_bucket_went_away_is_still_served() {
    let (upstream, mut s3, proxy) = ground().await;
    upstream.image("library/a", "1", &[noise(1, 100_000), noise(2, 100_000)]);
    let client = client(&proxy);
    client.pull("library/a", "1").await;
    settled(&proxy).await;
    upstream.forget();
    s3.stop();
    client.pull("library/a", "1").await;
    assert_eq!(upstream.count(Method::GET, "/v2/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_comes_back_is_used_again() {
    let (upstream, mut s3, proxy) = ground().await;
    let folder = s3.bucket("blobs");
    s3.stop();
    let client = client(&proxy);
    client.blob("library/a", upstream.blob("library/a", noise(1, 1000))).await.bytes();
    settled(&proxy).await;
    s3.restart().await;
    // It is left alone for a few seconds after a failure.
    for n in 2..100 {
        client.blob("library/a", upstream.blob("library/a", noise(n, 1000))).await.bytes();
        settled(&proxy).await;
        if files(&folder.join("dp.main/v1/blobs")).len() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("20 s after the bucket came back nothing is in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_though_the_bucket_was_never_there() {
    let (upstream, mut s3) = tokio::join!(Upstream::start(), S3::start());
    s3.stop();
    let proxy = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    upstream.image("library/a", "1", &[noise(1, 100_000)]);
    client(&proxy).pull("library/a", "1").await;
    let (status, _) = crate::ground::admin(&proxy, Method::GET, "/readyz", "").await;
    assert_eq!(status, 200, "a store outage must not empty the Service");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_though_the_credentials_of_the_bucket_are_wrong() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let folder = s3.bucket("blobs");
    let proxy = proxy_of(&upstream, |d| store(d, &s3, "not-that-secret-key")).await;
    upstream.image("library/a", "1", &[noise(1, 100_000)]);
    client(&proxy).pull("library/a", "1").await;
    settled(&proxy).await;
    assert_eq!(files(&folder), Vec::<String>::new());
    assert!(proxy.metric("store_operations_total{result=\"error\"}").await > 0.0);
    assert!(!proxy.log().contains("not-that-secret-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_though_the_bucket_does_not_exist() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let proxy = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    upstream.image("library/a", "1", &[noise(1, 100_000)]);
    client(&proxy).pull("library/a", "1").await;
    client(&proxy).pull("library/a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_hangs_holds_no_pull_up_for_long() {
    let (upstream, s3, proxy) = ground().await;
    upstream.image("library/a", "1", &[noise(1, 100_000)]);
    s3.pause();
    let began = std::time::Instant::now();
    let client = client(&proxy);
    client.pull("library/a", "1").await;
    let first = began.elapsed();
    for _ in 0..20 {
        client.pull("library/a", "1").await;
    }
    let more = began.elapsed() - first;
    s3.resume();
    // A request waits for the store for a moment, and then nobody does for another.
    assert!(first < Duration::from_secs(10), "a whole pull took {first:?}");
    assert!(more < Duration::from_secs(10), "twenty more took {more:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_have_their_bytes_while_the_upload_hangs() {
    let (upstream, s3, proxy) = ground().await;
    let bytes = noise(1, 20 * MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    let client = client(&proxy);
    s3.pause();
    let began = std::time::Instant::now();
    for answer in join_all((0..8).map(|_| client.blob("library/a", digest))).await {
        assert!(answer.bytes() == &bytes);
    }
    assert!(client.blob("library/a", digest).await.bytes() == &bytes);
    let took = began.elapsed();
    s3.resume();
    assert!(took < Duration::from_secs(12), "it took {took:?}");
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
}
