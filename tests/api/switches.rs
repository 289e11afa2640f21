//! What somebody switched off, holds, or has not given: the status says so, and nothing reads ready that is not.

use serde_json::{Value, json};

use crate::instance::{CHILD, drains_for};
use crate::pod::{FakePod, documents, served};
use crate::stage::{Stage, condition_of, group, object, proxy, upstream};

#[tokio::test]
async fn while_an_instance_is_suspended_nothing_of_it_is_touched() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(group("old", "old")).await;
    let _pod = FakePod::of(&stage, "main").await;
    stage.says("DependencyProxyGroup", "old", "Ready", "True", "Programmed").await;
    stage.until("Deployment", CHILD, "is there", drains_for(120)).await;
    let before = stage.comes("Secret", "main-dependency-proxy-documents").await;
    stage.patch("DependencyProxy", "main", json!({"spec": {"suspend": true, "drainSeconds": 60}})).await;
    let seen = |object: &Value| object["status"]["observedGeneration"] == object["metadata"]["generation"];
    stage.until("DependencyProxy", "main", "is looked at", seen).await;
    stage.apply(group("team", "team-a")).await;
    let message = stage.says("DependencyProxyGroup", "team", "Programmed", "Unknown", "Suspended").await;
    assert!(message.ends_with("/main is suspended: no change reaches its pods"), "{message}");
    stage.says("DependencyProxyGroup", "old", "Ready", "True", "Programmed").await;
    let message = stage.says("DependencyProxy", "main", "Ready", "True", "Suspended").await;
    let sentence = "Serving https://proxy.example.com; suspended: no change reaches the pods";
    assert!(message.starts_with(sentence), "{message}");
    stage.says("DependencyProxy", "main", "Progressing", "False", "Suspended").await;
    let deployment = stage.get("Deployment", CHILD).await.unwrap();
    assert!(drains_for(120)(&deployment), "{deployment:#}");
    let documents = stage.get("Secret", "main-dependency-proxy-documents").await.unwrap();
    assert_eq!(documents["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    stage.patch("DependencyProxy", "main", json!({"spec": {"suspend": false}})).await;
    stage.until("Deployment", CHILD, "drains for 60 s", drains_for(60)).await;
}

#[tokio::test]
async fn an_instance_and_a_group_are_switched_off() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(group("team", "team-a")).await;
    stage.apply(upstream("hub")).await;
    let registry = json!({"groupRef": {"name": "team"}, "upstreams": [{"name": "hub"}]});
    stage.apply(object("VirtualRegistry", "all", registry)).await;
    let binding = json!({"groupRef": {"name": "team"}, "pullSecretName": "pull"});
    stage.apply(object("PullBinding", "ci", binding)).await;
    let _pod = FakePod::of(&stage, "main").await;
    let of_the_group = [("DependencyProxyGroup", "team"), ("VirtualRegistry", "all"), ("PullBinding", "ci")];
    for (kind, name) in of_the_group {
        stage.says(kind, name, "Ready", "True", "Programmed").await;
    }
    stage.patch("DependencyProxyGroup", "team", json!({"spec": {"enabled": false}})).await;
    for (kind, name) in of_the_group {
        let message = stage.says(kind, name, "Ready", "False", "Disabled").await;
        assert!(message.starts_with("group ") && message.contains("/team is switched off"), "{message}");
    }
    stage.patch("DependencyProxyGroup", "team", json!({"spec": {"enabled": true}})).await;
    for (kind, name) in of_the_group {
        stage.says(kind, name, "Ready", "True", "Programmed").await;
    }
    stage.patch("DependencyProxy", "main", json!({"spec": {"enabled": false}})).await;
    for (kind, name) in of_the_group {
        let message = stage.says(kind, name, "Ready", "False", "Disabled").await;
        assert!(message.starts_with("DependencyProxy "), "{message}");
    }
    let message = stage.says("DependencyProxy", "main", "Ready", "False", "Disabled").await;
    assert!(message.contains("set spec.enabled to true"), "{message}");
    let id = config::ObjectId { namespace: stage.namespace.clone(), name: "main".to_owned() };
    let seen = |object: &Value| {
        object["status"]["observedGeneration"] == object["metadata"]["generation"]
            && condition_of(object, "Progressing")["status"] == "False"
    };
    stage.until("DependencyProxy", "main", "is distributed", seen).await;
    let text = documents(&stage.client, &id).await.expect("documents");
    assert!(!served(&text, &id).expect("they serve").instance.enabled);
}

#[tokio::test]
async fn an_instance_that_serves_without_a_part_says_which() {
    let Some(stage) = Stage::new().await else { return };
    let mut main = proxy("main");
    main["spec"]["auth"] = json!({"staticUsersSecretRef": {"name": "users"}});
    stage.apply(main).await;
    let _pod = FakePod::of(&stage, "main").await;
    let message = stage.says("DependencyProxy", "main", "Ready", "True", "AcceptedInPart").await;
    assert!(message.starts_with("Serving https://proxy.example.com, in part: "), "{message}");
    assert!(message.contains("spec.auth.staticUsersSecretRef: there is no Secret"), "{message}");
}
