//! From a request to the right answer, and from there to the wrong one.

use std::io;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::response::Builder;
use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use oci::media;
use serde_json::json;

use super::Registry;
use super::body::{Body, body};
use super::content::Manifest;
use super::fault::Fault;
use super::record::InFlight;

/// A right answer before its faults.
struct Answer {
    head: Builder,
    content: Bytes,
}

/// Answers one request. An error closes the connection.
pub(super) async fn answer(
    registry: Arc<Registry>,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (request, _) = request.into_parts();
    registry.log.add(&request);
    let in_flight = InFlight::begin(&registry);
    let faults = registry.faults.take(&request.method, request.uri.path());
    for fault in &faults {
        match fault {
            Fault::Delay(time) => tokio::time::sleep(*time).await,
            Fault::Hang => std::future::pending().await,
            Fault::Drop => return Err(io::Error::other("dropped on request")),
            _ => {}
        }
    }
    let answer = match instead(&request, &registry, &faults) {
        Some(answer) => answer,
        None => registry.answer(&request, &faults),
    };
    Ok(spoil(answer, &request, &faults, in_flight))
}

/// The answer of faults that do not look at the content.
fn instead(request: &Parts, registry: &Registry, faults: &[Fault]) -> Option<Answer> {
    faults.iter().find_map(|fault| match fault {
        Fault::Status(status) => Some(error(*status, "FAULT", "on request")),
        Fault::NoHead if request.method == Method::HEAD => Some(error(405, "UNSUPPORTED", "no HEAD here")),
        Fault::Redirect(url) => Some(redirect(url)),
        Fault::RedirectLoop => {
            let query = request.uri.query().unwrap_or_default();
            Some(redirect(&format!("{}{}?{query}x", registry.base, request.uri.path())))
        }
        _ => None,
    })
}

fn redirect(url: &str) -> Answer {
    Answer { head: Response::builder().status(307).header(header::LOCATION, url), content: Bytes::new() }
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    json_answer(status, &json!({"errors": [{"code": code, "message": message}]}))
}

fn json_answer(status: u16, document: &serde_json::Value) -> Answer {
    let head = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    Answer { head, content: document.to_string().into() }
}

impl Registry {
    fn answer(&self, request: &Parts, faults: &[Fault]) -> Answer {
        let path = request.uri.path();
        if path == "/token" {
            return match self.access.issue(request) {
                Some(document) => {
                    let head =
                        Response::builder().status(200).header(header::CONTENT_TYPE, "application/json");
                    Answer { head, content: document.into() }
                }
                None => error(401, "UNAUTHORIZED", "the token service refuses these credentials"),
            };
        }
        let parts = split(path);
        if let Some(challenge) = self.access.challenge(request, parts.map(|(name, ..)| name), &self.base) {
            let mut answer = error(401, "UNAUTHORIZED", "authentication required");
            answer.head = answer.head.header(header::WWW_AUTHENTICATE, challenge);
            return answer;
        }
        match parts {
            Some((name, "manifests", reference)) => self.manifest(request, name, reference),
            Some((name, "blobs", digest)) => self.blob(request, name, digest, faults),
            Some((name, "tags", "list")) => self.tags(request, name, faults),
            Some((name, "referrers", digest)) => self.referrers(name, digest),
            None if path == "/v2/" => json_answer(200, &json!({})),
            _ => error(404, "NOT_FOUND", "no such path"),
        }
    }

    fn manifest(&self, request: &Parts, name: &str, reference: &str) -> Answer {
        let quota = self.faults.spend(request.method == Method::GET);
        let mut answer = match (&quota, self.content.find_manifest(name, reference)) {
            (Some((_, false)), _) => error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit."),
            (_, Some(Manifest { digest, bytes, media_type })) => {
                let head = Response::builder().status(200).header(header::CONTENT_TYPE, media_type);
                Answer { head: head.header("docker-content-digest", digest.to_string()), content: bytes }
            }
            (_, None) => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        };
        if let Some((quota, _)) = quota {
            answer.head = answer
                .head
                .header("ratelimit-limit", format!("{};w={}", quota.limit, quota.window))
                .header("ratelimit-remaining", format!("{};w={}", quota.remaining, quota.window))
                .header("docker-ratelimit-source", "192.0.2.7");
        }
        answer
    }

