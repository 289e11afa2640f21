//! What objects say that others keep from serving, and that they say so no longer when it is mended.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::ground::Ground;
use crate::pod::FakePod;
use crate::stage::{Stage, account, group, object, proxy, upstream};

const GROUP: &str = "DependencyProxyGroup";

#[tokio::test]
async fn nothing_is_ready_while_no_pod_is() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(group("team", "team-a")).await;
    let pod = FakePod::of(&stage, "main").await;
    let binding = json!({"groupRef": {"name": "team"}, "pullSecretName": "pull"});
    stage.apply(object("PullBinding", "ci", binding)).await;
    let kinds = [("DependencyProxyGroup", "team"), ("PullBinding", "ci")];
    for (kind, name) in kinds {
        stage.says(kind, name, "Ready", "True", "Programmed").await;
    }
    pod.is_ready(&stage, false).await;
    for (kind, name) in kinds {
        stage.says(kind, name, "Ready", "False", "Pending").await;
    }
    pod.is_ready(&stage, true).await;
    for (kind, name) in kinds {
        stage.says(kind, name, "Ready", "True", "Programmed").await;
    }
    // Made again under its name, it has no pods yet: those of the other have gone with it.
    stage.delete("DependencyProxy", "main").await;
    stage.says("DependencyProxyGroup", "team", "ResolvedRefs", "False", "ProxyNotFound").await;
    stage.delete("Pod", &pod.name).await;
    stage.goes("Pod", &pod.name).await;
    stage.apply(proxy("main")).await;
    for (kind, name) in kinds {
        stage.says(kind, name, "Programmed", "Unknown", "Pending").await;
    }
    let _pod = FakePod::of(&stage, "main").await;
    for (kind, name) in kinds {
        stage.says(kind, name, "Ready", "True", "Programmed").await;
    }
}

#[tokio::test]
async fn of_two_groups_with_one_path_the_older_serves_and_the_other_follows_it() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(group("b-first", "team-a")).await;
    stage.says(GROUP, "b-first", "Accepted", "True", "Accepted").await;
    // A creation time has whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    stage.apply(group("a-second", "team-a")).await;
    let message = stage.says(GROUP, "a-second", "Accepted", "False", "PathConflict").await;
    assert!(message.contains("b-first"), "{message}");
    is_told(&stage, "a-second", "PathConflict", &message).await;
    stage.says(GROUP, "b-first", "Accepted", "True", "Accepted").await;
    stage.delete(GROUP, "b-first").await;
    stage.says(GROUP, "a-second", "Accepted", "True", "Accepted").await;
}

/// Waits for the Event that `kubectl describe` shows.
async fn is_told(stage: &Stage, name: &str, reason: &str, message: &str) {
    let events = Api::<Event>::namespaced(stage.client.clone(), &stage.namespace);
    for _ in 0..100 {
        let list = events.list(&ListParams::default()).await.unwrap();
        let told = |event: &Event| {
            let regarding = event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref());
            regarding == Some(name)
                && event.reason.as_deref() == Some(reason)
                && event.type_.as_deref() == Some("Warning")
                && event.note.as_deref() == Some(message)
        };
        if list.items.iter().any(told) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no Event says {message:?} of {name}");
}

#[tokio::test]
async fn a_top_level_path_belongs_to_the_namespace_that_came_first() {
    let Some(second) = Ground::new().await else { return };
    let Some(stage) = Stage::with(&[&second.namespace]).await else { return };
    let mut main = proxy("main");
    main["spec"]["allowedGroups"] = json!({"from": "All"});
    stage.apply(main).await;
    stage.apply(group("team", "team-a")).await;
    stage.says(GROUP, "team", "Accepted", "True", "Accepted").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let child_name = format!("{}/child", second.namespace);
    let mut child = group("child", "team-a/child");
    child["metadata"]["namespace"] = json!(second.namespace);
    child["spec"]["proxyRef"] = json!({"name": "main", "namespace": stage.namespace});
    stage.apply(child).await;
    stage.says(GROUP, &child_name, "Accepted", "False", "PathConflict").await;
    stage.delete(GROUP, "team").await;
    stage.says(GROUP, &child_name, "Accepted", "True", "Accepted").await;
}

