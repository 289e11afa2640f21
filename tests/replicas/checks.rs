//! One HEAD for what several replicas are asked for a tag at a time, and one failure.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::hostile::{Fault, noise};
use harness::pull::Client;
use harness::replicas::{Instance, Plan};
use http::Method;
use serde_json::json;

/// Long enough for thirty clients to arrive meanwhile, also where the machine is busy.
const SLOW: Duration = Duration::from_millis(1500);

/// Ten clients on each replica, with their tokens for `library/a`; and upstream has seen nothing.
async fn thirty(it: &Instance) -> Vec<Client> {
    it.upstream.image("library/a", "0", &[]);
    let clients = it.clients();
    join_all(clients.iter().map(|client| client.pull("library/a", "0"))).await;
    it.upstream.forget();
    clients.into_iter().flat_map(|client| vec![client; 10]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_find_a_tag_out_of_date_together_ask_once() {
    let mut plan = Plan::new().await;
    plan.documents.spec("DependencyProxyGroup", "team-a")["recheckAfterSeconds"] = json!(3600);
    let it = plan.clocks(["0s", "0s", "0s"]).start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    let clients = it.clients();
    join_all(clients.iter().map(|client| client.pull("library/a", "1"))).await;
    it.advance(Duration::from_secs(3600)).await;
    let before = it.upstream.count(Method::HEAD, "/manifests/");
    it.upstream.on("/manifests/").fault(Fault::Delay(Duration::from_millis(200)));
    for answer in join_all(clients.iter().map(|client| client.manifest("library/a", "1"))).await {
        answer.bytes();
    }
    assert_eq!(it.upstream.count(Method::HEAD, "/manifests/") - before, 1, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_first_heads_of_a_tag_on_all_replicas_are_one_head() {
    let it = Instance::start().await;
    let image = it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    let clients = thirty(&it).await;
    it.upstream.on("/manifests/").fault(Fault::Delay(SLOW));
    for answer in join_all(clients.iter().map(|client| client.head("library/a", "1"))).await {
        answer.bytes();
        assert_eq!(answer.header("docker-content-digest"), image.digest.to_string());
        assert_eq!(answer.header("content-length"), image.manifest.len().to_string());
        assert_eq!(answer.header("content-type"), "application/vnd.oci.image.manifest.v1+json");
    }
    assert_eq!(it.upstream.count(Method::HEAD, "/manifests/"), 1, "{}", it.logs());
    let digest = image.digest.to_string();
    for answer in join_all(clients.iter().map(|client| client.manifest("library/a", &digest))).await {
        assert_eq!(answer.bytes(), &image.manifest);
    }
    assert_eq!(it.upstream.count(Method::GET, "/manifests/"), 1, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_gets_of_a_cold_tag_together_are_one_of_each() {
    let it = Instance::start().await;
    let image = it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    let clients = thirty(&it).await;
    it.upstream.on("/manifests/").fault(Fault::Delay(SLOW));
    let pulls = clients.iter().enumerate().map(async |(number, client)| {
        if number % 2 == 0 {
            client.head("library/a", "1").await.bytes();
        } else {
            assert_eq!(client.manifest("library/a", "1").await.bytes(), &image.manifest);
        }
    });
    join_all(pulls).await;
    assert_eq!(it.upstream.count(Method::HEAD, "/manifests/"), 1, "{}", it.logs());
    assert_eq!(it.upstream.count(Method::GET, "/manifests/"), 1, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_head_names_no_digest_each_replica_asks_for_itself() {
    let it = Instance::start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    let clients = thirty(&it).await;
    it.upstream.on("/manifests/").faults([Fault::NoDigest, Fault::Delay(SLOW)]);
    for answer in join_all(clients.iter().map(|client| client.head("library/a", "1"))).await {
        answer.bytes();
    }
    assert_eq!(it.upstream.count(Method::HEAD, "/manifests/"), 3, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_head_does_not_wait_for_the_bytes_that_somebody_else_fetches() {
    let it = Instance::start().await;
    let image = it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    let fetched = format!("/manifests/{}", image.digest);
    it.upstream.on(&fetched).method(Method::GET).fault(Fault::Hang);
    let client = it.client(0);
    let pull = tokio::spawn(async move { client.manifest("library/a", "1").await });
    it.upstream.wait_for_count(1, Method::GET, &fetched).await;
    for replica in [1, 0] {
        let began = Instant::now();
        let answer = it.client(replica).head("library/a", "1").await;
        assert_eq!(answer.header("docker-content-digest"), image.digest.to_string(), "{}", it.logs());
        // A GET that hangs is given up after ten seconds.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    pull.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_together_for_a_tag_whose_check_fails_shares_the_failure() {
    for (status, answered) in [(404, 404), (500, 503)] {
        let it = Instance::start().await;
        let clients = thirty(&it).await;
        it.upstream.on("/manifests/").faults([Fault::Status(status), Fault::Delay(SLOW)]);
        let began = Instant::now();
        let pulls = clients.iter().enumerate().map(|(number, client)| async move {
            if number % 2 == 0 {
                client.head("library/a", "1").await
            } else {
                client.manifest("library/a", "1").await
            }
        });
        for answer in join_all(pulls).await {
            assert_eq!(answer.status, answered, "{}", it.logs());
        }
        let (took, asked) = (began.elapsed(), it.upstream.requests().len());
        harness::say!(
            "30 pulls of a tag that upstream answers {status} after {SLOW:?}: {asked} requests, {took:.1?}"
        );
        assert!(asked <= 3, "{asked}: {}", it.logs());
        // One replica's failure, then the others' at once.
        assert!(took < SLOW * 5, "{took:?}: {}", it.logs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_not_answered_from_what_an_earlier_one_said() {
    let mut plan = Plan::new().await;
    plan.documents.spec("DependencyProxyGroup", "team-a")["recheckAfterSeconds"] = json!(3600);
    let it = plan.start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    it.client(0).head("library/a", "1").await.bytes();
    // Nobody has its bytes, and upstream need not have them any more.
    let new = it.upstream.image("library/a", "1", &[noise(2, 1000)]);
    for replica in [1, 0] {
        let answer = it.client(replica).head("library/a", "1").await;
        assert_eq!(answer.header("docker-content-digest"), new.digest.to_string(), "{}", it.logs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_asking_replica_is_killed_another_asks() {
    let mut it = Instance::start().await;
    let image = it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    it.upstream.on("/manifests/").times(1).fault(Fault::Hang);
    let client = it.client(0);
    let killed = tokio::spawn(async move { client.head("library/a", "1").await });
    it.upstream.wait_for_count(1, Method::HEAD, "/manifests/").await;
    let heads = [1, 2].map(|replica| {
        let client = it.client(replica);
        tokio::spawn(async move { client.head("library/a", "1").await })
    });
    for replica in [1, 2] {
        it.replicas[replica]
            .proxy
            .metric_until("store_operations_total{operation=\"claim\"}", |tried| tried > 0.0)
            .await;
    }
    it.replicas[0].proxy.kill9();
    assert!(killed.await.unwrap().broken);
    for head in heads {
        let answer = head.await.unwrap();
        assert_eq!(answer.header("docker-content-digest"), image.digest.to_string(), "{}", it.logs());
    }
    assert_eq!(it.upstream.count(Method::HEAD, "/manifests/"), 2, "{}", it.logs());
}
