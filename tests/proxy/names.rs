//! How an image is named, and that every way leads to the same image.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::documents::{Documents, NAMESPACE};
use harness::hostile::{Image, Upstream, noise};
use harness::pull::Answer;
use harness::server::{Builder, Proxy};
use http::Method;
use serde_json::json;

/// Docker Hub as `team-a` has it, with library/alpine:3.
async fn docker_hub() -> (Upstream, Image, Builder) {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/alpine", "3", &[noise(1, 1000)]);
    let builder = Proxy::builder().upstream("docker-hub", &upstream).group("team-a");
    let builder = builder.edit(|d| d.spec("RegistryUpstream", "docker-hub")["dockerHub"] = json!(true));
    (upstream, image, builder)
}

/// This path with this `Host`, signed in by HTTP Basic.
async fn at(proxy: &Proxy, host: &str, path: &str) -> Answer {
    let basic = format!("Basic {}", STANDARD.encode("alice:alice-password"));
    proxy.client().plain(Method::GET, path, &[("host", host), ("authorization", &basic)], "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_name_of_docker_hub_means_library_in_a_group() {
    let (upstream, image, builder) = docker_hub().await;
    let proxy = builder.start().await;
    assert_eq!(proxy.client().manifest("alpine", "3").await.bytes(), &image.manifest);
    proxy.client().pull("alpine", "3").await;
    let gets = upstream.count(Method::GET, "/v2/");
    // The other spelling is the same image.
    proxy.client().pull("library/alpine", "3").await;
    assert_eq!(upstream.count(Method::GET, "/v2/"), gets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_name_is_taken_as_written_elsewhere() {
    let (upstream, _, builder) = docker_hub().await;
    let proxy = builder.registry("hub", "team-a", &["docker-hub"]).start().await;
    let answer = proxy.client().registry("dp.hub").manifest("alpine", "3").await;
    answer.refused(
        404,
        "MANIFEST_UNKNOWN",
        "alpine:3 was not found. docker-hub: 404. On Docker Hub, did you mean library/alpine?",
    );
    assert_eq!(upstream.count(Method::GET, "/library/"), 0);

    let plain = Upstream::start().await;
    let image = plain.image("alpine", "3", &[]);
    let proxy = Proxy::of(&plain).await;
    assert_eq!(proxy.client().manifest("alpine", "3").await.bytes(), &image.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_to_library_where_that_is_done_already_or_means_nothing() {
    let (_upstream, _, builder) = docker_hub().await;
    let other = Upstream::start().await;
    let plain = Proxy::builder().upstream("plain", &other).group("team-a");
    let (hub, plain) = (builder.start().await, plain.registry("plain", "team-a", &["plain"]).start().await);
    for client in [hub.client(), plain.client(), plain.client().registry("dp.plain")] {
        let answer = client.manifest("absent", "3").await;
        answer.refused(404, "MANIFEST_UNKNOWN", "absent:3 was not found.");
        assert!(!answer.text().contains("did you mean"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_host_has_the_images_at_its_root() {
    let (_upstream, image, builder) = docker_hub().await;
    let mirrors =
        json!([{"host": "hub.example.com", "groupRef": {"name": "team-a", "namespace": NAMESPACE}}]);
    let proxy = builder.edit(|d| d.spec("DependencyProxy", "main")["mirrors"] = mirrors).start().await;
    for query in ["", "?ns=docker.io"] {
        let path = format!("/v2/library/alpine/manifests/3{query}");
        assert_eq!(at(&proxy, "hub.example.com", &path).await.bytes(), &image.manifest, "{query}");
    }
    let other = at(&proxy, "hub.example.com", "/v2/library/alpine/manifests/3?ns=quay.io").await;
    assert_eq!(other.status, 404, "{}", other.text());
    let elsewhere = at(&proxy, "other.example.com", "/v2/library/alpine/manifests/3").await;
    assert!(elsewhere.status.is_client_error(), "{}", elsewhere.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn containerds_override_path_reaches_a_group() {
    let (_upstream, image, builder) = docker_hub().await;
    let proxy = builder.start().await;
    let client = proxy.client();
    let answer = client.send(Method::GET, "library/alpine/manifests/3?ns=docker.io", &[]).await;
    assert_eq!(answer.bytes(), &image.manifest);
    let layer = image.layers[0];
    client.send(Method::GET, &format!("library/alpine/blobs/{layer}?ns=docker.io"), &[]).await.bytes();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_prefix_keeps_working() {
    let (_upstream, image, builder) = docker_hub().await;
    let aliases = |d: &mut Documents| {
        let group = json!({"name": "team-a", "namespace": NAMESPACE});
        let registry = json!({"name": "hub", "namespace": NAMESPACE});
        d.spec("DependencyProxy", "main")["aliases"] = json!([
            {"prefix": "harbor/dockerhub", "groupRef": group},
            {"prefix": "virtual_registries/container/1", "virtualRegistryRef": registry},
        ]);
    };
    let proxy = builder.registry("hub", "team-a", &["docker-hub"]).edit(aliases).start().await;
    let host = proxy.address().to_string();
    for prefix in
        ["harbor/dockerhub", "virtual_registries/container/1", "virtual_registries/container/dp.hub"]
    {
        let answer = at(&proxy, &host, &format!("/v2/{prefix}/library/alpine/manifests/3")).await;
        assert_eq!(answer.bytes(), &image.manifest, "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirrors_client_is_not_told_429_because_it_would_ask_again_at_once() {
    let (upstream, _, builder) = docker_hub().await;
    let mirrors =
        json!([{"host": "hub.example.com", "groupRef": {"name": "team-a", "namespace": NAMESPACE}}]);
    let proxy = builder.edit(|d| d.spec("DependencyProxy", "main")["mirrors"] = mirrors).start().await;
    upstream.quota(200, 0, 21600);
    let answer = at(&proxy, "hub.example.com", "/v2/library/alpine/manifests/3?ns=docker.io").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.error().1.contains("docker-hub's quota is used up (0 of 200)"), "{}", answer.text());
}
