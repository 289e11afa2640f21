//! What went bad is served as it last was good, less what was taken out since; and each object says so.

use config::{Config, ObjectId, Subject};
use serde_json::{Value, json};

use crate::pod::{FakePod, documents, served};
use crate::stage::{Stage, account, condition_of, group, proxy, upstream};

const GROUP: &str = "DependencyProxyGroup";

/// A group `team` at the upstream `hub` with an account, served by a pod.
async fn served_team() -> Option<(Stage, FakePod)> {
    let stage = Stage::new().await?;
    stage.apply(account("hub", "robot", "a-password-of-the-hub")).await;
    let mut hub = upstream("hub");
    hub["spec"]["credentialsSecretRef"] = json!({"name": "hub"});
    stage.apply(hub).await;
    stage.apply(proxy("main")).await;
    stage.apply(team(&["alice", "bob"], "hub")).await;
    let pod = FakePod::of(&stage, "main").await;
    stage.says(GROUP, "team", "Ready", "True", "Programmed").await;
    Some((stage, pod))
}

fn team(members: &[&str], upstream: &str) -> Value {
    let mut team = group("team", "team-a");
    let member =
        |name: &&str| json!({"name": name, "role": "Guest", "subject": {"kind": "User", "name": name}});
    team["spec"]["members"] = members.iter().map(member).collect();
    team["spec"]["upstreamRef"] = json!({"name": upstream});
    team
}

/// What pods serve now.
async fn config(stage: &Stage) -> Config {
    let id = ObjectId { namespace: stage.namespace.clone(), name: "main".to_owned() };
    let text = documents(&stage.client, &id).await.expect("documents");
    served(&text, &id).expect("they serve")
}

#[tokio::test]
async fn when_the_secret_of_an_upstream_is_deleted_its_group_goes_on() {
    let Some((stage, _pod)) = served_team().await else { return };
    let before = config(&stage).await.hash;
    stage.delete("Secret", "hub").await;
    stage.says("RegistryUpstream", "hub", "Accepted", "False", "SecretNotFound").await;
    stage.says(GROUP, "team", "ResolvedRefs", "False", "DependencyNotReady").await;
    stage.says(GROUP, "team", "Programmed", "True", "Programmed").await;
    assert_eq!(config(&stage).await.hash, before, "nothing of it changes");
    stage.apply(account("hub", "other", "another-password")).await;
    stage.says(GROUP, "team", "Ready", "True", "Programmed").await;
    let named = |object: &Value| object["status"]["account"] == "other";
    stage.until("RegistryUpstream", "hub", "has the other account", named).await;
}

#[tokio::test]
async fn a_bad_edit_is_said_not_to_serve_and_what_it_takes_away_is_gone() {
    let Some((stage, _pod)) = served_team().await else { return };
    stage.apply(team(&["alice", "carol"], "typo")).await;
    stage.says(GROUP, "team", "ResolvedRefs", "False", "UpstreamNotFound").await;
    let message = stage.says(GROUP, "team", "Programmed", "False", "OlderVersion").await;
    assert!(message.contains("its last good version, less what was taken out since"), "{message}");
    let members = &config(&stage).await.groups["team-a"].members;
    let subjects = members.iter().map(|member| member.subject.clone()).collect::<Vec<_>>();
    assert_eq!(subjects, [Subject::User("alice".to_owned())]);
    stage.apply(team(&["alice", "carol"], "hub")).await;
    stage.says(GROUP, "team", "Ready", "True", "Programmed").await;
}

#[tokio::test]
async fn groups_of_a_refused_instance_change_also_with_the_next_operator() {
    let Some((mut stage, _pod)) = served_team().await else { return };
    let storage = |storage: Value| json!({"spec": {"storage": storage}});
    let bad = storage(json!({"ephemeral": null, "gcs": {"bucket": "later"}}));
    stage.patch("DependencyProxy", "main", bad).await;
    let message = stage.says("DependencyProxy", "main", "Accepted", "False", "Unsupported").await;
    assert!(message.ends_with("its last good version is served"), "{message}");
    stage.apply(team(&["alice"], "hub")).await;
    let is_current = |object: &Value| {
        let programmed = condition_of(object, "Programmed");
        programmed["status"] == "True"
            && programmed["observedGeneration"] == object["metadata"]["generation"]
            && object["metadata"]["generation"] != 1
    };
    stage.until(GROUP, "team", "has its change in the pods", is_current).await;
    assert_eq!(config(&stage).await.groups["team-a"].members.len(), 1);
    stage.delete("Service", "main-dependency-proxy").await;
    stage.comes("Service", "main-dependency-proxy").await;

    // What was good, the next operator reads where the pods read it.
    stage.operator.terminate().await;
    stage.operator.start_again();
    stage.apply(team(&["alice", "bob"], "hub")).await;
    stage
        .until(GROUP, "team", "has its change in the pods", |object| {
            is_current(object) && object["metadata"]["generation"] == 3
        })
        .await;
    assert_eq!(config(&stage).await.groups["team-a"].members.len(), 2);
    let message = stage.says("DependencyProxy", "main", "Accepted", "False", "Unsupported").await;
    assert!(message.ends_with("its last good version is served"), "{message}");
    stage.patch("DependencyProxy", "main", storage(json!({"ephemeral": {}, "gcs": null}))).await;
    stage.says("DependencyProxy", "main", "Ready", "True", "AllReplicasReady").await;
    stage.says(GROUP, "team", "Ready", "True", "Programmed").await;
}

#[tokio::test]
async fn what_went_bad_before_or_while_an_operator_was_away_stays_as_it_was_with_the_next_one() {
    let Some((mut stage, _pod)) = served_team().await else { return };
    for (name, path) in [("edited", "team-b"), ("deleted", "team-c"), ("again", "team-d")] {
        stage.apply(group(name, path)).await;
        stage.says(GROUP, name, "Ready", "True", "Programmed").await;
    }
    stage.apply(team(&["alice"], "typo")).await;
    stage.says(GROUP, "team", "Programmed", "False", "OlderVersion").await;
    stage.operator.kill();
    let bad = |name: &str, path: &str| {
        let mut group = group(name, path);
        group["spec"]["upstreamRef"] = json!({"name": "typo"});
        group
    };
    stage.apply(bad("edited", "team-b")).await;
    let made = async || stage.comes(GROUP, "again").await["metadata"]["creationTimestamp"].clone();
    let before = made().await;
    stage.delete(GROUP, "deleted").await;
    // Whether it is the same is told by the second in which it was made.
    while made().await == before {
        stage.delete(GROUP, "again").await;
        stage.goes(GROUP, "again").await;
        stage.apply(bad("again", "team-d")).await;
    }
    stage.operator.start_again();
    // When this is served, the new operator has written documents.
    stage.apply(group("late", "team-e")).await;
    stage.says(GROUP, "late", "Ready", "True", "Programmed").await;
    let groups = config(&stage).await.groups;
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["team-a", "team-b", "team-e"]);
    let members = groups["team-a"].members.iter().map(|member| member.subject.clone());
    assert_eq!(members.collect::<Vec<_>>(), [Subject::User("alice".to_owned())]);
    assert_eq!(groups["team-a"].upstream.id.name, "hub");
    for name in ["team", "edited"] {
        stage.says(GROUP, name, "ResolvedRefs", "False", "UpstreamNotFound").await;
        stage.says(GROUP, name, "Programmed", "False", "OlderVersion").await;
    }
    stage.says(GROUP, "again", "Programmed", "False", "NotServed").await;
}
