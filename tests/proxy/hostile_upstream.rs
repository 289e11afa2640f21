//! An upstream is distrusted: what it sends is bounded and verified, and what it asks for is not given to strangers.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use harness::hostile::{Fault, Upstream, noise};
use harness::pull::Answer;
use harness::server::Proxy;
use http::Method;
use oci::media;
use serde_json::json;

use crate::MIB;

/// The answer for an upstream that cannot be believed.
#[track_caller]
fn is_bad_gateway(answer: &Answer) {
    assert_eq!(answer.status, 502, "{}", answer.text());
    answer.error();
}

async fn upstream_with_image() -> (Upstream, harness::hostile::Image, Proxy) {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(1, 100_000)]);
    let proxy = Proxy::of(&upstream).await;
    (upstream, image, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_over_4_mib_is_refused_and_not_kept() {
    let (upstream, _, proxy) = upstream_with_image().await;
    let manifest =
        |padding: usize| format!(r#"{{"schemaVersion":2,"layers":[],"padding":"{}"}}"#, "x".repeat(padding));
    upstream.manifest("library/big", "1", manifest(4 * MIB), media::OCI_MANIFEST);
    for faults in [[Fault::Delay(Duration::ZERO)], [Fault::Chunked]] {
        upstream.behave();
        upstream.on("/library/big/").faults(faults);
        is_bad_gateway(&proxy.client().manifest("library/big", "1").await);
    }
    upstream.behave();
    upstream.manifest("library/big", "1", manifest(4 * MIB - 100), media::OCI_MANIFEST);
    proxy.client().manifest("library/big", "1").await.bytes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_without_end_is_refused() {
    let (upstream, image, proxy) = upstream_with_image().await;
    upstream.on("/manifests/").fault(Fault::Endless);
    is_bad_gateway(&proxy.client().manifest("library/a", "1").await);
    upstream.behave();
    assert_eq!(proxy.client().manifest("library/a", "1").await.bytes(), &image.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_answer_without_end_is_refused() {
    let (upstream, _, proxy) = upstream_with_image().await;
    upstream.require_bearer();
    upstream.on("/token").fault(Fault::Endless);
    let answer = proxy.client().manifest("library/a", "1").await;
    assert!(answer.status.is_server_error(), "{}: {}", answer.status, answer.text());
    answer.error();
}

#[tokio::test(flavor = "multi_thread")]
async fn tag_pages_without_end_are_not_followed_for_ever() {
    let (upstream, _, proxy) = upstream_with_image().await;
    upstream.on("/tags/list").fault(Fault::EndlessTags);
    let client = proxy.client();
    let list = client.send(Method::GET, "library/a/tags/list", &[]);
    tokio::time::timeout(Duration::from_secs(10), list).await.expect("an answer, whatever it is");
    let pages = upstream.count(Method::GET, "/tags/list");
    assert!(pages <= 100, "{pages} pages were fetched for one request");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_body_without_end_is_not_read_to_its_end() {
    let (upstream, _, proxy) = upstream_with_image().await;
    upstream.on("/v2/").faults([Fault::Status(404), Fault::Endless]);
    let pull = proxy.client();
    let pull = pull.manifest("library/a", "1");
    let answer = tokio::time::timeout(Duration::from_secs(10), pull).await.expect("an answer");
    assert_eq!(answer.status, 404, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_answer_is_refused_or_unpacked_but_never_passed_on() {
    let (upstream, image, proxy) = upstream_with_image().await;
    upstream.on("/v2/").fault(Fault::Gzip);
    let manifest = proxy.client().manifest("library/a", "1").await;
    assert!(manifest.status == 502 || manifest.body == image.manifest, "{}", manifest.status);
    let blob = proxy.client().blob("library/a", image.layers[0]).await;
    assert!(blob.broken || blob.status == 502 || blob.body == noise(1, 100_000), "{}", blob.status);
    upstream.behave();
    assert_eq!(proxy.client().manifest("library/a", "1").await.bytes(), &image.manifest);
    assert!(proxy.client().blob("library/a", image.layers[0]).await.bytes() == &noise(1, 100_000));
    assert!(
        upstream
            .requests()
            .iter()
            .all(|r| !r.header("accept-encoding").unwrap_or("identity").contains("gzip"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_digest_header_is_served_with_the_right_one() {
    let (upstream, image, proxy) = upstream_with_image().await;
    upstream.on("/v2/").fault(Fault::NoDigest);
    for _ in 0..2 {
        let answer = proxy.client().manifest("library/a", "1").await;
        assert_eq!(answer.bytes(), &image.manifest);
        assert_eq!(answer.header("docker-content-digest"), image.digest.to_string());
    }
    proxy.client().pull("library/a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_head_is_served_from() {
    let (upstream, image, proxy) = upstream_with_image().await;
    upstream.on("/v2/").fault(Fault::NoHead);
    for _ in 0..2 {
        assert_eq!(proxy.client().manifest("library/a", "1").await.bytes(), &image.manifest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_can_be_read_in_two_ways_is_refused() {
    let (upstream, _, proxy) = upstream_with_image().await;
    let both = r#"{"schemaVersion":2,"layers":[],"config":{},"manifests":[]}"#;
    upstream.manifest("library/two", "1", both, media::OCI_INDEX);
    is_bad_gateway(&proxy.client().manifest("library/two", "1").await);
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX);
    upstream.manifest("library/lie", "1", index, media::OCI_MANIFEST);
    is_bad_gateway(&proxy.client().manifest("library/lie", "1").await);
    upstream.manifest("library/portal", "1", "<html>Please sign in to this hotel</html>", "text/html");
    is_bad_gateway(&proxy.client().manifest("library/portal", "1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_a_content_network_is_followed_without_credentials() {
    let (upstream, image, _) = upstream_with_image().await;
    let network = Upstream::start_on(Ipv4Addr::new(127, 0, 0, 9)).await;
    network.image("library/a", "1", &[noise(1, 100_000)]);
    for bearer in [false, true] {
        network.forget();
        if bearer {
            upstream.require_bearer_for("robot", "pw")
        } else {
            upstream.require_basic("robot", "pw")
        }
        upstream.behave();
        let proxy = Proxy::builder()
            .upstream("upstream", &upstream)
            .group("team-a")
            .edit(|d| d.credentials("upstream", "robot", "pw"))
            .start()
            .await;
        proxy.client().manifest("library/a", "1").await.bytes();
        let elsewhere = format!("{}v2/library/a/blobs/{}?signature=abc", network.url(), image.layers[0]);
        upstream.on("/blobs/").fault(Fault::Redirect(elsewhere));
        assert!(proxy.client().blob("library/a", image.layers[0]).await.bytes() == &noise(1, 100_000));
        let requests = network.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].header("authorization"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_of_a_redirects_target_is_not_answered() {
    let (upstream, image, _) = upstream_with_image().await;
    upstream.require_basic("robot", "pw");
    let stranger = Upstream::start_on(Ipv4Addr::new(127, 0, 0, 9)).await;
    stranger.require_basic("robot", "pw");
    let proxy = Proxy::builder()
        .upstream("upstream", &upstream)
        .group("team-a")
        .edit(|d| d.credentials("upstream", "robot", "pw"))
        .start()
        .await;
    let elsewhere = format!("{}v2/library/a/blobs/{}", stranger.url(), image.layers[0]);
    upstream.on("/blobs/").fault(Fault::Redirect(elsewhere));
    let answer = proxy.client().blob("library/a", image.layers[0]).await;
    assert!(answer.status.as_u16() >= 400, "{}: {}", answer.status, answer.text());
    assert!(stranger.requests().iter().all(|r| r.header("authorization").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_loop_ends() {
    let (upstream, image, proxy) = upstream_with_image().await;
    upstream.on("/v2/").fault(Fault::RedirectLoop);
    is_bad_gateway(&proxy.client().blob("library/a", image.layers[0]).await);
    is_bad_gateway(&proxy.client().manifest("library/a", "1").await);
    assert!(upstream.requests().len() <= 50, "{} requests", upstream.requests().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_an_address_that_is_not_allowed_is_refused_at_once() {
    let (upstream, image, proxy) = upstream_with_image().await;
    for target in [
        "http://10.255.255.1/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/x",
        "http://[64:ff9b::a9fe:a9fe]/x",
        "http://[::1]:1/x",
        "http://0.0.0.0:1/x",
        "http://192.168.0.1/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/x",
    ] {
        upstream.behave();
        upstream.on("/blobs/").fault(Fault::Redirect(target.to_owned()));
        let began = Instant::now();
        let answer = proxy.client().blob("library/a", image.layers[0]).await;
        assert!(matches!(answer.status.as_u16(), 404 | 502), "{target}: {} {}", answer.status, answer.text());
        assert!(began.elapsed() < Duration::from_secs(2), "{target}: it was tried");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_whose_address_is_not_allowed_is_refused() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let proxy = Proxy::builder()
        .upstream("upstream", &upstream)
        .group("team-a")
        .edit(|d| {
            d.spec("DependencyProxy", "main")["upstreamNetworks"] = json!({"allowedCIDRs": ["10.0.0.0/8"]})
        })
        .start()
        .await;
    let answer = proxy.client().manifest("library/a", "1").await;
    assert!(answer.status.is_server_error(), "{}: {}", answer.status, answer.text());
    answer.error();
    assert!(upstream.requests().is_empty());
}

/// An upstream with credentials whose challenges name a token service of another host, which is there and listens.
async fn foreign_realm(token_hosts: &[&str]) -> (Upstream, Upstream, Proxy) {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    upstream.require_bearer_for("robot", "pw");
    let stranger = Upstream::start_on(Ipv4Addr::new(127, 0, 0, 9)).await;
    stranger.require_bearer_for("robot", "pw");
    upstream.realm(&format!("{}token", stranger.url()));
    let hosts = json!(token_hosts);
    let proxy = Proxy::builder()
        .upstream("upstream", &upstream)
        .group("team-a")
        .edit(|d| {
            d.credentials("upstream", "robot", "pw");
            d.spec("RegistryUpstream", "upstream")["tokenHosts"] = hosts;
        })
        .start()
        .await;
    (upstream, stranger, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_realm_on_another_site_gets_no_credentials() {
    let (_upstream, stranger, proxy) = foreign_realm(&[]).await;
    let answer = proxy.client().manifest("library/a", "1").await;
    assert!(answer.status.as_u16() >= 400, "{}: {}", answer.status, answer.text());
    answer.error();
    assert!(stranger.requests().iter().all(|r| r.header("authorization").is_none()), "CVE-2026-33540");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_host_that_the_document_names_gets_them() {
    let (_upstream, stranger, proxy) = foreign_realm(&["127.0.0.9"]).await;
    proxy.client().manifest("library/a", "1").await;
    assert!(stranger.requests().iter().any(|r| r.path == "/token" && r.header("authorization").is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_that_redirects_elsewhere_takes_no_credentials_along() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    upstream.require_bearer_for("robot", "pw");
    let stranger = Upstream::start_on(Ipv4Addr::new(127, 0, 0, 9)).await;
    upstream.on("/token").fault(Fault::Redirect(format!("{}token", stranger.url())));
    let proxy = Proxy::builder()
        .upstream("upstream", &upstream)
        .group("team-a")
        .edit(|d| d.credentials("upstream", "robot", "pw"))
        .start()
        .await;
    assert_ne!(proxy.client().manifest("library/a", "1").await.status, 200);
    assert!(stranger.requests().iter().all(|r| r.header("authorization").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_sign_in_with_never_goes_upstream() {
    let (upstream, _, proxy) = upstream_with_image().await;
    let basic = [("authorization", "Basic YWxpY2U6YWxpY2UtcGFzc3dvcmQ=")];
    let client = proxy.client();
    let path = client.path("library/a/manifests/1");
    assert_eq!(client.plain(Method::GET, &path, &basic, "").await.status, 200);
    client.pull("library/a", "1").await;
    assert!(!upstream.requests().is_empty());
    assert!(
        upstream
            .requests()
            .iter()
            .all(|r| r.header("authorization").is_none() && r.header("cookie").is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_ca_is_trusted_where_the_upstream_names_it_and_nowhere_else() {
    let (upstream, ca) = Upstream::start_tls().await;
    let image = upstream.image("library/a", "1", &[]);
    let proxy = Proxy::builder()
        .upstream("trusting", &upstream)
        .upstream("distrusting", &upstream)
        .group("team-a")
        .edit(|d| {
            d.config_map("ca", json!({"ca.crt": ca.pem}));
            d.spec("RegistryUpstream", "trusting")["caConfigMapRef"] = json!({"name": "ca"});
            d.group("team-b", "distrusting");
        })
        .start()
        .await;
    assert_eq!(proxy.client().manifest("library/a", "1").await.bytes(), &image.manifest);
    let answer = proxy.client().group("team-b").manifest("library/a", "1").await;
    assert!(answer.status.is_server_error(), "{}: {}", answer.status, answer.text());
}
