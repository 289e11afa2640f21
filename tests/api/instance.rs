//! What an instance gets, and that it keeps it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::pod::{FakePod, documents, served};
use crate::stage::{Stage, account, group, object, proxy, upstream};

/// The name of most objects of the instance `main`.
pub(crate) const CHILD: &str = "main-dependency-proxy";

#[tokio::test]
async fn an_instance_gets_its_objects_and_documents_that_pods_take_without_a_problem() {
    let Some(stage) = Stage::new().await else { return };
    let restricted = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    stage.patch("Namespace", &stage.namespace, restricted).await;
    stage.apply(account("hub", "robot", "a-password-of-the-hub")).await;
    let mut hub = upstream("hub");
    hub["spec"]["credentialsSecretRef"] = json!({"name": "hub"});
    stage.apply(hub).await;
    let mut team = group("team", "team-a");
    team["spec"]["upstreamRef"] = json!({"name": "hub"});
    stage.apply(team).await;
    let registry = json!({"groupRef": {"name": "team"}, "upstreams": [{"name": "hub"}]});
    stage.apply(object("VirtualRegistry", "all", registry)).await;
    stage.apply(proxy("main")).await;

    // The API server itself finds the pods restricted: it lets the Deployment make one.
    let replica_made = |object: &Value| object["status"]["replicas"] == 1;
    stage.until("Deployment", CHILD, "has a pod in a restricted namespace", replica_made).await;
    let owner = stage.get("DependencyProxy", "main").await.unwrap()["metadata"]["uid"].clone();
    for (kind, name) in [
        ("Deployment", CHILD),
        ("Service", CHILD),
        ("Service", "main-dependency-proxy-metrics"),
        ("ServiceAccount", CHILD),
        ("NetworkPolicy", CHILD),
        ("PodDisruptionBudget", CHILD),
        ("Secret", "main-dependency-proxy-documents"),
        ("Secret", "main-dependency-proxy-keys"),
    ] {
        let made = stage.comes(kind, name).await;
        let metadata = &made["metadata"];
        assert_eq!(metadata["ownerReferences"][0]["uid"], owner, "{kind} {name}");
        assert_eq!(metadata["ownerReferences"][0]["controller"], true, "{kind} {name}");
        let manager = &metadata["labels"]["app.kubernetes.io/managed-by"];
        assert_eq!(manager, "dependency-proxy-operator", "{kind} {name}");
    }
    let id = config::ObjectId { namespace: stage.namespace.clone(), name: "main".to_owned() };
    let has_all = |object: &Value| object["status"]["groups"] == 1;
    stage.until("DependencyProxy", "main", "has its group", has_all).await;
    let text = documents(&stage.client, &id).await.expect("documents");
    let config = served(&text, &id).expect("they serve");
    assert!(config.groups.contains_key("team-a"));
    assert!(config.registries.contains_key(&format!("{}.all", stage.namespace)));
    let hub = config.groups["team-a"].upstream.credentials.as_ref().expect("the upstream's account");
    assert_eq!(hub.username, "robot");
}

#[tokio::test]
async fn with_a_pod_that_has_the_documents_everything_is_ready() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.apply(upstream("hub")).await;
    let mut team = group("team", "team-a");
    team["spec"]["upstreamRef"] = json!({"name": "hub"});
    stage.apply(team).await;
    let message = stage.says("DependencyProxy", "main", "Ready", "False", "MinimumReplicasUnavailable").await;
    assert!(message.starts_with("0 of 1 pods are ready"), "{message}");
    stage.says("DependencyProxyGroup", "team", "Programmed", "Unknown", "Pending").await;
    let pod = FakePod::of(&stage, "main").await;
    stage.says("DependencyProxy", "main", "Ready", "True", "AllReplicasReady").await;
    let message = stage.says("DependencyProxyGroup", "team", "Ready", "True", "Programmed").await;
    assert_eq!(message, "Pull from proxy.example.com/team-a/dependency_proxy/containers");
    stage.says("RegistryUpstream", "hub", "Reachable", "Unknown", "Pending").await;

    // What pods learn of the store and of upstreams is told.
    let limit = json!({"limit": 200, "windowSeconds": 21600});
    pod.says(json!({
        "store": {"reachable": false, "reason": "AccessDenied", "message": "the bucket says no"},
        "upstreams": [{"id": format!("{}/hub", stage.namespace), "reachable": true, "rateLimit": limit,
            "credentialsValid": false, "reason": "Rejected", "message": "the account is refused"}],
    }));
    stage.says("DependencyProxy", "main", "StorageReachable", "False", "AccessDenied").await;
    stage.says("RegistryUpstream", "hub", "CredentialsValid", "False", "Rejected").await;
    let upstream = stage.get("RegistryUpstream", "hub").await.unwrap();
    assert_eq!(upstream["status"]["limit"], "200/6h");

    // A change is said to serve when the pod has it, not before.
    pod.freeze();
    stage.apply(group("late", "team-b")).await;
    stage.says("DependencyProxyGroup", "late", "Programmed", "Unknown", "Pending").await;
    pod.thaw();
    stage.says("DependencyProxyGroup", "late", "Ready", "True", "Programmed").await;
}

