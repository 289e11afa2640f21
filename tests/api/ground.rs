//! The API server with the definitions applied.

use harness::api_server::ApiServer;
use harness::kubectl::Kubectl;
use harness::tool;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::core::response::StatusCause;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub(crate) const DEFINITIONS: &str = include_str!("../../deploy/crds.yaml");

/// A namespace of the shared API server.
pub(crate) struct Ground {
    pub(crate) kubectl: Kubectl,
    pub(crate) namespace: String,
    pub(crate) client: Client,
}

impl Ground {
    /// None where there is no API server to start.
    pub(crate) async fn new() -> Option<Self> {
        static DEFINED: OnceCell<()> = OnceCell::const_new();
        let server = ApiServer::shared().await?;
        DEFINED.get_or_init(|| define(server.kubectl())).await;
        let (namespace, client) = tokio::join!(server.namespace(), server.client());
        Some(Self { kubectl: server.kubectl(), namespace, client })
    }

    /// The objects of a kind in this namespace.
    pub(crate) fn of(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind))
    }

    /// Creates an object.
    pub(crate) async fn create(&self, object: Value) {
        let kind = object["kind"].as_str().unwrap();
        self.of(kind).create(&PostParams::default(), &parsed(&object)).await.unwrap();
    }

    /// What the API server has against creating this object: nothing is created.
    pub(crate) async fn complaints(&self, object: &Value) -> Vec<StatusCause> {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let kind = object["kind"].as_str().unwrap();
        causes(self.of(kind).create(&dry_run, &parsed(object)).await)
    }

    /// What it has against changing an object by this merge patch: nothing is changed.
    pub(crate) async fn complaints_about_change(
        &self,
        kind: &str,
        name: &str,
        patch: &Value,
    ) -> Vec<StatusCause> {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        causes(self.of(kind).patch(name, &dry_run, &Patch::Merge(patch)).await)
    }
}

/// An API server with the definitions for one test alone: what that does, tests beside it must not see. None where there
/// is none to start, and on a cluster that somebody else uses.
pub(crate) async fn own_server() -> Option<ApiServer> {
    let own_cluster = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
    if own_cluster || tool::left_out(&["etcd"], false) {
        return None;
    }
    let server = ApiServer::start().await;
    define(server.kubectl()).await;
    Some(server)
}

/// The definitions as they are committed, established.
async fn define(kubectl: Kubectl) {
    kubectl.apply(DEFINITIONS).await;
    let name = |definition: &Value| format!("crd/{}", definition["metadata"]["name"].as_str().unwrap());
    let names = definitions().iter().map(name).collect::<Vec<_>>();
    let mut wait = vec!["wait", "--for=condition=Established", "--timeout=60s"];
    wait.extend(names.iter().map(String::as_str));
    kubectl.run(&wait).await.succeeds();
}

/// The committed definitions, one for each kind.
pub(crate) fn definitions() -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(DEFINITIONS);
    documents.map(|document| serde::Deserialize::deserialize(document).unwrap()).collect()
}

/// The least of a kind that is accepted.
pub(crate) fn least(kind: &str) -> Value {
    let spec = match kind {
        "DependencyProxy" => {
            json!({"externalURL": "https://proxy.example.com", "storage": {"s3": {"bucket": "blobs"}}})
        }
        "RegistryUpstream" => json!({"url": "https://registry.example.com"}),
        "DependencyProxyGroup" => json!({"proxyRef": {"name": "main"}, "path": "team-a"}),
        "VirtualRegistry" => json!({"groupRef": {"name": "team-a"}, "upstreams": [{"name": "hub"}]}),
        "PullBinding" => json!({"groupRef": {"name": "team-a"}, "pullSecretName": "pull"}),
        other => panic!("no kind {other}"),
    };
    json!({"apiVersion": crds::API_VERSION, "kind": kind, "metadata": {"name": "main"}, "spec": spec})
}

fn resource(kind: &str) -> ApiResource {
    match kind {
        "DependencyProxy" => ApiResource::erase::<crds::DependencyProxy>(&()),
        "RegistryUpstream" => ApiResource::erase::<crds::RegistryUpstream>(&()),
        "DependencyProxyGroup" => ApiResource::erase::<crds::DependencyProxyGroup>(&()),
        "VirtualRegistry" => ApiResource::erase::<crds::VirtualRegistry>(&()),
        "PullBinding" => ApiResource::erase::<crds::PullBinding>(&()),
        other => panic!("no kind {other}"),
    }
}

fn parsed(object: &Value) -> DynamicObject {
    serde_json::from_value(object.clone()).unwrap()
}

fn causes<T>(answer: kube::Result<T>) -> Vec<StatusCause> {
    match answer {
        Ok(_) => Vec::new(),
        Err(kube::Error::Api(status)) if status.code == 422 => {
            status.details.map(|details| details.causes).unwrap_or_default()
        }
        Err(error) => panic!("the API server does not answer: {error}"),
    }
}
