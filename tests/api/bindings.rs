//! What a PullBinding gives to a namespace, and that it takes all of it back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::operator::Operator;
use serde_json::{Value, json};

use crate::ground::Ground;
use crate::pod::FakePod;
use crate::stage::{Stage, group, object, proxy};

/// For what takes moments; whoever only looks from time to time does so every 30 s and more.
const SOON: Duration = Duration::from_secs(10);

/// The binding `ci` of the group `team`, with everything it may ask for.
fn binding() -> Value {
    let spec = json!({
        "groupRef": {"name": "team"}, "pullSecretName": "pull", "serviceAccounts": ["default"],
        "ciVariables": {"configMapName": "variables", "secretName": "secret-variables"},
    });
    object("PullBinding", "ci", spec)
}

/// An instance with a pod, and the group `team` under `team-a/child`.
async fn served() -> Option<(Stage, FakePod)> {
    let stage = Stage::new().await?;
    stage.apply(proxy("main")).await;
    stage.apply(group("team", "team-a/child")).await;
    stage.comes("ServiceAccount", "default").await;
    let pod = FakePod::of(&stage, "main").await;
    Some((stage, pod))
}

/// A value of a Secret.
fn text(secret: &Value, key: &str) -> String {
    let data = secret["data"][key].as_str().unwrap_or_else(|| panic!("no {key} in {secret:#}"));
    String::from_utf8(STANDARD.decode(data).unwrap()).unwrap()
}

fn pull_secrets(account: &Value) -> BTreeSet<String> {
    let list = account["imagePullSecrets"].as_array().into_iter().flatten();
    list.map(|reference| reference["name"].as_str().unwrap().to_owned()).collect()
}

fn has_pull_secret(name: &str) -> impl Fn(&Value) -> bool {
    move |account| pull_secrets(account).contains(name)
}

fn lacks_pull_secret(name: &str) -> impl Fn(&Value) -> bool {
    move |account| !account.is_null() && !pull_secrets(account).contains(name)
}

#[tokio::test]
async fn a_binding_gives_a_pull_secret_variables_and_service_accounts() {
    let Some((stage, pod)) = served().await else { return };
    stage.apply(binding()).await;
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
    let pull = stage.comes("Secret", "pull").await;
    assert_eq!(pull["type"], "kubernetes.io/dockerconfigjson");
    let docker = serde_json::from_str::<Value>(&text(&pull, ".dockerconfigjson")).unwrap();
    let username = format!("{}.ci", stage.namespace);
    for host in ["proxy.example.com", "proxy.example.com:443"] {
        assert_eq!(docker["auths"][host]["username"], username.as_str(), "{host}");
    }
    // As in GitLab: the port is always stated, the group's prefix is that of its top-level group.
    let variables = stage.comes("ConfigMap", "variables").await;
    let expected = json!({
        "CI_DEPENDENCY_PROXY_SERVER": "proxy.example.com:443",
        "CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX":
            "proxy.example.com:443/team-a/dependency_proxy/containers",
        "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX":
            "proxy.example.com:443/team-a/child/dependency_proxy/containers",
    });
    assert_eq!(variables["data"], expected);
    let secret = stage.comes("Secret", "secret-variables").await;
    assert_eq!(text(&secret, "CI_DEPENDENCY_PROXY_USER"), username);
    let password = text(&secret, "CI_DEPENDENCY_PROXY_PASSWORD");
    assert_eq!(docker["auths"]["proxy.example.com"]["password"], password.as_str());
    let auth = serde_json::from_str::<Value>(&text(&secret, "DOCKER_AUTH_CONFIG")).unwrap();
    assert_eq!(auth, docker);
    stage.until("ServiceAccount", "default", "has the pull secret", has_pull_secret("pull")).await;

    // The pods have the password hashed, never as it is.
    let id = config::ObjectId { namespace: stage.namespace.clone(), name: "main".to_owned() };
    let documents = crate::pod::documents(&stage.client, &id).await.unwrap();
    assert!(documents.contains("ci-dependency-proxy-credentials") && !documents.contains(&password));
    let status = stage.get("PullBinding", "ci").await.unwrap()["status"].clone();
    assert_eq!(status["imagePrefix"], "proxy.example.com/team-a/child/dependency_proxy/containers");
    assert!(status["expiresAt"].is_string());
    assert!(!stage.operator.log().contains(&password), "a password in the log");
    drop(pod);
}

#[tokio::test]
async fn nothing_is_handed_out_before_a_pod_takes_it() {
    let Some((stage, pod)) = served().await else { return };
    stage.says("DependencyProxyGroup", "team", "Ready", "True", "Programmed").await;
    pod.freeze();
    stage.apply(binding()).await;
    stage.says("PullBinding", "ci", "Programmed", "Unknown", "Pending").await;
    stage.comes("Secret", "ci-dependency-proxy-credentials").await;
    assert_eq!(stage.get("Secret", "pull").await, None);
    pod.thaw();
    stage.comes("Secret", "pull").await;
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
}

