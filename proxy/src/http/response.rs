//! From what was found to an answer: headers, and a body that streams.

use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};
use oci::{Digest, Name};
use serde_json::{Value, json};

use super::range::Slice;
use crate::cache::{Blob, Body, Cache, Manifest, Page, Reader, Referrers, TagList, Wanted};
use crate::metrics::Outcome;
use crate::store::{self, FileReader};

/// What is read of a file at a time: a fifth more blobs per second than 128 KiB (measured with `make bench
/// ARGS=warm`); two hundred slow clients of kept blobs hold 51 MB.
const PIECE: u64 = 256 * 1024;
/// The registry that a mirror's client believes to ask.
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

pub(super) fn empty_object() -> Response {
    json(&json!({}))
}

/// As GitLab answers what it does later.
pub(super) fn accepted() -> Response {
    let mut response = json(&json!(202));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

pub(super) fn json(value: &Value) -> Response {
    with_type(HttpBody::from(value.to_string()), "application/json")
}

fn with_type(body: HttpBody, media_type: &str) -> Response {
    let mut response = Response::new(body);
    set(&mut response, header::CONTENT_TYPE, media_type);
    response
}

/// Sets a header; what cannot be one is left out.
fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn describe(response: &mut Response, digest: Option<&Digest>, outcome: Outcome, ns: Option<&str>) {
    if let Some(digest) = digest {
        let digest = digest.to_string();
        set(response, header::ETAG, &format!("\"{digest}\""));
        set(response, HeaderName::from_static("docker-content-digest"), &digest);
    }
    set(response, HeaderName::from_static("x-cache"), outcome.as_str());
    if let Some(ns) = ns {
        set(response, NAMESPACE, ns);
    }
}

pub(super) fn manifest(found: &Manifest, wanted: Wanted, ns: Option<&str>) -> Response {
    let bytes = found.bytes.clone().filter(|_| wanted == Wanted::Bytes).unwrap_or_default();
    let mut response = with_type(HttpBody::from(bytes), &found.media_type);
    describe(&mut response, found.digest.as_ref(), found.outcome, ns);
    if let Some(size) = found.size {
        set(&mut response, header::CONTENT_LENGTH, &size.to_string());
    }
    if let Some(warning) = &found.warning {
        // RFC 9110 §5.6.4: quotes and backslashes would end the quoted string early; other bytes are no header's.
        let plain: String = warning
            .chars()
            .filter(|c| (' '..='~').contains(c) && !matches!(c, '"' | '\\'))
            .take(1000)
            .collect();
        set(&mut response, header::WARNING, &format!("299 - \"{plain}\""));
    }
    response
}

/// # Errors
/// When the shared store cannot be read from.
pub(super) async fn blob(
    found: Blob,
    digest: &Digest,
    slice: Slice,
    wanted: Wanted,
    cache: &Arc<Cache>,
    ns: Option<&str>,
) -> Result<Response, store::Error> {
    let whole = found.size;
    let (start, end, status) = match slice {
        Slice::Part(start, end) => (start, Some(end), StatusCode::PARTIAL_CONTENT),
        Slice::Whole | Slice::Unsatisfiable => (0, whole, StatusCode::OK),
    };
    let body = match (wanted, found.body) {
        (Wanted::Head, _) | (_, Body::None) => HttpBody::empty(),
        (_, Body::File(file)) => file_body(file, start, end.unwrap_or(0)),
        (_, Body::Store(blob)) => stored_body(cache, digest, &blob, start..end.unwrap_or(0)).await?,
        (_, Body::Fill(place)) => reader_body(place.reader(start, end)),
    };
    let mut response = with_type(body, "application/octet-stream");
    *response.status_mut() = status;
    describe(&mut response, Some(digest), found.outcome, ns);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    if let Some(end) = end {
        set(&mut response, header::CONTENT_LENGTH, &(end - start).to_string());
    }
    if let (Slice::Part(start, end), Some(size)) = (slice, whole) {
        set(&mut response, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
    }
    Ok(response)
}

/// What the bucket has: all of it with its proof, or a part, which has none.
async fn stored_body(
    cache: &Arc<Cache>,
    digest: &Digest,
    blob: &store::Remote,
    range: std::ops::Range<u64>,
) -> Result<HttpBody, store::Error> {
    if range == (0..blob.size) {
        return Ok(HttpBody::from_stream(cache.store.stream_proven(*digest, blob).await?));
    }
    Ok(HttpBody::from_stream(cache.store.stream(digest, range).await?))
}

/// What a reader of a download gets, as it comes in.
pub(super) fn reader_body(reader: Reader) -> HttpBody {
    HttpBody::from_stream(stream::unfold(reader, |mut reader| async move {
        let next = reader.next().await.transpose()?;
        Some((next, reader))
    }))
}

fn file_body(file: Arc<std::fs::File>, start: u64, end: u64) -> HttpBody {
    let file = FileReader::new(file);
    let pieces = stream::unfold(start, move |at| {
        let file = file.clone();
        async move {
            let length =
                usize::try_from(end.saturating_sub(at).min(PIECE)).ok().filter(|length| *length > 0)?;
            let read: std::io::Result<Bytes> = match file.read(at, length).await {
                // The file was cut short behind our back: the client must not take that for the end.
                Ok(bytes) if bytes.is_empty() => Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => read,
            };
            let next = at + read.as_ref().map_or(0, |bytes| bytes.len() as u64);
            Some((read, next))
        }
    });
    HttpBody::from_stream(pieces.boxed())
}

pub(super) fn tags(list: &TagList, name: &Name, ns: Option<&str>) -> Response {
    let mut response = json(&json!({"name": name, "tags": list.tags}));
    describe_list(&mut response, list.next.as_ref(), &format!("/v2/{name}/tags/list"), ns);
    response
}

pub(super) fn referrers(found: Referrers, name: &Name, digest: &Digest, ns: Option<&str>) -> Response {
    let mut response = with_type(HttpBody::from(found.bytes), oci::media::OCI_INDEX);
    describe_list(&mut response, found.next.as_ref(), &format!("/v2/{name}/referrers/{digest}"), ns);
    if found.filtered {
        set(&mut response, HeaderName::from_static("oci-filters-applied"), "artifactType");
    }
    response
}

fn describe_list(response: &mut Response, next: Option<&Page>, path: &str, ns: Option<&str>) {
    if let Some(next) = next {
        set(response, header::LINK, &format!("<{path}?{}>; rel=\"next\"", next.link_query(ns)));
    }
    if let Some(ns) = ns {
        set(response, NAMESPACE, ns);
    }
}
