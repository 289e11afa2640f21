//! The operator as its chart installs it, and instances of the proxy.
//!
//! Nodes are shared: tests that disturb them must not run beside each other, so each takes the installation for itself.

use std::path::Path;
use std::time::Duration;

use harness::client::Output;
use harness::cluster::{Cluster, Node};
use harness::image::Image;
use harness::kubectl::Kubectl;
use harness::pull::Client;
use harness::tool;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

pub(crate) const NAMESPACE: &str = "dependency-proxy";
pub(crate) const RELEASE: &str = "dependency-proxy";
const IMAGE: &str = "localhost/dependency-proxy";

static ALONE: Mutex<()> = Mutex::const_new(());

/// The cluster with operator, upstream registry and S3 server.
pub(crate) struct Installation {
    pub(crate) cluster: &'static Cluster,
    pub(crate) kubectl: Kubectl,
    pub(crate) nodes: [Node; 2],
    client: kube::Client,
    _alone: MutexGuard<'static, ()>,
}

impl Installation {
    /// None where there is no cluster.
    pub(crate) async fn alone() -> Option<Self> {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let alone = ALONE.lock().await;
        let cluster = Cluster::shared().await?;
        let nodes = cluster.nodes().await;
        let kubectl = cluster.kubectl();
        let client = kubectl.client().await;
        let installation = Self { cluster, kubectl, nodes, client, _alone: alone };
        INSTALLED.get_or_init(|| installation.begin()).await;
        Some(installation)
    }

    /// The same for tests that enter nodes: None on a user's own cluster.
    pub(crate) async fn on_our_nodes() -> Option<Self> {
        Cluster::with_nodes().await?;
        Self::alone().await
    }

    async fn begin(&self) {
        let archive = tool::target().join("image/dependency-proxy.tar");
        assert!(archive.exists(), "{} is not there: run make image", archive.display());
        self.cluster.load(&archive).await;
        self.cluster.s3().await;
        self.cluster.upstream("library/app").await;
        // They keep nothing on disk: a node that is drained must not take them along.
        for (namespace, name) in [("upstream", "registry"), ("store", "s3")] {
            self.pin(namespace, name).await;
        }
        self.refill().await;
        self.install(&chart()).await.succeeds();
    }

    /// Pushes what the tests pull: the upstream registry has lost it with its pod.
    pub(crate) async fn refill(&self) {
        self.rolled_out("upstream", "registry").await;
        self.cluster.refill_upstream().await;
        self.cluster.upstream("library/app").await.push(&Image::oci(), "1").await;
    }

    async fn pin(&self, namespace: &str, name: &str) {
        let node = serde_json::json!({"kubernetes.io/hostname": self.nodes[0].name});
        let patch = serde_json::json!({"spec": {"template": {"spec": {"nodeSelector": node}}}}).to_string();
        self.kubectl.run(&["patch", "-n", namespace, "deployment", name, "-p", &patch]).await.succeeds();
        self.rolled_out(namespace, name).await;
    }

    /// `helm upgrade --install` of a chart with the image of this working tree.
    pub(crate) async fn install(&self, chart: &Path) -> Output {
        let chart = chart.display().to_string();
        let (repository, tag) = (format!("image.repository={IMAGE}"), "image.tag=e2e");
        let arguments =
            ["upgrade", "--install", RELEASE, &chart, "--namespace", NAMESPACE, "--create-namespace"];
        let values = [
            "--set",
            &repository,
            "--set",
            tag,
            "--set",
            "image.pullPolicy=Never",
            "--wait",
            "--timeout=120s",
        ];
        self.helm(&[&arguments[..], &values[..]].concat()).await
    }

    pub(crate) async fn helm(&self, arguments: &[&str]) -> Output {
        self.kubectl.program(&tool::built("helm"), arguments).await
    }

    pub(crate) async fn rolled_out(&self, namespace: &str, deployment: &str) {
        let name = format!("deployment/{deployment}");
        self.kubectl.run(&["rollout", "status", "-n", namespace, &name, "--timeout=180s"]).await.succeeds();
    }