#[tokio::test]
async fn under_a_new_name_the_old_pull_secret_goes_everywhere() {
    let Some((stage, _pod)) = served().await else { return };
    stage.apply(binding()).await;
    stage.until("ServiceAccount", "default", "has the pull secret", has_pull_secret("pull")).await;
    // Somebody else's entry stays.
    let others = json!({"imagePullSecrets": [{"name": "others"}, {"name": "pull"}]});
    stage.patch("ServiceAccount", "default", others).await;
    stage.patch("PullBinding", "ci", json!({"spec": {"pullSecretName": "renamed"}})).await;
    stage.comes("Secret", "renamed").await;
    stage.goes("Secret", "pull").await;
    let account =
        stage.until("ServiceAccount", "default", "lost the old one", lacks_pull_secret("pull")).await;
    assert_eq!(pull_secrets(&account), ["others", "renamed"].map(str::to_owned).into());
    stage.patch("PullBinding", "ci", json!({"spec": {"serviceAccounts": [], "ciVariables": null}})).await;
    stage.until("ServiceAccount", "default", "lost the new one", lacks_pull_secret("renamed")).await;
    stage.goes("ConfigMap", "variables").await;
    stage.goes("Secret", "secret-variables").await;
    stage.comes("Secret", "renamed").await;
}

#[tokio::test]
async fn somebody_elses_secret_is_not_touched() {
    let Some((stage, _pod)) = served().await else { return };
    let data = json!({"kept": STANDARD.encode("as it is")});
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}, "data": data});
    stage.apply(foreign).await;
    stage.apply(binding()).await;
    let message = stage.says("PullBinding", "ci", "ResolvedRefs", "False", "NameConflict").await;
    assert!(message.contains("Secret pull") && message.contains("choose another name"), "{message}");
    assert_eq!(stage.get("Secret", "pull").await.unwrap()["data"], data);
    stage.patch("PullBinding", "ci", json!({"spec": {"pullSecretName": "free"}})).await;
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
    assert_eq!(stage.get("Secret", "pull").await.unwrap()["data"], data);
    stage.delete("PullBinding", "ci").await;
    stage.goes("Secret", "free").await;
    assert_eq!(stage.get("Secret", "pull").await.unwrap()["data"], data);
}

#[tokio::test]
async fn a_name_that_somebody_else_gives_up_is_taken() {
    let Some((stage, _pod)) = served().await else { return };
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}});
    stage.apply(foreign).await;
    stage.apply(binding()).await;
    stage.says("PullBinding", "ci", "ResolvedRefs", "False", "NameConflict").await;
    stage.delete("Secret", "pull").await;
    // Somebody else's objects wake nobody: they are looked at every half a minute.
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
    stage.comes("Secret", "pull").await;
}

#[tokio::test]
async fn a_service_account_that_comes_late_gets_its_pull_secret() {
    let Some((stage, _pod)) = served().await else { return };
    let mut late = binding();
    late["spec"]["serviceAccounts"] = json!(["late"]);
    stage.apply(late).await;
    let message = stage.says("PullBinding", "ci", "ResolvedRefs", "False", "ServiceAccountNotFound").await;
    assert!(message.contains("no ServiceAccount late"), "{message}");
    stage.apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "late"}})).await;
    let came = Instant::now();
    stage.until("ServiceAccount", "late", "has the pull secret", has_pull_secret("pull")).await;
    assert!(came.elapsed() < SOON, "it took {:?}", came.elapsed());
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
}

#[tokio::test]
async fn what_somebody_takes_from_a_binding_or_changes_comes_back() {
    let Some((stage, _pod)) = served().await else { return };
    stage.apply(binding()).await;
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
    for (kind, name) in [("Secret", "pull"), ("Secret", "secret-variables"), ("ConfigMap", "variables")] {
        let before = stage.comes(kind, name).await;
        stage.delete(kind, name).await;
        let deleted = Instant::now();
        let is_new = |now: &Value| !now.is_null() && now["metadata"]["uid"] != before["metadata"]["uid"];
        let now = stage.until(kind, name, "is there again", is_new).await;
        assert_eq!(now["data"], before["data"], "the same password");
        assert!(deleted.elapsed() < SOON, "{kind} {name} is back after {:?}", deleted.elapsed());
    }
    let changed = Instant::now();
    let before = stage.comes("ConfigMap", "variables").await["data"].clone();
    let other = json!({"data": {"CI_DEPENDENCY_PROXY_SERVER": "elsewhere.example.com:443"}});
    stage.patch("ConfigMap", "variables", other).await;
    stage.until("ConfigMap", "variables", "is as it was", |now| now["data"] == before).await;
    // As GitOps does that writes its own list.
    stage.patch("ServiceAccount", "default", json!({"imagePullSecrets": [{"name": "others"}]})).await;
    let account = stage.until("ServiceAccount", "default", "has it again", has_pull_secret("pull")).await;
    assert!(pull_secrets(&account).contains("others"));
    assert!(changed.elapsed() < SOON, "it took {:?}", changed.elapsed());

    // Without what is kept of it, a new password takes the place of the old one.
    let before = stage.comes("Secret", "pull").await["data"].clone();
    stage.delete("Secret", "ci-dependency-proxy-credentials").await;
    stage.until("Secret", "pull", "has another password", |now| now["data"] != before).await;
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
}

