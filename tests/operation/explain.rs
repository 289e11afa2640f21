//! `explain`: what a pull would do, and why it would be refused.

use harness::documents::Documents;
use harness::hostile::{Upstream, noise};
use harness::proxy::ProxyProcess;
use serde_json::json;

use crate::ground::{client, documents, printed, proxy_of, run, settled};

/// The lines of `explain`, without asking who.
fn explain(documents: &Documents, image: &str, more: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.yaml");
    documents.write(&file);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut arguments = vec!["explain", image, "-f", file.to_str().unwrap()];
    if !more.contains(&"--data-dir") {
        arguments.extend(["--data-dir", data.to_str().unwrap()]);
    }
    arguments.extend(more);
    let output = run(&arguments);
    (output.status.code(), printed(&output))
}

/// Asserts that a line begins with this word and goes on with that.
#[track_caller]
fn says(text: &str, word: &str, what: &str) {
    let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(word)).map(str::trim).collect();
    assert!(lines.iter().any(|line| line.contains(what)), "{word} ... {what} is not in\n{text}");
}

const IMAGE: &str = "127.0.0.1:5000/team-a/dependency_proxy/containers/library/alpine:3";

#[tokio::test]
async fn it_names_group_upstream_role_and_rule() {
    let upstream = Upstream::start().await;
    let mut documents = documents("http://127.0.0.1:5000", &upstream);
    documents.spec("RegistryUpstream", "upstream")["rules"] =
        json!([{"name": "no-miners", "action": "Deny", "repository": "*/xmrig*"}]);
    let (code, text) = explain(&documents, IMAGE, &["--as", "alice"]);
    assert_eq!(code, Some(0), "{text}");
    says(&text, "image", "team-a/dependency_proxy/containers/library/alpine, 3");
    says(&text, "role", "alice is Guest");
    says(&text, "group", "team-a (dp/team-a)");
    says(&text, "upstream", &format!("dp/upstream asks {} for library/alpine", upstream.url()));
    says(&text, "rule", "1 rules, none refuses it");
    says(&text, "cached", "no");
    assert_eq!(upstream.requests().len(), 0, "it asks nobody");
    let (code, text) = explain(&documents, IMAGE, &["--as", "ci"]);
    assert_eq!(code, Some(0), "{text}");
    says(&text, "role", "ci is a deploy token or binding of the group or a parent");
}

#[tokio::test]
async fn it_says_why_a_pull_is_refused() {
    let upstream = Upstream::start().await;
    let good = || {
        let mut documents = documents("http://127.0.0.1:5000", &upstream);
        documents.registry("hub", "team-a", &["upstream"]);
        documents
    };
    let refused = |documents: &Documents, image: &str, user: &str, why: &str| {
        let (code, text) = explain(documents, image, &["--as", user]);
        assert_eq!(code, Some(1), "{text}");
        says(&text, "refused", why);
    };
    let group = |image: &str| format!("team-a/dependency_proxy/containers/{image}");

    refused(&good(), IMAGE, "bob", "bob: no such group, or no role in it");
    refused(&good(), IMAGE, "nobody", "There is no user, deploy token or binding \"nobody\".");
    refused(&good(), "team-x/dependency_proxy/containers/a:1", "alice", "no such group");
    refused(&good(), "virtual_registries/container/dp.none/a:1", "alice", "no such group");
    refused(&good(), "library/alpine", "alice", "Names are <group>/dependency_proxy/containers/<image>");
    refused(&good(), &group("Alpine:1"), "alice", "Alpine");
    refused(&good(), &group("alpine:not a tag"), "alice", "not a tag");

    let mut documents = good();
    documents.spec("DependencyProxyGroup", "team-a")["deployTokens"][0]["scopes"] = json!(["write_registry"]);
    refused(&documents, IMAGE, "ci", "the deploy token may not pull");
    let mut documents = good();
    documents.spec("DependencyProxyGroup", "team-a")["deployTokens"][0]["expiresAt"] =
        json!("2020-01-01T00:00:00Z");
    refused(&documents, IMAGE, "ci", "wrong or withdrawn credentials");
    let mut documents = good();
    documents.spec("DependencyProxyGroup", "team-a")["enabled"] = json!(false);
    refused(&documents, IMAGE, "alice", "group team-a is switched off");
    let mut documents = good();
    documents.spec("DependencyProxy", "main")["enabled"] = json!(false);
    refused(&documents, IMAGE, "alice", "this instance is switched off");
    let mut documents = good();
    documents.spec("RegistryUpstream", "upstream")["rules"] =
        json!([{"name": "no-alpine", "action": "Deny", "repository": "*/alpine"}]);
    refused(&documents, IMAGE, "alice", "Rule \"no-alpine\" of upstream upstream refuses this repository.");
    documents.spec("RegistryUpstream", "upstream")["rules"] =
        json!([{"name": "ours", "action": "Allow", "repository": "ours/*"}]);
    refused(&documents, IMAGE, "alice", "No allow rule of upstream upstream matches this repository.");
}

