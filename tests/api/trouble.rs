//! An operator that is killed, cut off, or given nonsense ends where it would have without.

use std::time::{Duration, Instant};

use harness::api_server::ApiServer;
use harness::operator::{Arguments, Operator};
use harness::tool;
use serde_json::{Value, json};

use crate::ground::Ground;
use crate::pod::{FakePod, documents};
use crate::relay::Relay;
use crate::stage::{Stage, account, group, object, proxy, upstream};

const CHILD: &str = "main-dependency-proxy";

#[tokio::test]
async fn killed_at_any_step_it_ends_where_it_would_have_without() {
    let Some(mut stage) = Stage::new().await else { return };
    stage.comes("ServiceAccount", "default").await;
    let binding =
        json!({"groupRef": {"name": "team"}, "pullSecretName": "pull", "serviceAccounts": ["default"]});
    let registry = json!({"groupRef": {"name": "team"}, "upstreams": [{"name": "hub"}]});
    let mut hub = upstream("hub");
    hub["spec"]["credentialsSecretRef"] = json!({"name": "hub"});
    let mut team = group("team", "team-a");
    team["spec"]["upstreamRef"] = json!({"name": "hub"});
    let objects = [
        proxy("main"),
        team,
        hub,
        account("hub", "robot", "a-password-of-the-hub"),
        object("VirtualRegistry", "all", registry),
        object("PullBinding", "ci", binding),
        group("child", "team-a/child"),
        group("other", "team-b"),
        group("rival", "team-b"),
        account("late", "robot", "another-password"),
    ];
    let mut pod = None;
    for (round, object) in objects.into_iter().enumerate() {
        stage.operator.start_again();
        stage.operator.leads().await;
        stage.apply(object).await;
        if round == 4 {
            pod = Some(FakePod::of(&stage, "main").await);
        }
        let random = u64::from(u16::from_le_bytes(tool::random()));
        tokio::time::sleep(Duration::from_millis(20 + random % 480)).await;
        stage.operator.kill();
    }
    stage.operator.start_again();
    settled(&stage).await;
    let after_kills = end_state(&stage).await;
    // Without any kill: all that can be made again is made again.
    for (kind, name) in [
        ("Deployment", CHILD),
        ("Service", CHILD),
        ("NetworkPolicy", CHILD),
        ("PodDisruptionBudget", CHILD),
        ("Secret", "main-dependency-proxy-documents"),
        ("Secret", "pull"),
    ] {
        stage.delete(kind, name).await;
    }
    stage.operator.terminate().await;
    stage.operator.start_again();
    for kind in ["NetworkPolicy", "PodDisruptionBudget", "Deployment"] {
        stage.comes(kind, CHILD).await;
    }
    stage.comes("Secret", "pull").await;
    settled(&stage).await;
    assert_eq!(end_state(&stage).await, after_kills);
    drop(pod);
}

async fn settled(stage: &Stage) {
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
    stage.says("DependencyProxy", "main", "Ready", "True", "AllReplicasReady").await;
    stage.says("DependencyProxyGroup", "child", "Ready", "True", "Programmed").await;
    stage.says("DependencyProxyGroup", "other", "Ready", "True", "Programmed").await;
    stage.says("DependencyProxyGroup", "rival", "Accepted", "False", "PathConflict").await;
    stage.says("VirtualRegistry", "all", "Ready", "True", "Programmed").await;
}

/// What was made, without what the API server counts: the documents' bytes are part of it.
async fn end_state(stage: &Stage) -> Vec<Value> {
    let kinds = ["Secret", "Service", "ServiceAccount", "Deployment", "NetworkPolicy", "PodDisruptionBudget"];
    let mut all = stage.all(&kinds).await;
    for object in &mut all {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _| ["name", "labels", "ownerReferences"].contains(&key.as_str()));
        object.as_object_mut().unwrap().remove("status");
        if object["kind"] == "Service" {
            let spec = object["spec"].as_object_mut().unwrap();
            spec.retain(|key, _| !["clusterIP", "clusterIPs"].contains(&key.as_str()));
        }
    }
    all
}

