//! Purging: what is cached of a group, a virtual registry or an upstream is forgotten, behind the answer.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use backon::{ExponentialBuilder, Retryable};
use config::{Group, ObjectId, Role, Route};
use http::Method;
use oci::{Digest, Name, Tag};

use super::access::Note;
use super::error::Problem;
use super::request::Head;
use super::router::login_host;
use super::{Api, Live, response};
use crate::auth::{Caller, Presented, Refusal, authorize_role};
use crate::resolve::Lead;
use crate::store::{Purge, What};

/// `DELETE /api/v4/groups/<path>/dependency_proxy/cache`, for Owners.
pub(super) async fn group(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    path: &str,
    note: &mut Note,
) -> Result<Response, Problem> {
    let asking = Asking::read(api, live, head, note).await?;
    let group = live.config.groups.get(path);
    let may = asking.may(group.map(|group| Route::Group(group.clone())), path, Role::Owner);
    let group = may.map_err(|refusal| asking.refused(refusal))?;
    Ok(asking.begin(vec![asking.scope.of(&group.id, None)]))
}

/// `DELETE /api/v4/virtual_registries/container/registries/<id>/cache`, for Maintainers of its group.
pub(super) async fn registry(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    id: &str,
    note: &mut Note,
) -> Result<Response, Problem> {
    let asking = Asking::read(api, live, head, note).await?;
    let registry = live.config.registries.get(id);
    let may = asking.may(registry.map(|registry| Route::Registry(registry.clone())), id, Role::Maintainer);
    let group = may.map_err(|refusal| asking.refused(refusal))?;
    let upstreams = registry.into_iter().flat_map(|registry| &registry.upstreams);
    let origins = upstreams.map(|upstream| upstream.origin.clone()).collect();
    Ok(asking.begin(vec![asking.scope.of(&group.id, Some(origins))]))
}

/// `DELETE /api/v4/virtual_registries/container/upstreams/<namespace>.<name>/cache`: in each group that uses it and in
/// which the caller is Maintainer.
pub(super) async fn upstream(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    id: &str,
    note: &mut Note,
) -> Result<Response, Problem> {
    let asking = Asking::read(api, live, head, note).await?;
    let is_it = |found: &ObjectId| id.split_once('.') == Some((&found.namespace, &found.name));
    let upstream = live.config.upstreams().into_values().find(|upstream| is_it(&upstream.id));
    let registries = live
        .config
        .registries
        .values()
        .filter(|registry| registry.upstreams.iter().any(|upstream| is_it(&upstream.id)));
    let groups = live.config.groups.values().filter(|group| is_it(&group.upstream.id));
    let mut purges = Vec::new();
    // Whether there is such an upstream is not told to strangers.
    let mut refusal = asking.may(None, id, Role::Maintainer).err();
    for group in groups.chain(registries.map(|registry| &registry.group)) {
        match asking.may(Some(Route::Group(group.clone())), &group.path, Role::Maintainer) {
            Ok(group) => {
                let origins = upstream.iter().map(|upstream| upstream.origin.clone()).collect();
                purges.push(asking.scope.of(&group.id, Some(origins)));
            }
            Err(too_low @ Refusal::RoleTooLow { .. }) => refusal = Some(too_low),
            Err(_) => {}
        }
    }
    match refusal {
        Some(refusal) if purges.is_empty() => Err(asking.refused(refusal)),
        _ => Ok(asking.begin(purges)),
    }
}

/// A request to purge, by somebody whose password was right.
struct Asking<'a> {
    api: &'a Arc<Api>,
    live: &'a Live,
    caller: Caller,
    scope: Scope,
    host: String,
}

