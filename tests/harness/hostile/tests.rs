//! The harness's own promises: a fault that does not happen would make tests of it pass for nothing.

use std::time::Duration;

use http::Method;

use super::{Fault, Gate, Upstream, noise};

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn blob(upstream: &Upstream, length: usize) -> (String, Vec<u8>) {
    let bytes = noise(7, length);
    let digest = upstream.blob("library/a", bytes.clone());
    (format!("{}v2/library/a/blobs/{digest}", upstream.url()), bytes)
}

#[tokio::test]
async fn a_cut_body_arrives_up_to_the_cut_and_ends_in_an_error() {
    let upstream = Upstream::start().await;
    let (url, bytes) = blob(&upstream, 300_000).await;
    upstream.on("/blobs/").times(2).fault(Fault::Cut(100_000));
    for _ in 0..2 {
        let mut response = client().get(&url).send().await.unwrap();
        assert_eq!(response.content_length(), Some(300_000));
        let mut got = Vec::new();
        let end = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => got.extend_from_slice(&chunk),
                end => break end,
            }
        };
        assert!(end.is_err(), "the body must not end cleanly");
        assert_eq!(got, bytes[..100_000]);
    }
    assert_eq!(client().get(&url).send().await.unwrap().bytes().await.unwrap(), bytes);
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 3);
}

#[tokio::test]
async fn a_chunked_body_that_is_cut_ends_in_an_error_too() {
    let upstream = Upstream::start().await;
    let (url, _) = blob(&upstream, 50_000).await;
    upstream.on("/blobs/").faults([Fault::Chunked, Fault::Cut(20_000)]);
    let response = client().get(&url).send().await.unwrap();
    assert_eq!(response.content_length(), None);
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn a_paused_body_goes_on_when_the_gate_opens() {
    let upstream = Upstream::start().await;
    let (url, bytes) = blob(&upstream, 100_000).await;
    let gate = Gate::closed();
    upstream.on("/blobs/").fault(Fault::Pause(40_000, gate.clone()));
    let mut response = client().get(&url).send().await.unwrap();
    let mut got = Vec::new();
    while got.len() < 40_000 {
        got.extend_from_slice(&response.chunk().await.unwrap().unwrap());
    }
    assert!(tokio::time::timeout(Duration::from_millis(100), response.chunk()).await.is_err());
    assert_eq!(upstream.in_flight(), 1);
    gate.open();
    while let Some(chunk) = response.chunk().await.unwrap() {
        got.extend_from_slice(&chunk);
    }
    assert_eq!(got, bytes);
}

#[tokio::test]
async fn lengths_lie_in_both_directions() {
    let upstream = Upstream::start().await;
    let (url, bytes) = blob(&upstream, 1000).await;
    upstream.on("/blobs/").times(1).fault(Fault::ContentLength(10));
    assert!(client().get(&url).send().await.unwrap().bytes().await.is_err());
    upstream.on("/blobs/").times(1).fault(Fault::ContentLength(-10));
    assert_eq!(client().get(&url).send().await.unwrap().bytes().await.unwrap(), bytes[..990]);
}

#[tokio::test]
async fn the_first_matching_rule_applies_until_it_is_used_up() {
    let upstream = Upstream::start().await;
    let (url, _) = blob(&upstream, 10).await;
    upstream
        .on("/blobs/")
        .times(1)
        .faults([Fault::Status(429), Fault::Header("retry-after", "7".to_owned())]);
    upstream.on("/blobs/").times(1).fault(Fault::Status(503));
    let first = client().get(&url).send().await.unwrap();
    assert_eq!((first.status().as_u16(), &first.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    assert_eq!(client().get(&url).send().await.unwrap().status(), 503);
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn stopping_refuses_connections_and_restarting_keeps_the_content() {
    let upstream = Upstream::start().await;
    let (url, bytes) = blob(&upstream, 10).await;
    upstream.stop().await;
    assert!(client().get(&url).send().await.unwrap_err().is_connect());
    upstream.restart().await;
    assert_eq!(client().get(&url).send().await.unwrap().bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn only_a_token_of_the_right_scope_opens_a_repository() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    upstream.require_bearer_for("bob", "secret");
    let url = format!("{}v2/library/a/manifests/1", upstream.url());
    let challenge =
        client().get(&url).send().await.unwrap().headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert!(
        challenge.ends_with(r#"/token",service="fake",scope="repository:library/a:pull""#),
        "{challenge}"
    );
    for (scope, status) in [("repository:library/a:pull", 200), ("repository:library/b:pull", 401)] {
        let token = format!("{}token?service=fake&scope={scope}", upstream.url());
        assert_eq!(client().get(&token).send().await.unwrap().status(), 401);
        let document = client()
            .get(&token)
            .basic_auth("bob", Some("secret"))
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let document = serde_json::from_slice::<serde_json::Value>(&document).unwrap();
        let answer =
            client().get(&url).bearer_auth(document["token"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }
}

#[tokio::test]
async fn a_manifest_costs_one_of_the_quota_and_a_head_nothing() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    upstream.quota(100, 1, 21600);
    let url = format!("{}v2/library/a/manifests/1", upstream.url());
    let head = client().head(&url).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["ratelimit-remaining"]),
        (200, &"1;w=21600".parse().unwrap())
    );
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    assert_eq!(client().get(&url).send().await.unwrap().status(), 429);
}

#[tokio::test]
async fn the_tls_variant_is_trusted_with_its_ca_only() {
    let (upstream, ca) = Upstream::start_tls().await;
    let url = format!("{}v2/", upstream.url());
    assert!(client().get(&url).send().await.is_err());
    let ca = reqwest::Certificate::from_pem(ca.pem.as_bytes()).unwrap();
    let trusting = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    assert_eq!(trusting.get(&url).send().await.unwrap().status(), 200);
}