#[tokio::test]
async fn an_object_that_the_api_server_refuses_is_told_and_the_rest_goes_on() {
    let Some(stage) = Stage::new().await else { return };
    let mut main = proxy("main");
    // The schema takes any text; a Deployment does not.
    main["spec"]["podTemplate"] = json!({"labels": {"team": "no label has spaces"}});
    stage.apply(main).await;
    let message = stage.says("DependencyProxy", "main", "Accepted", "False", "InvalidSpec").await;
    assert!(message.contains("Deployment") && message.contains("no label has spaces"), "{message}");
    stage.comes("PodDisruptionBudget", CHILD).await;
    stage.apply(proxy("main")).await;
    stage.says("DependencyProxy", "main", "Accepted", "True", "Accepted").await;
    stage.comes("Deployment", CHILD).await;
}

#[tokio::test]
async fn a_name_that_somebody_else_has_is_told_and_the_object_not_touched() {
    let Some(stage) = Stage::new().await else { return };
    let ports = json!({"ports": [{"port": 80}], "selector": {"app": "others"}});
    stage.apply(object("Service", CHILD, ports)).await;
    let keys = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "second-dependency-proxy-keys"},
        "stringData": {"mine": "and not a key"},
    });
    stage.apply(keys).await;
    stage.apply(proxy("main")).await;
    let message = stage.says("DependencyProxy", "main", "Accepted", "False", "NameConflict").await;
    assert!(message.contains(&format!("Service {CHILD}")), "{message}");
    let service = stage.get("Service", CHILD).await.unwrap();
    assert_eq!(service["spec"]["selector"], json!({"app": "others"}));
    stage.delete("Service", CHILD).await;
    stage.says("DependencyProxy", "main", "Accepted", "True", "Accepted").await;

    stage.apply(proxy("second")).await;
    let message = stage.says("DependencyProxy", "second", "Accepted", "False", "InvalidSecret").await;
    assert!(message.contains("second-dependency-proxy-keys"), "{message}");
    // Pods without common keys would not take each other's tokens.
    assert_eq!(stage.get("Deployment", "second-dependency-proxy").await, None);
    stage.delete("Secret", "second-dependency-proxy-keys").await;
    stage.says("DependencyProxy", "second", "Accepted", "True", "Accepted").await;
}

