//! A small pulling client: challenge, token, retry, as container engines do it; and a raw one for what they never send.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::Url;

/// Pulls from one registry as one user, below one prefix. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// Stands before every repository name; ends with a slash unless empty.
    prefix: String,
    credentials: Option<(String, String)>,
    /// By scope.
    tokens: Arc<Mutex<HashMap<String, String>>>,
    rate: Option<u64>,
}

/// The status of an answer that never came: the connection ended before it.
pub const NO_ANSWER: u16 = 999;

/// An answer, as much of it as came.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// What of the body arrived.
    pub body: Bytes,
    /// Whether the body ended before its end.
    pub broken: bool,
    /// From sending the request to having read the body, the token flow included.
    pub took: Duration,
}

impl Client {
    /// A client of the registry at this URL, without credentials and prefix.
    pub fn new(base: Url) -> Self {
        let mut http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        if base.scheme() == "http" {
            // The machine's certificates are read for each client: 10 ms of a processor that the measured would have.
            http = http.tls_certs_only([]);
        }
        let http = http.build().unwrap();
        let tokens = Arc::default();
        Self { http, base, prefix: String::new(), credentials: None, tokens, rate: None }
    }

    /// The same client as this user, with no tokens yet.
    #[must_use]
    pub fn user(&self, name: &str, password: &str) -> Self {
        let credentials = Some((name.to_owned(), password.to_owned()));
        Self { credentials, tokens: Arc::default(), ..self.clone() }
    }

    /// The same client without credentials and tokens.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { credentials: None, tokens: Arc::default(), ..self.clone() }
    }

    /// The same client with connections and tokens of its own.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self { http: Self::new(self.base.clone()).http, tokens: Arc::default(), ..self.clone() }
    }

    /// The same client at another address of the same service, with the tokens that it has.
    #[must_use]
    pub fn at(&self, base: Url) -> Self {
        Self { base, ..self.clone() }
    }

    /// The same client below a group's prefix.
    #[must_use]
    pub fn group(&self, path: &str) -> Self {
        Self { prefix: format!("{path}/dependency_proxy/containers/"), ..self.clone() }
    }

    /// The same client below a virtual registry's prefix.
    #[must_use]
    pub fn registry(&self, id: &str) -> Self {
        Self { prefix: format!("virtual_registries/container/{id}/"), ..self.clone() }
    }

    /// The same client, reading bodies at this many bytes per second.
    #[must_use]
    pub fn slow(&self, bytes_per_second: u64) -> Self {
        Self { rate: Some(bytes_per_second), ..self.clone() }
    }

    pub async fn manifest(&self, name: &str, reference: &str) -> Answer {
        self.send(Method::GET, &format!("{name}/manifests/{reference}"), &[]).await
    }

    pub async fn head(&self, name: &str, reference: &str) -> Answer {
        self.send(Method::HEAD, &format!("{name}/manifests/{reference}"), &[]).await
    }

    pub async fn blob(&self, name: &str, digest: impl ToString) -> Answer {
        self.send(Method::GET, &format!("{name}/blobs/{}", digest.to_string()), &[]).await
    }

    pub async fn head_blob(&self, name: &str, digest: impl ToString) -> Answer {
        self.send(Method::HEAD, &format!("{name}/blobs/{}", digest.to_string()), &[]).await
    }

    /// A blob with this `Range` header, such as `bytes=0-9`.
    pub async fn range(&self, name: &str, digest: impl ToString, range: &str) -> Answer {
        self.send(Method::GET, &format!("{name}/blobs/{}", digest.to_string()), &[("range", range)]).await
    }

    /// Pulls a manifest and all blobs it names, an index with its images; every answer must be 200 and whole.
    pub async fn pull(&self, name: &str, reference: &str) -> usize {
        let mut manifests = vec![reference.to_owned()];
        let mut blobs = 0;
        while let Some(reference) = manifests.pop() {
            let document = self.manifest(name, &reference).await.json();
            let digests = |list: &serde_json::Value| {
                let list = list.as_array().cloned().unwrap_or_default();
                list.iter().map(|d| d["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            manifests.extend(digests(&document["manifests"]));
            let config = document["config"]["digest"].as_str().map(str::to_owned);
            for digest in digests(&document["layers"]).into_iter().chain(config) {
                self.blob(name, &digest).await.bytes();
                blobs += 1;
            }
        }
        blobs
    }

    /// Any request below `/v2/` and the prefix, with the token flow, the body read to its end.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let began = Instant::now();
        match self.try_open(method, path, headers).await {
            Ok(response) => read(response, self.rate, began).await,
            Err(_) => {
                let status = StatusCode::from_u16(NO_ANSWER).unwrap();
                let (headers, body) = (HeaderMap::new(), Bytes::new());
                Answer { status, headers, body, broken: true, took: began.elapsed() }
            }
        }
    }

    /// The same up to the answer's head; the body is the caller's to read, or to drop.
    pub async fn open(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        self.try_open(method, path, headers).await.unwrap()
    }

    async fn try_open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<reqwest::Response> {
        let url = self.base.join(&format!("/v2/{}{path}", self.prefix)).unwrap();
        let scope = scope(url.path());
        let token = self.tokens.lock().unwrap().get(&scope).cloned();
        let request = |token: Option<&str>| {
            let mut request = self.http.request(method.clone(), url.clone());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(token) = token { request.bearer_auth(token) } else { request }
        };
        let response = request(token.as_deref()).send().await?;
        if response.status() != StatusCode::UNAUTHORIZED || self.credentials.is_none() {
            return Ok(response);
        }
        let Some(challenge) = response.headers().get(header::WWW_AUTHENTICATE).cloned() else {
            return Ok(response);
        };
        let answer = self.token(&realm(challenge.to_str().unwrap()), &[&scope]).await;
        if answer.status != StatusCode::OK {
            return Ok(response);
        }
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        self.tokens.lock().unwrap().insert(scope, token.clone());
        request(Some(&token)).send().await
    }

    /// Asks the token service at this realm, with the credentials if there are any.
    pub async fn token(&self, realm: &str, scopes: &[&str]) -> Answer {
        let began = Instant::now();
        let mut url = Url::parse(realm).unwrap();
        url.query_pairs_mut().append_pair("service", "dependency_proxy");
        for scope in scopes.iter().filter(|s| !s.is_empty()) {
            url.query_pairs_mut().append_pair("scope", scope);
        }
        let mut request = self.http.get(url);
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, Some(password));
        }
        read(request.send().await.unwrap(), None, began).await
    }

    /// Any request to any path of the registry with exactly these headers, no token flow.
    pub async fn plain(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let began = Instant::now();
        let mut request = self.http.request(method, self.base.join(path).unwrap()).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send().await.unwrap(), None, began).await
    }

    /// The path below `/v2/` that this client asks for a name's reference or blob.
    pub fn path(&self, rest: &str) -> String {
        format!("/v2/{}{rest}", self.prefix)
    }

    /// What the token for a repository must open.
    pub fn scope(&self, name: &str) -> String {
        format!("repository:{}{name}:pull", self.prefix)
    }
}