#[tokio::test]
async fn a_deploy_token_is_found_in_its_own_group_though_another_has_one_of_the_same_name() {
    let upstream = Upstream::start().await;
    let mut documents = documents("http://127.0.0.1:5000", &upstream);
    documents.secret("other", json!({"username": "ci", "password": "another-password"}));
    documents.group("team-b", "upstream");
    documents.spec("DependencyProxyGroup", "team-b")["deployTokens"][0]["secretRef"] =
        json!({"name": "other"});
    for group in ["team-a", "team-b"] {
        let image = format!("{group}/dependency_proxy/containers/library/alpine:3");
        let (code, text) = explain(&documents, &image, &["--as", "ci"]);
        assert_eq!(code, Some(0), "{text}");
    }
}

#[tokio::test]
async fn a_rule_of_one_upstream_is_told_and_only_rules_of_all_refuse() {
    let upstream = Upstream::start().await;
    let mut documents = documents("http://127.0.0.1:5000", &upstream);
    documents.upstream("second", &upstream);
    documents.registry("hub", "team-a", &["upstream", "second"]);
    let deny = json!([{"name": "no-alpine", "action": "Deny", "repository": "*/alpine"}]);
    documents.spec("RegistryUpstream", "upstream")["rules"] = deny.clone();
    let image = "virtual_registries/container/dp.hub/library/alpine:3";
    let (code, text) = explain(&documents, image, &["--as", "alice"]);
    assert_eq!(code, Some(0), "{text}");
    says(&text, "rule", "Rule \"no-alpine\" of upstream upstream refuses this repository.");
    says(&text, "upstream", "dp/second asks");
    documents.spec("RegistryUpstream", "second")["rules"] = deny;
    let (code, text) = explain(&documents, image, &["--as", "alice"]);
    assert_eq!(code, Some(1), "{text}");
    says(&text, "refused", "of upstream second refuses");
}

#[tokio::test]
async fn a_mirrors_host_and_an_alias_are_followed() {
    let upstream = Upstream::start().await;
    let mut documents = documents("http://127.0.0.1:5000", &upstream);
    let group = json!({"name": "team-a", "namespace": "dp"});
    let spec = documents.spec("DependencyProxy", "main");
    spec["mirrors"] = json!([{"host": "hub.example.com", "groupRef": group}]);
    spec["aliases"] = json!([{"prefix": "harbor/dockerhub", "groupRef": group}]);
    for image in ["hub.example.com/library/alpine:3", "harbor/dockerhub/library/alpine:3"] {
        let (code, text) = explain(&documents, image, &["--as", "alice"]);
        assert_eq!(code, Some(0), "{text}");
        says(&text, "group", "team-a (dp/team-a)");
        says(&text, "upstream", "for library/alpine");
    }
}

/// A proxy that has pulled `library/a:1`, and its documents.
async fn warm(edit: impl Fn(&mut Documents)) -> (Upstream, ProxyProcess, Documents) {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    let proxy = proxy_of(&upstream, |d| edit(d)).await;
    let mut documents = documents(&proxy.url(), &upstream);
    edit(&mut documents);
    (upstream, proxy, documents)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_whether_a_copy_is_there_and_until_when_it_is_fresh() {
    let edit = |d: &mut Documents| {
        d.registry("hub", "team-a", &["upstream"]);
        d.group("relaxed", "upstream");
        d.spec("DependencyProxyGroup", "relaxed")["recheckAfterSeconds"] = json!(3600);
    };
    let (upstream, proxy, documents) = warm(edit).await;
    let alice = client(&proxy);
    let digest = upstream.image("library/a", "1", &[noise(1, 1000)]).digest;
    for client in [alice.clone(), alice.group("relaxed"), alice.registry("dp.hub")] {
        client.pull("library/a", "1").await;
    }
    settled(&proxy).await;
    let data = proxy.data().to_str().unwrap().to_owned();
    let explain = |image: &str| explain(&documents, image, &["--data-dir", &data]).1;

    let text = explain("team-a/dependency_proxy/containers/library/a:1");
    says(&text, "cached", &format!("{digest} checked at "));
    says(&text, "fresh", "no: upstream is asked before every answer (recheckAfterSeconds: 0)");
    let text = explain("relaxed/dependency_proxy/containers/library/a:1");
    says(&text, "fresh", "until 20");
    let text = explain("virtual_registries/container/dp.hub/library/a:1");
    says(&text, "fresh", "until 20");
    let text = explain(&format!("team-a/dependency_proxy/containers/library/a@{digest}"));
    says(&text, "cached", "yes; a digest never changes");
    let text = explain("team-a/dependency_proxy/containers/library/a:2");
    says(&text, "cached", "no");
    // The proxy goes on beside it.
    alice.pull("library/a", "1").await;
}