#[tokio::test]
async fn nonsense_of_every_kind_hurts_only_itself() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(group("good", "good")).await;
    let _pod = FakePod::of(&stage, "main").await;
    let mut odd = proxy("odd");
    odd["spec"]["storage"] = json!({"gcs": {"bucket": "later"}});
    odd["spec"]["aliases"] = json!([{"prefix": "old", "groupRef": {"name": "nobody"}}]);
    stage.apply(odd).await;
    let mut hub = upstream("odd");
    hub["spec"]["rules"] = json!([{"name": "r", "action": "Deny", "repository": "***[[["}]);
    hub["spec"]["credentialsSecretRef"] = json!({"name": "odd"});
    hub["spec"]["caConfigMapRef"] = json!({"name": "odd"});
    stage.apply(hub).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "odd"},
        "data": {"username": "/////w==", "password": ""},
    });
    stage.apply(secret).await;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "odd"}, "data": {"ca.crt": "none"},
    });
    stage.apply(map).await;
    let mut team = group("odd", "odd");
    team["spec"]["upstreamRef"] = json!({"name": "odd"});
    team["spec"]["deployTokens"] =
        json!([{"name": "t", "secretRef": {"name": "odd"}, "scopes": ["read_registry"]}]);
    stage.apply(team).await;
    let registry = json!({"groupRef": {"name": "odd"}, "upstreams": [{"name": "odd"}, {"name": "odd"}]});
    let registry = object("VirtualRegistry", "odd", registry);
    let taken = stage.try_apply(&registry).await;
    let binding = json!({
        "groupRef": {"name": "odd"}, "pullSecretName": "odd", "serviceAccounts": ["nobody"],
    });
    stage.apply(object("PullBinding", "odd", binding)).await;

    let told = |object: &Value| object["status"]["ready"].as_str().is_some_and(|ready| ready != "True");
    for kind in ["DependencyProxy", "RegistryUpstream", "DependencyProxyGroup", "PullBinding"] {
        stage.until(kind, "odd", "says what is wrong", told).await;
    }
    if taken {
        stage.until("VirtualRegistry", "odd", "says what is wrong", told).await;
    }
    // What comes after it serves.
    stage.apply(group("after", "after")).await;
    stage.says("DependencyProxyGroup", "after", "Ready", "True", "Programmed").await;
    stage.says("DependencyProxyGroup", "good", "Ready", "True", "Programmed").await;
    stage.delete("PullBinding", "odd").await;
    stage.goes("PullBinding", "odd").await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_goes_with_all_that_is_in_it() {
    let Some(second) = Ground::new().await else { return };
    let Some(stage) = Stage::with(&[&second.namespace]).await else { return };
    let elsewhere = |mut object: Value| {
        object["metadata"]["namespace"] = json!(second.namespace);
        object
    };
    let name = |name: &str| format!("{}/{name}", second.namespace);
    stage.apply(proxy("main")).await;
    stage.apply(group("good", "good")).await;
    let _pod = FakePod::of(&stage, "main").await;
    stage.comes("ServiceAccount", &name("default")).await;
    stage.apply(elsewhere(proxy("main"))).await;
    stage.apply(elsewhere(group("team", "team-a"))).await;
    let binding =
        json!({"groupRef": {"name": "team"}, "pullSecretName": "pull", "serviceAccounts": ["default"]});
    stage.apply(elsewhere(object("PullBinding", "ci", binding))).await;
    stage.comes("Secret", &name("ci-dependency-proxy-credentials")).await;
    stage.comes("PodDisruptionBudget", &name(CHILD)).await;
    stage.delete("Namespace", &second.namespace).await;
    stage.goes("Namespace", &second.namespace).await;
    stage.apply(group("after", "after")).await;
    stage.says("DependencyProxyGroup", "after", "Ready", "True", "Programmed").await;
}

#[tokio::test]
async fn without_the_definitions_it_ends_with_a_sentence() {
    if tool::left_out(&["etcd"], false) {
        return;
    }
    let server = ApiServer::start().await;
    let arguments = Arguments::new(server.kubeconfig(), "default");
    let mut operator = Operator::launch(&arguments);
    let status = operator.ended().await;
    assert_eq!(status.code(), Some(1));
    let log = operator.log();
    assert!(log.contains("the API server does not know DependencyProxy; install deploy/crds.yaml"), "{log}");
}

/// The stage's operator again, with a relay between it and the API server.
async fn behind_a_relay(stage: &mut Stage) -> Option<Relay> {
    let relay = Relay::start(ApiServer::shared().await?, None).await;
    stage.operator.terminate().await;
    let arguments = Arguments { kubeconfig: relay.kubeconfig().to_owned(), ..stage.arguments.clone() };
    stage.operator = Operator::start(&arguments).await;
    Some(relay)
}

#[tokio::test]
async fn what_the_api_server_fails_to_do_is_tried_again_and_no_error_of_the_operators() {
    let Some(mut stage) = Stage::new().await else { return };
    let Some(relay) = behind_a_relay(&mut stage).await else { return };
    relay.fail_for("dependencyproxygroups/status");
    stage.apply(proxy("main")).await;
    stage.apply(group("team", "team-a")).await;
    relay.is_asked("dependencyproxy.dev", "dependencyproxygroups/status", "patch").await;
    relay.resume();
    stage.says("DependencyProxyGroup", "team", "Accepted", "True", "Accepted").await;
    let count = async |result: &str| {
        let name = format!("reconciles_total{{kind=\"DependencyProxyGroup\",result=\"{result}\"}}");
        stage.operator.metric(&name).await.unwrap_or_default()
    };
    assert!(count("retry").await >= 1.0, "{}", stage.operator.log());
    assert_eq!(count("error").await, 0.0, "{}", stage.operator.log());
}

