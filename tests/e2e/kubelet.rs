//! Images that kubelets and jobs pull through the proxy, with credentials that nobody typed.

use harness::blob::{Blob, Layer};
use harness::client::Crane;

use crate::installation::{Installation, Instance};

/// A namespace that pulls: its binding, and an allowed consumer of the group.
pub(crate) async fn consumer(installation: &Installation, instance: &Instance<'_>, name: &str) {
    let group = &instance.name;
    instance
        .patch(
            "dependencyproxygroup/team",
            r#"{"spec":{"allowedConsumers":{"from":"Selector","selector":{"matchLabels":{"pulls":"yes"}}}}}"#,
        )
        .await;
    installation
        .kubectl
        .apply(&format!(
            r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {name}, labels: {{pulls: "yes"}}}}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: PullBinding
metadata: {{name: team, namespace: {name}}}
spec:
  groupRef: {{name: team, namespace: {group}}}
  pullSecretName: pull
  serviceAccounts: [default]
  ciVariables: {{configMapName: variables, secretName: credentials}}
"#
        ))
        .await;
    installation.kubectl.wait(name, "pullbinding/team", "condition=Ready").await;
}

/// Nodes speak plain http to this registry.
pub(crate) async fn allow_http(installation: &Installation, registry: &str) {
    let toml = format!(
        "server = \"http://{registry}\"\n[host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
    );
    installation.cluster.hosts(registry, &toml).await;
}

/// Makes `library/fresh` upstream: busybox with a layer that no node has.
async fn append_fresh_layer(installation: &Installation) {
    installation.cluster.upstream("library/busybox").await;
    let folder = tempfile::tempdir().unwrap();
    let layer = folder.path().join("layer.tar.gz");
    let content = Blob::random(300_000).bytes;
    std::fs::write(&layer, Layer::of(&[("content", 0o644, content.as_ref())]).blob.bytes).unwrap();
    let library = format!("{}:30501/library", installation.nodes[0].address);
    let (base, fresh) = (format!("{library}/busybox"), format!("{library}/fresh"));
    let layer = layer.display().to_string();
    Crane::new().call(&["append", "--insecure", "-b", &base, "-f", &layer, "-t", &fresh]).await.succeeds();
}

/// How many of the answers of this kind that all pods gave were misses, and how many came from the cache.
async fn served(instance: &Instance<'_>, kind: &str) -> (u64, u64) {
    let (mut misses, mut hits) = (0, 0);
    for pod in instance.pods().await {
        let (missed, hit) = served_by(instance, &pod, kind).await;
        misses += missed;
        hits += hit;
    }
    (misses, hits)
}

/// The same of one pod.
pub(crate) async fn served_by(instance: &Instance<'_>, pod: &str, kind: &str) -> (u64, u64) {
    let metrics = instance.admin(pod, "/metrics").await;
    let count = |result: &str| {
        let labels = [format!("kind=\"{kind}\""), format!("result=\"{result}\"")];
        let lines = metrics.lines().filter(|line| {
            line.starts_with("dependency_proxy_requests_total{")
                && labels.iter().all(|label| line.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    (count("miss"), count("hit") + count("revalidated"))
}

#[tokio::test(flavor = "multi_thread")]
async fn kubelets_pull_through_the_proxy_with_the_bindings_secret() {
    let Some(installation) = Installation::on_our_nodes().await else { return };
    let instance = installation.instance("kubelets", 30515, 2).await;
    let registry = &instance.host(1);
    allow_http(&installation, registry).await;
    consumer(&installation, &instance, "kubelets-ci").await;
    let kubectl = &installation.kubectl;
    append_fresh_layer(&installation).await;
    for node in ["node1", "node2"] {
        kubectl
            .apply(&format!(
                r#"
apiVersion: v1
kind: Pod
metadata: {{name: {node}, namespace: kubelets-ci}}
spec:
  nodeName: {node}
  restartPolicy: Never
  containers:
  - {{name: app, image: "{registry}/kubelets/dependency_proxy/containers/fresh", imagePullPolicy: Always, command: ["test", "-s", "/content"]}}
"#
            ))
            .await;
        kubectl.wait("kubelets-ci", &format!("pod/{node}"), "jsonpath={.status.phase}=Succeeded").await;
    }
    let [manifests, blobs] = [served(&instance, "manifest").await, served(&instance, "blob").await];
    for (what, (misses, hits), most) in [("tag and manifest", manifests, 4), ("config and layers", blobs, 6)]
    {
        harness::say!("two nodes pulled {what} through two replicas: {misses} misses, {hits} hits");
        assert!((1..=most).contains(&misses), "{what}, once per replica at most: {misses}");
    }
    assert!(manifests.1 >= 1, "the second node's are hits");
    assert!(blobs.0 + blobs.1 >= 4, "each node took the layer and the config that it did not have");
    kubectl.run(&["delete", "namespace", "kubelets-ci", "--wait=false"]).await.succeeds();
    instance.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_reads_the_ci_variables_and_pulls_from_inside() {
    let Some(installation) = Installation::alone().await else { return };
    let instance = installation.instance("jobs", 30516, 1).await;
    consumer(&installation, &instance, "jobs-ci").await;
    let kubectl = &installation.kubectl;
    kubectl
        .apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: jobs-ci}
spec:
  restartPolicy: Never
  containers:
  - name: crane
    image: localhost/crane:1
    imagePullPolicy: Never
    args: [pull, --insecure, $(CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX)/app:1, /images/app.tar]
    envFrom: [{configMapRef: {name: variables}}, {secretRef: {name: credentials}}]
    env: [{name: DOCKER_CONFIG, value: /docker}]
    volumeMounts: [{name: docker, mountPath: /docker}, {name: images, mountPath: /images}]
  volumes:
  - {name: docker, secret: {secretName: pull, items: [{key: .dockerconfigjson, path: config.json}]}}
  - {name: images, emptyDir: {}}
"#,
        )
        .await;
    kubectl.wait("jobs-ci", "pod/job", "jsonpath={.status.phase}=Succeeded").await;
    let (misses, hits) = served(&instance, "blob").await;
    assert!(misses + hits >= 3, "two layers and a config came through the proxy: {misses} and {hits}");
    let variables = kubectl.json(&["get", "configmap", "-n", "jobs-ci", "variables"]).await;
    assert_eq!(variables["data"]["CI_DEPENDENCY_PROXY_SERVER"], instance.host(1));

    // What the owner withdraws is taken away.
    instance
        .patch(
            "dependencyproxygroup/team",
            r#"{"spec":{"allowedConsumers":{"from":"Same","selector":null}}}"#,
        )
        .await;
    kubectl.wait("jobs-ci", "secret/pull", "delete").await;
    kubectl.wait("jobs-ci", "configmap/variables", "delete").await;
    let account = kubectl.json(&["get", "serviceaccount", "-n", "jobs-ci", "default"]).await;
    assert!(!account.to_string().contains("\"pull\""), "{account}");
    kubectl.run(&["delete", "namespace", "jobs-ci", "--wait=false"]).await.succeeds();
    instance.end().await;
}
