//! Where each answer is checked, one replica checks a tag for all of them.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::hostile::{Fault, Image, noise};
use harness::pull::Client;
use harness::replicas::{Instance, Plan};
use http::Method;
use serde_json::json;

use crate::knowledge::{command, printed};

/// Long enough for thirty clients to arrive meanwhile, also where the machine is busy.
const SLOW: Duration = Duration::from_millis(1500);
/// So many that each replica checks some of them.
const TAGS: u64 = 20;
/// HEADs that may be sent besides, since a replica of a busy machine does not begin its answer in time.
const BUSY: usize = 4;

/// Replicas that know each other and have copies of all tags; and upstream has seen nothing.
async fn copies_everywhere(documents: impl FnOnce(&mut Plan)) -> (Instance, Vec<Image>) {
    let mut plan = Plan::new().await;
    plan.documents.spec("RegistryUpstream", "upstream")["recheckBudgetMilliseconds"] = json!(10_000);
    documents(&mut plan);
    let it = plan.clocks(["0s", "0s", "0s"]).start().await;
    let image = |tag: u64| it.upstream.image("library/a", &tag.to_string(), &[noise(tag, 1000)]);
    let images = (0..TAGS).map(image).collect();
    it.acquainted().await;
    for client in it.clients() {
        for tag in 0..TAGS {
            client.manifest("library/a", &tag.to_string()).await.bytes();
        }
    }
    it.upstream.forget();
    (it, images)
}

fn heads(it: &Instance) -> usize {
    it.upstream.count(Method::HEAD, "/manifests/")
}

