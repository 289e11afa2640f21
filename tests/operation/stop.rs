//! Stopping: unready at once, accepting for a while, draining, and an end.

use std::time::{Duration, Instant};

use harness::hostile::{Fault, Gate, Upstream, noise};
use harness::proxy::ProxyProcess;
use http::Method;
use serde_json::json;
use tokio::net::TcpStream;

use crate::MIB;
use crate::ground::{admin, client, prepared};

/// A proxy with a blob whose download stands still until the gate opens.
struct Running {
    upstream: Upstream,
    gate: Gate,
    bytes: Vec<u8>,
    path: String,
    proxy: ProxyProcess,
}

async fn running(linger: u32, drain: u32) -> Running {
    let upstream = Upstream::start().await;
    let bytes = noise(1, 4 * MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    let gate = Gate::closed();
    upstream.on("/blobs/").method(Method::GET).fault(Fault::Pause(MIB as u64, gate.clone()));
    upstream.image("library/b", "1", &[]);
    let proxy = prepared(&upstream, |d| d.spec("DependencyProxy", "main")["drainSeconds"] = json!(drain));
    let proxy = proxy.arg(format!("--linger-seconds={linger}")).start().await;
    Running { upstream, gate, bytes, path: format!("library/a/blobs/{digest}"), proxy }
}

impl Running {
    /// A transfer that has begun.
    async fn transfer(&self) -> (reqwest::Response, Vec<u8>) {
        let mut response = client(&self.proxy).open(Method::GET, &self.path, &[]).await;
        let first = response.chunk().await.unwrap().unwrap();
        (response, first.to_vec())
    }

    /// Waits until no connection is accepted any more.
    async fn closed(&self) {
        for _ in 0..1000 {
            if TcpStream::connect(self.proxy.host()).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("connections are still accepted after 10 s");
    }
}

/// The rest of a body, and whether it ended well.
async fn rest((mut response, mut got): (reqwest::Response, Vec<u8>)) -> (Vec<u8>, bool) {
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => got.extend_from_slice(&chunk),
            Ok(None) => return (got, true),
            Err(_) => return (got, false),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_makes_it_unready_at_once_while_connections_are_still_accepted() {
    let mut it = running(3, 120).await;
    assert_eq!(admin(&it.proxy, Method::GET, "/readyz", "").await.0, 200);
    let began = Instant::now();
    it.proxy.sigterm();
    while admin(&it.proxy, Method::GET, "/readyz", "").await.0 != 503 {
        assert!(began.elapsed() < Duration::from_secs(1), "it is ready {:?} after SIGTERM", began.elapsed());
    }
    assert_eq!(admin(&it.proxy, Method::GET, "/livez", "").await.0, 200);
    client(&it.proxy).pull("library/b", "1").await;
    assert!(began.elapsed() < Duration::from_secs(3), "the pull was within the time of accepting");
    let status = it.proxy.ended().await;
    assert!(status.success(), "{status}");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(2900) && took < Duration::from_secs(10), "it ended after {took:?}");
    assert_eq!(it.upstream.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_transfer_ends_whole_though_new_connections_are_refused() {
    let mut it = running(0, 60).await;
    let transfer = it.transfer().await;
    it.proxy.sigterm();
    it.closed().await;
    it.gate.open();
    let (got, whole) = rest(transfer).await;
    assert!(whole && got == it.bytes, "{} of {} bytes", got.len(), it.bytes.len());
    assert!(it.proxy.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_takes_too_long_is_cut_and_never_ends_cleanly() {
    let mut it = running(0, 1).await;
    let transfer = it.transfer().await;
    let began = Instant::now();
    it.proxy.sigterm();
    let (got, whole) = rest(transfer).await;
    assert!(!whole && got.len() < it.bytes.len());
    assert!(began.elapsed() >= Duration::from_millis(900), "cut after {:?}", began.elapsed());
    assert!(it.proxy.ended().await.success());
    assert!(began.elapsed() < Duration::from_secs(10), "it ended after {:?}", began.elapsed());
    assert!(it.proxy.log().contains("transfers that still run are cut"), "{}", it.proxy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let mut it = running(60, 120).await;
    let transfer = it.transfer().await;
    it.proxy.sigterm();
    while admin(&it.proxy, Method::GET, "/readyz", "").await.0 != 503 {}
    let began = Instant::now();
    it.proxy.sigterm();
    assert_eq!(it.proxy.ended().await.code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(5), "it ended after {:?}", began.elapsed());
    assert!(!rest(transfer).await.1, "what was cut does not look whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_press_ends_it_at_once() {
    let mut it = running(60, 120).await;
    let transfer = it.transfer().await;
    let began = Instant::now();
    it.proxy.sigint();
    assert!(it.proxy.ended().await.success());
    assert!(began.elapsed() < Duration::from_secs(5), "it ended after {:?}", began.elapsed());
    assert!(!rest(transfer).await.1, "what was cut does not look whole");
}
