//! Purging: who may, what is forgotten, and that nothing of it is served any more.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use harness::documents::Documents;
use harness::hostile::{Upstream, noise};
use harness::pull::Answer;
use harness::s3::S3;
use harness::server::Proxy;
use http::Method;
use serde_json::json;

const CACHE: &str = "/api/v4/groups/team-a/dependency_proxy/cache";
const REGISTRIES: &str = "/api/v4/virtual_registries/container";

async fn purge(proxy: &Proxy, user: &str, path: &str) -> Answer {
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{user}-password")));
    proxy.client().plain(Method::DELETE, path, &[("authorization", &basic)], "").await
}

/// alice has this role in `team-a`, whose upstream `first` has two images.
async fn proxy(role: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::start().await;
    for (name, seed) in [("library/a", 1), ("library/b", 2)] {
        upstream.image(name, "1", &[noise(seed, 1000)]);
    }
    let edit = |d: &mut Documents| alice_is(d, role);
    let builder = Proxy::builder().upstream("first", &upstream).group("team-a").edit(edit);
    (upstream, builder.start().await)
}

fn alice_is(documents: &mut Documents, role: &str) {
    documents.spec("DependencyProxyGroup", "team-a")["members"][0]["role"] = json!(role);
}

/// Waits until the purge, which goes on behind its answer, shows: this blob is asked of upstream again.
async fn fetched_again(upstream: &Upstream, pull: impl AsyncFn()) {
    for _ in 0..200 {
        upstream.forget();
        pull().await;
        if upstream.count(Method::GET, "/blobs/") + upstream.count(Method::GET, "/manifests/") > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nothing is asked of upstream: it is still cached");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_purges_a_group_and_all_of_it_is_fetched_again() {
    let (upstream, proxy) = proxy("Owner").await;
    let client = proxy.client();
    for name in ["library/a", "library/b"] {
        client.pull(name, "1").await;
    }
    let answer = purge(&proxy, "alice", CACHE).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (202, "202"));
    for name in ["library/a", "library/b"] {
        fetched_again(&upstream, async || {
            client.pull(name, "1").await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_owner_is_refused_and_strangers_learn_nothing() {
    for role in ["Guest", "Developer", "Maintainer"] {
        let (_upstream, proxy) = proxy(role).await;
        let sentence =
            "Purging takes the role Owner in group \"team-a\", and alice has a lower one. Ask its owner.";
        purge(&proxy, "alice", CACHE).await.refused(403, "DENIED", sentence);
        let machine = "Purging takes the role Owner in group \"team-a\", and ci has a lower one.";
        purge(&proxy, "ci", CACHE).await.refused(403, "DENIED", machine);
    }
    let (_upstream, proxy) = proxy("Owner").await;
    let stranger = "No group \"team-a\", or bob has no role in it.";
    purge(&proxy, "bob", CACHE).await.refused(403, "DENIED", stranger);
    let absent = CACHE.replace("team-a", "team-x");
    purge(&proxy, "bob", &absent).await.refused(
        403,
        "DENIED",
        "No group \"team-x\", or bob has no role in it.",
    );
    for path in ["registries/dp.none/cache", "upstreams/dp.none/cache"] {
        let answer = purge(&proxy, "alice", &format!("{REGISTRIES}/{path}")).await;
        answer.refused(403, "DENIED", "No group \"dp.none\", or alice has no role in it.");
    }
    let unsigned = proxy.client().plain(Method::DELETE, CACHE, &[], "").await;
    unsigned.refused(401, "UNAUTHORIZED", "Sign in first");
    assert!(unsigned.header("www-authenticate").starts_with("Basic "), "a token opens nothing here");
    let answer = proxy.client().plain(Method::POST, CACHE, &[], "").await;
    answer.refused(405, "UNSUPPORTED", "A cache is purged with DELETE.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_pulling_purges_nothing() {
    let (_upstream, proxy) = proxy("Owner").await;
    let client = proxy.client();
    let realm = format!("{}jwt/auth", proxy.url());
    let token = client.token(&realm, &[&client.scope("library/a")]).await.json()["token"].clone();
    let bearer = format!("Bearer {}", token.as_str().unwrap());
    let answer = client.plain(Method::DELETE, CACHE, &[("authorization", &bearer)], "").await;
    answer.refused(401, "UNAUTHORIZED", "This token does not open this");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_a_tag_and_a_digest_are_purged_alone() {
    let (upstream, proxy) = proxy("Owner").await;
    let client = proxy.client();
    let image = upstream.image("library/a", "2", &[noise(3, 1000)]);
    for (name, tag) in [("library/a", "1"), ("library/a", "2"), ("library/b", "1")] {
        client.pull(name, tag).await;
    }
    let untouched = async |name: &str, tag: &str| {
        upstream.forget();
        client.pull(name, tag).await;
        assert_eq!(upstream.count(Method::GET, "/library/"), 0, "{name}:{tag} is cached");
    };
    assert_eq!(purge(&proxy, "alice", &format!("{CACHE}?image=library/a&tag=2")).await.status, 202);
    fetched_again(&upstream, async || {
        client.pull("library/a", "2").await;
    })
    .await;
    untouched("library/a", "1").await;
    let digest = image.layers[0];
    assert_eq!(purge(&proxy, "alice", &format!("{CACHE}?digest={digest}")).await.status, 202);
    fetched_again(&upstream, async || {
        client.blob("library/a", digest).await;
    })
    .await;
    untouched("library/a", "1").await;
    assert_eq!(purge(&proxy, "alice", &format!("{CACHE}?image=library/a")).await.status, 202);
    fetched_again(&upstream, async || {
        client.pull("library/a", "1").await;
    })
    .await;
    untouched("library/b", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mistyped_purges_nothing() {
    let (upstream, proxy) = proxy("Owner").await;
    let client = proxy.client();
    client.pull("library/a", "1").await;
    for query in
        ["iamge=library/a", "tag=1", "image=library/a&tag=1&digest=sha256:0", "digest=none", "image=A"]
    {
        let answer = purge(&proxy, "alice", &format!("{CACHE}?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
    upstream.forget();
    client.pull("library/a", "1").await;
    assert_eq!(upstream.count(Method::GET, "/library/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maintainer_purges_a_registry_or_an_upstream_and_other_groups_keep_theirs() {
    let (upstream, other) = tokio::join!(Upstream::start(), Upstream::start());
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    other.image("library/o", "1", &[noise(2, 1000)]);
    let proxy = Proxy::builder()
        .upstream("first", &upstream)
        .upstream("second", &other)
        .group("team-a")
        .group("team-b")
        .registry("hub", "team-a", &["second"])
        .edit(|d| alice_is(d, "Maintainer"))
        .start()
        .await;
    let client = proxy.client();
    let (registry, team_b) = (client.registry("dp.hub"), client.group("team-b"));
    for path in ["registries/dp.hub/cache", "upstreams/dp.second/cache"] {
        registry.pull("library/o", "1").await;
        client.pull("library/a", "1").await;
        team_b.pull("library/a", "1").await;
        assert_eq!(purge(&proxy, "alice", &format!("{REGISTRIES}/{path}")).await.status, 202, "{path}");
        fetched_again(&other, async || {
            registry.pull("library/o", "1").await;
        })
        .await;
        upstream.forget();
        client.pull("library/a", "1").await;
        team_b.pull("library/a", "1").await;
        assert_eq!(
            upstream.count(Method::GET, "/library/"),
            0,
            "{path}: the group's own upstream is another"
        );
    }
    // In team-b alice is a Guest: it keeps what came through the same upstream.
    assert_eq!(purge(&proxy, "alice", &format!("{REGISTRIES}/upstreams/dp.first/cache")).await.status, 202);
    upstream.on("/library/a/").fault(harness::hostile::Fault::Status(403));
    for _ in 0..200 {
        if client.blob("library/a", oci::Digest::of(oci::Algorithm::Sha256, &noise(1, 1000))).await.status
            == 404
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    team_b.blob("library/a", oci::Digest::of(oci::Algorithm::Sha256, &noise(1, 1000))).await.bytes();
    proxy.reload(|d| alice_is(d, "Guest")).await;
    let answer = purge(&proxy, "alice", &format!("{REGISTRIES}/registries/dp.hub/cache")).await;
    answer.refused(403, "DENIED", "Purging takes the role Maintainer in group \"team-a\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_serves_what_was_purged_for_no_more_than_a_minute() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let _folder = s3.bucket("blobs");
    let image = upstream.image("library/a", "1", &[noise(1, 1000)]);
    let replica = || {
        let store = json!({"s3": {"bucket": "blobs", "region": S3::REGION, "endpoint": s3.endpoint(),
            "pathStyle": true, "credentialsSecretRef": {"name": "s3"}}});
        let keys = json!({"accessKeyID": S3::ACCESS_KEY, "secretAccessKey": S3::SECRET_KEY});
        let edit = |d: &mut Documents| {
            d.secret("s3", keys);
            d.spec("DependencyProxy", "main")["storage"] = store;
            alice_is(d, "Owner");
        };
        Proxy::builder().upstream("first", &upstream).group("team-a").edit(edit).manual_clock().start()
    };
    let (one, other) = (replica().await, replica().await);
    one.client().pull("library/a", "1").await;
    other.client().pull("library/a", "1").await;
    assert_eq!(purge(&one, "alice", CACHE).await.status, 202);
    upstream.on("/library/a/").fault(harness::hostile::Fault::Status(403));
    let layer = image.layers[0];
    for _ in 0..200 {
        if one.client().blob("library/a", layer).await.status == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(one.client().blob("library/a", layer).await.status, 404, "there it is forgotten at once");
    other.client().blob("library/a", layer).await.bytes();
    other.advance(Duration::from_secs(61));
    assert_eq!(other.client().blob("library/a", layer).await.status, 404);
}