impl Answer {
    /// The body of a 2xx answer that arrived whole.
    #[track_caller]
    pub fn bytes(&self) -> &Bytes {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        assert!(!self.broken, "the body broke off after {} bytes", self.body.len());
        &self.body
    }

    /// The same, as a document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.bytes()).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's text, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Code and message of an error in OCI JSON.
    ///
    /// # Panics
    /// When the body is not of that form, or does not end with the request id that the header states.
    #[track_caller]
    pub fn error(&self) -> (String, String) {
        let document = serde_json::from_slice::<serde_json::Value>(&self.body)
            .unwrap_or_else(|_| panic!("{}: no JSON: {:?}", self.status, self.text()));
        let error = &document["errors"][0];
        let text = |field: &str| {
            error[field].as_str().unwrap_or_else(|| panic!("no {field} in {document}")).to_owned()
        };
        let (code, message) = (text("code"), text("message"));
        let id = self.header("x-request-id");
        assert!(!id.is_empty(), "no X-Request-Id beside {message}");
        assert!(
            message.trim_end_matches([')', ']', '.']).ends_with(id),
            "{message:?} does not end with {id}"
        );
        (code, message)
    }

    /// Asserts status, OCI code and that the sentence is in the message.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str, sentence: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        let (got, message) = self.error();
        assert_eq!(got, code, "{message}");
        assert!(message.contains(sentence), "{message:?} does not say {sentence:?}");
    }
}

/// `repository:<name>:pull` for a path of a repository; empty for `/v2/` itself.
fn scope(path: &str) -> String {
    let name = path.strip_prefix("/v2/").and_then(|rest| {
        ["/manifests/", "/blobs/", "/tags/", "/referrers/"]
            .iter()
            .find_map(|kind| rest.rsplit_once(kind))
            .map(|(n, _)| n)
    });
    name.map(|name| format!("repository:{name}:pull")).unwrap_or_default()
}

/// The realm of a Bearer challenge.
pub fn realm(challenge: &str) -> String {
    let rest = challenge.split_once("realm=\"").unwrap_or_else(|| panic!("no realm in {challenge:?}")).1;
    rest.split('"').next().unwrap().to_owned()
}

async fn read(mut response: reqwest::Response, rate: Option<u64>, began: Instant) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                body.extend_from_slice(&chunk);
                if let Some(rate) = rate {
                    tokio::time::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate as f64)).await;
                }
            }
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    Answer { status, headers, body: body.into(), broken, took: began.elapsed() }
}

/// Sends these bytes as they are on a connection of their own and reads until it is closed or 5 s have passed.
/// Returns the status, 0 if there was no answer, and all that came.
pub async fn raw(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // The other side may answer and close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, answer)
}
