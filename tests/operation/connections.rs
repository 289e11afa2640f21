//! Limits on what clients may hold.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::hostile::{Upstream, noise};
use harness::proxy::ProxyProcess;
use harness::pull::raw;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ground::{client, proxy_of};

fn address(proxy: &ProxyProcess) -> SocketAddr {
    proxy.host().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_are_refused() {
    let upstream = Upstream::start().await;
    let proxy = proxy_of(&upstream, |_| {}).await;
    let large = "x".repeat(200 * 1024);
    for request in [
        format!("GET /v2/ HTTP/1.1\r\nhost: a\r\nx-large: {large}\r\n\r\n"),
        format!("GET /v2/ HTTP/1.1\r\nhost: a\r\n{}\r\n", "x-many: 1\r\n".repeat(5000)),
    ] {
        let (status, answer) = raw(address(&proxy), request.as_bytes()).await;
        assert_eq!(status, 431, "{answer:?}");
    }
    let (status, _) =
        raw(address(&proxy), b"GET /v2/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status, 401, "it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_idle_and_half_spoken_connections_hinder_nobody() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[noise(1, 100_000)]);
    let proxy = proxy_of(&upstream, |_| {}).await;
    let client = client(&proxy);
    client.pull("library/a", "1").await;
    let mut idle = Vec::new();
    for n in 0..400 {
        let mut stream = TcpStream::connect(address(&proxy)).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: a\r\nx-slow: ").await.unwrap();
        }
        idle.push(stream);
    }
    let began = Instant::now();
    client.pull("library/a", "1").await;
    assert!(began.elapsed() < Duration::from_secs(2), "the pull took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_holds_up_no_other() {
    let upstream = Upstream::start().await;
    let bytes = noise(1, 8 * crate::MIB);
    let digest = upstream.blob("library/a", bytes.clone());
    let proxy = proxy_of(&upstream, |_| {}).await;
    let client = client(&proxy);
    let path = format!("library/a/blobs/{digest}");
    let _stalled = client.open(http::Method::GET, &path, &[]).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), client.blob("library/a", digest)).await;
    assert!(answer.expect("it does not wait for the other").bytes() == &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_never_comes_is_given_up() {
    let upstream = Upstream::start().await;
    let proxy = proxy_of(&upstream, |_| {}).await;
    let mut stream = TcpStream::connect(address(&proxy)).await.unwrap();
    let head = "POST /jwt/auth HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\ngrant_type=";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let ended = tokio::time::timeout(Duration::from_secs(45), stream.read_to_string(&mut answer)).await;
    ended.expect("it holds its connection for 30 s").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("did not come within 30 s"), "{answer}");
}
