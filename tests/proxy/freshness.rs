//! When a tag is checked, and what a check costs.

use std::time::Duration;

use futures_util::future::join_all;
use harness::documents::Documents;
use harness::hostile::{Fault, Upstream, noise};
use harness::server::{Builder, Proxy};
use http::Method;
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);

fn heads(upstream: &Upstream) -> usize {
    upstream.count(Method::HEAD, "/manifests/")
}

fn gets(upstream: &Upstream) -> usize {
    upstream.count(Method::GET, "/manifests/")
}

/// A group `team-a` and a virtual registry `dp.hub` on one upstream, with a clock of our own.
fn builder(upstream: &Upstream) -> Builder {
    let builder = Proxy::builder().upstream("upstream", upstream).group("team-a");
    builder.registry("hub", "team-a", &["upstream"]).manual_clock()
}

fn validity(hours: u64) -> impl FnOnce(&mut Documents) {
    move |d| d.spec("RegistryUpstream", "upstream")["cacheValidityHours"] = json!(hours)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_groups_tag_is_checked_by_head_before_every_answer() {
    let upstream = Upstream::start().await;
    let old = upstream.image("library/a", "1", &[noise(1, 100)]);
    let proxy = builder(&upstream).start().await;
    let client = proxy.client();
    assert_eq!(client.manifest("library/a", "1").await.bytes(), &old.manifest);
    upstream.forget();
    for _ in 0..3 {
        assert_eq!(client.manifest("library/a", "1").await.bytes(), &old.manifest);
    }
    assert_eq!((heads(&upstream), gets(&upstream)), (3, 0));
    let new = upstream.image("library/a", "1", &[noise(2, 100)]);
    assert_eq!(client.manifest("library/a", "1").await.bytes(), &new.manifest);
    assert_eq!((heads(&upstream), gets(&upstream)), (4, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_checks_of_a_tag_are_one_head() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[]);
    let patient = |d: &mut Documents| {
        d.spec("RegistryUpstream", "upstream")["recheckBudgetMilliseconds"] = json!(10_000)
    };
    let proxy = builder(&upstream).edit(patient).start().await;
    let client = proxy.client();
    client.manifest("library/a", "1").await.bytes();
    upstream.forget();
    // Long enough for all to arrive.
    upstream.on("/manifests/").fault(Fault::Delay(Duration::from_millis(1500)));
    for answer in join_all((0..16).map(|_| client.manifest("library/a", "1"))).await {
        assert_eq!(answer.bytes(), &image.manifest);
    }
    assert_eq!((heads(&upstream), gets(&upstream)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_may_serve_tags_for_a_while_without_a_head() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let relax =
        |d: &mut Documents| d.spec("DependencyProxyGroup", "team-a")["recheckAfterSeconds"] = json!(60);
    let proxy = builder(&upstream).edit(relax).start().await;
    let client = proxy.client();
    client.manifest("library/a", "1").await.bytes();
    upstream.forget();
    proxy.advance(Duration::from_secs(59));
    client.manifest("library/a", "1").await.bytes();
    assert_eq!(heads(&upstream), 0);
    proxy.advance(Duration::from_secs(2));
    client.manifest("library/a", "1").await.bytes();
    assert_eq!(heads(&upstream), 1);
    client.manifest("library/a", "1").await.bytes();
    assert_eq!((heads(&upstream), gets(&upstream)), (1, 0), "the check counts from its own time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registrys_tag_is_checked_once_the_validity_has_passed() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[noise(1, 100)]);
    let proxy = builder(&upstream).edit(validity(24)).start().await;
    let client = proxy.client().registry("dp.hub");
    client.manifest("library/a", "1").await.bytes();
    upstream.forget();
    proxy.advance(23 * HOUR);
    client.manifest("library/a", "1").await.bytes();
    assert_eq!((heads(&upstream), gets(&upstream)), (0, 0));
    proxy.advance(2 * HOUR);
    client.manifest("library/a", "1").await.bytes();
    assert_eq!((heads(&upstream), gets(&upstream)), (1, 0));
    let new = upstream.image("library/a", "1", &[noise(2, 100)]);
    proxy.advance(25 * HOUR);
    assert_eq!(client.manifest("library/a", "1").await.bytes(), &new.manifest);
    assert_eq!((heads(&upstream), gets(&upstream)), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validity_of_zero_means_never_again() {
    let upstream = Upstream::start().await;
    let old = upstream.image("library/a", "1", &[noise(1, 100)]);
    let proxy = builder(&upstream).edit(validity(0)).start().await;
    let client = proxy.client().registry("dp.hub");
    client.manifest("library/a", "1").await.bytes();
    upstream.image("library/a", "1", &[noise(2, 100)]);
    upstream.forget();
    proxy.advance(24 * 365 * HOUR);
    let answer = client.manifest("library/a", "1").await;
    assert_eq!((answer.bytes(), answer.header("warning")), (&old.manifest, ""));
    assert!(upstream.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_never_checked_again() {
    let upstream = Upstream::start().await;
    let index = upstream.index("library/a", "1");
    let proxy = builder(&upstream).start().await;
    let client = proxy.client();
    for _ in 0..2 {
        for digest in [index.digest, index.images[1].digest] {
            client.manifest("library/a", &digest.to_string()).await.bytes();
        }
    }
    assert_eq!(upstream.requests().iter().filter(|r| r.path.contains("/manifests/")).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_pulls_of_a_quota_go_to_images_of_which_there_is_no_copy() {
    let upstream = Upstream::start().await;
    let old = upstream.image("library/a", "1", &[noise(1, 100)]);
    let cold = upstream.image("library/b", "1", &[]);
    upstream.quota(200, 11, 21600);
    let reserve =
        |d: &mut Documents| d.spec("RegistryUpstream", "upstream")["rateLimit"] = json!({"reservePulls": 10});
    let proxy = builder(&upstream).edit(reserve).start().await;
    let client = proxy.client();
    client.manifest("library/a", "1").await.bytes();
    assert_eq!(upstream.remaining(), 10);
    upstream.image("library/a", "1", &[noise(2, 100)]);
    upstream.forget();

    let answer = client.manifest("library/a", "1").await;
    assert_eq!(answer.bytes(), &old.manifest, "the changed tag is served from the copy");
    assert!(answer.header("warning").starts_with("299 - \""));
    assert_eq!((heads(&upstream), gets(&upstream)), (1, 0), "checks are free and go on");

    assert_eq!(client.manifest("library/b", "1").await.bytes(), &cold.manifest);
    assert_eq!((gets(&upstream), upstream.remaining()), (1, 9));
    let remaining = proxy.sum("dependency_proxy_upstream_ratelimit_remaining", &["upstream"]).await;
    assert_eq!(remaining, 9.0);
    assert_eq!(proxy.sum("dependency_proxy_upstream_ratelimit_limit", &["upstream"]).await, 200.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_a_quota_has_none_in_the_metrics() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let proxy = Proxy::of(&upstream).await;
    proxy.client().manifest("library/a", "1").await.bytes();
    assert!(
        proxy.metric("dependency_proxy_upstream_ratelimit_remaining").await.is_empty(),
        "absent is not zero"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_beyond_the_limit_per_minute_are_answered_as_stale() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let few = |d: &mut Documents| {
        d.spec("RegistryUpstream", "upstream")["rateLimit"] = json!({"maxChecksPerMinute": 3})
    };
    let proxy = Proxy::builder().upstream("upstream", &upstream).group("team-a").edit(few).start().await;
    let client = proxy.client();
    client.manifest("library/a", "1").await.bytes();
    upstream.forget();
    let mut warned = 0;
    for _ in 0..10 {
        let answer = client.manifest("library/a", "1").await;
        answer.bytes();
        warned += usize::from(answer.header("warning").starts_with("299 - \""));
    }
    assert!((2..=3).contains(&heads(&upstream)), "{} checks", heads(&upstream));
    assert_eq!(warned, 10 - heads(&upstream));
}
