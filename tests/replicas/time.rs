//! What takes an hour, with a clock that is moved; and clocks that are apart.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::hostile::{Fault, Image, noise};
use harness::replicas::{Instance, Plan};
use http::Method;
use proxy::clock::since;

use crate::MIB;
use crate::crowd::{Client, Tally};

const MINUTE: Duration = Duration::from_secs(60);

/// Three replicas as processes, whose time is moved, one of them five minutes ahead of the others.
async fn replicas() -> Instance {
    Plan::new().await.clocks(["0s", "300s", "0s"]).start().await
}

/// Replicas whose time is moved, and real clients of each that pull one image.
struct Hours {
    it: Instance,
    clients: Vec<[Client; 2]>,
    image: Image,
}

impl Hours {
    async fn begin() -> Self {
        let it = replicas().await;
        let image = it.upstream.image("library/a", "1", &[noise(1, 100_000)]);
        let pairs = it.replicas.iter().map(async |replica| Client::pair(&replica.proxy.host()).await);
        let clients = join_all(pairs).await;
        Self { it, clients, image }
    }

    /// Pulls through all replicas so often in each minute, by crane and skopeo in turn, which check the tag and read
    /// every byte.
    async fn minutes(&self, minutes: u32, pulls: u32) -> Tally {
        let mut tally = Tally::default();
        let began = self.it.advance(Duration::ZERO).await;
        let mut now = began.clone();
        for round in 0..minutes * pulls {
            let pulled = self.it.replicas.iter().zip(&self.clients).map(async |(replica, pair)| {
                let host = replica.proxy.host();
                pair[round as usize % 2].pull(&host, "library/a", &self.image).await
            });
            join_all(pulled).await.into_iter().for_each(|pull| tally.count(pull));
            now = self.it.advance(MINUTE / pulls).await;
        }
        for (began, now) in began.into_iter().zip(now) {
            assert!(since(now, began) >= minutes * MINUTE, "a replica's time went from {began} to {now}");
        }
        tally
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_busy_for_ten_minutes_and_away_for_an_hour_fails_no_pull_of_a_cached_tag() {
    let hours = Hours::begin().await;
    let upstream = &hours.it.upstream;
    hours.minutes(2, 1).await.all_well();
    upstream.forget();
    upstream.on("/v2/").fault(Fault::Status(429));
    let busy = hours.minutes(10, 3).await;
    let asked = upstream.requests().len();
    harness::say!("upstream 429 for ten minutes, crane and skopeo: {busy}; {asked} requests upstream");
    busy.all_well();
    // Without rests it would be as many as pulls.
    assert!((1..=busy.pulls / 2).contains(&asked), "{asked}");
    upstream.behave();
    upstream.stop().await;
    let away = hours.minutes(60, 1).await;
    harness::say!("upstream away for an hour, crane and skopeo: {away}; 0 requests reach it");
    away.all_well();
    upstream.restart().await;
    // Its rest after failures is two minutes at most; the first check that it answers may come behind a stale copy.
    hours.minutes(3, 1).await.all_well();
    for client in hours.it.clients() {
        let mut tries = 0;
        while client.manifest("library/a", "1").await.header("x-cache") != "revalidated" {
            tries += 1;
            assert!(tries < 100, "the upstream is back and is not asked");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_remembers_is_not_held_up_by_a_bucket_that_hangs() {
    let it = replicas().await;
    it.upstream.image("library/a", "1", &[noise(1, 100_000)]);
    let client = it.client(0);
    client.pull("library/a", "1").await;
    it.settled().await;
    // It is not believed without asking any more.
    it.advance(2 * MINUTE).await;
    it.s3.pause();
    let began = Instant::now();
    client.pull("library/a", "1").await;
    let took = began.elapsed();
    it.s3.resume();
    harness::say!("bucket hangs: a pull of what is in the folder took {took:?}");
    // A moment for each record: the tag, and the rights to manifest, config and layer.
    assert!(took < Duration::from_millis(1800), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_five_minutes_ahead_shares_all_the_same() {
    let mut plan = Plan::new().await;
    plan.documents.spec("DependencyProxyGroup", "team-a")["recheckAfterSeconds"] = serde_json::json!(3600);
    let it = plan.clocks(["0s", "300s", "0s"]).start().await;
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
