//! How many pulls are left, asked without spending one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use harness::documents::Documents;
use harness::hostile::Upstream;
use harness::proxy::ProxyProcess;
use harness::pull::{Answer, Client};
use http::Method;
use serde_json::json;
use url::Url;

use crate::ground::{documents, printed, proxy_of, run};

/// What `curl -u USER:PASSWORD URL` does.
async fn curl(proxy: &ProxyProcess, user: &str, password: &str, path: &str) -> Answer {
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    let client = Client::new(Url::parse(&proxy.url()).unwrap());
    client.plain(Method::GET, path, &[("authorization", &basic)], "").await
}

fn as_docker_hub(documents: &mut Documents) {
    documents.spec("RegistryUpstream", "upstream")["dockerHub"] = json!(true);
}

async fn hub() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.image("ratelimitpreview/test", "latest", &[]);
    upstream.quota(200, 137, 21_600);
    upstream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_learns_with_one_curl_what_is_left_and_spends_nothing() {
    let upstream = hub().await;
    let proxy = proxy_of(&upstream, |d| {
        as_docker_hub(d);
        d.group("team-a/child", "upstream");
    })
    .await;
    for (path, group) in [
        ("/api/v4/groups/team-a/dependency_proxy/quota", "team-a"),
        ("/api/v4/groups/team-a/child/dependency_proxy/quota", "team-a/child"),
        ("/api/v4/groups/team-a%2Fchild/dependency_proxy/quota", "team-a/child"),
        ("/api/v4/groups/team-a%2fchild/dependency_proxy/quota", "team-a/child"),
    ] {
        for (user, password) in [("alice", "alice-password"), ("ci", "ci-password")] {
            let answer = curl(&proxy, user, password, path).await;
            let told = answer.json();
            assert_eq!(told["group"], group);
            let hub = &told["upstreams"][0];
            assert_eq!(hub["upstream"], "dp/upstream");
            assert_eq!((&hub["limit"], &hub["remaining"]), (&json!(200), &json!(137)));
            assert_eq!(hub["windowSeconds"], 21_600);
        }
    }
    assert_eq!(upstream.count(Method::GET, "/manifests/"), 0, "a GET of a manifest is a pull");
    assert_eq!(upstream.remaining(), 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_neither_the_quota_nor_which_groups_there_are() {
    let upstream = hub().await;
    let proxy = proxy_of(&upstream, as_docker_hub).await;
    let there = curl(&proxy, "bob", "bob-password", "/api/v4/groups/team-a/dependency_proxy/quota").await;
    there.refused(403, "DENIED", "No group \"team-a\", or bob has no role in it.");
    let nowhere = curl(&proxy, "bob", "bob-password", "/api/v4/groups/team-x/dependency_proxy/quota").await;
    nowhere.refused(403, "DENIED", "No group \"team-x\", or bob has no role in it.");
    let wrong = curl(&proxy, "alice", "wrong", "/api/v4/groups/team-a/dependency_proxy/quota").await;
    wrong.refused(401, "UNAUTHORIZED", "HTTP Basic: Access denied.");
    let client = Client::new(Url::parse(&proxy.url()).unwrap());
    let anonymous = client.plain(Method::GET, "/api/v4/groups/team-a/dependency_proxy/quota", &[], "").await;
    anonymous.refused(401, "UNAUTHORIZED", "Sign in first");
    // The proxy asks `/v2/` for itself.
    assert_eq!(upstream.count(Method::HEAD, "/manifests/"), 0, "nobody was asked for strangers");
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_headers_are_told_as_such_and_not_as_zero() {
    let upstream = Upstream::start().await;
    upstream.image("ratelimitpreview/test", "latest", &[]);
    let proxy = proxy_of(&upstream, as_docker_hub).await;
    let path = "/api/v4/groups/team-a/dependency_proxy/quota";
    let told = curl(&proxy, "alice", "alice-password", path).await.json();
    let hub = &told["upstreams"][0];
    assert!(hub["limit"].is_null() && hub["remaining"].is_null(), "{hub}");
    assert!(hub["note"].as_str().unwrap().contains("it sends no RateLimit headers"), "{hub}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_each_upstream_with_its_numbers() {
    let upstream = hub().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.yaml");
    let mut documents = documents("http://127.0.0.1:1", &upstream);
    as_docker_hub(&mut documents);
    documents.add(
        "RegistryUpstream",
        "gone",
        json!({"url": "http://127.0.0.1:1", "insecure": true, "dockerHub": true}),
    );
    documents.registry("all", "team-a", &["upstream", "gone"]);
    documents.write(&file);
    let file = file.to_str().unwrap().to_owned();
    let output = tokio::task::spawn_blocking(move || run(&["quota", "-f", &file])).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = printed(&output);
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["UPSTREAM", "LIMIT", "REMAINING", "WINDOW", "SOURCE"]);
    let row = |name: &str| rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(row("dp/upstream")[1..5], ["200", "137", "21600", "s"]);
    assert_eq!(row("dp/gone")[1..4], ["-", "-", "-"]);
    assert!(text.contains("no connection"), "why the numbers are missing: {text}");
    assert_eq!(upstream.count(Method::GET, "/manifests/"), 0);
    assert_eq!(upstream.remaining(), 137);
}
