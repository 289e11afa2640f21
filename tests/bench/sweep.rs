//! `cleanup` of a bucket with a million blobs. The S3 server makes up its listings: nobody has to wait for a million
//! uploads, and it counts what it is asked.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use harness::documents::Documents;
use harness::s3::S3;
use harness::tool;
use http::Method;
use serde_json::json;
use url::form_urlencoded;

use crate::figure::Figure;

const BLOBS: u64 = 1_000_000;
/// Every so many blobs have no right any more, and a tombstone that is old enough.
const DEAD: u64 = 100;
/// What S3 lists at once.
const PAGE: u64 = 1000;
const BLOB_BYTES: u64 = 1000;
const LONG_AGO: &str = "2024-01-01T00:00:00.000Z";
const LATER: &str = "2024-06-01T00:00:00.000Z";

/// The most memory of its own that a cleanup has, and what it asks of the store.
pub(crate) async fn sweep() -> Figure {
    let bucket = Bucket::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.yaml");
    let documents = bucket.documents();
    documents.write(&file);
    let mut command = std::process::Command::new(tool::own("dependency-proxy"));
    command.args(["cleanup", "--log", "error", "-f"]).arg(&file).env("NO_PROXY", "127.0.0.1");
    let began = Instant::now();
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(crate::memory::anonymous(child.id()).unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let deleted = BLOBS / DEAD;
    let done = printed.contains(&format!("examined   {BLOBS} blobs"))
        && printed.contains(&format!("deleted    {deleted} blobs"));
    assert!(output.status.success() && done, "{printed}");
    let asked = bucket.asked();
    let requests: usize = asked.values().sum();
    let kinds = asked.iter().map(|(kind, number)| format!("{number} {kind}")).collect::<Vec<_>>().join(", ");
    Figure {
        name: "sweep of 1,000,000 blobs with a quota, 10,000 of them deleted: anonymous memory",
        asked: "at most 50 MB",
        measured: format!("{} MB", most / 1_000_000),
        ok: most <= 50_000_000,
        how: format!("{requests} requests to the store ({kinds}), {:.0} s", took.as_secs_f64()),
    }
}

struct Bucket {
    address: SocketAddr,
    state: Arc<Made>,
}

/// What listings are made of.
struct Made {
    origin: String,
    /// Requests by kind.
    asked: Mutex<BTreeMap<&'static str, usize>>,
}

impl Bucket {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = origin(&documents(address));
        let state = Arc::new(Made { origin, asked: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    fn documents(&self) -> Documents {
        documents(self.address)
    }

    fn asked(&self) -> BTreeMap<&'static str, usize> {
        self.state.asked.lock().unwrap().clone()
    }
}

fn documents(bucket: SocketAddr) -> Documents {
    let mut documents = Documents::new("http://127.0.0.1:5000");
    documents.add("RegistryUpstream", "upstream", json!({"url": "https://registry.example.com"}));
    documents.group("team-a", "upstream");
    documents.spec("DependencyProxyGroup", "team-a")["quota"] = json!({"storageBytes": "1Ti"});
    documents.secret("s3", json!({"accessKeyID": S3::ACCESS_KEY, "secretAccessKey": S3::SECRET_KEY}));
    documents.spec("DependencyProxy", "main")["storage"] = json!({"s3": {
        "bucket": "blobs", "region": S3::REGION, "endpoint": format!("http://{bucket}"), "pathStyle": true,
        "credentialsSecretRef": {"name": "s3"},
    }});
    documents
}

/// The origin of its upstream, as the keys of rights have it.
fn origin(documents: &Documents) -> String {
    let (documents, _) = config::parse(&documents.yaml(), "documents.yaml", config::Origin::File);
    let config = config::judge(&documents, &config::Options::default()).config.expect("good documents");
    config.upstreams().values().next().expect("an upstream").origin.clone()
}

async fn answer(State(made): State<Arc<Made>>, request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let query: HashMap<String, String> =
        form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let kind = match (&method, query.contains_key("list-type")) {
        (_, true) => "LIST",
        (&Method::POST, _) => "DELETE of up to 1000",
        (&Method::PUT, _) => "PUT",
        (&Method::HEAD, _) => "HEAD",
        _ => "GET",
    };
    *made.asked.lock().unwrap().entry(kind).or_default() += 1;
    match kind {
        "LIST" => xml(made.list(&query["prefix"], query.get("continuation-token"))),
        "DELETE of up to 1000" => xml(deleted(request.into_body()).await),
        "PUT" => Response::builder().header("etag", "\"e\"").body(Body::empty()).unwrap(),
        "HEAD" => {
            let is_blob = uri.path().contains("/v1/blobs/");
            let modified =
                if is_blob { "Mon, 01 Jan 2024 00:00:00 GMT" } else { "Tue, 01 Oct 2024 00:00:00 GMT" };
            let answer = Response::builder().header("etag", "\"e\"").header("last-modified", modified);
            answer.header("content-length", BLOB_BYTES).body(Body::empty()).unwrap()
        }
        _ => Response::builder().status(404).body(Body::empty()).unwrap(),
    }
}

impl Made {
    /// A page of what a prefix has.
    fn list(&self, prefix: &str, token: Option<&String>) -> String {
        let first: u64 = token.map_or(0, |token| token.parse().unwrap());
        let is_there: fn(u64) -> bool = match prefix {
            "dp.main/v1/blobs/sha256/" => |_| true,
            "dp.main/v1/_tombs/sha256/" => |number| number.is_multiple_of(DEAD),
            "dp.main/v1/_links/sha256/" => |number| !number.is_multiple_of(DEAD),
            _ => return String::from("<?xml version=\"1.0\"?><ListBucketResult></ListBucketResult>"),
        };
        let there = (first..BLOBS).filter(|number| is_there(*number));
        let numbers: Vec<u64> = there.take(usize::try_from(PAGE).unwrap()).collect();
        let mut text = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
        // Three million of these are made for one sweep: what is formatted takes longer than the sweep itself.
        let (rest, modified) = match prefix {
            "dp.main/v1/_links/sha256/" => (format!("/{}/dp.team-a/library:app", self.origin), LATER),
            "dp.main/v1/_tombs/sha256/" => (String::new(), LATER),
            _ => (String::new(), LONG_AGO),
        };
        let tail = format!(
            "{rest}</Key><LastModified>{modified}</LastModified><ETag>\"e\"</ETag><Size>{BLOB_BYTES}</Size></Contents>"
        );
        for number in &numbers {
            let hex = digest(*number);
            for part in ["<Contents><Key>", prefix, &hex[..2], "/", &hex, &tail] {
                text.push_str(part);
            }
        }
        let next = numbers.last().map(|last| last + 1).filter(|_| numbers.len() as u64 == PAGE);
        if let Some(next) = next {
            write!(text, "<NextContinuationToken>{next}</NextContinuationToken>").unwrap();
        }
        text + "</ListBucketResult>"
    }
}

/// Digests spread evenly, in order, in hex.
fn digest(number: u64) -> String {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number * (u64::MAX / BLOBS)).to_be_bytes());
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    hex::encode(bytes)
}

async fn deleted(body: Body) -> String {
    let body = to_bytes(body, 16 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let keys = body.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap());
    let deleted: String = keys.map(|key| format!("<Deleted><Key>{key}</Key></Deleted>")).collect();
    format!("<?xml version=\"1.0\"?><DeleteResult>{deleted}</DeleteResult>")
}

fn xml(text: String) -> Response {
    Response::builder().header("content-type", "application/xml").body(Body::from(text)).unwrap()
}
