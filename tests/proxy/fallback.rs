//! A virtual registry asks its upstreams in order, and goes on by the class of the answer.

use std::time::Duration;

use harness::hostile::{Fault, Upstream, noise};
use harness::pull::Client;
use harness::server::Proxy;
use http::Method;
use serde_json::json;

struct Two {
    first: Upstream,
    second: Upstream,
    proxy: Proxy,
}

async fn two() -> Two {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let proxy = Proxy::builder()
        .upstream("first", &first)
        .upstream("second", &second)
        .group("team-a")
        .registry("hub", "team-a", &["first", "second"])
        .manual_clock()
        .start()
        .await;
    Two { first, second, proxy }
}

impl Two {
    fn client(&self) -> Client {
        self.proxy.client().registry("dp.hub")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_upstream_that_has_the_image_wins() {
    let it = two().await;
    let wanted = it.first.image("app/a", "1", &[noise(1, 100)]);
    it.second.image("app/a", "1", &[noise(2, 100)]);
    assert_eq!(it.client().manifest("app/a", "1").await.bytes(), &wanted.manifest);
    it.client().pull("app/a", "1").await;
    assert!(it.second.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn not_found_goes_on_to_the_next() {
    let it = two().await;
    let index = it.second.index("app/a", "1");
    assert_eq!(it.client().manifest("app/a", "1").await.bytes(), &index.manifest);
    assert_eq!(it.client().pull("app/a", "1").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_asked_of_where_the_manifest_came_from() {
    let it = two().await;
    it.second.index("app/a", "1");
    it.client().pull("app/a", "1").await;
    assert_eq!(it.first.count(Method::GET, "/blobs/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_never_answers_is_waited_for_once() {
    let it = two().await;
    it.second.index("app/a", "1");
    it.first.on("/v2/").fault(Fault::Hang);
    let client = it.client();
    let pull = tokio::time::timeout(Duration::from_secs(25), client.pull("app/a", "1")).await;
    assert_eq!(pull.expect("one time limit of 10 s, not one for each manifest and blob"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_goes_on_to_the_next() {
    for fault in [Fault::Status(500), Fault::Status(429), Fault::Drop] {
        let it = two().await;
        let image = it.second.image("app/a", "1", &[noise(1, 100)]);
        it.first.on("/v2/").fault(fault);
        assert_eq!(it.client().manifest("app/a", "1").await.bytes(), &image.manifest);
        it.client().pull("app/a", "1").await;
    }
    let it = two().await;
    let image = it.second.image("app/a", "1", &[]);
    it.first.stop().await;
    assert_eq!(it.client().manifest("app/a", "1").await.bytes(), &image.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_named_and_never_turned_into_not_found() {
    let it = two().await;
    it.first.on("/v2/").fault(Fault::Status(500));
    let answer = it.client().manifest("app/a", "1").await;
    assert!(answer.status.is_server_error(), "{}: {}", answer.status, answer.text());
    let (_, message) = answer.error();
    assert!(message.contains("first"), "{message}");

    let it = two().await;
    it.second.stop().await;
    let answer = it.client().manifest("app/a", "1").await;
    assert!(answer.status.is_server_error(), "{}: {}", answer.status, answer.text());
    assert!(answer.error().1.contains("second"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn not_found_anywhere_says_where_was_looked() {
    let it = two().await;
    let answer = it.client().manifest("app/a", "1").await;
    answer.refused(404, "MANIFEST_UNKNOWN", "app/a:1 was not found. first: 404; second: 404");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_copy_is_preferred_to_another_upstreams_image() {
    let it = two().await;
    let cached = it.first.image("app/a", "1", &[noise(1, 100)]);
    it.client().pull("app/a", "1").await;
    it.second.image("app/a", "1", &[noise(2, 100)]);
    it.proxy.advance(Duration::from_secs(25 * 3600));
    it.first.stop().await;
    let answer = it.client().manifest("app/a", "1").await;
    assert_eq!(answer.bytes(), &cached.manifest);
    assert!(answer.header("warning").starts_with("299 - \""));
    it.client().pull("app/a", "1").await;
    assert!(it.second.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_stays_with_the_upstream_that_served_it_until_it_is_stale() {
    let it = two().await;
    let cached = it.second.image("app/a", "1", &[noise(1, 100)]);
    it.client().manifest("app/a", "1").await.bytes();
    it.first.image("app/a", "1", &[noise(2, 100)]);
    it.first.forget();
    it.second.forget();
    it.proxy.advance(Duration::from_secs(23 * 3600));
    assert_eq!(it.client().manifest("app/a", "1").await.bytes(), &cached.manifest);
    assert!(it.first.requests().is_empty() && it.second.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deny_rule_refuses_and_says_its_name() {
    let it = two().await;
    it.first.image("library/xmrig", "1", &[]);
    it.first.image("library/a", "1", &[]);
    let deny = json!([{"name": "no-miners", "action": "Deny", "repository": "*/xmrig*"}]);
    it.proxy.reload(|d| d.spec("RegistryUpstream", "first")["rules"] = deny).await;
    let client = it.proxy.client();
    let sentence = "Rule \"no-miners\" of upstream first refuses this repository.";
    client.manifest("library/xmrig", "1").await.refused(403, "DENIED", sentence);
    let digest = oci::Digest::of(oci::Algorithm::Sha256, b"");
    client.blob("library/xmrig", digest).await.refused(403, "DENIED", sentence);
    client.range("library/xmrig", digest, "bytes=0-1").await.refused(403, "DENIED", sentence);
    assert_eq!(client.head("library/xmrig", "1").await.status, 403);
    assert!(it.first.requests().is_empty(), "upstream is not asked");
    client.manifest("library/a", "1").await.bytes();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_list_must_match() {
    let it = two().await;
    it.first.image("team/a", "1", &[]);
    it.first.image("library/a", "1", &[]);
    let allow = json!([{"name": "ours", "action": "Allow", "repository": "team/*"}]);
    it.proxy.reload(|d| d.spec("RegistryUpstream", "first")["rules"] = allow).await;
    it.proxy.client().manifest("team/a", "1").await.bytes();
    assert_eq!(it.proxy.client().manifest("library/a", "1").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_upstream_has_a_rule_against_it_all_rules_are_named() {
    let it = two().await;
    let deny = |name: &str| json!([{"name": name, "action": "Deny", "repository": "*/xmrig*"}]);
    it.proxy
        .reload(|d| {
            d.spec("RegistryUpstream", "first")["rules"] = deny("no-miners");
            d.spec("RegistryUpstream", "second")["rules"] = deny("none-here");
        })
        .await;
    let answer = it.client().manifest("library/xmrig", "1").await;
    let sentence = "Rule \"no-miners\" of upstream first refuses this repository. Rule \"none-here\" of upstream second refuses this repository.";
    answer.refused(403, "DENIED", sentence);
    it.proxy.reload(|d| d.spec("RegistryUpstream", "second")["rules"] = json!([])).await;
    let answer = it.client().manifest("library/xmrig", "1").await;
    answer.refused(404, "MANIFEST_UNKNOWN", "first: refused by rule no-miners; second: 404");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resting_upstream_says_for_how_long() {
    let it = two().await;
    it.first.on("/v2/").faults([Fault::Status(503), Fault::Header("retry-after", "77".to_owned())]);
    let client = it.proxy.client();
    assert_eq!(client.manifest("app/a", "1").await.header("retry-after"), "30");
    let answer = client.manifest("app/a", "1").await;
    answer.refused(503, "UNAVAILABLE", "Try again in 77 s.");
    assert_eq!(answer.header("retry-after"), "77");
}
