//! The other way to one download: each digest has an owner among the replicas, by rendezvous hashing over the addresses
//! that each of them knows, and whoever is asked for a blob passes the request on to it.
//!
//! The product does not work like this. It stands here so that the way it does is measured beside it: the proxies know
//! nothing of each other, and a front before each passes requests on. Its own requests skip the front, as a replica
//! that is the owner would answer itself.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use harness::pull::Client;
use harness::replicas::Instance;
use http::{Method, StatusCode, header};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use url::Url;

/// A front before each replica.
pub(crate) struct Fronts {
    fronts: Vec<Front>,
    running: Vec<AbortHandle>,
}

struct Front {
    url: Url,
    peers: Arc<Peers>,
}

/// The replicas that one of them knows, itself among them.
struct Peers {
    urls: Vec<String>,
    http: reqwest::Client,
}

impl Fronts {
    /// `known`: for each replica that takes requests, the numbers of those in its list.
    pub(crate) async fn before(it: &Instance, known: &[(usize, Vec<usize>)]) -> Self {
        let (mut fronts, mut running) = (Vec::new(), Vec::new());
        for (_, peers) in known {
            let urls = peers.iter().map(|peer| it.replicas[*peer].proxy.url()).collect();
            let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
            let peers = Arc::new(Peers { urls, http });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
            let router = Router::new().fallback(pass_on).with_state(peers.clone());
            let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            running.push(task.abort_handle());
            fronts.push(Front { url, peers });
        }
        Self { fronts, running }
    }

    /// Where a client of this front asks for a path: at the replica itself if that is the owner.
    pub(crate) fn client(&self, number: usize, own: &str, path: &str, credentials: &Client) -> Client {
        let front = &self.fronts[number];
        let is_own = front.peers.ranked(path).first() == Some(&own);
        let base = if is_own { Url::parse(own).unwrap() } else { front.url.clone() };
        credentials.at(base)
    }
}

impl Drop for Fronts {
    fn drop(&mut self) {
        self.running.iter().for_each(AbortHandle::abort);
    }
}

impl Peers {
    /// Replicas in the order in which they own a path, the owner first.
    fn ranked(&self, path: &str) -> Vec<&str> {
        let digest = path.rsplit('/').next().unwrap_or_default();
        let weight = |url: &str| {
            let both = format!("{digest} {url}");
            oci::Digest::of(oci::Algorithm::Sha256, both.as_bytes()).hex()
        };
        let mut urls: Vec<_> = self.urls.iter().map(String::as_str).collect();
        urls.sort_by_cached_key(|url| weight(url));
        urls
    }
}

/// To the owner, or to the next where that does not answer.
async fn pass_on(State(peers): State<Arc<Peers>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    for url in peers.ranked(&path) {
        let mut asked = peers.http.request(Method::GET, format!("{url}{path}"));
        if let Some(token) = request.headers().get(header::AUTHORIZATION) {
            asked = asked.header(header::AUTHORIZATION, token);
        }
        if let Ok(response) = asked.send().await {
            let status = response.status();
            let challenge = response.headers().get(header::WWW_AUTHENTICATE).cloned();
            let mut answer = (status, Body::from_stream(response.bytes_stream())).into_response();
            challenge.map(|challenge| answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge));
            return answer;
        }
    }
    StatusCode::BAD_GATEWAY.into_response()
}
