//! DependencyProxyGroup: its status. What it means is rendered for the pods.

use std::sync::Arc;
use std::time::Duration;

use config::Kind;
use crds::{DependencyProxyGroup, DependencyProxyGroupStatus};
use kube::runtime::controller::Action;

use crate::context::{Context, Error};
use crate::purge::purge;
use crate::verdict::{conditions, is_too_early, write};
use crate::world::{Facts, id_of};

/// Says what is true of a group.
///
/// # Errors
/// When the API server refuses; it is tried again.
pub async fn reconcile(group: Arc<DependencyProxyGroup>, context: Arc<Context>) -> Result<Action, Error> {
    let key = (Kind::DependencyProxyGroup, id_of(group.as_ref()));
    let verdict = context.world.borrow().verdicts.get(&key).cloned();
    let Some(verdict) = verdict.filter(|verdict| verdict.generation == group.metadata.generation) else {
        return Ok(Action::requeue(Duration::from_secs(1)));
    };
    if is_too_early(&verdict, group.status.as_ref().and_then(|status| status.observed_generation)) {
        return Ok(Action::await_change());
    }
    let before = group.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let mut conditions = conditions(before, &verdict, context.now());
    let (prefix, server, upstream) = match &verdict.facts {
        Facts::Group { url, path, upstream } => {
            let server = url.split_once("://").map_or(url.as_str(), |(_, server)| server).to_owned();
            (
                Some(format!("{server}/{path}/dependency_proxy/containers")),
                Some(server),
                Some(upstream.clone()),
            )
        }
        _ => (None, None, None),
    };
    let message = prefix.as_ref().map(|prefix| format!("Pull from {prefix}")).unwrap_or_default();
    let ready = conditions.sum_up(&["Accepted", "ResolvedRefs", "Programmed"], "Programmed", &message);
    let done = group.status.as_ref().map(|status| status.purged.clone()).unwrap_or_default();
    let (purged, next) =
        purge(group.as_ref(), Kind::DependencyProxyGroup, done, &mut conditions, &context).await;
    let status = DependencyProxyGroupStatus {
        observed_generation: group.metadata.generation,
        ready: Some(ready),
        upstream,
        image_prefix: prefix,
        server,
        purged,
        conditions: conditions.finish(),
    };
    let now = status.conditions.clone();
    write(group.as_ref(), group.status.as_ref(), &status, (before, &now), &context).await?;
    Ok(next)
}
