//! A download that is cut is taken up where it stopped, and verified as a whole.

use harness::hostile::{Fault, Gate, Upstream, noise};
use harness::server::Proxy;
use http::Method;

use crate::MIB;

/// The `Range` headers of all blob downloads so far; empty where there was none.
fn ranges(upstream: &Upstream) -> Vec<String> {
    let gets =
        upstream.requests().into_iter().filter(|r| r.method == Method::GET && r.path.contains("/blobs/"));
    gets.map(|r| r.header("range").unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_cuts_ask_again_for_missing_bytes_only() {
    let upstream = Upstream::start().await;
    let bytes = noise(1, MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    upstream.on("/blobs/").times(5).fault(Fault::Cut(150_000));
    let proxy = Proxy::of(&upstream).await;
    assert!(proxy.client().blob("library/a", digest).await.bytes() == &bytes);
    let wanted = ["", "bytes=150000-", "bytes=300000-", "bytes=450000-", "bytes=600000-", "bytes=750000-"];
    // The end of the range may be stated.
    let asked = ranges(&upstream).iter().map(|r| r.replace("1048575", "")).collect::<Vec<_>>();
    assert_eq!(asked, wanted);
    assert!(proxy.client().blob("library/a", digest).await.bytes() == &bytes);
    assert_eq!(ranges(&upstream).len(), 6, "what was put together is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_ignores_ranges_is_read_from_the_beginning() {
    let upstream = Upstream::start().await;
    let bytes = noise(2, MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    upstream.on("/blobs/").times(1).fault(Fault::Cut(300_000));
    upstream.on("/blobs/").fault(Fault::IgnoreRange);
    let proxy = Proxy::of(&upstream).await;
    assert!(proxy.client().blob("library/a", digest).await.bytes() == &bytes);
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_from_another_place_is_never_put_in() {
    let upstream = Upstream::start().await;
    let bytes = noise(3, MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    upstream.on("/blobs/").times(1).fault(Fault::Cut(300_000));
    let elsewhere = "bytes 200000-1048575/1048576".to_owned();
    upstream.on("/blobs/").times(1).fault(Fault::Header("content-range", elsewhere));
    let proxy = Proxy::of(&upstream).await;
    let first = proxy.client().blob("library/a", digest).await;
    assert!(first.broken || first.body == bytes, "wrong bytes must not end cleanly");
    assert!(proxy.client().blob("library/a", digest).await.bytes() == &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_the_middle_is_fetched_anew() {
    let upstream = Upstream::start().await;
    upstream.require_bearer();
    let bytes = noise(4, MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    let gate = Gate::closed();
    let proxy = Proxy::of(&upstream).await;
    // From here on the proxy has a token.
    proxy.client().head_blob("library/a", digest).await;
    upstream.on("/blobs/").times(1).faults([Fault::Pause(400_000, gate.clone()), Fault::Cut(400_000)]);
    upstream.forget();
    let client = proxy.client();
    let pull = tokio::spawn(async move { client.blob("library/a", digest).await });
    upstream.wait_for_count(1, Method::GET, "/blobs/").await;
    upstream.revoke_tokens();
    gate.open();
    assert!(pull.await.unwrap().bytes() == &bytes);
    assert_eq!(upstream.count(Method::GET, "/token"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_whose_account_is_refused_midway_goes_on_with_the_next_groups() {
    let upstream = Upstream::start().await;
    let bytes = noise(5, MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    // One account name, two passwords, of which upstream takes one at a time: one origin, so one download.
    upstream.require_bearer_for("robot", "one");
    let proxy = Proxy::builder()
        .upstream("first", &upstream)
        .upstream("second", &upstream)
        .group("team-a")
        .edit(|d| {
            d.group("team-b", "second");
            d.credentials("first", "robot", "one");
            d.credentials("second", "robot", "two");
        })
        .start()
        .await;
    let gate = Gate::closed();
    // The first request is the one that is challenged for a token.
    proxy.client().head_blob("library/a", digest).await;
    upstream
        .on("/blobs/")
        .method(Method::GET)
        .times(1)
        .faults([Fault::Pause(400_000, gate.clone()), Fault::Cut(400_000)]);
    upstream.forget();
    // Its answer begins when bytes have come: from here on upstream has said yes to the first account.
    let path = format!("library/a/blobs/{digest}");
    let first = proxy.client().open(Method::GET, &path, &[]).await;
    assert_eq!(first.status(), 200);
    upstream.require_bearer_for("robot", "two");
    upstream.revoke_tokens();
    let client = proxy.client().group("team-b");
    let second = tokio::spawn(async move { client.blob("library/a", digest).await });
    upstream.wait_for(1, |r| r.method == Method::HEAD && r.header("authorization").is_some()).await;
    while proxy.sum("dependency_proxy_fill_waiters", &[]).await < 2.0 {
        tokio::task::yield_now().await;
    }
    gate.open();
    assert!(first.bytes().await.unwrap() == bytes);
    assert!(second.await.unwrap().bytes() == &bytes);
    let asked: Vec<_> = ranges(&upstream).into_iter().filter(|range| range.is_empty()).collect();
    assert_eq!(asked.len(), 1, "what the first account brought is not asked for again");
}
