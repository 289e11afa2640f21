//! One HEAD for what several replicas are asked for a tag at a time, and one failure.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::hostile::{Fault, noise};
use harness::pull::Client;
use harness::replicas::{Instance, Plan};
use http::Method;
use serde_json::json;

const SLOW: Duration = Duration::from_millis(500);

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
    plan.documents.spec("DependencyProxyGroup", "team-a")["recheckAfterSeconds"] = json!(2);
    let it = plan.start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    let clients = it.clients();
    join_all(clients.iter().map(|client| client.pull("library/a", "1"))).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let before = it.upstream.count(Method::HEAD, "/manifests/");
    it.upstream.on("/manifests/").fault(Fault::Delay(Duration::from_millis(200)));
    for answer in join_all(clients.iter().map(|client| client.manifest("library/a", "1"))).await {
        answer.bytes();
    }
    assert_eq!(it.upstream.count(Method::HEAD, "/manifests/") - before, 1, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_together_for_a_tag_whose_check_fails_shares_the_failure() {
    for (status, answered) in [(404, 404), (500, 503)] {
        let it = Instance::start().await;
        let clients = thirty(&it).await;
        it.upstream.on("/manifests/").faults([Fault::Status(status), Fault::Delay(SLOW)]);
        let began = Instant::now();
        let pulls = clients.iter().map(|client| client.manifest("library/a", "1"));
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
