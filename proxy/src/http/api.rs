//! What is asked of a group beside its images: the quota of its upstreams.

use std::sync::Arc;

use axum::response::Response;
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
    let nowhere = || {
        Problem::name_unknown(
            "Nothing is here. The quota is at /api/v4/groups/<path>/dependency_proxy/quota.",
        )
    };
    let group = path.strip_suffix("/dependency_proxy/quota").ok_or_else(nowhere)?;
    let group = percent_decode_str(group).decode_utf8().map_err(|_| nowhere())?;
    let host = login_host(api, live, head);
    let now = api.clock.now();
    let refused = |refusal| Problem::refused(refusal, None, &host);
    let presented = live.present(head, now).await.map_err(refused)?;
    note.caller = Some(presented.caller().identity.name().to_owned());
    let route = live.config.groups.get(group.as_ref()).map(|group| config::Route::Group(group.clone()));
    let lead = route.and_then(|route| Some(Lead::Route(route, oci::Name::parse("any").ok()?)));
    let lead = lead.unwrap_or_else(|| Lead::Unknown(group.to_string()));
    authorize(&live.config, presented.caller(), &lead, now).map_err(refused)?;
    let Lead::Route(route, _) = lead else { return Err(nowhere()) };
    let quotas = crate::quota::of_group(&live.config, route.group(), &api.cache.upstreams).await;
    Ok(response::json(&json!({"group": route.group().path, "upstreams": quotas})))
}
