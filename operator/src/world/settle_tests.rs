#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use config::{ObjectId, Reason, TokenHash};

use super::super::rendering::tests::{Cluster, id, paths, text};
use super::*;

const BASIC: &str = "kubernetes.io/basic-auth";
const HUB: &str = "{username: robot, password: secret-of-the-hub}";

/// A group at an upstream with an account.
fn with_account() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.secret("hub", BASIC, HUB);
    cluster.upstream("up", ", credentialsSecretRef: {name: hub}");
    cluster.group("a", ", upstreamRef: {name: up}");
    cluster
}

fn is_older(rendering: &Rendering, kind: Kind, name: &str) -> bool {
    rendering.older.contains(&(kind, id(name)))
}

fn upstream_of<'r>(rendering: &'r Rendering, path: &str) -> &'r config::Upstream {
    &rendering.config.as_ref().unwrap().groups[path].upstream
}

#[test]
fn when_an_upstreams_credentials_are_deleted_all_stays_as_it_was() {
    let mut cluster = with_account();
    cluster.proxy("storage: {ephemeral: {}}, aliases: [{prefix: old, groupRef: {name: a}}]");
    let first = cluster.render(None);
    cluster.contents.secrets.remove(&id("hub"));
    let second = cluster.render(Some(&first));
    assert_eq!((second.hash(), &second.documents), (first.hash(), &first.documents));
    let problems = &second.problems[&(Kind::RegistryUpstream, id("up"))];
    assert_eq!(problems[0].reason, Reason::SecretNotFound);
    assert!(second.older.is_empty(), "each object is served as it is: {:?}", second.older);
    // Others change meanwhile, and it still stays.
    cluster.group("b", "");
    let third = cluster.render(Some(&second));
    assert_eq!(paths(&third), ["a", "b"]);
    assert_eq!(upstream_of(&third, "a").credentials.as_ref().unwrap().username, "robot");
    cluster.secret("hub", BASIC, "{username: other, password: another-secret}");
    let fourth = cluster.render(Some(&third));
    assert_eq!(upstream_of(&fourth, "a").credentials.as_ref().unwrap().username, "other");
}

#[test]
fn an_upstream_that_names_a_secret_which_is_not_there_keeps_the_one_of_before() {
    let mut cluster = with_account();
    let first = cluster.render(None);
    cluster.upstream("up", ", credentialsSecretRef: {name: typo}");
    let second = cluster.render(Some(&first));
    assert_eq!(second.documents, first.documents);
    assert!(is_older(&second, Kind::RegistryUpstream, "up"));
    assert!(!is_older(&second, Kind::DependencyProxyGroup, "a"));
}

#[test]
fn a_group_that_names_a_wrong_upstream_keeps_the_one_of_before_until_that_withdraws() {
    let mut cluster = with_account();
    let first = cluster.render(None);
    cluster.group("a", ", upstreamRef: {name: typo}");
    // Nobody else refers to it.
    cluster.members.upstreams.clear();
    let second = cluster.render(Some(&first));
    assert_eq!(upstream_of(&second, "a").id, id("up"));
    assert!(is_older(&second, Kind::DependencyProxyGroup, "a"));
    let third = cluster.render(Some(&second));
    assert!(Arc::ptr_eq(&second, &third), "nothing has changed");
    cluster.upstreams.clear();
    let fourth = cluster.render(Some(&third));
    assert_eq!(paths(&fourth), Vec::<&str>::new(), "an upstream that is deleted is used no more");
}