    /// Makes a namespace with an instance, an upstream, a group `library` and a deploy token, and waits until it serves.
    pub(crate) async fn instance(&self, name: &str, port: u16, replicas: u8) -> Instance<'_> {
        let [external, additional] =
            self.nodes.each_ref().map(|node| format!("http://{}:{port}", node.address));
        self.kubectl
            .apply(&format!(
                r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxy
metadata: {{name: main, namespace: {name}}}
spec:
  externalURL: {external}
  additionalURLs: ["{additional}", "http://main-dependency-proxy.{name}.svc:5000"]
  replicas: {replicas}
  image: {{repository: {IMAGE}, tag: e2e, pullPolicy: Never}}
  storage: {{s3: {{bucket: blobs, prefix: {name}, region: us-east-1, endpoint: "http://s3.store.svc:7070", pathStyle: true, credentialsSecretRef: {{name: s3}}}}}}
  localCache: {{sizeLimit: 1Gi}}
  drainSeconds: 30
  expose: {{service: {{type: NodePort, nodePort: {port}}}}}
  upstreamNetworks: {{allowedCIDRs: [10.0.0.0/8]}}
  auth: {{staticUsersSecretRef: {{name: users}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: s3, namespace: {name}}}
stringData: {{accessKeyID: AKIDCLUSTER, secretAccessKey: cluster-secret-key}}
---
# alice with the password change-me
apiVersion: v1
kind: Secret
metadata: {{name: users, namespace: {name}}}
stringData: {{users: "alice:$2y$10$qtaK1cXYXblil7rCqX7TNuAuwPaGsFiL1AT0ozFRp6VSNGdOjfjDS"}}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: RegistryUpstream
metadata: {{name: hub, namespace: {name}}}
spec: {{url: "http://registry.upstream.svc:5000", insecure: true, dockerHub: true}}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxyGroup
metadata: {{name: team, namespace: {name}}}
spec:
  proxyRef: {{name: main}}
  path: {name}
  upstreamRef: {{name: hub}}
  members: [{{name: alice, role: Guest, subject: {{kind: User, name: alice}}}}]
  deployTokens: [{{name: ci, secretRef: {{name: ci}}, scopes: [read_registry]}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: ci, namespace: {name}}}
type: kubernetes.io/basic-auth
stringData: {{username: ci, password: token-of-ci}}
"#
            ))
            .await;
        self.kubectl.wait(name, "dependencyproxy/main", "condition=Ready").await;
        self.kubectl.wait(name, "dependencyproxygroup/team", "condition=Ready").await;
        let instance = Instance { installation: self, name: name.to_owned(), port };
        let all = async || instance.status("readyReplicas").await == replicas;
        within(Duration::from_secs(90), "all replicas are ready", all).await;
        // Each node's kube-proxy hears of a port in its own time.
        for node in [1, 2] {
            let answers = async || instance.ci(node).manifest("app", "1").await.status == 200;
            within(Duration::from_secs(30), "the node port answers", answers).await;
        }
        instance
    }
}

/// The chart as it is committed.
pub(crate) fn chart() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/dependency-proxy")
}

/// An instance in a namespace of its own, which is its group's path too.
pub(crate) struct Instance<'a> {
    installation: &'a Installation,
    pub(crate) name: String,
    port: u16,
}

impl Instance<'_> {
    pub(crate) fn kubectl(&self) -> &Kubectl {
        &self.installation.kubectl
    }

    /// Where the proxy answers at node 1 or 2.
    pub(crate) fn host(&self, node: u8) -> String {
        format!("{}:{}", self.installation.nodes[usize::from(node) - 1].address, self.port)
    }

    /// A client with connections of its own, at the node port of node 1 or 2.
    pub(crate) fn client(&self, node: u8, user: &str, password: &str) -> Client {
        Client::new(format!("http://{}", self.host(node)).parse().unwrap())
            .user(user, password)
            .group(&self.name)
    }

    /// The deploy token's client.
    pub(crate) fn ci(&self, node: u8) -> Client {
        self.client(node, "ci", "token-of-ci")
    }

    /// Merge patch of an object.
    pub(crate) async fn patch(&self, object: &str, patch: &str) {
        let arguments = ["patch", "-n", &self.name, object, "--type=merge", "-p", patch];
        self.kubectl().run(&arguments).await.succeeds();
    }

    /// Changes what pods are made of, and waits until all are new.
    pub(crate) async fn change(&self, patch: &str) {
        let deployment = "deployment/main-dependency-proxy";
        let generation = async || {
            let live = self.kubectl().json(&["get", "-n", &self.name, deployment]).await;
            live["metadata"]["generation"].as_u64().unwrap()
        };
        let next = generation().await + 1;
        self.patch("dependencyproxy/main", patch).await;
        let seen = format!("jsonpath={{.status.observedGeneration}}={next}");
        self.kubectl().wait(&self.name, deployment, &seen).await;
        self.installation.rolled_out(&self.name, "main-dependency-proxy").await;
    }

    /// The names of the ready pods.
    pub(crate) async fn pods(&self) -> Vec<String> {
        let list = self
            .kubectl()
            .json(&["get", "pods", "-n", &self.name, "-l", "app.kubernetes.io/component=proxy"])
            .await;
        let pods = list["items"].as_array().unwrap().iter().filter(|pod| {
            let is_ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
            let conditions = pod["status"]["conditions"].as_array();
            pod["metadata"]["deletionTimestamp"].is_null()
                && conditions.is_some_and(|all| all.iter().any(is_ready))
        });
        pods.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What a pod answers on its second port.
    pub(crate) async fn admin(&self, pod: &str, path: &str) -> String {
        let url = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy{path}", self.name);
        let request = http::Request::get(url).body(Vec::new()).unwrap();
        self.installation.client.request_text(request).await.unwrap_or_default()
    }

    /// A field of the instance's status.
    pub(crate) async fn status(&self, field: &str) -> Value {
        let proxies = "apis/dependencyproxy.dev/v1alpha1";
        self.object(proxies, "dependencyproxies/main").await["status"][field].clone()
    }

    /// An object of its namespace, by this process: a program for each question would take the processors from pulls.
    pub(crate) async fn object(&self, api: &str, object: &str) -> Value {
        let url = format!("/{api}/namespaces/{}/{object}", self.name);
        let request = http::Request::get(url).body(Vec::new()).unwrap();
        self.installation.client.request(request).await.unwrap_or_default()
    }

    /// Removes it: what the next test measures is its own.
    pub(crate) async fn end(self) {
        let arguments = ["delete", "namespace", &self.name, "--wait=false"];
        self.kubectl().run(&arguments).await.succeeds();
    }
}

/// Asks again until it is as it shall be. For what offers no event to wait on.
pub(crate) async fn within(patience: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let began = std::time::Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}
