//! One HTTP exchange with an upstream or its token service: time limits, redirects, addresses, size limits.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use config::Upstream;
use http::{HeaderMap, HeaderValue, Method, header};
use ipnet::IpNet;
use reqwest::Response;
use url::Url;

use super::address::{Forbidden, Guard, Resolver};
use super::challenge::allows_plain_http;
use super::error::Reason;

const CONNECT: Duration = Duration::from_secs(5);
/// From request to headers.
pub(super) const HEADERS: Duration = Duration::from_secs(10);
/// Between two pieces of a body.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// For a whole small body: a manifest, a token, a list.
const SMALL_BODY: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;

/// What connections to one upstream need.
pub(super) struct Connector {
    http: reqwest::Client,
    guard: Arc<Guard>,
    /// Whether a redirect may lead to plain http.
    plain_http: bool,
}

/// An answer, and whether it came from where the request was sent first.
pub(super) struct Exchange {
    pub response: Response,
    /// The request's credentials were dropped on the way: a redirect left its origin.
    pub elsewhere: bool,
}

impl Connector {
    /// Sets up TLS and resolution for one upstream; opens no connection.
    pub(super) fn new(upstream: &Upstream, allowed: &[IpNet]) -> Result<Self, Reason> {
        let guard = Guard::new(allowed);
        let mut builder = reqwest::Client::builder()
            // object_store turns reqwest's HTTP/2 on for the whole program; blobs are long single streams, and its
            // flow control and its floods (RUSTSEC-2026-0258) are not to be ours.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Resolver(guard.clone())))
            .connect_timeout(CONNECT)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(60))
            .user_agent(concat!("dependency-proxy/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &upstream.ca {
            let unusable = |_| Reason::Wrong("the CA of its caConfigMapRef is no PEM certificate".to_owned());
            for certificate in reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(unusable)? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http =
            builder.build().map_err(|error| Reason::Wrong(format!("TLS cannot be set up: {error}")))?;
        Ok(Self { http, guard, plain_http: allows_plain_http(upstream) })
    }

    /// Sends a request without a body and follows redirects. `authorization` goes to the first URL's origin only
    /// (GHSA-vh4v-2xq2-g5cg, CVE-2026-49349).
    pub(super) async fn exchange(
        &self,
        method: &Method,
        url: Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Exchange, Reason> {
        let origin = url.origin();
        let mut url = url;
        let mut elsewhere = false;
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = headers.clone();
            if let (Some(value), false) = (authorization, elsewhere) {
                headers.insert(header::AUTHORIZATION, value.clone());
            }
            let response = self.send(method, &url, headers).await?;
            let Some(next) = redirect(&response, &url)? else { return Ok(Exchange { response, elsewhere }) };
            if next.scheme() == "http" && (url.scheme() == "https" || !self.plain_http) {
                return Err(Reason::Wrong("a redirect to plain http".to_owned()));
            }
            elsewhere |= next.origin() != origin;
            url = next;
        }
        Err(Reason::Wrong(format!("more than {MAX_REDIRECTS} redirects")))
    }

    async fn send(&self, method: &Method, url: &Url, headers: HeaderMap) -> Result<Response, Reason> {
        self.guard.check(url).map_err(|Forbidden(host)| Reason::ForbiddenAddress(host))?;
        let request = self.http.request(method.clone(), url.clone()).headers(headers).send();
        match tokio::time::timeout(HEADERS, request).await {
            Err(_) => Err(Reason::Timeout(HEADERS)),
            Ok(Err(error)) => Err(failure(&error)),
            Ok(Ok(response)) => Ok(response),
        }
    }
}

/// Where an answer redirects to, if it does.
fn redirect(response: &Response, url: &Url) -> Result<Option<Url>, Reason> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| url.join(location).ok());
    let next = next.filter(|next| matches!(next.scheme(), "http" | "https") && next.has_host());
    next.map(Some).ok_or_else(|| Reason::Wrong("a redirect to nowhere".to_owned()))
}

/// What went wrong before an answer came. The URL is left out: redirects are signed, and a signature is a secret.
fn failure(error: &reqwest::Error) -> Reason {
    let mut cause = error.source();
    let mut last = None;
    while let Some(error) = cause {
        if let Some(Forbidden(host)) = error.downcast_ref::<Forbidden>() {
            return Reason::ForbiddenAddress(host.clone());
        }
        last = Some(error.to_string());
        cause = error.source();
    }
    if error.is_timeout() {
        return Reason::Timeout(CONNECT);
    }
    Reason::Unreachable(last.unwrap_or_else(|| "the connection failed".to_owned()))
}

/// Reads a whole small body.
pub(super) async fn read_small(mut response: Response, limit: usize, what: &str) -> Result<Bytes, Reason> {
    let too_large = || Reason::Wrong(format!("{what} of more than {limit} bytes"));
    if response.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Reason::Wrong(format!("{what} with a Content-Encoding, which was not asked for")));
    }
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let read = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = next_chunk(&mut response).await? {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(SMALL_BODY, read).await.unwrap_or(Err(Reason::Timeout(SMALL_BODY)))
}

/// The next piece of a body; `None` at its end.
pub(super) async fn next_chunk(response: &mut Response) -> Result<Option<Bytes>, Reason> {
    match tokio::time::timeout(IDLE, response.chunk()).await {
        Err(_) => Err(Reason::Timeout(IDLE)),
        Ok(Err(error)) => Err(Reason::Broken(innermost(&error))),
        Ok(Ok(chunk)) => Ok(chunk),
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = "the body ended early".to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}