#[tokio::test]
async fn autoscaling_comes_and_goes_and_never_takes_pods_away_by_itself() {
    let Some(stage) = Stage::new().await else { return };
    let mut main = proxy("main");
    main["spec"]["storage"] = json!({"s3": {"bucket": "blobs", "region": "us-east-1"}});
    main["spec"]["replicas"] = json!(3);
    stage.apply(main.clone()).await;
    stage.until("Deployment", CHILD, "has three replicas", |object| object["spec"]["replicas"] == 3).await;
    main["spec"].as_object_mut().unwrap().remove("replicas");
    main["spec"]["autoscaling"] = json!({"minReplicas": 2, "maxReplicas": 6});
    stage.apply(main.clone()).await;
    let scaler = stage.comes("HorizontalPodAutoscaler", CHILD).await;
    assert_eq!(scaler["spec"]["maxReplicas"], 6);
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], CHILD);
    let deployment = stage.get("Deployment", CHILD).await.unwrap();
    assert_eq!(deployment["spec"]["replicas"], 3, "the autoscaler begins with what there is");
    stage.patch("Deployment", CHILD, json!({"spec": {"replicas": 5}})).await;
    stage.patch("DependencyProxy", "main", json!({"spec": {"drainSeconds": 60}})).await;
    let deployment = stage.until("Deployment", CHILD, "drains for 60 s", drains_for(60)).await;
    assert_eq!(deployment["spec"]["replicas"], 5, "the number is the autoscaler's");
    main["spec"].as_object_mut().unwrap().remove("autoscaling");
    main["spec"]["replicas"] = json!(2);
    stage.apply(main).await;
    stage.goes("HorizontalPodAutoscaler", CHILD).await;
    stage.until("Deployment", CHILD, "has two replicas", |object| object["spec"]["replicas"] == 2).await;
}

/// Whether pods have so many seconds to drain, beside the operator's own margin.
pub(crate) fn drains_for(seconds: i64) -> impl Fn(&Value) -> bool {
    move |object| object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == seconds + 20
}

#[tokio::test]
async fn a_volume_is_claimed_and_its_pod_leaves_before_the_next_one_comes() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    let rolls = |object: &Value| object["spec"]["strategy"]["type"] == "RollingUpdate";
    stage.until("Deployment", CHILD, "rolls", rolls).await;
    let mut main = proxy("main");
    main["spec"]["storage"] = json!({"persistentVolumeClaim": {"size": "5Gi"}});
    stage.apply(main).await;
    let recreates = |object: &Value| object["spec"]["strategy"]["type"] == "Recreate";
    let deployment = stage.until("Deployment", CHILD, "is recreated", recreates).await;
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap().clone();
    assert!(volumes.iter().any(|volume| volume["persistentVolumeClaim"]["claimName"] == CHILD));
    let claim = stage.comes("PersistentVolumeClaim", CHILD).await;
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "5Gi");
    assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteOnce"]));
}

#[tokio::test]
async fn an_ingress_comes_and_goes() {
    let Some(stage) = Stage::new().await else { return };
    let mut main = proxy("main");
    main["spec"]["expose"] = json!({"ingress": {"className": "web", "tlsSecretName": "tls"}});
    stage.apply(main).await;
    let ingress = stage.comes("Ingress", CHILD).await;
    assert_eq!(ingress["spec"]["rules"][0]["host"], "proxy.example.com");
    assert_eq!(ingress["spec"]["tls"][0]["secretName"], "tls");
    let backend = &ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"];
    assert_eq!(*backend, json!({"name": CHILD, "port": {"name": "registry"}}));
    stage.apply(proxy("main")).await;
    stage.goes("Ingress", CHILD).await;
}

