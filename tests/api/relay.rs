//! A way to the API server that can be closed for a while, and that notes what is asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::StreamExt;
use harness::api_server::ApiServer;
use http::StatusCode;
use kube::Client;
use kube::config::{Config, Kubeconfig};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The way, for one client.
pub(crate) struct Relay {
    is_open: watch::Sender<bool>,
    asked: Arc<Mutex<BTreeSet<Call>>>,
    refused: Arc<Mutex<Vec<String>>>,
    kubeconfig: PathBuf,
    server: AbortHandle,
    _folder: TempDir,
}

/// API group, resource with subresource, verb: as rules of RBAC name them.
pub(crate) type Call = (String, String, String);

#[derive(Clone)]
struct Way {
    client: Client,
    is_open: watch::Receiver<bool>,
    asked: Arc<Mutex<BTreeSet<Call>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// Opens one; as the administrator, or as the service account `namespace:name`.
    pub(crate) async fn start(server: &ApiServer, account: Option<&str>) -> Self {
        let file = Kubeconfig::read_from(server.kubeconfig()).unwrap();
        let mut config = Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        config.read_timeout = None;
        if let Some(account) = account {
            config.auth_info.impersonate = Some(format!("system:serviceaccount:{account}"));
            let groups = ["system:serviceaccounts", "system:authenticated"].map(str::to_owned);
            config.auth_info.impersonate_groups = Some(groups.into());
        }
        let (sender, is_open) = watch::channel(true);
        let (asked, refused) = (Arc::default(), Arc::default());
        let client = Client::try_from(config).unwrap();
        let way = Way { client, is_open, asked: Arc::clone(&asked), refused: Arc::clone(&refused) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass).with_state(way);
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let content = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "relay",
            "contexts": [{"name": "relay", "context": {"cluster": "relay", "user": "nobody"}}],
            "clusters": [{"name": "relay", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "nobody", "user": {}}],
        });
        std::fs::write(&kubeconfig, content.to_string()).unwrap();
        Self { is_open: sender, asked, refused, kubeconfig, server: task.abort_handle(), _folder: folder }
    }

    /// A kubeconfig that leads through it.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Nothing gets through any more, and nobody is told.
    pub(crate) fn pause(&self) {
        self.is_open.send_replace(false);
    }

    /// Everything gets through again.
    pub(crate) fn resume(&self) {
        self.is_open.send_replace(true);
    }

    /// What was asked so far, of the API server's objects.
    pub(crate) fn asked(&self) -> BTreeSet<Call> {
        self.asked.lock().unwrap().clone()
    }

    /// What the API server answered with 403.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(way): State<Way>, request: Request) -> Response {
    let mut is_open = way.is_open.clone();
    let _ = is_open.wait_for(|open| *open).await;
    let line = format!("{} {}", request.method(), request.uri());
    way.asked.lock().unwrap().extend(calls(&request));
    let (mut parts, body) = request.into_parts();
    // The client on the other side says these for itself.
    parts.headers.remove(http::header::HOST);
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return failed() };
    let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let Ok(answer) = way.client.send(request).await else { return failed() };
    if answer.status() == StatusCode::FORBIDDEN {
        way.refused.lock().unwrap().push(line);
    }
    let (parts, body) = answer.into_parts();
    let pieces = Body::new(body).into_data_stream().then(move |piece| {
        let mut is_open = is_open.clone();
        async move {
            let _ = is_open.wait_for(|open| *open).await;
            piece
        }
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

fn failed() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// The rights that a request needs; none for what is no object.
fn calls(request: &Request) -> Vec<Call> {
    let segments = request.uri().path().split('/').filter(|s| !s.is_empty()).collect::<Vec<_>>();
    let (group, rest) = match segments.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return Vec::new(),
    };
    let (resource, name) = match rest {
        ["namespaces", _, resource, name @ ..] => (*resource, name),
        [resource, name @ ..] => (*resource, name),
        [] => return Vec::new(),
    };
    let query = request.uri().query().unwrap_or_default();
    let verbs: &[&str] = match (request.method().as_str(), name.first()) {
        ("GET", _) if query.contains("watch=true") || query.contains("watch=1") => &["watch"],
        ("GET", Some(_)) => &["get"],
        ("GET", None) => &["list"],
        ("POST", _) => &["create"],
        ("PUT", _) => &["update"],
        // Server-side apply makes what is not there.
        ("PATCH", _) if query.contains("fieldManager") && name.len() == 1 => &["patch", "create"],
        ("PATCH", _) => &["patch"],
        ("DELETE", Some(_)) => &["delete"],
        _ => &["deletecollection"],
    };
    let resource = match name.get(1) {
        Some(sub) => format!("{resource}/{sub}"),
        None => resource.to_owned(),
    };
    verbs.iter().map(|verb| (group.to_owned(), resource.clone(), (*verb).to_owned())).collect()
}
