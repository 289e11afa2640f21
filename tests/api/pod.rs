//! A pod where there are no nodes: the object of one, and what answers at its address.
//!
//! Real pods are in `tests/e2e`. This one says of itself what a real one would once it has the documents.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, put};
use axum::{Json, Router};
use config::{ObjectId, Options, Origin, judge, parse};
use flate2::read::GzDecoder;
use harness::tool;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::stage::{Stage, object};

/// The port of `/status`.
const PORT: u16 = 9090;

/// A pod of an instance. Its port closes when it is dropped; the object stays.
pub(crate) struct FakePod {
    pub(crate) name: String,
    instance: String,
    state: Arc<Mutex<Story>>,
    server: AbortHandle,
}

/// What the pod says of itself.
#[derive(Default)]
struct Story {
    /// It takes no new documents.
    is_frozen: bool,
    status: Value,
    /// Said beside it.
    more: Value,
    /// What it was told to purge: the queries.
    purges: Vec<String>,
    /// What it answers in place of purging.
    refusal: Option<StatusCode>,
}

type Shared = (Arc<Mutex<Story>>, Client, ObjectId);

impl FakePod {
    /// A ready pod of this instance, which takes documents at once.
    pub(crate) async fn of(stage: &Stage, instance: &str) -> Self {
        let id = ObjectId { namespace: stage.namespace.clone(), name: instance.to_owned() };
        let child = format!("{instance}-dependency-proxy");
        // A pod needs its service account.
        stage.comes("ServiceAccount", &child).await;
        let (listener, address) = listen().await;
        let state =
            Arc::new(Mutex::new(Story { more: json!({"store": {"reachable": true}}), ..Story::default() }));
        let router = Router::new().route("/status", get(status)).route("/purge", put(purge));
        let router = router.with_state((state.clone(), stage.client.clone(), id));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let name = format!("{child}-{}", hex::encode(tool::random::<4>()));
        let container = json!({"name": "proxy", "image": "none"});
        let mut pod = object("Pod", &name, json!({"serviceAccountName": child, "containers": [container]}));
        pod["metadata"]["labels"] = json!({
            "app.kubernetes.io/name": "dependency-proxy",
            "app.kubernetes.io/component": "proxy",
            "app.kubernetes.io/instance": instance,
        });
        stage.apply(pod).await;
        let status = json!({"status": {
            "phase": "Running", "podIP": address.ip(), "podIPs": [{"ip": address.ip()}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        let api = stage.of("Pod");
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        Self { name, instance: instance.to_owned(), state, server: server.abort_handle() }
    }

    /// It becomes ready, or is so no more.
    pub(crate) async fn is_ready(&self, stage: &Stage, is_ready: bool) {
        let status = if is_ready { "True" } else { "False" };
        let patch = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        stage
            .of("Pod")
            .patch_status(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        // Of a real one the Deployment's status tells.
        let look = json!({"metadata": {"annotations": {"test.example.com/ready": status}}});
        stage.patch("DependencyProxy", &self.instance, look).await;
    }

    /// From now on it takes no new documents.
    pub(crate) fn freeze(&self) {
        self.state.lock().unwrap().is_frozen = true;
    }

    /// It takes new documents again.
    pub(crate) fn thaw(&self) {
        self.state.lock().unwrap().is_frozen = false;
    }

    /// It answers this when it is told to purge, and does not; without one it does again.
    pub(crate) fn refuses_to_purge(&self, refusal: Option<StatusCode>) {
        self.state.lock().unwrap().refusal = refusal;
    }

    /// What it has purged.
    pub(crate) fn purges(&self) -> Vec<String> {
        self.state.lock().unwrap().purges.clone()
    }

    /// It says this beside what it has.
    pub(crate) fn says(&self, more: Value) {
        self.state.lock().unwrap().more = more;
    }
}

impl Drop for FakePod {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// All of 127.0.0.0/8 is this machine; the port is the same in all pods.
async fn listen() -> (TcpListener, SocketAddr) {
    loop {
        let [a, b, c] = tool::random::<3>();
        let address = SocketAddr::from((Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)), PORT));
        if let Ok(listener) = TcpListener::bind(address).await {
            return (listener, address);
        }
    }
}

async fn status(State((state, client, id)): State<Shared>) -> Json<Value> {
    let is_frozen = state.lock().unwrap().is_frozen;
    if !is_frozen && let Some(documents) = documents(&client, &id).await {
        let config = served(&documents, &id);
        let status = config.map_or(Value::Null, |config| {
            let keys = config.instance.keys.signing.keys().collect::<Vec<_>>();
            json!({"configHash": config.hash, "keyIDs": keys, "version": "1.2.3"})
        });
        state.lock().unwrap().status = status;
    }
    let state = state.lock().unwrap();
    let mut status = state.status.as_object().cloned().unwrap_or_default();
    status.extend(state.more.as_object().cloned().unwrap_or_default());
    Json(Value::Object(status))
}

async fn purge(State((state, _, _)): State<Shared>, uri: Uri) -> StatusCode {
    let mut state = state.lock().unwrap();
    if let Some(refusal) = state.refusal {
        return refusal;
    }
    state.purges.push(uri.query().unwrap_or_default().to_owned());
    StatusCode::ACCEPTED
}

/// The rendered documents of an instance as text, those of the store with them; none where there are none yet.
pub(crate) async fn documents(client: &Client, instance: &ObjectId) -> Option<String> {
    let api = Api::<Secret>::namespaced(client.clone(), &instance.namespace);
    let name = format!("{}-dependency-proxy", instance.name);
    let secret = api.get_opt(&format!("{name}-documents")).await.ok()??;
    let mut text = String::new();
    let bytes = secret.data?.remove("documents.yaml.gz")?;
    GzDecoder::new(bytes.0.as_slice()).read_to_string(&mut text).ok()?;
    let storage = api.get_opt(&format!("{name}-storage")).await.ok()?;
    if let Some(bytes) = storage.and_then(|secret| secret.data?.remove("storage.yaml")) {
        text.push_str(&String::from_utf8(bytes.0).ok()?);
    }
    Some(text)
}

/// What a proxy serves with these documents, if it finds no fault in them.
pub(crate) fn served(documents: &str, instance: &ObjectId) -> Option<config::Config> {
    let (documents, problems) = parse(documents, "documents.yaml", Origin::Rendered);
    let options = Options { instance: Some(instance.clone()), ..Options::default() };
    let judgement = judge(&documents, &options);
    let problems = problems.into_iter().chain(judgement.problems).map(|p| p.to_string()).collect::<Vec<_>>();
    assert!(problems.is_empty(), "pods find fault with what was rendered:\n{}", problems.join("\n"));
    judgement.config
}
