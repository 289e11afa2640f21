//! A cached byte is served only to who may have it: the right is kept per group, origin and repository.

use std::time::Duration;

use harness::hostile::{Fault, Gate, Image, Upstream, noise};
use harness::pull::{Answer, Client};
use harness::server::Proxy;
use http::Method;

const SECRET: usize = 100_000;

/// `team-a` has pulled the only image of a private repository; `team-b` is on another upstream of the documents.
struct Cached {
    upstream: Upstream,
    proxy: Proxy,
    image: Image,
    secret: Vec<u8>,
}

async fn cached(other: &Upstream, upstream: Upstream) -> Cached {
    let secret = noise(1, SECRET);
    let image = upstream.image("private/a", "1", std::slice::from_ref(&secret));
    let proxy = Proxy::builder()
        .upstream("first", &upstream)
        .upstream("second", other)
        .group("team-a")
        .edit(|d| d.group("team-b", "second"))
        .start()
        .await;
    proxy.client().pull("private/a", "1").await;
    // The last bytes are served a moment before all is put away.
    while proxy.sum("dependency_proxy_fills_in_flight", &[]).await > 0.0 {
        tokio::task::yield_now().await;
    }
    upstream.forget();
    Cached { upstream, proxy, image, secret }
}

impl Cached {
    fn other_group(&self) -> Client {
        self.proxy.client().group("team-b")
    }

    /// Asks for the secret in every way there is; none may give it away.
    async fn is_closed_to(&self, client: &Client, repository: &str) {
        let layer = self.image.layers[0];
        self.has_nothing(&client.blob(repository, layer).await);
        self.has_nothing(&client.range(repository, layer, "bytes=0-99").await);
        self.has_nothing(&client.manifest(repository, &self.image.digest.to_string()).await);
        self.has_nothing(&client.blob(repository, self.image.config).await);
    }