/// The HEADs that thirty clients of all replicas cost at once, the fewest of three tags: on a busy machine a replica may not
/// begin its answer within the time for which it is waited, and then one more is sent.
async fn heads_of_thirty(it: &Instance, pull: impl AsyncFn(&Client, usize, u64)) -> usize {
    let clients: Vec<_> = it.clients().into_iter().flat_map(|client| vec![client; 10]).collect();
    let mut fewest = usize::MAX;
    for tag in 0..3 {
        let before = heads(it);
        join_all(clients.iter().enumerate().map(|(number, client)| pull(client, number, tag))).await;
        fewest = fewest.min(heads(it) - before);
        if fewest > 1 {
            // The one that was late is asked again when it has shown that it runs: replicas look for each other every 15 s,
            // where that is due every 5 s of this machine.
            it.advance(Duration::from_secs(20)).await;
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
    }
    fewest
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_pulls_together_on_three_replicas_are_one_head() {
    let (it, images) = copies_everywhere(|_| {}).await;
    it.upstream.on("/manifests/").fault(Fault::Delay(SLOW));
    let pull = async |client: &Client, number: usize, tag: u64| {
        let image = &images[tag as usize];
        if number.is_multiple_of(2) {
            let answer = client.head("library/a", &tag.to_string()).await;
            assert_eq!(answer.header("docker-content-digest"), image.digest.to_string());
        } else {
            let answer = client.manifest("library/a", &tag.to_string()).await;
            assert_eq!(answer.bytes(), &image.manifest);
            assert_eq!(answer.header("x-cache"), "revalidated");
        }
    };
    assert_eq!(heads_of_thirty(&it, pull).await, 1, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_that_find_the_tag_changed_are_one_head_and_one_get() {
    let (it, _) = copies_everywhere(|_| {}).await;
    let change = |tag: u64| it.upstream.image("library/a", &tag.to_string(), &[noise(100 + tag, 1000)]);
    let new: Vec<_> = (0..3).map(change).collect();
    it.upstream.on("/manifests/").fault(Fault::Delay(SLOW));
    let head = async |client: &Client, _, tag: u64| {
        let answer = client.head("library/a", &tag.to_string()).await;
        let digest = new[tag as usize].digest.to_string();
        assert_eq!(answer.header("docker-content-digest"), digest, "{}", it.logs());
    };
    assert_eq!(heads_of_thirty(&it, head).await, 1, "{}", it.logs());
    let get = async |client: &Client, _, tag: u64| {
        let answer = client.manifest("library/a", &tag.to_string()).await;
        assert_eq!(answer.bytes(), &new[tag as usize].manifest, "{}", it.logs());
    };
    assert_eq!(heads_of_thirty(&it, get).await, 1, "{}", it.logs());
    assert_eq!(it.upstream.count(Method::GET, "/manifests/"), new.len(), "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_is_checked_whichever_replica_gives_it() {
    let (it, _) = copies_everywhere(|_| {}).await;
    for (number, client) in it.clients().iter().cycle().take(30).enumerate() {
        let new = it.upstream.image("library/a", "0", &[noise(200 + number as u64, 1000)]);
        let answer = client.manifest("library/a", "0").await;
        assert_eq!(answer.bytes(), &new.manifest, "{}", it.logs());
    }
    assert!((30..=30 + BUSY).contains(&heads(&it)), "{}: {}", heads(&it), it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_upstream_refuses_is_one_refusal_for_all() {
    let (it, images) = copies_everywhere(|_| {}).await;
    it.upstream.on("/manifests/").faults([Fault::Status(404), Fault::Delay(SLOW)]);
    let pull = async |client: &Client, _, tag: u64| {
        let answer = client.manifest("library/a", &tag.to_string()).await;
        assert_eq!(answer.bytes(), &images[tag as usize].manifest);
        assert_eq!(answer.header("x-cache"), "stale");
        assert!(answer.header("warning").contains("404"), "{answer:?}");
    };
    assert_eq!(heads_of_thirty(&it, pull).await, 1, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_slow_is_waited_for_again_once_it_answers_whoever_asks_it() {
    let budget = json!(300);
    let documents = |plan: &mut Plan| {
        plan.documents.spec("RegistryUpstream", "upstream")["recheckBudgetMilliseconds"] = budget
    };
    let (it, _) = copies_everywhere(documents).await;
    it.upstream.on("/manifests/").fault(Fault::Delay(Duration::from_secs(1)));
    let clients = it.clients();
    for answer in join_all(clients.iter().map(|client| client.manifest("library/a", "0"))).await {
        assert_eq!(answer.header("x-cache"), "stale");
    }
    it.upstream.behave();
    // Longer than a copy waits for an upstream that was slow.
    it.upstream.on("/manifests/").fault(Fault::Delay(Duration::from_millis(20)));
    for client in &clients {
        let began = Instant::now();
        while client.manifest("library/a", "0").await.header("x-cache") != "revalidated" {
            assert!(began.elapsed() < Duration::from_secs(10), "never: {}", it.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Pulls every tag once at each of the replicas that are left, and gives the longest time.
async fn pull_all(it: &Instance, images: &[Image], left: &[usize]) -> Duration {
    let mut longest = Duration::ZERO;
    for replica in left {
        let client = it.client(*replica);
        for (tag, image) in images.iter().enumerate() {
            let began = Instant::now();
            let answer = client.manifest("library/a", &tag.to_string()).await;
            assert_eq!(answer.bytes(), &image.manifest, "{}", it.logs());
            assert_eq!(answer.header("x-cache"), "revalidated", "{}", it.logs());
            longest = longest.max(began.elapsed());
        }
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_or_stands_still_costs_no_pull_and_no_time() {
    for (lost, killed) in [(2, true), (1, false)] {
        let (mut it, images) = copies_everywhere(|_| {}).await;
        let proxy = &mut it.replicas[lost].proxy;
        if killed {
            proxy.kill9()
        } else {
            proxy.pause()
        }
        let left: Vec<_> = (0..3).filter(|replica| *replica != lost).collect();
        let longest = pull_all(&it, &images, &left).await;
        let (asked, pulls) = (heads(&it), images.len() * left.len());
        harness::say!(
            "a replica {}: {pulls} pulls at the others, {asked} HEADs, the longest took {longest:.0?}",
            if killed { "killed" } else { "that stands still" }
        );
        it.replicas[lost].proxy.resume();
        assert!((pulls..=pulls + BUSY).contains(&asked), "{}", it.logs());
        assert!(longest < Duration::from_secs(1), "{longest:?}: {}", it.logs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_replica_that_checks_is_busy_others_check_for_themselves() {
    let (it, images) = copies_everywhere(|plan| {
        plan.documents.spec("RegistryUpstream", "upstream")["rateLimit"] =
            json!({"maxConcurrentRequests": 1});
    })
    .await;
    let blob = it.upstream.blob("library/a", noise(1000, 1000));
    it.upstream.on("/blobs/").fault(Fault::Hang);
    let client = it.client(0);
    let pull = tokio::spawn(async move { client.blob("library/a", blob).await });
    it.upstream.wait_for_count(1, Method::GET, "/blobs/").await;
    pull_all(&it, &images, &[1, 2]).await;
    pull.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_with_what_another_account_was_told() {
    let (it, images) = copies_everywhere(|plan| {
        plan.upstream.require_basic("ci", "right");
        plan.documents.credentials("upstream", "ci", "right");
        plan.documents.spec("RegistryUpstream", "upstream")["whenRefused"] = json!("Refuse");
    })
    .await;
    // The others have not read the new Secret yet.
    let mut changed = it.documents.clone();
    changed.credentials("upstream", "ci", "wrong");
    it.replicas[0].proxy.change_documents(&changed.yaml());
    let hash = it.replicas[1].status().await["configHash"].clone();
    while it.replicas[0].status().await["configHash"] == hash {
        tokio::task::yield_now().await;
    }
    for tag in 0..TAGS {
        let refused = it.client(0).manifest("library/a", &tag.to_string()).await;
        assert_eq!(refused.status, 502, "{refused:?}");
    }
    pull_all(&it, &images, &[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_is_not_evaded_by_way_of_a_replica_that_has_not_heard_of_it() {
    let (it, _) = copies_everywhere(|_| {}).await;
    let client = it.client(0);
    // The others hear of it within five seconds.
    printed(&command(&it, 0, &["freeze", "dp/upstream", "--for", "2h"]));
    for tag in 0..TAGS {
        let answer = client.manifest("library/a", &tag.to_string()).await;
        assert_eq!(answer.header("x-cache"), "stale", "{answer:?}");
    }
    assert_eq!(heads(&it), 0, "{}", it.logs());
}
