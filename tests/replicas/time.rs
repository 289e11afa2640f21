//! What takes an hour, with a clock that is moved; and clocks that are apart.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::hostile::{Fault, Image, Upstream, noise};
use harness::replicas::Plan;
use harness::s3::S3;
use harness::server::Proxy;
use http::Method;

use crate::MIB;
use crate::crowd::{Client, Tally};

const MINUTE: Duration = Duration::from_secs(60);

/// Three replicas in this process, each with a clock that stands still.
async fn replicas(upstream: &Upstream, s3: &S3) -> Vec<Proxy> {
    let _ = s3.bucket("blobs");
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let builder = Proxy::builder().upstream("upstream", upstream).group("team-a");
        replicas.push(builder.replica(s3).manual_clock().start().await);
    }
    replicas
}

/// Replicas whose time is moved, and real clients of each that pull one image.
struct Hours {
    replicas: Vec<Proxy>,
    clients: Vec<[Client; 2]>,
    image: Image,
}

impl Hours {
    async fn begin(upstream: &Upstream, s3: &S3) -> Self {
        let image = upstream.image("library/a", "1", &[noise(1, 100_000)]);
        let replicas = replicas(upstream, s3).await;
        let pairs = replicas.iter().map(async |replica| Client::pair(&replica.address().to_string()).await);
        let clients = join_all(pairs).await;
        Self { replicas, clients, image }
    }

    /// Pulls through all replicas every minute, by crane and skopeo in turn, which check the tag and read every byte.
    async fn minutes(&self, minutes: usize) -> Tally {
        let mut tally = Tally::default();
        for minute in 0..minutes {
            let pulls = self.replicas.iter().zip(&self.clients).map(async |(replica, pair)| {
                let host = replica.address().to_string();
                pair[minute % 2].pull(&host, "library/a", &self.image).await
            });
            join_all(pulls).await.into_iter().for_each(|pull| tally.count(pull));
            self.replicas.iter().for_each(|replica| replica.advance(MINUTE));
        }
        tally
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_busy_for_ten_minutes_and_away_for_an_hour_fails_no_pull_of_a_cached_tag() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let it = Hours::begin(&upstream, &s3).await;
    it.minutes(2).await.all_well();
    upstream.forget();
    upstream.on("/v2/").fault(Fault::Status(429));
    let busy = it.minutes(10).await;
    let asked = upstream.requests().len();
    harness::say!("upstream 429 for ten minutes, crane and skopeo: {busy}; {asked} requests upstream");
    busy.all_well();
    assert!(asked <= 30, "{asked}");
    upstream.behave();
    upstream.stop().await;
    let away = it.minutes(60).await;
    harness::say!("upstream away for an hour, crane and skopeo: {away}; 0 requests reach it");
    away.all_well();
    upstream.restart().await;
    // Its rest after failures is two minutes at most; the first check that it answers may come behind a stale copy.
    it.minutes(3).await.all_well();
    for replica in &it.replicas {
        let mut tries = 0;
        while replica.client().manifest("library/a", "1").await.header("x-cache") != "revalidated" {
            tries += 1;
            assert!(tries < 100, "the upstream is back and is not asked");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_remembers_is_not_held_up_by_a_bucket_that_hangs() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    upstream.image("library/a", "1", &[noise(1, 100_000)]);
    let replicas = replicas(&upstream, &s3).await;
    let client = replicas[0].client();
    client.pull("library/a", "1").await;
    // It is not believed without asking any more.
    replicas[0].advance(2 * MINUTE);
    s3.pause();
    let began = Instant::now();
    client.pull("library/a", "1").await;
    let took = began.elapsed();
    s3.resume();
    harness::say!("bucket hangs: a pull of what is in the folder took {took:?}");
    // A moment for each record: the tag, and the rights to manifest, config and layer.
    assert!(took < Duration::from_millis(1800), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_five_minutes_ahead_shares_all_the_same() {
    let mut plan = Plan::new().await;
    plan.documents.spec("DependencyProxyGroup", "team-a")["recheckAfterSeconds"] = serde_json::json!(3600);
    let it = plan.arg(1, "--clock-offset=300s").start().await;
    let layer = noise(1, 2 * MIB);
    it.upstream.image("library/a", "1", std::slice::from_ref(&layer));
    it.upstream.on("/v2/").method(Method::GET).fault(Fault::Delay(Duration::from_millis(200)));
    join_all(it.clients().iter().map(|client| client.pull("library/a", "1"))).await;
    assert_eq!(it.upstream.count(Method::GET, "/manifests/"), 1, "{}", it.logs());
    assert_eq!(it.upstream.count(Method::GET, "/blobs/"), 2, "{}", it.logs());
    // A token of one is good at the others: in a cluster a client is sent to any.
    for issuer in 0..3 {
        let client = it.client(issuer);
        let realm = format!("{}/jwt/auth", it.replicas[issuer].proxy.url());
        let token = client.token(&realm, &[&client.scope("library/a")]).await.json();
        let token = format!("Bearer {}", token["token"].as_str().unwrap());
        for replica in 0..3 {
            let client = it.client(replica).anonymous();
            let path = client.path("library/a/manifests/1");
            let answer = client.plain(Method::GET, &path, &[("authorization", &token)], "").await;
            assert_eq!(answer.status, 200, "a token of {issuer} at {replica}: {}", answer.text());
        }
    }
}