    #[track_caller]
    fn has_nothing(&self, answer: &Answer) {
        let whole = answer.status.is_success() && !answer.broken;
        assert!(!whole, "answered {} with {} bytes", answer.status, answer.body.len());
        let body = &answer.body[..];
        assert!(
            body != self.image.manifest && !(body.len() >= 50 && self.secret.starts_with(&body[..50])),
            "it leaks"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_that_does_not_have_it_does_not_get_it() {
    let it = cached(&Upstream::start().await, Upstream::start().await).await;
    it.upstream.image("private/b", "1", &[vec![1]]);
    it.is_closed_to(&it.proxy.client(), "private/b").await;
    let head = it.proxy.client().head_blob("private/b", it.image.layers[0]).await;
    assert_eq!(head.status, 404, "HEAD tells no more than GET");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_group_whose_upstream_refuses_does_not_get_it() {
    let upstream = Upstream::start().await;
    let it = cached(&upstream, upstream.clone()).await;
    for status in [401, 403, 404, 500] {
        it.upstream.behave();
        it.upstream.on("/private/").fault(Fault::Status(status));
        it.is_closed_to(&it.other_group(), "private/a").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_group_does_not_get_it_while_the_upstream_is_down() {
    let upstream = Upstream::start().await;
    let it = cached(&upstream, upstream.clone()).await;
    it.upstream.stop().await;
    it.is_closed_to(&it.other_group(), "private/a").await;
    // Neither does a tag of the first group open anything to the second.
    it.has_nothing(&it.other_group().manifest("private/a", "1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_server_opens_nothing_of_anyone_elses() {
    let evil = Upstream::start().await;
    let it = cached(&evil, Upstream::start().await).await;
    // It claims to have every blob, of the right length, and answers GET with bytes of its own.
    let claims = |digest: String| {
        let pattern = format!("/{digest}");
        evil.on(&pattern).method(Method::HEAD).faults([
            Fault::Status(200),
            Fault::Header("docker-content-digest", digest),
            Fault::Header("content-type", "application/octet-stream".to_owned()),
        ]);
        evil.on(&pattern).method(Method::GET).fault(Fault::Status(200));
    };
    claims(it.image.layers[0].to_string());
    claims(it.image.config.to_string());
    claims(it.image.digest.to_string());
    it.is_closed_to(&it.other_group(), "private/a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_ones_own_server_opens_no_digest_of_anyone_elses() {
    let evil = Upstream::start().await;
    let it = cached(&evil, Upstream::start().await).await;
    // It says that its tag is the other group's manifest, which it does not have.
    evil.on("/manifests/stolen").method(Method::HEAD).faults([
        Fault::Status(200),
        Fault::Header("docker-content-digest", it.image.digest.to_string()),
        Fault::Header("content-type", "application/vnd.oci.image.manifest.v1+json".to_owned()),
        Fault::Header("content-length", it.image.manifest.len().to_string()),
    ]);
    let client = it.other_group();
    // What a HEAD says is written down for when upstream is away; it is a word, and no right.
    assert_eq!(client.head("private/a", "stolen").await.status, 200);
    it.has_nothing(&client.manifest("private/a", "stolen").await);
    evil.stop().await;
    it.has_nothing(&client.manifest("private/a", "stolen").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_its_own_makes_another_origin() {
    let upstream = Upstream::start().await;
    upstream.require_basic("robot-a", "a");
    let image = upstream.image("private/a", "1", &[noise(1, SECRET)]);
    let proxy = Proxy::builder()
        .upstream("first", &upstream)
        .upstream("second", &upstream)
        .group("team-a")
        .edit(|d| {
            d.group("team-b", "second");
            d.credentials("first", "robot-a", "a");
            d.credentials("second", "robot-b", "b");
        })
        .start()
        .await;
    proxy.client().pull("private/a", "1").await;
    // Now only the other account is let in.
    upstream.require_basic("robot-b", "b");
    upstream.forget();
    proxy.client().group("team-b").blob("private/a", image.layers[0]).await.bytes();
    let gets =
        upstream.requests().iter().filter(|r| r.method == Method::GET && r.path.contains("/blobs/")).count();
    // One that is challenged and one with credentials, where the scheme was not known.
    assert!(
        (1..=2).contains(&gets),
        "a HEAD proves nothing where this account never got the bytes: {gets} GETs"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_group_that_upstream_lets_in_gets_it_without_a_second_download() {
    let upstream = Upstream::start().await;
    let it = cached(&upstream, upstream.clone()).await;
    // `second` has the same URL and no account either: the same origin.
    let answer = it.other_group().blob("private/a", it.image.layers[0]).await;
    assert!(answer.bytes() == &it.secret);
    let asked = |method| it.upstream.count(method, "/blobs/");
    assert_eq!((asked(Method::HEAD), asked(Method::GET)), (1, 0));
    // From now on the right is known.
    it.upstream.stop().await;
    it.other_group().blob("private/a", it.image.layers[0]).await.bytes();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_upstream_answers_no_head_another_groups_own_download_shows_its_right() {
    let upstream = Upstream::start().await;
    let bytes = noise(1, SECRET);
    let digest = upstream.blob("library/a", bytes.clone());
    upstream.on("/blobs/").method(Method::HEAD).fault(Fault::Status(405));
    let gate = Gate::closed();
    upstream.on("/blobs/").method(Method::GET).fault(Fault::Pause(1000, gate.clone()));
    let proxy =
        Proxy::builder().upstream("upstream", &upstream).group("team-a").group("team-b").start().await;
    let [first, second] = ["team-a", "team-b"].map(|group| {
        let client = proxy.client().group(group);
        tokio::spawn(async move { client.blob("library/a", digest).await })
    });
    upstream.wait_for_count(1, Method::HEAD, "/blobs/").await;
    gate.open();
    for pull in [first, second] {
        assert!(pull.await.unwrap().bytes() == &bytes);
    }
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_origin_that_has_it_too_delivers_it_itself() {
    let other = Upstream::start().await;
    let it = cached(&other, Upstream::start().await).await;
    other.image("private/a", "1", std::slice::from_ref(&it.secret));
    let answer = it.other_group().blob("private/a", it.image.layers[0]).await;
    assert!(answer.bytes() == &it.secret);
    assert_eq!(other.count(Method::GET, "/blobs/"), 1, "a HEAD proves nothing of who never delivered it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_a_wrong_password_does_not_spoil_anothers_pull() {
    let upstream = Upstream::start().await;
    let image = upstream.image("private/a", "1", &[noise(1, SECRET)]);
    upstream.require_bearer_for("robot", "right");
    for path in
        [format!("private/a/manifests/{}", image.digest), format!("private/a/blobs/{}", image.layers[0])]
    {
        // The password is no part of the origin: these two share downloads. A proxy for each, because a password
        // that was refused is not tried again.
        let proxy = Proxy::builder()
            .upstream("first", &upstream)
            .upstream("second", &upstream)
            .group("team-a")
            .edit(|d| {
                d.group("team-b", "second");
                d.credentials("first", "robot", "right");
                d.credentials("second", "robot", "wrong");
            })
            .start()
            .await;
        upstream.on("/token").fault(Fault::Delay(Duration::from_millis(500)));
        upstream.forget();
        let (other, path_of_other) = (proxy.client().group("team-b"), path.clone());
        let refused = tokio::spawn(async move { other.send(Method::GET, &path_of_other, &[]).await });
        upstream.wait_for(1, |r| r.path.starts_with("/v2/private/") || r.path == "/token").await;
        proxy.client().send(Method::GET, &path, &[]).await.bytes();
        assert!(!refused.await.unwrap().status.is_success(), "{path}");
    }
}
