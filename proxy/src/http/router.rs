//! Which path is what. Nothing else decides URLs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, Method};

use super::access::{Line, Note};
use super::error::Problem;
use super::request::{Asked, Head, parse_path};
use super::{Api, Live, api, pull, response, sign_in};
use crate::auth::{Refusal, authorize, random_hex};
use crate::resolve;

/// Answers one request, whatever it is.
pub async fn handle(api: Arc<Api>, peer: SocketAddr, request: Request) -> Response {
    let started = Instant::now();
    let live = api.now_live();
    let head = Head::read(&request, random_hex::<8>());
    let path = request.uri().path().to_owned();
    let line = Line::begin(&head, &path, peer, started);
    let mut note = Note::default();
    let answer = route(&api, &live, &head, &path, request, &mut note).await;
    let mut answer = answer.unwrap_or_else(|problem| {
        note.outcome = Some(problem.outcome);
        problem.into_response(&head.id, &realm(&api, &live, &head))
    });
    let headers = answer.headers_mut();
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&head.id) {
        headers.insert("x-request-id", id);
    }
    line.follow(answer, note, &api.metrics)
}

async fn route(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    path: &str,
    request: Request,
    note: &mut Note,
) -> Result<Response, Problem> {
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    match path {
        "/v2" | "/v2/" if reads => ping(api, live, head, note).await,
        "/jwt/auth" => sign_in::token(api, live, head, request, note).await,
        _ => {
            if let Some(path) = path.strip_prefix("/v2/") {
                return if reads {
                    image(api, live, head, path, note).await
                } else {
                    Err(Problem::read_only())
                };
            }
            if let Some(path) = path.strip_prefix("/api/v4/groups/") {
                return api::group(api, live, head, path, note).await;
            }
            if let Some(path) = path.strip_prefix("/api/v4/virtual_registries/container/") {
                return api::registries(api, live, head, path, note).await;
            }
            if path == "/v2" {
                return Err(Problem::read_only());
            }
            Err(Problem::name_unknown("Nothing is here. Images are below /v2/."))
        }
    }
}

/// `GET /v2/`: who is signed in may know that this is a registry.
async fn ping(api: &Arc<Api>, live: &Live, head: &Head, note: &mut Note) -> Result<Response, Problem> {
    let host = login_host(api, live, head);
    live.admit(head, api.clock.now(), note)
        .await
        .map_err(|refusal| Problem::refused(refusal, None, &host))?;
    Ok(response::empty_object())
}

/// A request for something below a repository.
async fn image(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    path: &str,
    note: &mut Note,
) -> Result<Response, Problem> {
    let (name, asked) = parse_path(path)?;
    let now = api.clock.now();
    let lead = resolve::lead(&live.config, head.host.as_deref(), &name);
    note.kind = match &asked {
        Asked::Manifest(_) => Some(crate::metrics::Kind::Manifest),
        Asked::Blob(_) => Some(crate::metrics::Kind::Blob),
        Asked::Tags | Asked::Referrers(_) => None,
    };
    note.group = lead.group().map(|group| group.path.as_str().into());
    let host = login_host(api, live, head);
    let refused = |refusal| Problem::refused(refusal, Some(&name), &host);
    let presented = live.admit(head, now, note).await.map_err(refused)?;
    if !presented.opens(&name) {
        return Err(refused(Refusal::OtherScope));
    }
    authorize(&live.config, presented.caller(), lead.group(), lead.written(), now).map_err(refused)?;
    // `authorize` lets nobody pass to what does not exist.
    let resolve::Lead::Route { route, image, .. } = lead else { return Err(Problem::internal()) };
    let ns = head.parameter("ns");
    let target =
        resolve::resolve(&live.config, &route, &image, ns.as_deref()).map_err(Problem::unresolved)?;
    let is_mirror =
        ns.is_some() || head.host.as_ref().is_some_and(|host| live.config.mirrors.contains_key(host));
    let pull = crate::cache::Pull { config: live.config.clone(), target: Arc::new(target) };
    let asking = pull::Asking { api, head, name: &name, pull, is_mirror, ns };
    match asked {
        Asked::Manifest(reference) => Box::pin(asking.manifest(&reference, note)).await,
        Asked::Blob(digest) => Box::pin(asking.blob(&digest, note)).await,
        Asked::Tags => Box::pin(asking.tags(note)).await,
        Asked::Referrers(digest) => Box::pin(asking.referrers(&digest, note)).await,
    }
}

/// The address under which this client reaches us: its `Host` where that is one of ours, else the first that we have.
pub(super) fn base_url(api: &Api, live: &Live, head: &Head) -> String {
    let instance = &live.config.instance;
    let urls = instance.external_url.iter().chain(&instance.additional_urls);
    let host = head.host.as_deref();
    let matching = urls.clone().find(|url| host.is_some() && authority(url).as_deref() == host);
    match matching.or(instance.external_url.as_ref()) {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        // Without a document there is no other name than the one that the client used; it goes into a header, so
        // only what can be a host and port.
        None => {
            let plain =
                |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b));
            let host = host.filter(|host| !host.is_empty()).filter(plain).map(str::to_owned);
            let scheme = if api.tls { "https" } else { "http" };
            format!("{scheme}://{}", host.unwrap_or_else(|| api.listen.to_string()))
        }
    }
}

fn authority(url: &url::Url) -> Option<String> {
    let host = url.host_str()?.to_ascii_lowercase();
    Some(url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}

fn realm(api: &Api, live: &Live, head: &Head) -> String {
    format!("{}/jwt/auth", base_url(api, live, head))
}

/// What `docker login` takes.
pub(super) fn login_host(api: &Api, live: &Live, head: &Head) -> String {
    let url = base_url(api, live, head);
    url.split_once("://").map_or(url.clone(), |(_, host)| host.to_owned())
}
