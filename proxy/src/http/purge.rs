//! Purging over the API, by who has the role.

use std::sync::Arc;

use axum::response::Response;
use config::{Group, ObjectId, Role};
use http::Method;

use super::access::Note;
use super::error::Problem;
use super::request::Head;
use super::router::login_host;
use super::{Api, Live, response};
use crate::auth::{Caller, Presented, Refusal, authorize_role};
use crate::purge::{Concerned, Scope, Target, begin, concerned};

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
    let target = group.map(|group| Target::Group(group.id.clone()));
    asking.purge(target, path, Role::Owner)
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
    asking.purge(Some(Target::Registry(id.to_owned())), id, Role::Maintainer)
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
    let target = ObjectId::of_dotted(id).map(Target::Upstream);
    asking.purge(target, id, Role::Maintainer)
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
        let presented = live.admit(head, api.clock.now(), note).await.map_err(refused)?;
        // A token is for pulling, and says so.
        let Presented::Password(caller) = presented else { return Err(refused(Refusal::OtherScope)) };
        let query: Vec<_> = form_urlencoded::parse(head.query.as_bytes()).collect();
        let scope = Scope::read(query.iter().map(|(key, value)| (&**key, &**value)));
        let scope = scope.map_err(|sentence| Problem::bad_request(&sentence))?;
        if !live.config.instance.enabled {
            return Err(Problem::unresolved(crate::resolve::Error::InstanceDisabled));
        }
        Ok(Self { api, live, caller, scope, host })
    }

    /// GitLab's answer, where the caller has the role in one of the groups at least; the work goes on behind it.
    /// Whether there is what he asks for is not told to strangers.
    fn purge(&self, target: Option<Target>, written: &str, needed: Role) -> Result<Response, Problem> {
        let concerned = target.map(|target| concerned(&self.live.config, &target)).unwrap_or_default();
        let mut refusal = self.may(None, written, needed).err();
        let mut allowed = Vec::<Concerned>::new();
        for one in concerned {
            match self.may(Some(&one.group), written, needed) {
                Ok(()) => allowed.push(one),
                Err(Refusal::NoRole { .. }) => {}
                Err(other) => refusal = Some(other),
            }
        }
        match refusal {
            Some(refusal) if allowed.is_empty() => Err(Problem::refused(refusal, None, &self.host)),
            _ => {
                let by = self.caller.identity.name();
                let begun = begin(&self.api.cache.store, &allowed, &self.scope, by);
                begun.map(|()| response::accepted()).map_err(|_| Problem::crowded())
            }
        }
    }

    /// Whether the caller has this role in the group, if there is one.
    fn may(&self, group: Option<&Group>, written: &str, needed: Role) -> Result<(), Refusal> {
        authorize_role(&self.live.config, &self.caller, group, written, needed, self.api.clock.now())
    }
}
