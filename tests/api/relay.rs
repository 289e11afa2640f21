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
    closed: watch::Sender<Closed>,
    asked: watch::Sender<BTreeSet<Call>>,
    refused: Arc<Mutex<Vec<String>>>,
    kubeconfig: PathBuf,
    server: AbortHandle,
    _folder: TempDir,
}

/// API group, resource with subresource, verb: as rules of RBAC name them.
pub(crate) type Call = (String, String, String);

/// What does not get through.
#[derive(Clone, Copy, PartialEq)]
enum Closed {
    Nothing,
    Everything,
    ListsOf(&'static str),
    /// Whoever asks is told that it failed.
    FailsFor(&'static str),
}

#[derive(Clone)]
struct Way {
    client: Client,
    closed: watch::Receiver<Closed>,
    asked: watch::Sender<BTreeSet<Call>>,
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
        let (sender, closed) = watch::channel(Closed::Nothing);
        let (asked, refused) = (watch::Sender::default(), Arc::default());
        let client = Client::try_from(config).unwrap();
        let way = Way { client, closed, asked: asked.clone(), refused: Arc::clone(&refused) };
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
        Self { closed: sender, asked, refused, kubeconfig, server: task.abort_handle(), _folder: folder }
    }

    /// A kubeconfig that leads through it.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Nothing gets through any more, and nobody is told.
    pub(crate) fn pause(&self) {
        self.closed.send_replace(Closed::Everything);
    }

    /// No list of these objects gets through any more.
    pub(crate) fn hold_lists_of(&self, resource: &'static str) {
        self.closed.send_replace(Closed::ListsOf(resource));
    }

    /// What concerns these objects is answered with 502.
    pub(crate) fn fail_for(&self, resource: &'static str) {
        self.closed.send_replace(Closed::FailsFor(resource));
    }

    /// Everything gets through again.
    pub(crate) fn resume(&self) {
        self.closed.send_replace(Closed::Nothing);
    }

    /// What was asked so far, of the API server's objects.
    pub(crate) fn asked(&self) -> BTreeSet<Call> {
        self.asked.borrow().clone()
    }

    /// Waits until somebody has asked this.
    pub(crate) async fn is_asked(&self, group: &str, resource: &str, verb: &str) {
        let call = (group.to_owned(), resource.to_owned(), verb.to_owned());
        self.asked.subscribe().wait_for(|asked| asked.contains(&call)).await.unwrap();
    }

    /// What the API server answered with 403.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }
}

impl Closed {
    fn fails(self, calls: &[Call]) -> bool {
        matches!(self, Self::FailsFor(name) if calls.iter().any(|(_, resource, _)| resource == name))
    }

    fn holds(self, calls: &[Call]) -> bool {
        match self {
            Self::Nothing | Self::FailsFor(_) => false,
            Self::Everything => true,
            Self::ListsOf(name) => calls.iter().any(|(_, resource, verb)| resource == name && verb == "list"),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(way): State<Way>, request: Request) -> Response {
    let mut closed = way.closed.clone();
    let line = format!("{} {}", request.method(), request.uri());
    let calls = calls(&request);
    let fails = closed.borrow().fails(&calls);
    way.asked.send_modify(|asked| asked.extend(calls.iter().cloned()));
    let _ = closed.wait_for(|closed| !closed.holds(&calls)).await;
    if fails {
        return failed();
    }
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
        let mut closed = closed.clone();
        async move {
            let _ = closed.wait_for(|closed| *closed != Closed::Everything).await;
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