#[tokio::test]
async fn a_deleted_binding_gives_everything_back() {
    let Some((stage, _pod)) = served().await else { return };
    stage.apply(binding()).await;
    stage.until("ServiceAccount", "default", "has the pull secret", has_pull_secret("pull")).await;
    stage.delete("PullBinding", "ci").await;
    stage.goes("PullBinding", "ci").await;
    let account = stage.get("ServiceAccount", "default").await.unwrap();
    assert!(lacks_pull_secret("pull")(&account), "the finalizer comes before the end: {account:#}");
    for (kind, name) in [
        ("Secret", "pull"),
        ("Secret", "secret-variables"),
        ("Secret", "ci-dependency-proxy-credentials"),
        ("ConfigMap", "variables"),
    ] {
        stage.goes(kind, name).await;
    }
}

#[tokio::test]
async fn a_group_that_no_longer_allows_the_namespace_takes_everything_back() {
    let Some(second) = Ground::new().await else { return };
    let Some(stage) = Stage::with(&[&second.namespace]).await else { return };
    stage.apply(proxy("main")).await;
    let mut team = group("team", "team-a");
    team["spec"]["allowedConsumers"] = json!({"from": "All"});
    stage.apply(team.clone()).await;
    let _pod = FakePod::of(&stage, "main").await;
    let name = |name: &str| format!("{}/{name}", second.namespace);
    stage.comes("ServiceAccount", &name("default")).await;
    let mut binding = binding();
    binding["metadata"]["namespace"] = json!(second.namespace);
    binding["spec"]["groupRef"] = json!({"name": "team", "namespace": stage.namespace});
    stage.apply(binding).await;
    stage.says("PullBinding", &name("ci"), "Ready", "True", "Programmed").await;
    let first = stage.comes("Secret", &name("pull")).await;
    team["spec"]["allowedConsumers"] = json!({"from": "Same"});
    stage.apply(team.clone()).await;
    stage.says("PullBinding", &name("ci"), "Accepted", "False", "NotAllowedByGroup").await;
    for (kind, gone) in [("Secret", "pull"), ("Secret", "secret-variables"), ("ConfigMap", "variables")] {
        stage.goes(kind, &name(gone)).await;
    }
    let lost = lacks_pull_secret("pull");
    stage.until("ServiceAccount", &name("default"), "lost the pull secret", lost).await;
    // Allowed again, it gets a new password.
    team["spec"]["allowedConsumers"] = json!({"from": "All"});
    stage.apply(team).await;
    let again = stage.comes("Secret", &name("pull")).await;
    assert_ne!(again["data"], first["data"]);
}

#[tokio::test]
async fn an_old_password_is_renewed_and_works_until_the_overlap_has_passed() {
    let Some((mut stage, pod)) = served().await else { return };
    stage.apply(binding()).await;
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
    let kept = stage.comes("Secret", "ci-dependency-proxy-credentials").await;
    let (id, old) = (text(&kept, "current"), text(&stage.comes("Secret", "pull").await, ".dockerconfigjson"));
    let password = text(&kept, &format!("password.{id}"));
    // The least time to live is an hour, so the password is made older, as if it had been kept for long.
    let aged = "20240101000000";
    let data = json!({
        "current": STANDARD.encode(aged), format!("password.{aged}"): STANDARD.encode(&password),
        format!("password.{id}"): null,
    });
    // While nobody else writes it.
    stage.operator.terminate().await;
    stage.patch("Secret", "ci-dependency-proxy-credentials", json!({"data": data})).await;
    pod.freeze();
    stage.operator = Operator::start(&stage.arguments).await;
    let renewed = |kept: &Value| kept["data"].as_object().is_some_and(|data| data.len() == 4);
    stage.until("Secret", "ci-dependency-proxy-credentials", "has a second password", renewed).await;
    assert_eq!(
        text(&stage.comes("Secret", "pull").await, ".dockerconfigjson"),
        old,
        "no pod takes the new one"
    );
    pod.thaw();
    let is_new = |secret: &Value| text(secret, ".dockerconfigjson") != old;
    stage.until("Secret", "pull", "has the new password", is_new).await;
    let kept = stage.comes("Secret", "ci-dependency-proxy-credentials").await;
    assert_eq!(text(&kept, &format!("password.{aged}")), password, "the old one still works");
    assert!(!text(&kept, &format!("expires.{aged}")).is_empty());
}
