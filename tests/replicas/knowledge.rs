//! What one replica learns of an upstream the others know, and the next start knows it too.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::hostile::{Fault, Upstream, noise};
use harness::replicas::{Instance, Plan};
use harness::tool;
use http::Method;
use serde_json::Value;

/// Longer than replicas take to look for news.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a replica says something of the upstream.
async fn says(it: &Instance, replica: usize, what: &str, holds: impl Fn(&Value) -> bool) {
    let began = Instant::now();
    loop {
        let status = it.replicas[replica].status().await;
        if holds(&status["upstreams"][0]) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "replica {replica} never said {what}: {status:#}\n{}", it.logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A command against one replica's second port.
pub(crate) fn command(it: &Instance, replica: usize, arguments: &[&str]) -> Output {
    let mut command = Command::new(tool::own("dependency-proxy"));
    command.args(arguments).args(["--admin", it.replicas[replica].proxy.admin_url()]).output().unwrap()
}

pub(crate) fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_wants_to_be_left_alone_is_left_alone_by_all_also_after_a_restart() {
    let mut it = Instance::start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    for client in it.clients() {
        client.pull("library/a", "1").await;
    }
    let busy = [Fault::Status(429), Fault::Header("retry-after", "600".to_owned())];
    it.upstream.on("/manifests/").faults(busy);
    assert_eq!(it.client(0).manifest("library/a", "1").await.header("x-cache"), "stale");
    let rests = |upstream: &Value| upstream["restsForSeconds"].as_u64() > Some(500);
    for replica in 0..3 {
        says(&it, replica, "that it rests", rests).await;
    }
    it.replicas[1].proxy.restart().await;
    says(&it, 1, "that it rests after a restart", rests).await;
    it.upstream.forget();
    for client in it.clients() {
        let answer = client.manifest("library/a", "1").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-cache")), (200, "stale"));
    }
    assert_eq!(it.upstream.count(Method::HEAD, "/manifests/"), 0, "{}", it.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_replica_wrote_over_is_told_again() {
    let it = Instance::start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    it.client(0).pull("library/a", "1").await;
    let busy = [Fault::Status(429), Fault::Header("retry-after", "600".to_owned())];
    it.upstream.on("/manifests/").faults(busy);
    assert_eq!(it.client(0).manifest("library/a", "1").await.header("x-cache"), "stale");
    says(&it, 0, "that it rests", |upstream| upstream["restsForSeconds"].as_u64() > Some(500)).await;
    let told = || {
        let key = it.s3_keys("_upstreams").pop()?;
        Some((it.s3_file(&key), std::fs::read_to_string(it.s3_file(&key)).ok()?))
    };
    let is_told = || told().is_some_and(|(_, record)| record.contains("\"toldForSeconds\":5"));
    within(&it, "it is told", is_told).await;
    // As a replica writes that has only news of the quota, and had not heard of the rest.
    std::fs::write(told().unwrap().0, r#"{"rejected":false}"#).unwrap();
    within(&it, "it is told again", is_told).await;
}

/// Waits until it is so.
async fn within(it: &Instance, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}\n{}", it.logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_hangs_keeps_no_replica_from_hearing_of_another_one() {
    let hanging = Upstream::start().await;
    hanging.on("/v2/").fault(Fault::Hang);
    let mut plan = Plan::new().await;
    plan.documents.upstream("z-hanging", &hanging);
    plan.documents.group("team-z", "z-hanging");
    let it = plan.start().await;
    printed(&command(&it, 0, &["freeze", "dp/upstream", "--for", "2h"]));
    for replica in 0..3 {
        says(&it, replica, "that it is frozen", |upstream| upstream["frozenUntil"].is_string()).await;
    }
    assert!(hanging.in_flight() > 0, "nobody asked the one that hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_one_replica_saw_refused_are_shown_by_no_other() {
    let mut plan = Plan::new().await;
    plan.upstream.require_basic("robot", "another-password");
    plan.documents.credentials("upstream", "robot", "the-old-one");
    let it = plan.start().await;
    let refused = |upstream: &Value| upstream["credentialsValid"] == false;
    assert!(!it.client(0).manifest("library/a", "1").await.status.is_success());
    for replica in 0..3 {
        says(&it, replica, "that they were refused", refused).await;
    }
    let shown =
        |it: &Instance| it.upstream.requests().iter().filter(|r| r.header("authorization").is_some()).count();
    let before = shown(&it);
    for client in it.clients() {
        client.manifest("library/a", "1").await.refused(502, "DENIED", "refused this group's credentials");
    }
    assert_eq!(shown(&it), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_upstream_says_of_its_quota_is_known_to_all() {
    let it = Instance::start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    it.upstream.quota(100, 50, 21600);
    it.client(0).pull("library/a", "1").await;
    for replica in 0..3 {
        says(&it, replica, "what is left", |upstream| upstream["rateLimit"]["remaining"] == 49).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_upstream_is_asked_nothing_by_any_replica_until_it_is_thawed() {
    let it = Instance::start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    it.upstream.image("library/b", "1", &[noise(2, 1000)]);
    it.client(0).pull("library/a", "1").await;
    let answer = printed(&command(&it, 0, &["freeze", "upstream", "--for", "2h"]));
    assert!(answer.contains("dp/upstream is not asked until "), "{answer}");
    for replica in 0..3 {
        says(&it, replica, "that it is frozen", |upstream| upstream["frozenUntil"].is_string()).await;
    }
    it.upstream.forget();
    for client in it.clients() {
        let cached = client.manifest("library/a", "1").await;
        assert_eq!((cached.status.as_u16(), cached.header("x-cache")), (200, "stale"));
        let cold = client.manifest("library/b", "1").await;
        cold.refused(503, "UNAVAILABLE", "upstream is frozen until ");
    }
    assert!(it.upstream.requests().is_empty(), "{:?}", it.upstream.requests());
    assert!(printed(&command(&it, 1, &["status"])).contains("Frozen"));

    let answer = printed(&command(&it, 2, &["freeze", "dp/upstream", "--for", "0s"]));
    assert!(answer.contains("dp/upstream is asked again"), "{answer}");
    says(&it, 0, "that it is asked again", |upstream| upstream["frozenUntil"].is_null()).await;
    it.client(0).pull("library/b", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_not_there_cannot_be_frozen() {
    let it = Instance::start().await;
    let output = command(&it, 0, &["freeze", "hub"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Name one upstream as namespace/name: dp/upstream."), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_of_all_replicas_and_of_one_that_is_gone() {
    let mut it = Instance::start().await;
    let began = Instant::now();
    loop {
        let status = printed(&command(&it, 0, &["status"]));
        if it.replicas.iter().all(|replica| status.contains(&format!("127.0.0.1:{}", replica.port))) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    it.replicas[2].proxy.kill9();
    let status = printed(&command(&it, 0, &["status"]));
    assert!(status.contains("does not answer; it was there"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_for_replicas_opens_nothing_without_the_key() {
    let it = Instance::start().await;
    for path in ["/replica/v1/status", "/replica/v1/claims/_fills/x?id=1", "/v2/", "/metrics"] {
        let url = format!("http://127.0.0.1:{}{path}", it.replicas[0].port);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(client.get(&url).send().await.unwrap().status(), 401, "{path}");
        assert_eq!(client.get(&url).bearer_auth("x.y.z").send().await.unwrap().status(), 401, "{path}");
    }
}
