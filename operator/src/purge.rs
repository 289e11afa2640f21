//! The annotation that asks for what is cached to be forgotten. A pod does it, and the status tells of it.

use std::time::Duration;

use config::{Kind, ObjectId};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use crate::context::{Context, Error};
use crate::pods::Pods;
use crate::world::id_of;

/// On a group, a virtual registry or an upstream; each new value asks once more.
pub const ANNOTATION: &str = "dependencyproxy.dev/purge";
/// What of a value is remembered.
const REMEMBERED: usize = 64;
/// While no pod takes it.
const AGAIN: Duration = Duration::from_secs(2);

/// How it stands with what an object's annotation asks for.
pub struct Purged {
    /// The value that was done last, for the status.
    pub request: Option<String>,
    /// Another one waits for a pod.
    is_due: bool,
}

impl Purged {
    /// When the object is to be looked at again.
    #[must_use]
    pub fn next(&self) -> Action {
        if self.is_due { Action::requeue(AGAIN) } else { Action::await_change() }
    }
}

/// Asks a pod of each instance that serves the object, if its annotation is another than the one that was `done` last.
///
/// # Errors
/// When the API server does not list pods.
pub async fn purge<K: Resource<DynamicType = ()>>(
    object: &K,
    kind: Kind,
    done: Option<&String>,
    context: &Context,
) -> Result<Purged, Error> {
    let wanted = object.annotations().get(ANNOTATION).map(|value| value.chars().take(REMEMBERED).collect());
    let wanted = wanted.filter(|value: &String| !value.is_empty());
    if wanted.is_none() || wanted.as_ref() == done {
        return Ok(Purged { request: done.cloned(), is_due: false });
    }
    let id = id_of(object);
    let serving: Vec<_> = {
        let world = context.world.borrow();
        let has = |rendering: &crate::world::Rendering| rendering.pages.contains_key(&(kind, id.clone()));
        world.instances.iter().filter(|(_, rendering)| has(rendering)).map(|(id, _)| id.clone()).collect()
    };
    let query = match kind {
        Kind::VirtualRegistry => ("registry", format!("{}.{}", id.namespace, id.name)),
        Kind::RegistryUpstream => ("upstream", id.to_string()),
        _ => ("group", id.to_string()),
    };
    let is_taken = !serving.is_empty() && all_take(&serving, &query, context).await?;
    if !is_taken {
        return Ok(Purged { request: done.cloned(), is_due: true });
    }
    tracing::info!(kind = kind.as_str(), object = %id, "what is cached of it is being forgotten, as its annotation asks");
    Ok(Purged { request: wanted, is_due: false })
}

async fn all_take(
    instances: &[ObjectId],
    (key, value): &(&str, String),
    context: &Context,
) -> Result<bool, Error> {
    let mut all = true;
    for instance in instances {
        let pods = Pods::look(&context.client, &context.http, instance).await?;
        all &= pods.take(&context.http, "/purge", &[(*key, value.as_str())]).await;
    }
    Ok(all)
}