    fn blob(&self, request: &Parts, name: &str, digest: &str, faults: &[Fault]) -> Answer {
        let Some((digest, content)) = self.content.find_blob(name, digest) else {
            return error(404, "BLOB_UNKNOWN", "blob unknown");
        };
        let head = Response::builder()
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::ACCEPT_RANGES, "bytes")
            .header("docker-content-digest", digest.to_string());
        let range = request.headers.get(header::RANGE).and_then(|v| v.to_str().ok());
        let ignored = faults.iter().any(|f| matches!(f, Fault::IgnoreRange));
        match range.filter(|_| !ignored).map(|r| part(r, content.len())) {
            None => Answer { head: head.status(200), content },
            Some(Some((first, last))) => {
                let text = format!("bytes {first}-{last}/{}", content.len());
                Answer {
                    head: head.status(206).header(header::CONTENT_RANGE, text),
                    content: content.slice(first..=last),
                }
            }
            Some(None) => {
                let text = format!("bytes */{}", content.len());
                let mut answer = error(416, "RANGE_INVALID", "no such range");
                answer.head = answer.head.header(header::CONTENT_RANGE, text);
                answer
            }
        }
    }

    fn tags(&self, request: &Parts, name: &str, faults: &[Fault]) -> Answer {
        let query = url::form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes());
        let query = query.into_owned().collect::<std::collections::HashMap<_, _>>();
        let last = query.get("last").cloned().unwrap_or_default();
        let endless = faults.iter().any(|f| matches!(f, Fault::EndlessTags));
        let (tags, more) = if endless {
            let start = last.trim_start_matches('t').parse().unwrap_or(0u64);
            ((start + 1..=start + 100).map(|n| format!("t{n:09}")).collect(), true)
        } else {
            let n = query.get("n").and_then(|n| n.parse().ok()).unwrap_or(100usize);
            let mut tags = self.content.tags(name);
            tags.retain(|t| *t > last);
            let more = tags.len() > n;
            tags.truncate(n);
            (tags, more)
        };
        if tags.is_empty() && last.is_empty() {
            return error(404, "NAME_UNKNOWN", "repository name not known to registry");
        }
        let mut answer = json_answer(200, &json!({"name": name, "tags": tags}));
        if more {
            let next = format!(
                "</v2/{name}/tags/list?last={}&n={}>; rel=\"next\"",
                tags[tags.len() - 1],
                tags.len()
            );
            answer.head = answer.head.header(header::LINK, next);
        }
        answer
    }

    fn referrers(&self, name: &str, digest: &str) -> Answer {
        let manifests = self.content.referrers(name, digest);
        let document = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests});
        let head = Response::builder().status(200).header(header::CONTENT_TYPE, media::OCI_INDEX);
        Answer { head, content: document.to_string().into() }
    }
}

/// `/v2/<name>/<kind>/<last>`.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let (rest, last) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
    let (name, kind) = rest.rsplit_once('/')?;
    Some((name, kind, last))
}

/// The first and last byte of a single range; `None` where it cannot be met.
fn part(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => (first, last.min(length.checked_sub(1)?)),
        (Ok(first), Err(_)) => (first, length.checked_sub(1)?),
        (Err(_), Ok(suffix)) => (length.saturating_sub(suffix), length.checked_sub(1)?),
        _ => return None,
    };
    (first <= last).then_some((first, last))
}

/// Makes the right answer wrong.
fn spoil(answer: Answer, request: &Parts, faults: &[Fault], in_flight: InFlight) -> Response<Body> {
    let Answer { head, mut content } = answer;
    let mut response = head.body(()).unwrap();
    let mut length = Some(0i64);
    for fault in faults {
        match fault {
            Fault::WrongByte => content = flip(&content),
            Fault::Gzip => {
                content = gzip(&content);
                response.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
            }
            Fault::NoDigest => drop(response.headers_mut().remove("docker-content-digest")),
            Fault::Header(name, value) => drop(response.headers_mut().insert(*name, value.parse().unwrap())),
            Fault::ContentLength(more) => length = Some(*more),
            Fault::Chunked | Fault::Endless => length = None,
            _ => {}
        }
    }
    if let Some(more) = length {
        let announced = i64::try_from(content.len()).unwrap() + more;
        response.headers_mut().insert(header::CONTENT_LENGTH, announced.into());
        // What exceeds the announced length would be read as the next response's head.
        content.truncate(usize::try_from(announced).unwrap());
    }
    if request.method == Method::HEAD {
        content = Bytes::new();
    }
    let faults = if request.method == Method::HEAD { &[] } else { faults };
    response.map(|()| body(content, faults, in_flight))
}

fn flip(content: &Bytes) -> Bytes {
    let mut bytes = content.to_vec();
    if let Some(first) = bytes.first_mut() {
        *first ^= 0xff;
    }
    bytes.into()
}

fn gzip(content: &Bytes) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).and_then(|()| encoder.finish()).unwrap().into()
}
