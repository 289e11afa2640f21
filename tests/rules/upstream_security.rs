//! Advisories of other registries and clients about what an upstream can do to who asks it (tests/advisories.md).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use harness::hostile::{Fault, Upstream, noise};
use harness::server::Proxy;
use http::Method;
use oci::media;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

async fn with_credentials(upstream: &Upstream) -> Proxy {
    let builder = Proxy::builder().upstream("upstream", upstream).group("team-a");
    builder.edit(|d| d.credentials("upstream", "robot", "pw")).start().await
}

fn no_credentials(upstream: &Upstream) {
    let requests = upstream.requests();
    assert!(requests.iter().all(|r| r.header("authorization").is_none()), "credentials went elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_realm_of_any_wrong_shape_gets_no_credentials() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    upstream.require_bearer_for("robot", "pw");
    let stranger = Upstream::start_on(STRANGER).await;
    stranger.require_bearer_for("robot", "pw");
    let port = stranger.address().port();
    for realm in [
        format!("http://127.0.0.9:{port}/token"),
        format!("http://robot:pw@127.0.0.9:{port}/token"),
        format!("http://127.0.0.1@127.0.0.9:{port}/token"),
        format!("http://[::ffff:127.0.0.9]:{port}/token"),
        format!("//127.0.0.9:{port}/token"),
        format!("ftp://127.0.0.1:{port}/token"),
        "file:///etc/passwd".to_owned(),
        "http://169.254.169.254/token".to_owned(),
        String::new(),
    ] {
        upstream.realm(&realm);
        // A proxy of its own each time: no challenge of the one before is remembered.
        let proxy = with_credentials(&upstream).await;
        let answer = proxy.client().manifest("library/a", "1").await;
        assert!(answer.status.as_u16() >= 400, "{realm}: {}", answer.status);
        answer.error();
    }
    no_credentials(&stranger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_in_plain_http_is_not_asked_for_an_upstream_in_https() {
    let (upstream, ca) = Upstream::start_tls().await;
    upstream.image("library/a", "1", &[]);
    upstream.require_bearer_for("robot", "pw");
    let plain = Upstream::start().await;
    upstream.realm(&format!("{}token", plain.url()));
    let builder = Proxy::builder().upstream("upstream", &upstream).group("team-a").edit(|d| {
        d.credentials("upstream", "robot", "pw");
        d.config_map("ca", json!({"ca.crt": ca.pem}));
        let spec = d.spec("RegistryUpstream", "upstream");
        spec["caConfigMapRef"] = json!({"name": "ca"});
        spec["insecure"] = json!(false);
    });
    let proxy = builder.start().await;
    let answer = proxy.client().manifest("library/a", "1").await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    assert!(plain.requests().is_empty(), "it was asked");
    // The same for where blobs are redirected to.
    let blob = upstream.blob("library/a", noise(1, 10));
    upstream.behave();
    upstream.on("/v2/").fault(Fault::Redirect(format!("{}x", plain.url())));
    let answer = proxy.client().blob("library/a", blob).await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    assert!(plain.requests().is_empty(), "the redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_with_a_certificate_that_nobody_vouches_for_is_not_told_anything() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    upstream.require_bearer_for("robot", "pw");
    let (service, _) = Upstream::start_tls().await;
    upstream.realm(&format!("{}token", service.url()));
    let proxy = with_credentials(&upstream).await;
    let answer = proxy.client().manifest("library/a", "1").await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    assert!(service.requests().is_empty(), "a request passed a TLS that must fail");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_port_of_the_same_host_drops_the_credentials() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(1, 1000)]);
    upstream.require_basic("robot", "pw");
    let neighbour = Upstream::start().await;
    neighbour.image("library/a", "1", &[noise(1, 1000)]);
    let proxy = with_credentials(&upstream).await;
    // Now it knows that upstream wants credentials, and sends them at once.
    proxy.client().manifest("library/a", "1").await.bytes();
    let target = format!("{}v2/library/a/blobs/{}", neighbour.url(), image.layers[0]);
    upstream.on("/blobs/").fault(Fault::Redirect(target));
    assert_eq!(proxy.client().blob("library/a", image.layers[0]).await.bytes(), &noise(1, 1000));
    assert_eq!(neighbour.requests().len(), 1);
    no_credentials(&neighbour);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_one_upstream_are_never_shown_to_another() {
    let (first, second) = (Upstream::start().await, Upstream::start_on(STRANGER).await);
    first.require_basic("robot", "pw");
    second.require_basic("robot", "pw");
    second.image("library/a", "1", &[]);
    let builder = Proxy::builder().upstream("first", &first).upstream("second", &second).group("team-a");
    let builder = builder.registry("both", "team-a", &["first", "second"]);
    let proxy = builder.edit(|d| d.credentials("first", "robot", "pw")).start().await;
    let client = proxy.client().registry("dp.both");
    assert_ne!(client.manifest("library/a", "1").await.status, 200);
    assert!(!second.requests().is_empty());
    no_credentials(&second);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_a_manifest_names_are_never_asked() {
    let upstream = Upstream::start().await;
    let stranger = Upstream::start_on(STRANGER).await;
    let layer = noise(1, 100);
    let digest = stranger.blob("library/a", layer.clone());
    let url = format!("{}v2/library/a/blobs/{digest}", stranger.url());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest.to_string(), "size": 100, "urls": [url]},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                    "digest": digest.to_string(), "size": 100, "urls": [url]}],
    });
    upstream.manifest("library/a", "1", manifest.to_string(), media::OCI_MANIFEST);
    let proxy = Proxy::of(&upstream).await;
    let passed = proxy.client().manifest("library/a", "1").await;
    assert_eq!(passed.text(), manifest.to_string(), "what is in it is the client's business");
    assert_eq!(proxy.client().blob("library/a", digest).await.status, 404);
    assert!(stranger.requests().is_empty(), "a URL of the manifest was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_resolves_to_a_private_address_is_refused() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let by_name = |allowed: serde_json::Value| {
        let url = format!("http://localhost:{}", upstream.address().port());
        Proxy::builder().upstream("upstream", &upstream).group("team-a").edit(move |d| {
            d.spec("RegistryUpstream", "upstream")["url"] = json!(url);
            d.spec("DependencyProxy", "main")["upstreamNetworks"] = json!({"allowedCIDRs": allowed});
        })
    };
    let proxy = by_name(json!([])).start().await;
    let answer = proxy.client().manifest("library/a", "1").await;
    answer.refused(502, "UNKNOWN", "the address of localhost is not public");
    assert!(upstream.requests().is_empty(), "it was asked");
    let proxy = by_name(json!(["127.0.0.0/8"])).start().await;
    proxy.client().manifest("library/a", "1").await.bytes();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_never_spoken_to_in_http2() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let mut tls = builder.with_single_cert(vec![certificate.der().clone()], private).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let accepted = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(tls)).accept(stream).await.unwrap();
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    });
    let idle = Upstream::start().await;
    let builder = Proxy::builder().upstream("upstream", &idle).group("team-a").edit(|d| {
        d.config_map("ca", json!({"ca.crt": certificate.pem()}));
        let spec = d.spec("RegistryUpstream", "upstream");
        spec["url"] = json!(url);
        spec["caConfigMapRef"] = json!({"name": "ca"});
    });
    let proxy = builder.start().await;
    let client = proxy.client();
    let (spoken, _) = tokio::join!(accepted, client.head("library/a", "1"));
    assert_ne!(spoken.unwrap().as_deref(), Some(&b"h2"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_without_end_are_refused_and_pages_are_asked_for_in_bounds() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[]);
    let proxy = Proxy::of(&upstream).await;
    upstream.on("/tags/list").fault(Fault::Endless);
    upstream.on("/referrers/").fault(Fault::Endless);
    let referrers = format!("library/a/referrers/{}", image.digest);
    for path in ["library/a/tags/list?n=4294967295", &referrers] {
        let client = proxy.client();
        let asked = client.send(Method::GET, path, &[]);
        let answer = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("an answer");
        assert!(answer.status.is_server_error(), "{path}: {}", answer.status);
    }
    let pages = upstream.requests().into_iter().filter(|r| r.path.ends_with("/tags/list"));
    let queries = pages.map(|r| r.query.unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!(queries, ["n=1000"]);
}