#[tokio::test]
async fn a_sixth_registry_waits_until_one_of_five_goes() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(group("team", "team-a")).await;
    stage.apply(upstream("hub")).await;
    let registry = |name: &str| {
        object("VirtualRegistry", name, json!({"groupRef": {"name": "team"}, "upstreams": [{"name": "hub"}]}))
    };
    for name in ["r1", "r2", "r3", "r4", "r5", "r6"] {
        stage.apply(registry(name)).await;
    }
    // All came in the same second or later: the name decides where the time does not.
    stage.says("VirtualRegistry", "r6", "Accepted", "False", "TooManyRegistries").await;
    for name in ["r1", "r2", "r3", "r4", "r5"] {
        stage.says("VirtualRegistry", name, "Accepted", "True", "Accepted").await;
    }
    stage.delete("VirtualRegistry", "r2").await;
    stage.says("VirtualRegistry", "r6", "Accepted", "True", "Accepted").await;
}

#[tokio::test]
async fn what_is_referred_to_and_missing_is_named_and_found_when_it_comes() {
    let Some(stage) = Stage::new().await else { return };
    let mut team = group("team", "team-a");
    team["spec"]["upstreamRef"] = json!({"name": "hub"});
    stage.apply(team).await;
    let message = stage.says(GROUP, "team", "ResolvedRefs", "False", "ProxyNotFound").await;
    assert!(message.contains("create it or correct the name"), "{message}");
    stage.apply(proxy("main")).await;
    stage.says(GROUP, "team", "ResolvedRefs", "False", "UpstreamNotFound").await;
    let mut hub = upstream("hub");
    hub["spec"]["credentialsSecretRef"] = json!({"name": "hub"});
    stage.apply(hub).await;
    stage.says("RegistryUpstream", "hub", "Accepted", "False", "SecretNotFound").await;
    stage.apply(account("hub", "robot", "a-password-of-the-hub")).await;
    stage.says("RegistryUpstream", "hub", "Accepted", "True", "Accepted").await;
    stage.says(GROUP, "team", "ResolvedRefs", "True", "ResolvedRefs").await;
    let upstream = |object: &Value| object["status"]["account"] == "robot";
    stage.until("RegistryUpstream", "hub", "names its account", upstream).await;

    let registry = json!({"groupRef": {"name": "nobody"}, "upstreams": [{"name": "hub"}]});
    stage.apply(object("VirtualRegistry", "all", registry)).await;
    stage
        .until("VirtualRegistry", "all", "waits for its group", |object| {
            crate::stage::condition_of(object, "ResolvedRefs")["status"] == "False"
        })
        .await;
    stage.apply(group("nobody", "nobody")).await;
    stage.says("VirtualRegistry", "all", "ResolvedRefs", "True", "ResolvedRefs").await;
}

#[tokio::test]
async fn a_group_without_an_instance_says_nothing_false_of_its_upstream() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(upstream("hub")).await;
    for (name, main) in [("served", "main"), ("lost", "nowhere")] {
        let mut group = group(name, name);
        group["spec"]["proxyRef"] = json!({"name": main});
        group["spec"]["upstreamRef"] = json!({"name": "hub"});
        stage.apply(group).await;
    }
    stage.says(GROUP, "served", "ResolvedRefs", "True", "ResolvedRefs").await;
    let message = stage.says(GROUP, "lost", "ResolvedRefs", "False", "ProxyNotFound").await;
    assert!(!message.contains("hub"), "{message}");
}

#[tokio::test]
async fn an_upstream_that_nobody_refers_to_says_so() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(upstream("hub")).await;
    stage.says("RegistryUpstream", "hub", "Reachable", "Unknown", "NotInUse").await;
}

