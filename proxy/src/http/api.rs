//! What is asked of a group beside its images: the quota of its upstreams. Nothing else of GitLab's API is here yet.

use std::sync::Arc;

use axum::response::Response;
use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::access::Note;
use super::error::Problem;
use super::request::Head;
use super::router::login_host;
use super::{Api, Live, response};
use crate::auth::authorize;
use crate::resolve::Lead;

/// `GET /api/v4/groups/<path>/dependency_proxy/quota`, the path as it is or URL-encoded as GitLab's API takes it.
pub(super) async fn group(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    path: &str,
    note: &mut Note,
) -> Result<Response, Problem> {
    if path.ends_with("/dependency_proxy/cache") {
        return Err(Problem::unsupported(
            "A group's cache cannot be purged yet. What is not pulled gives way when its room is needed.",
        ));
    }
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let nowhere = || {
        Problem::name_unknown(
            "Nothing is here. The quota is at /api/v4/groups/<path>/dependency_proxy/quota.",
        )
    };
    let group = path.strip_suffix("/dependency_proxy/quota").filter(|_| reads).ok_or_else(nowhere)?;
    let group = percent_decode_str(group).decode_utf8().map_err(|_| nowhere())?;
    let host = login_host(api, live, head);
    let now = api.clock.now();
    let refused = |refusal| Problem::refused(refusal, None, &host);
    let presented = live.present(head, now).await.map_err(refused)?;
    note.caller = Some(presented.caller().identity.name().to_owned());
    let written = group.to_string();
    let lead = match (live.config.groups.get(group.as_ref()), oci::Name::parse("any")) {
        (Some(group), Ok(image)) => {
            Lead::Route { route: config::Route::Group(group.clone()), image, written }
        }
        _ => Lead::Unknown(written),
    };
    authorize(&live.config, presented.caller(), &lead, now).map_err(refused)?;
    let Lead::Route { route, .. } = lead else { return Err(nowhere()) };
    let quotas = crate::quota::of_group(&live.config, route.group(), &api.cache.upstreams).await;
    Ok(response::json(&json!({"group": route.group().path, "upstreams": quotas})))
}