/// An instance with a pod and the group `team`, and an operator that reaches the API server by the relay.
async fn served_behind_a_relay() -> Option<(Stage, Relay, FakePod)> {
    let mut stage = Stage::new().await?;
    let relay = behind_a_relay(&mut stage).await?;
    stage.apply(proxy("main")).await;
    stage.apply(group("team", "team-a")).await;
    let pod = FakePod::of(&stage, "main").await;
    stage.says("DependencyProxyGroup", "team", "Ready", "True", "Programmed").await;
    Some((stage, relay, pod))
}

#[tokio::test]
async fn while_pods_cannot_be_listed_the_rest_is_told() {
    let Some((stage, relay, _pod)) = served_behind_a_relay().await else { return };
    stage.says("DependencyProxy", "main", "Ready", "True", "AllReplicasReady").await;
    relay.fail_for("pods");
    let annotation = json!({"metadata": {"annotations": {"dependencyproxy.dev/purge": "now"}}});
    stage.patch("DependencyProxyGroup", "team", annotation).await;
    let message = stage.says("DependencyProxyGroup", "team", "Purged", "Unknown", "Pending").await;
    assert!(message.contains("no pod of DependencyProxy"), "{message}");
    let bad = json!({"spec": {"storage": {"ephemeral": null, "gcs": {"bucket": "later"}}}});
    stage.patch("DependencyProxy", "main", bad).await;
    stage.says("DependencyProxy", "main", "Accepted", "False", "Unsupported").await;
    // It may well be so still.
    stage.says("DependencyProxy", "main", "Available", "True", "MinimumReplicasAvailable").await;
    let said = stage.get("DependencyProxy", "main").await.unwrap();
    assert_eq!(said["status"]["version"], "1.2.3");
    stage.apply(proxy("second")).await;
    let message = stage.says("DependencyProxy", "second", "Available", "Unknown", "PodsNotListed").await;
    assert!(message.starts_with("the API server does not list the pods: "), "{message}");
    relay.resume();
    let is_done = |team: &Value| team["status"]["purged"] == "now";
    stage.until("DependencyProxyGroup", "team", "is purged", is_done).await;
    stage.says("DependencyProxy", "second", "Available", "False", "MinimumReplicasUnavailable").await;
}

#[tokio::test]
async fn an_operator_that_was_cut_off_from_the_api_server_for_a_minute_goes_on_when_it_is_back() {
    let Some((mut stage, relay, _pod)) = served_behind_a_relay().await else { return };
    let id = config::ObjectId { namespace: stage.namespace.clone(), name: "main".to_owned() };
    let before = documents(&stage.client, &id).await;
    // Longer than the lease: whoever cannot renew it must stop, and kubelet starts it again.
    relay.pause();
    let paused = Instant::now();
    stage.apply(group("late", "team-b")).await;
    // The lease ends up to 15 s after the last renewal; giving it back is tried for 5 s.
    let ended = tokio::time::timeout(Duration::from_secs(40), stage.operator.ended()).await;
    assert!(ended.is_ok(), "it leads without a lease:\n{}", stage.operator.log());
    assert!(
        ended.is_ok_and(|status| !status.success()),
        "it says that all is well:\n{}",
        stage.operator.log()
    );
    stage.operator.start_again();
    // Who is started meanwhile waits, or ends and is started again.
    while let Some(left) = Duration::from_secs(60).checked_sub(paused.elapsed()) {
        if tokio::time::timeout(left, stage.operator.ended()).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stage.operator.start_again();
        }
    }
    relay.resume();
    stage.says("DependencyProxyGroup", "late", "Ready", "True", "Programmed").await;
    assert_ne!(documents(&stage.client, &id).await, before);
}