#[tokio::test]
async fn an_edit_that_means_nothing_is_taken_and_what_somebody_deletes_still_comes_back() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    let _pod = FakePod::of(&stage, "main").await;
    stage.says("DependencyProxy", "main", "Ready", "True", "AllReplicasReady").await;
    let spec = json!({"aliases": [], "mirrors": [], "upstreamNetworks": {"allowedCIDRs": []}});
    stage.patch("DependencyProxy", "main", json!({"spec": spec})).await;
    let seen = |object: &Value| {
        let generation = &object["metadata"]["generation"];
        *generation != 1 && object["status"]["observedGeneration"] == *generation
    };
    stage.until("DependencyProxy", "main", "is looked at", seen).await;
    stage.delete("Service", CHILD).await;
    stage.comes("Service", CHILD).await;
}

#[tokio::test]
async fn without_the_optional_kinds_the_instance_says_what_it_misses() {
    let Some(stage) = Stage::new().await else { return };
    let mut main = proxy("main");
    main["spec"]["expose"] = json!({"gateway": {"parentRefs": [{"name": "web"}]}});
    stage.apply(main).await;
    let message = stage.says("DependencyProxy", "main", "Exposed", "False", "NoGatewayAPI").await;
    assert!(message.contains("install it, or use ingress or service"), "{message}");
    let mut other = proxy("other");
    other["spec"]["tls"] = json!({"issuerRef": {"name": "ca"}});
    stage.apply(other).await;
    let message = stage.says("DependencyProxy", "other", "Exposed", "False", "NoCertManager").await;
    assert!(message.contains("install it, or use secretRef"), "{message}");
}

#[tokio::test]
async fn what_somebody_deletes_or_changes_comes_back() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    stage.comes("PodDisruptionBudget", CHILD).await;
    for (kind, name) in
        [("Deployment", CHILD), ("Service", CHILD), ("Secret", "main-dependency-proxy-documents")]
    {
        let before = stage.comes(kind, name).await["metadata"]["uid"].clone();
        stage.delete(kind, name).await;
        let is_new = |object: &Value| !object.is_null() && object["metadata"]["uid"] != before;
        let deleted = std::time::Instant::now();
        stage.until(kind, name, "is there again", is_new).await;
        assert!(deleted.elapsed() < Duration::from_secs(10), "{kind} is back after {:?}", deleted.elapsed());
    }
    let image = json!([{"name": "proxy", "image": "localhost/other:1"}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": image}}}});
    stage.patch("Deployment", CHILD, patch).await;
    let is_ours = |object: &Value| {
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        container["image"] == "localhost/dependency-proxy:test" && container["args"].is_array()
    };
    stage.until("Deployment", CHILD, "has our image again", is_ours).await;
    stage.patch("Service", CHILD, json!({"spec": {"selector": {"app": "other"}}})).await;
    let selects = |object: &Value| object["spec"]["selector"]["app.kubernetes.io/instance"] == "main";
    stage.until("Service", CHILD, "selects our pods again", selects).await;
}

#[tokio::test]
async fn pods_that_lack_documents_are_nudged_until_they_have_them() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    let pod = FakePod::of(&stage, "main").await;
    stage.says("DependencyProxy", "main", "Ready", "True", "AllReplicasReady").await;
    pod.freeze();
    stage.apply(group("team", "team-a")).await;
    // Kubelet may look a moment too early: the annotation changes once more, with a number behind the hash.
    let again = |pod: &Value| {
        let nudge = pod["metadata"]["annotations"]["dependencyproxy.dev/documents"].as_str();
        nudge.is_some_and(|nudge| nudge.split_once(' ').is_some_and(|(_, time)| time == "2"))
    };
    stage.until("Pod", &pod.name, "is nudged twice more", again).await;
    pod.thaw();
    stage.says("DependencyProxyGroup", "team", "Ready", "True", "Programmed").await;
}

