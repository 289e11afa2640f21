//! An S3 server behind which another is, and which refuses what a test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;

/// Which requests it refuses, by head and body.
type Which = fn(&Parts, &[u8], &str) -> bool;

pub(crate) struct Refusing {
    pub(crate) endpoint: String,
    state: Arc<Refuses>,
}

struct Refuses {
    server: String,
    which: Which,
    /// What `which` is told besides.
    what: String,
    on: AtomicBool,
    count: AtomicUsize,
}

impl Refusing {
    pub(crate) async fn start(server: String, which: Which, what: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (on, count, what) = (AtomicBool::new(true), AtomicUsize::default(), what.to_owned());
        let state = Arc::new(Refuses { server, which, what, on, count });
        let router = Router::new().fallback(answer).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, state }
    }

    /// How many it has refused.
    pub(crate) fn count(&self) -> usize {
        self.state.count.load(Ordering::Relaxed)
    }

    /// Refuses nothing from now on.
    pub(crate) fn behave(&self) {
        self.state.on.store(false, Ordering::Relaxed);
    }
}

async fn answer(State(refuses): State<Arc<Refuses>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = to_bytes(body, 16 << 20).await.unwrap();
    if refuses.on.load(Ordering::Relaxed) && (refuses.which)(&parts, &body, &refuses.what) {
        refuses.count.fetch_add(1, Ordering::Relaxed);
        let code = "<Error><Code>InvalidObjectState</Code></Error>";
        return Response::builder().status(403).body(Body::from(code)).unwrap();
    }
    // With its headers as they are: the request is signed for this host.
    let url = format!("{}{}", refuses.server, parts.uri.path_and_query().unwrap());
    let asked = reqwest::Client::new().request(parts.method, url).headers(parts.headers).body(body);
    let got = asked.send().await.unwrap();
    let mut answer = Response::builder().status(got.status());
    answer.headers_mut().unwrap().extend(got.headers().clone());
    answer.body(Body::from(got.bytes().await.unwrap())).unwrap()
}
