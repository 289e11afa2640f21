//! Changes of documents while the proxy runs.

use std::time::{Duration, Instant};

use harness::hostile::{Fault, Gate, Upstream, noise};
use harness::server::Proxy;
use http::Method;
use serde_json::json;

use crate::MIB;

async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[vec![1]]);
    upstream
}

/// Waits until a pull from this group is answered with this status; returns how long it took.
async fn until(proxy: &Proxy, group: &str, status: u16) -> Duration {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if proxy.client().group(group).manifest("library/a", "1").await.status == status {
            return began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{group} was not answered {status} within 10 s");
}

async fn reload_success(proxy: &Proxy) -> f64 {
    proxy.sum("dependency_proxy_config_reload_success", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_taken_within_two_seconds() {
    let upstream = upstream().await;
    let proxy = Proxy::of(&upstream).await;
    assert_eq!(proxy.client().group("team-b").manifest("library/a", "1").await.status, 403);
    proxy.edit(|d| d.group("team-b", "upstream"));
    let took = until(&proxy, "team-b", 200).await;
    assert!(took < Duration::from_millis(2300), "took {took:?}");
    proxy.edit(|d| d.remove("DependencyProxyGroup", "team-b"));
    let took = until(&proxy, "team-b", 403).await;
    assert!(took < Duration::from_millis(2300), "took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_drops_no_request() {
    let upstream = upstream().await;
    let bytes = noise(1, 2 * MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    let gate = Gate::closed();
    upstream.on(&digest.to_string()).fault(Fault::Pause(MIB as u64, gate.clone()));
    let proxy = Proxy::of(&upstream).await;
    let running = proxy.client().open(Method::GET, &format!("library/a/blobs/{digest}"), &[]).await;
    let client = proxy.client();
    client.manifest("library/a", "1").await.bytes();
    let pulls = tokio::spawn(async move {
        let began = Instant::now();
        let mut pulls = 0;
        while began.elapsed() < Duration::from_secs(4) {
            client.pull("library/a", "1").await;
            pulls += 1;
        }
        pulls
    });
    for round in ["team-x", "team-y"] {
        proxy.reload(|d| d.group(round, "upstream")).await;
    }
    assert!(pulls.await.unwrap() > 10);
    gate.open();
    assert!(running.bytes().await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_leaves_the_last_good_configuration() {
    let upstream = upstream().await;
    let proxy = Proxy::of(&upstream).await;
    assert_eq!(reload_success(&proxy).await, 1.0);
    let good = std::fs::read(proxy.file()).unwrap();
    for bad in [&b"kind: [unclosed"[..], b"\xff\xfe\x00", b"- just\n- a list\n"] {
        std::fs::write(proxy.file(), bad).unwrap();
        let began = Instant::now();
        while reload_success(&proxy).await != 0.0 {
            assert!(began.elapsed() < Duration::from_secs(5), "the metric does not say it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy.client().pull("library/a", "1").await;
        assert!(proxy.sum("dependency_proxy_config_problems", &[]).await >= 1.0);
        std::fs::write(proxy.file(), &good).unwrap();
        while reload_success(&proxy).await != 1.0 {
            assert!(began.elapsed() < Duration::from_secs(10), "it does not recover");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_document_hurts_only_itself() {
    let upstream = upstream().await;
    let proxy = Proxy::of(&upstream).await;
    proxy
        .reload(|d| {
            d.group("team-b", "nowhere");
            d.group("team-c", "upstream");
            d.spec("DependencyProxyGroup", "team-c")["path"] = json!("team-a");
            d.registry("hub", "team-a", &["nowhere"]);
            d.group("team-d", "upstream");
            d.spec("DependencyProxyGroup", "team-d")["recheckAfterSecond"] = json!(1);
            d.group("team-e", "upstream");
        })
        .await;
    for group in ["team-a", "team-e"] {
        proxy.client().group(group).manifest("library/a", "1").await.bytes();
    }
    for group in ["team-b", "team-c"] {
        assert_eq!(proxy.client().group(group).manifest("library/a", "1").await.status, 403);
    }
    assert!(proxy.sum("dependency_proxy_config_problems", &[]).await >= 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_running_transfers_end() {
    let upstream = upstream().await;
    let bytes = noise(1, 2 * MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    let gate = Gate::closed();
    upstream.on(&digest.to_string()).fault(Fault::Pause(MIB as u64, gate.clone()));
    let proxy = Proxy::of(&upstream).await;
    let running = proxy.client().open(Method::GET, &format!("library/a/blobs/{digest}"), &[]).await;
    let stop = tokio::spawn(proxy.stop());
    tokio::time::sleep(Duration::from_millis(300)).await;
    gate.open();
    assert!(running.bytes().await.unwrap() == bytes);
    stop.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cached_outlives_a_restart() {
    let upstream = upstream().await;
    let mut proxy = Proxy::of(&upstream).await;
    proxy.client().pull("library/a", "1").await;
    proxy.restart().await;
    upstream.stop().await;
    proxy.client().pull("library/a", "1").await;
}