#[tokio::test]
async fn a_new_signing_key_signs_when_pods_have_it_and_the_old_one_is_kept() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    let pod = FakePod::of(&stage, "main").await;
    stage.says("DependencyProxy", "main", "Ready", "True", "AllReplicasReady").await;
    let keys = stage.comes("Secret", "main-dependency-proxy-keys").await;
    let first = keys["data"]["current"].clone();
    pod.freeze();
    // An id is the second in which the key was made.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let rotate = json!({"metadata": {"annotations": {"dependencyproxy.dev/rotate-keys": "once"}}});
    stage.patch("DependencyProxy", "main", rotate).await;
    let keys = stage.until("Secret", "main-dependency-proxy-keys", "has a second key", has_two_keys).await;
    assert_eq!(keys["data"]["current"], first, "no pod has the new one");
    pod.thaw();
    let signs = |keys: &Value| keys["data"]["current"] != first;
    let keys = stage.until("Secret", "main-dependency-proxy-keys", "signs with the new key", signs).await;
    assert!(has_two_keys(&keys), "tokens of the old key are still in use");
    stage.says("DependencyProxy", "main", "Progressing", "False", "UpToDate").await;
}

fn has_two_keys(secret: &Value) -> bool {
    let data = secret["data"].as_object();
    data.is_some_and(|data| data.keys().filter(|key| key.starts_with("signing.")).count() == 2)
}

#[tokio::test]
async fn at_rest_nothing_is_written() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(account("ci", "ci", "a-token-of-the-group")).await;
    stage.apply(proxy("main")).await;
    stage.apply(upstream("hub")).await;
    let mut team = group("team", "team-a");
    team["spec"]["upstreamRef"] = json!({"name": "hub"});
    team["spec"]["deployTokens"] =
        json!([{"name": "ci", "secretRef": {"name": "ci"}, "scopes": ["read_registry"]}]);
    stage.apply(team).await;
    let registry = json!({"groupRef": {"name": "team"}, "upstreams": [{"name": "hub"}]});
    stage.apply(object("VirtualRegistry", "all", registry)).await;
    let binding =
        json!({"groupRef": {"name": "team"}, "pullSecretName": "pull", "serviceAccounts": ["default"]});
    stage.apply(object("PullBinding", "ci", binding)).await;
    // One that waits for ever is at rest too.
    stage.apply(group("without", "team-a")).await;
    let _pod = FakePod::of(&stage, "main").await;
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;
    stage.says("DependencyProxy", "main", "Ready", "True", "AllReplicasReady").await;

    let mut before = versions(&stage).await;
    // The last of the beginning's writes, or a clock of Kubernetes' own, may fall into the first period. What writes
    // at rest falls into all.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let now = versions(&stage).await;
        if now == before {
            return;
        }
        before = now;
    }
    let last = versions(&stage).await;
    panic!("something is written at rest:\n{before:#?}\n{last:#?}\n{}", stage.operator.log());
}

/// The version of every object that the operator may write, but for its Lease.
async fn versions(stage: &Stage) -> Vec<String> {
    let kinds = [
        "DependencyProxy",
        "RegistryUpstream",
        "DependencyProxyGroup",
        "VirtualRegistry",
        "PullBinding",
        "Secret",
        "ConfigMap",
        "Service",
        "ServiceAccount",
        "Pod",
        "Deployment",
        "PodDisruptionBudget",
        "NetworkPolicy",
    ];
    let all = stage.all(&kinds).await;
    let version =
        |o: &Value| format!("{} {} {}", o["kind"], o["metadata"]["name"], o["metadata"]["resourceVersion"]);
    all.iter().map(version).collect()
}

#[tokio::test]
async fn of_an_instance_that_is_deleted_no_metric_is_left() {
    let Some(stage) = Stage::new().await else { return };
    let metric = async |name: &str| {
        let name = format!("rendered_bytes{{proxy=\"{}/{name}\"}}", stage.namespace);
        stage.operator.metric(&name).await
    };
    let until = async |name: &str, is_there: bool| {
        let began = Instant::now();
        while metric(name).await.is_some() != is_there {
            assert!(began.elapsed() < Duration::from_secs(60), "{name}: {}", stage.operator.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    for name in ["main", "other"] {
        stage.apply(proxy(name)).await;
        until(name, true).await;
    }
    stage.delete("DependencyProxy", "other").await;
    until("other", false).await;
    assert!(metric("main").await > Some(0.0));
}
