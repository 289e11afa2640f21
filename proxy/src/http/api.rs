//! GitLab's API, as far as there is one here: the quota of a group's upstreams, and purging.

use std::sync::Arc;

use axum::response::Response;
use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::access::Note;
use super::error::Problem;
use super::request::Head;
use super::router::login_host;
use super::{Api, Live, purge, response};
use crate::auth::authorize;

/// `/api/v4/groups/<path>/dependency_proxy/…`, the path as it is or URL-encoded as GitLab's API takes it.
pub(super) async fn group(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    path: &str,
    note: &mut Note,
) -> Result<Response, Problem> {
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let nowhere = || {
        Problem::name_unknown(
            "Nothing is here. The quota is at /api/v4/groups/<path>/dependency_proxy/quota.",
        )
    };
    let (group, what) = path.rsplit_once("/dependency_proxy/").ok_or_else(nowhere)?;
    let group = percent_decode_str(group).decode_utf8().map_err(|_| nowhere())?;
    match what {
        "quota" if reads => quota(api, live, head, &group, note).await,
        "cache" => purge::group(api, live, head, &group, note).await,
        _ => Err(nowhere()),
    }
}

/// `/api/v4/virtual_registries/container/<path>`.
pub(super) async fn registries(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    path: &str,
    note: &mut Note,
) -> Result<Response, Problem> {
    let decoded = percent_decode_str(path).decode_utf8().unwrap_or_default();
    match decoded.split('/').collect::<Vec<_>>().as_slice() {
        ["registries", id, "cache"] => purge::registry(api, live, head, id, note).await,
        ["upstreams", id, "cache"] => purge::upstream(api, live, head, id, note).await,
        _ => Err(Problem::name_unknown(
            "Nothing is here. There are registries/<id>/cache and upstreams/<namespace>.<name>/cache.",
        )),
    }
}

async fn quota(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    group: &str,
    note: &mut Note,
) -> Result<Response, Problem> {
    let host = login_host(api, live, head);
    let now = api.clock.now();
    let refused = |refusal| Problem::refused(refusal, None, &host);
    let presented = live.admit(head, now, note).await.map_err(refused)?;
    let found = live.config.groups.get(group);
    authorize(&live.config, presented.caller(), found.map(|group| &**group), group, now).map_err(refused)?;
    // `authorize` lets nobody pass to what does not exist.
    let group = found.ok_or_else(Problem::internal)?;
    let quotas = crate::quota::of_group(&live.config, group, &api.cache.upstreams).await;
    Ok(response::json(&json!({"group": group.path, "upstreams": quotas})))
}
