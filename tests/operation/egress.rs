//! Upstreams behind the proxy that the environment names.

use harness::egress::EgressProxy;
use harness::hostile::{Upstream, noise};
use harness::proxy::ProxyProcess;
use serde_json::json;

use crate::ground::{client, prepared};

/// A started proxy with these variables, and no exceptions unless they say so.
async fn started(proxy: ProxyProcess, variables: &[(&str, &str)]) -> ProxyProcess {
    let proxy = proxy.env("NO_PROXY", "").env("no_proxy", "");
    variables.iter().fold(proxy, |proxy, (name, value)| proxy.env(name, value)).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_upstream_is_asked_through_http_proxy() {
    let (upstream, egress) = tokio::join!(Upstream::start(), EgressProxy::start());
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    let proxy = started(prepared(&upstream, |_| {}), &[("HTTP_PROXY", &egress.url())]).await;
    client(&proxy).pull("library/a", "1").await;
    let seen = egress.seen();
    assert_eq!(seen.len(), upstream.requests().len(), "every request came that way");
    let manifest = format!("HEAD {}v2/library/a/manifests/1", upstream.url());
    assert!(seen.contains(&manifest), "{manifest} is not in {seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_upstream_is_reached_through_a_tunnel_of_https_proxy() {
    let ((upstream, ca), egress) = tokio::join!(Upstream::start_tls(), EgressProxy::start());
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    let proxy = prepared(&upstream, |d| {
        d.config_map("ca", json!({"ca.crt": ca.pem}));
        d.spec("RegistryUpstream", "upstream")["caConfigMapRef"] = json!({"name": "ca"});
    });
    let proxy = started(proxy, &[("HTTPS_PROXY", &egress.url())]).await;
    client(&proxy).pull("library/a", "1").await;
    let seen = egress.seen();
    let tunnel = format!("CONNECT {}", upstream.address());
    assert!(!seen.is_empty() && seen.iter().all(|line| *line == tunnel), "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_proxy_names_is_asked_directly() {
    let (upstream, egress) = tokio::join!(Upstream::start(), EgressProxy::start());
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    let variables = [("HTTP_PROXY", egress.url()), ("NO_PROXY", "127.0.0.0/8".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let proxy = started(prepared(&upstream, |_| {}), &variables).await;
    client(&proxy).pull("library/a", "1").await;
    assert_eq!(egress.seen(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_of_the_egress_proxy_is_used_and_not_shown() {
    let (upstream, egress) = tokio::join!(Upstream::start(), EgressProxy::start());
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    let url = egress.url().replace("http://", "http://gate:Xgate-passwordX@");
    let proxy = prepared(&upstream, |_| {}).arg("--log=trace");
    let proxy = started(proxy, &[("HTTP_PROXY", &url), ("HTTPS_PROXY", &url)]).await;
    client(&proxy).pull("library/a", "1").await;
    // gate:Xgate-passwordX
    assert_eq!(egress.authorization().as_deref(), Some("Basic Z2F0ZTpYZ2F0ZS1wYXNzd29yZFg="));
    let log = proxy.log();
    for secret in ["Xgate-passwordX", "Z2F0ZTpYZ2F0ZS1wYXNzd29yZFg="] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log shows it");
    }
}
