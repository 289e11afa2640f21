//! VirtualRegistry: its status. What it means is rendered for the pods.

use std::sync::Arc;
use std::time::Duration;

use config::Kind;
use crds::{VirtualRegistry, VirtualRegistryStatus};
use kube::runtime::controller::Action;

use crate::context::{Context, Error};
use crate::purge::purge;
use crate::verdict::{conditions, is_too_early, write};
use crate::world::{Facts, id_of};

/// Says what is true of a virtual registry.
///
/// # Errors
/// When the API server refuses; it is tried again.
pub async fn reconcile(registry: Arc<VirtualRegistry>, context: Arc<Context>) -> Result<Action, Error> {
    let id = id_of(registry.as_ref());
    let verdict = context.world.borrow().verdicts.get(&(Kind::VirtualRegistry, id.clone())).cloned();
    let Some(verdict) = verdict.filter(|verdict| verdict.generation == registry.metadata.generation) else {
        return Ok(Action::requeue(Duration::from_secs(1)));
    };
    if is_too_early(&verdict, registry.status.as_ref().and_then(|status| status.observed_generation)) {
        return Ok(Action::await_change());
    }
    let before = registry.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let mut conditions = conditions(before, &verdict, context.now());
    let registry_id = id.dotted();
    let (prefix, upstreams) = match &verdict.facts {
        Facts::Registry { url, upstreams } => {
            let server = url.split_once("://").map_or(url.as_str(), |(_, server)| server);
            // Names of the same namespace stand alone, as in the specification.
            let own = format!("{}/", id.namespace);
            let names = upstreams.iter().map(|name| name.strip_prefix(&own).unwrap_or(name));
            let names = names.collect::<Vec<_>>().join(",");
            (Some(format!("{server}/virtual_registries/container/{registry_id}")), Some(names))
        }
        _ => (None, None),
    };
    let message = prefix.as_ref().map(|prefix| format!("Pull from {prefix}")).unwrap_or_default();
    let ready = conditions.sum_up(&["Accepted", "ResolvedRefs", "Programmed"], "Programmed", &message);
    let done = registry.status.as_ref().map(|status| status.purged.clone()).unwrap_or_default();
    let (purged, next) =
        purge(registry.as_ref(), Kind::VirtualRegistry, done, &mut conditions, &context).await;
    let status = VirtualRegistryStatus {
        observed_generation: registry.metadata.generation,
        ready: Some(ready),
        registry_id: Some(registry_id),
        upstreams,
        image_prefix: prefix,
        purged,
        conditions: conditions.finish(),
    };
    let now = status.conditions.clone();
    write(registry.as_ref(), registry.status.as_ref(), &status, (before, &now), &context).await?;
    Ok(next)
}