#[test]
fn what_an_owner_takes_out_in_a_bad_edit_ends_at_once() {
    let mut cluster = with_account();
    cluster.secret("one", BASIC, "{username: one, password: pass-one}");
    cluster.secret("two", BASIC, "{username: two, password: pass-two}");
    let member = |name: &str, role: &str| {
        format!("{{name: {name}, role: {role}, subject: {{kind: User, name: {name}}}}}")
    };
    let token =
        |name: &str| format!("{{name: {name}, secretRef: {{name: {name}}}, scopes: [read_registry]}}");
    let spec = |upstream: &str, members: &[String], tokens: &[String], consumers: &str| {
        format!(
            ", upstreamRef: {{name: {upstream}}}, members: [{}], deployTokens: [{}], allowedConsumers: {{from: {consumers}}}",
            members.join(", "),
            tokens.join(", ")
        )
    };
    let all = [member("alice", "Owner"), member("bob", "Guest")];
    cluster.group("a", &spec("up", &all, &[token("one"), token("two")], "All"));
    let first = cluster.render(None);
    let now = [member("alice", "Guest"), member("carol", "Guest")];
    cluster.group("a", &spec("typo", &now, &[token("two")], "Same"));
    let second = cluster.render(Some(&first));
    let group = &second.config.as_ref().unwrap().groups["a"];
    let members = group.members.iter().map(|member| (format!("{:?}", member.subject), member.role));
    let alice = (format!("{:?}", config::Subject::User("alice".to_owned())), config::Role::Guest);
    assert_eq!(members.collect::<Vec<_>>(), [alice], "what is added waits, what is taken away is gone");
    let named = |name: &str| second.config.as_ref().unwrap().credentials.named(name).count();
    assert_eq!((named("one"), named("two")), (0, 1));
    assert!(text(&second).contains(r#""allowedConsumers":{"from":"Same"}"#), "{}", text(&second));
    assert!(is_older(&second, Kind::DependencyProxyGroup, "a"));
}

#[test]
fn an_upstream_that_withdraws_in_a_bad_edit_is_out_of_reach_at_once() {
    let mut cluster = with_account();
    let hub = cluster.members.upstreams.remove(&id("up")).unwrap();
    let elsewhere = |from: &str, url: &str| {
        let mut hub = hub.as_ref().clone();
        hub.metadata.namespace = Some("other".to_owned());
        hub.metadata.generation = Some(i64::try_from(from.len() + url.len()).unwrap());
        hub.spec.credentials_secret_ref = None;
        hub.spec.url = url.to_owned();
        hub.spec.allowed_groups = serde_yaml::from_str(&format!("{{from: {from}}}")).unwrap();
        Arc::new(hub)
    };
    let name = ObjectId { namespace: "other".to_owned(), name: "up".to_owned() };
    cluster.members.upstreams.insert(name.clone(), elsewhere("All", "https://registry.example"));
    cluster.group("a", ", upstreamRef: {name: up, namespace: other}");
    cluster.group("b", "");
    let first = cluster.render(None);
    assert_eq!(paths(&first), ["a", "b"]);
    cluster.members.upstreams.insert(name.clone(), elsewhere("All", "ftp://bad"));
    let second = cluster.render(Some(&first));
    assert_eq!(paths(&second), ["a", "b"]);
    cluster.members.upstreams.insert(name, elsewhere("Same", "ftp://bad"));
    let third = cluster.render(Some(&second));
    assert_eq!(paths(&third), ["b"]);
}

#[test]
fn a_refused_instance_goes_on_as_it_was_and_its_groups_change() {
    let mut cluster = Cluster::new();
    cluster.secret("s3", "Opaque", "{accessKeyID: key, secretAccessKey: secret-of-the-bucket}");
    cluster.secret("ci", BASIC, "{username: ci, password: pass-ci}");
    let token = ", deployTokens: [{name: ci, secretRef: {name: ci}, scopes: [read_registry]}]";
    let bucket = "storage: {s3: {bucket: blobs, region: us-east-1, credentialsSecretRef: {name: s3}}}";
    cluster.proxy(bucket);
    cluster.group("a", token);
    cluster.group("b", "");
    let first = cluster.render(None);
    assert_eq!(paths(&first), ["a", "b"]);
    assert!(first.storage.contains("secret-of-the-bucket"));
    let is_as_before = |rendering: &Rendering| {
        assert_eq!(paths(rendering), ["a"], "the group that was deleted is gone");
        assert_eq!(rendering.storage, first.storage);
        let proxy = |rendering: &Rendering| rendering.served.proxy.as_ref().unwrap().spec.storage.clone();
        assert_eq!(
            serde_json::to_value(proxy(rendering)).unwrap(),
            serde_json::to_value(proxy(&first)).unwrap()
        );
        let key = &rendering.config.as_ref().unwrap().instance.keys.instance;
        assert!(text(rendering).contains(&TokenHash::of(key, "pass-ci").to_hex()));
        assert_eq!(rendering.config.as_ref().unwrap().credentials.named("ci").count(), 1);
        assert!(rendering.is_proxy_older());
    };
    cluster.members.groups.remove(&id("b"));
    // The bucket's Secret loses a key; a field is refused; the Secrets are gone, the keys among them.
    cluster.secret("s3", "Opaque", "{accessKeyID: key}");
    let second = cluster.render(Some(&first));
    is_as_before(&second);
    assert!(Arc::ptr_eq(&second, &cluster.render(Some(&second))), "nothing has changed");
    cluster.proxy("storage: {gcs: {bucket: later}}");
    let third = cluster.render(Some(&second));
    is_as_before(&third);
    cluster.contents.secrets.remove(&id("s3"));
    cluster.contents.secrets.remove(&id("main-dependency-proxy-keys"));
    let fourth = cluster.render(Some(&third));
    is_as_before(&fourth);
    // One that never was good is not another's last good version.
    let mut proxy = cluster.members.proxy.as_deref().unwrap().clone();
    proxy.metadata.uid = Some("another".to_owned());
    cluster.members.proxy = Some(Arc::new(proxy));
    assert!(cluster.render(Some(&fourth)).config.is_none());
}

#[test]
fn a_namespace_that_a_bad_edit_of_the_instance_no_longer_allows_is_out_at_once() {
    let mut cluster = Cluster::new();
    cluster.proxy("storage: {ephemeral: {}}, allowedGroups: {from: All}");
    cluster.group("a", "");
    let mut group = cluster.members.groups[&id("a")].as_ref().clone();
    group.metadata.namespace = Some("other".to_owned());
    group.metadata.name = Some("b".to_owned());
    group.spec.path = "b".to_owned();
    group.spec.proxy_ref.namespace = Some("n".to_owned());
    let name = ObjectId { namespace: "other".to_owned(), name: "b".to_owned() };
    cluster.members.groups.insert(name, Arc::new(group));
    let first = cluster.render(None);
    assert_eq!(paths(&first), ["a", "b"]);
    cluster.proxy("storage: {gcs: {bucket: later}}, allowedGroups: {from: Same}");
    assert_eq!(paths(&cluster.render(Some(&first))), ["a"]);
}

#[test]
fn groups_of_a_default_upstream_that_is_misspelt_keep_the_one_of_before() {
    let mut cluster = with_account();
    cluster.proxy("storage: {ephemeral: {}}, defaultUpstreamRef: {name: up}");
    cluster.group("a", "");
    let first = cluster.render(None);
    cluster.proxy("storage: {ephemeral: {}}, defaultUpstreamRef: {name: typo}");
    cluster.members.upstreams.clear();
    let second = cluster.render(Some(&first));
    assert_eq!(upstream_of(&second, "a").id, id("up"));
    assert!(second.is_proxy_older());
    let never = cluster.render(None);
    assert!(never.config.is_some(), "the rest serves");
    assert_eq!(paths(&never), Vec::<&str>::new());
}
