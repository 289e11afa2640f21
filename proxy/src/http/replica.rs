//! The port for other replicas of the instance: downloads in progress here, and how it stands with claims.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use config::{Config, ObjectId};
use futures_util::stream;
use http::{HeaderValue, Method, StatusCode, header};
use oci::{Digest, Name, Tag};
use serde_json::Value;

use super::response::{json, reader_body};
use crate::cache::{AskedTag, Cache, Led, Reader};
use crate::replica::{BEAT, CHECKS, CLAIMS, FILLS, Heard, Replica, SHOWN, SIZE, STATUS, State};
use crate::store::Holder;

/// What another replica asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Claim { path: String, id: String },
    Fill { digest: Digest, holder: Holder, from: u64, id: String },
    Check(AskedTag),
    Status,
}

/// Answers one request of another replica. `status`: what this one says of itself.
pub async fn handle(
    cache: Arc<Cache>,
    replica: Arc<Replica>,
    config: &Config,
    status: impl Fn() -> Value,
    request: Request,
) -> Response {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if !replica.admits(token, target) {
        return empty(StatusCode::UNAUTHORIZED);
    }
    if request.method() != Method::GET {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    match parse(request.uri().path(), request.uri().query().unwrap_or_default()) {
        None => empty(StatusCode::NOT_FOUND),
        Some(Asked::Status) => json(&status()),
        Some(Asked::Check(asked)) => match cache.ask_for_other(config, &asked) {
            Some(heard) => check(heard),
            None => empty(StatusCode::NOT_FOUND),
        },
        Some(Asked::Claim { path, id }) => empty(match cache.claim_state(&path, &id).await {
            Some(State::Held) => StatusCode::ACCEPTED,
            Some(State::Ended) => StatusCode::NO_CONTENT,
            None => StatusCode::NOT_FOUND,
        }),
        Some(Asked::Fill { digest, holder, from, id }) => match cache.led_fill(digest, &holder, &id).await {
            Led::Fill { place, size, shown } => fill(place.reader(from, None), size, shown),
            Led::NotYet => empty(StatusCode::ACCEPTED),
            Led::None => empty(StatusCode::NOT_FOUND),
        },
    }
}

/// The bytes of a download as they come in; they end only when the digest is proven here.
fn fill(reader: Reader, size: Option<u64>, shown: bool) -> Response {
    let mut response = Response::new(reader_body(reader));
    let headers = response.headers_mut();
    headers.insert(SHOWN, HeaderValue::from_static(if shown { "true" } else { "false" }));
    if let Some(size) = size {
        headers.insert(SIZE, size.into());
    }
    response
}

/// What upstream says, in JSON; blanks until then, so that the other one knows that this one is at it.
fn check(heard: impl Future<Output = Heard> + Send + 'static) -> Response {
    let pieces = stream::unfold(Some(Box::pin(heard)), |waiting| async move {
        let mut heard = waiting?;
        let (piece, waiting) = match tokio::time::timeout(BEAT, &mut heard).await {
            Err(_) => (Bytes::from_static(b" "), Some(heard)),
            Ok(heard) => (serde_json::to_vec(&heard).unwrap_or_default().into(), None),
        };
        Some((Ok::<_, Infallible>(piece), waiting))
    });
    Response::new(Body::from_stream(pieces))
}

fn parse(path: &str, query: &str) -> Option<Asked> {
    let query: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let text = |name: &str| query.get(name).filter(|text| !text.is_empty()).cloned();
    if path == STATUS {
        return Some(Asked::Status);
    }
    if let Some(path) = path.strip_prefix(CLAIMS) {
        return Some(Asked::Claim { path: path.to_owned(), id: text("id")? });
    }
    let group = ObjectId { namespace: text("namespace")?, name: text("group")? };
    let repository = Name::parse(&text("repository")?).ok()?;
    if let Some(path) = path.strip_prefix(CHECKS) {
        let (account, tag) = path.split_once('/')?;
        let (account, tag) = (account.to_owned(), Tag::parse(tag).ok()?);
        return Some(Asked::Check(AskedTag { account, group, repository, tag }));
    }
    let (digest, origin) = path.strip_prefix(FILLS)?.split_once('/')?;
    let holder = Holder { origin: origin.to_owned(), group, repository };
    let (digest, from) = (Digest::parse(digest).ok()?, text("from")?.parse().ok()?);
    Some(Asked::Fill { digest, holder, from, id: text("id")? })
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_asked_for_by_digest_origin_holder_and_offset() {
        let digest = Digest::of(oci::Algorithm::Sha256, b"");
        let path = format!("{FILLS}{digest}/0f");
        let query = "id=1f&from=7&namespace=ns&group=team-a&repository=library%2Falpine";
        let asked = parse(&path, query).unwrap();
        let holder = Holder {
            origin: "0f".to_owned(),
            group: ObjectId { namespace: "ns".to_owned(), name: "team-a".to_owned() },
            repository: Name::parse("library/alpine").unwrap(),
        };
        assert_eq!(asked, Asked::Fill { digest, holder, from: 7, id: "1f".to_owned() });
        let bad = [
            "",
            "id=1&from=7",
            "id=1&from=x&namespace=n&group=g&repository=r",
            "id=1&from=1&namespace=n&group=g&repository=..",
            "from=1&namespace=n&group=g&repository=r",
        ];
        for query in bad {
            assert_eq!(parse(&path, query), None, "{query}");
        }
    }

    #[test]
    fn a_check_is_asked_for_by_account_tag_and_repository() {
        let query = "namespace=ns&group=team-a&repository=library%2Falpine";
        let asked = parse(&format!("{CHECKS}0f/3.22"), query);
        let expected = AskedTag {
            account: "0f".to_owned(),
            group: ObjectId { namespace: "ns".to_owned(), name: "team-a".to_owned() },
            repository: Name::parse("library/alpine").unwrap(),
            tag: Tag::parse("3.22").unwrap(),
        };
        assert_eq!(asked, Some(Asked::Check(expected)));
        for (path, query) in [("0f", query), ("0f/..", query), ("0f/1", "namespace=ns&group=team-a")] {
            assert_eq!(parse(&format!("{CHECKS}{path}"), query), None, "{path} {query}");
        }
    }

    #[test]
    fn a_claim_is_asked_for_by_its_path_and_id() {
        let asked = parse(&format!("{CLAIMS}_fills/sha256:ab/0f"), "id=1f");
        assert_eq!(asked, Some(Asked::Claim { path: "_fills/sha256:ab/0f".to_owned(), id: "1f".to_owned() }));
        assert_eq!(parse(CLAIMS, ""), None);
        assert_eq!(parse("/v2/", "id=1"), None);
    }
}