#[tokio::test]
async fn a_status_that_somebody_else_edits_is_mended() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(upstream("hub")).await;
    stage.apply(group("team", "team-a")).await;
    let registry = json!({"groupRef": {"name": "team"}, "upstreams": [{"name": "hub"}]});
    stage.apply(object("VirtualRegistry", "all", registry)).await;
    stage
        .apply(object("PullBinding", "ci", json!({"groupRef": {"name": "team"}, "pullSecretName": "p"})))
        .await;
    let _pod = FakePod::of(&stage, "main").await;
    let objects = [
        ("DependencyProxy", "main"),
        ("RegistryUpstream", "hub"),
        (GROUP, "team"),
        ("VirtualRegistry", "all"),
        ("PullBinding", "ci"),
    ];
    for (kind, name) in objects {
        // An upstream that no pod has asked stays Unknown.
        let settled = |object: &Value| {
            let ready = object["status"]["ready"].as_str();
            ready == Some("True") || (kind == "RegistryUpstream" && ready == Some("Pending"))
        };
        stage.until(kind, name, "is settled", settled).await;
    }
    for (kind, name) in objects {
        let before = stage.get(kind, name).await.unwrap()["status"].clone();
        for lie in [json!({"ready": "Nonsense"}), json!({"conditions": []}), json!(null)] {
            let edit = Patch::Merge(json!({"status": lie}));
            stage.of(kind).patch_status(name, &PatchParams::default(), &edit).await.unwrap();
            let is_mended = |object: &Value| {
                let reason = |status: &Value| status["conditions"][0]["reason"].clone();
                let status = &object["status"];
                status["ready"] == before["ready"] && reason(status) == reason(&before)
            };
            stage.until(kind, name, &format!("is mended of {lie}"), is_mended).await;
        }
    }
}

#[tokio::test]
async fn a_namespace_that_the_instance_or_the_upstream_no_longer_allows_is_out_at_once() {
    let Some(second) = Ground::new().await else { return };
    let Some(stage) = Stage::with(&[&second.namespace]).await else { return };
    let name = format!("{}/team", second.namespace);
    let mut main = proxy("main");
    main["spec"]["allowedGroups"] = json!({"from": "Selector", "selector": {"matchLabels": {"team": "yes"}}});
    stage.apply(main.clone()).await;
    let mut hub = upstream("hub");
    hub["spec"]["allowedGroups"] = json!({"from": "All"});
    stage.apply(hub.clone()).await;
    let mut team = group("team", "team-a");
    team["metadata"]["namespace"] = json!(second.namespace);
    team["spec"]["proxyRef"] = json!({"name": "main", "namespace": stage.namespace});
    team["spec"]["upstreamRef"] = json!({"name": "hub", "namespace": stage.namespace});
    stage.apply(team).await;
    stage.says(GROUP, &name, "Accepted", "False", "NotAllowedByProxy").await;
    // A label lets it in.
    stage.patch("Namespace", &second.namespace, json!({"metadata": {"labels": {"team": "yes"}}})).await;
    stage.says(GROUP, &name, "Accepted", "True", "Accepted").await;
    let _pod = FakePod::of(&stage, "main").await;
    stage.says(GROUP, &name, "Ready", "True", "Programmed").await;
    hub["spec"]["allowedGroups"] = json!({"from": "Same"});
    stage.apply(hub.clone()).await;
    stage.says(GROUP, &name, "ResolvedRefs", "False", "NotAllowedByUpstream").await;
    stage.says(GROUP, &name, "Programmed", "False", "NotServed").await;
    hub["spec"]["allowedGroups"] = json!({"from": "All"});
    stage.apply(hub).await;
    stage.says(GROUP, &name, "Ready", "True", "Programmed").await;
    main["spec"]["allowedGroups"] = json!({"from": "Same"});
    stage.apply(main).await;
    stage.says(GROUP, &name, "Accepted", "False", "NotAllowedByProxy").await;
    stage.says(GROUP, &name, "Programmed", "False", "NotServed").await;
}
