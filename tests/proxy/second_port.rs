//! What is said of a proxy rather than of an image: probes, status, quota.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::hostile::Upstream;
use harness::server::Proxy;
use http::Method;

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_status_answer_and_images_are_not_there() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::of(&upstream).await;
    assert_eq!(proxy.admin("/livez").await.trim(), "ok");
    assert_eq!(proxy.admin("/readyz").await.trim(), "ok");
    let status = serde_json::from_str::<serde_json::Value>(&proxy.admin("/status").await).unwrap();
    assert_eq!(status["instance"], "dp/main");
    assert!(
        proxy.metric("dependency_proxy_config_info").await[0]
            .contains(status["configHash"].as_str().unwrap())
    );
    assert!(proxy.admin("/metrics").await.ends_with("# EOF\n"), "OpenMetrics");
    assert!(!proxy.admin("/v2/").await.contains("errors"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_outage_leaves_the_proxy_ready_and_shows_in_the_metrics() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let proxy = Proxy::of(&upstream).await;
    proxy.client().pull("library/a", "1").await;
    assert_eq!(proxy.sum("dependency_proxy_upstream_up", &["upstream=\"dp/upstream\""]).await, 1.0);
    upstream.stop().await;
    proxy.client().pull("library/a", "1").await;
    assert_eq!(proxy.sum("dependency_proxy_upstream_up", &["upstream=\"dp/upstream\""]).await, 0.0);
    assert_eq!(proxy.admin("/readyz").await.trim(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_is_told_to_members_and_costs_no_pull() {
    let upstream = Upstream::start().await;
    upstream.image("ratelimitpreview/test", "latest", &[]);
    upstream.quota(200, 150, 21600);
    let proxy = Proxy::of(&upstream).await;
    let path = "/api/v4/groups/team-a/dependency_proxy/quota";
    let ask = |user: &'static str| {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{user}-password")));
        let client = proxy.client();
        async move { client.plain(Method::GET, path, &[("authorization", &basic)], "").await }
    };
    // A pull of something shows what there is, whatever the probe asks for.
    upstream.image("library/a", "1", &[]);
    proxy.client().manifest("library/a", "1").await.bytes();
    let document = ask("alice").await.json();
    assert_eq!(document["upstreams"][0]["limit"], 200);
    assert_eq!(document["upstreams"][0]["remaining"], 149);
    assert_eq!(document["upstreams"][0]["windowSeconds"], 21600);
    assert_eq!(upstream.remaining(), 149);
    assert_eq!(ask("bob").await.status, 403);
    assert_eq!(proxy.client().plain(Method::GET, path, &[], "").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed_and_holds_nobody_up() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let proxy = Proxy::of(&upstream).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(tokio::net::TcpStream::connect(proxy.address()).await.unwrap());
    }
    let pull = proxy.client();
    tokio::time::timeout(Duration::from_secs(5), pull.pull("library/a", "1"))
        .await
        .expect("others are served");
    // Neither do they hold up a stop.
    tokio::time::timeout(Duration::from_secs(5), proxy.stop()).await.expect("idle connections are let go");
}