impl<'a> Asking<'a> {
    async fn read(api: &'a Arc<Api>, live: &'a Live, head: &Head, note: &mut Note) -> Result<Self, Problem> {
        if head.method != Method::DELETE {
            return Err(Problem::not_allowed("A cache is purged with DELETE.", "DELETE"));
        }
        let host = login_host(api, live, head);
        let refused = |refusal| Problem::refused(refusal, None, &host).by_token_service();
        let presented = live.present(head, api.clock.now()).await.map_err(refused)?;
        note.caller = Some(presented.caller().identity.name().to_owned());
        // A token is for pulling, and says so.
        let Presented::Password(caller) = presented else { return Err(refused(Refusal::OtherScope)) };
        let scope = Scope::read(&head.query)?;
        if !live.config.instance.enabled {
            return Err(Problem::unresolved(crate::resolve::Error::InstanceDisabled));
        }
        Ok(Self { api, live, caller, scope, host })
    }

    /// The group, if there is one and the caller has this role in it.
    fn may(&self, route: Option<Route>, written: &str, needed: Role) -> Result<Arc<Group>, Refusal> {
        let written = written.to_owned();
        let group = route.as_ref().map(|route| route.group().clone());
        let lead = match (route, Name::parse("any")) {
            (Some(route), Ok(image)) => Lead::Route { route, image, written: written.clone() },
            _ => Lead::Unknown(written.clone()),
        };
        authorize_role(&self.live.config, &self.caller, &lead, needed, self.api.clock.now())?;
        let caller = self.caller.identity.name().to_owned();
        group.ok_or(Refusal::NoRole { group: written, caller })
    }

    fn refused(&self, refusal: Refusal) -> Problem {
        Problem::refused(refusal, None, &self.host)
    }

    /// GitLab's answer; the work goes on behind it.
    fn begin(&self, purges: Vec<Purge>) -> Response {
        let (store, caller) = (self.api.cache.store.clone(), self.caller.identity.name().to_owned());
        tokio::spawn(async move {
            for purge in purges {
                let group = purge.group.to_string();
                tracing::info!(%group, caller = %caller.escape_default(), what = ?purge.what, "purging");
                let retries = ExponentialBuilder::default().with_max_times(RETRIES).with_max_delay(PAUSE);
                match (|| store.purge(&purge)).retry(retries).sleep(tokio::time::sleep).await {
                    Ok(purged) => {
                        tracing::info!(%group, rights = purged.links, tags = purged.tags, "purged");
                    }
                    Err(error) => tracing::error!(%group, %error, "not everything was purged: ask again"),
                }
            }
        });
        response::accepted()
    }
}

/// How often a purge is tried again where the store fails.
const RETRIES: usize = 10;
/// The longest time between two tries.
const PAUSE: Duration = Duration::from_secs(60);

/// What of a cache is to be forgotten, by the request's query.
struct Scope {
    repositories: Option<Vec<Name>>,
    what: What,
}

impl Scope {
    /// Reads `image`, `tag` and `digest`.
    fn read(query: &str) -> Result<Self, Problem> {
        let (mut image, mut what) = (None, What::Everything);
        let bad = |error: String| Problem::bad_request(&error);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match (key.as_ref(), &what) {
                ("image", _) => {
                    image = Some(Name::parse(&value).map_err(|error| bad(error.to_string()))?);
                }
                ("tag", What::Everything) => {
                    what = What::Tag(Tag::parse(&value).map_err(|error| bad(error.to_string()))?);
                }
                ("digest", What::Everything) => {
                    what = What::Digest(Digest::parse(&value).map_err(|error| bad(error.to_string()))?);
                }
                // Whoever mistypes one does not want everything to go.
                _ => return Err(bad("purging takes image, and one of tag and digest".to_owned())),
            }
        }
        if matches!(what, What::Tag(_)) && image.is_none() {
            return Err(bad("a tag is purged together with its image: add image".to_owned()));
        }
        Ok(Self { repositories: image.map(|image| as_upstreams_name_it(&image)), what })
    }

    fn of(&self, group: &ObjectId, origins: Option<HashSet<String>>) -> Purge {
        let (repositories, what) = (self.repositories.clone(), self.what.clone());
        Purge { group: group.clone(), origins, repositories, what }
    }
}

/// As it is written, and as Docker Hub names it.
fn as_upstreams_name_it(image: &Name) -> Vec<Name> {
    let official = image.is_short().then(|| image.under("library").ok()).flatten();
    std::iter::once(image.clone()).chain(official).collect()
}
