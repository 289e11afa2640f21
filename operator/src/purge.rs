//! The annotations that ask for what is cached to be forgotten. A pod does it, and the status tells of it.

mod part;

use std::time::Duration;

use config::{Kind, ObjectId};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use crate::condition::{Conditions, State};
use crate::context::{Context, Error};
use crate::pods::Pods;
use crate::world::id_of;
use part::{Mistake, Part};

/// Everything, on a group, a virtual registry or an upstream; each new value asks once more.
pub const ANNOTATION: &str = "dependencyproxy.dev/purge";
/// An image, a tag or a digest of it. Another one than [`ANNOTATION`], so that no slip of the pen in the reference asks
/// for everything.
pub const IMAGE_ANNOTATION: &str = "dependencyproxy.dev/purge-image";
/// What of a value is remembered: more than the longest reference with a date behind it.
const REMEMBERED: usize = 512;
/// While no pod takes it.
const AGAIN: Duration = Duration::from_secs(2);

/// How it stands with what an object's annotations ask for.
pub struct Purged {
    /// The value of [`ANNOTATION`] that was done last, for the status.
    pub everything: Option<String>,
    /// The same of [`IMAGE_ANNOTATION`].
    pub image: Option<String>,
    /// Something waits for a pod.
    is_due: bool,
}

impl Purged {
    /// What a status says of it.
    #[must_use]
    pub fn before(everything: Option<&String>, image: Option<&String>) -> Self {
        Self { everything: everything.cloned(), image: image.cloned(), is_due: false }
    }

    /// When the object is to be looked at again.
    #[must_use]
    pub fn next(&self) -> Action {
        if self.is_due { Action::requeue(AGAIN) } else { Action::await_change() }
    }
}

/// Asks a pod of each instance that serves the object, if an annotation is another than the one that was done last.
/// The condition `Purged`, of objects that have such an annotation, says how it stands.
///
/// # Errors
/// When the API server does not list pods.
pub async fn purge<K: Resource<DynamicType = ()>>(
    object: &K,
    kind: Kind,
    mut purged: Purged,
    conditions: &mut Conditions,
    context: &Context,
) -> Result<Purged, Error> {
    let mut mistakes = Vec::new();
    let mut is_asked = false;
    let wishes: [(_, fn(&str) -> _, _); 2] =
        [(ANNOTATION, everything, &mut purged.everything), (IMAGE_ANNOTATION, image, &mut purged.image)];
    for (annotation, read, done) in wishes {
        let value = object.annotations().get(annotation).map(String::as_str).unwrap_or_default();
        let value = value.chars().take(REMEMBERED).collect::<String>();
        if value.trim().is_empty() {
            continue;
        }
        is_asked = true;
        if done.as_ref() == Some(&value) {
            continue;
        }
        match read(&value) {
            Ok(part) if all_take(object, kind, &part, context).await? => *done = Some(value),
            Ok(_) => purged.is_due = true,
            Err(mistake) => mistakes.push((annotation, mistake)),
        }
    }
    if is_asked {
        tell(conditions, &mistakes, purged.is_due);
    } else {
        conditions.unset("Purged");
    }
    Ok(purged)
}

/// What of the object's cache a value means, as pods take it.
type Query = Vec<(&'static str, String)>;

fn everything(value: &str) -> Result<Query, Mistake> {
    part::everything(value, IMAGE_ANNOTATION).map(|()| Query::new())
}

fn image(value: &str) -> Result<Query, Mistake> {
    Part::read(value).map(|part| part.query())
}

/// What is mistyped does nothing, and is not tried again before it changes.
fn tell(conditions: &mut Conditions, mistakes: &[(&str, Mistake)], is_due: bool) {
    if !mistakes.is_empty() {
        let sentence = |(annotation, mistake): &(&str, Mistake)| {
            format!("annotation {annotation} forgets nothing: {mistake}")
        };
        let message = mistakes.iter().map(sentence).collect::<Vec<_>>().join("; ");
        conditions.set("Purged", State::False, "InvalidAnnotation", message);
    } else if is_due {
        conditions.set("Purged", State::Unknown, "Pending", "no pod has taken it yet");
    } else {
        conditions.set(
            "Purged",
            State::True,
            "Purged",
            "a pod has taken it, and its log says when it is done",
        );
    }
}

/// Whether a pod of each instance that serves the object takes it; there must be one.
async fn all_take<K: Resource<DynamicType = ()>>(
    object: &K,
    kind: Kind,
    part: &Query,
    context: &Context,
) -> Result<bool, Error> {
    let id = id_of(object);
    let serving = serving(kind, &id, context);
    let whose = match kind {
        Kind::VirtualRegistry => ("registry", format!("{}.{}", id.namespace, id.name)),
        Kind::RegistryUpstream => ("upstream", id.to_string()),
        _ => ("group", id.to_string()),
    };
    let query = std::iter::once(&whose).chain(part).map(|(key, value)| (*key, value.as_str()));
    let query = query.collect::<Vec<_>>();
    let mut all = !serving.is_empty();
    for instance in &serving {
        let pods = Pods::look(&context.client, &context.http, instance).await?;
        all &= pods.take(&context.http, "/purge", &query).await;
    }
    if all {
        let kind = kind.as_str();
        tracing::info!(kind, object = %id, ?part, "what is cached is being forgotten, as its annotation asks");
    }
    Ok(all)
}

fn serving(kind: Kind, id: &ObjectId, context: &Context) -> Vec<ObjectId> {
    let world = context.world.borrow();
    let has = |rendering: &crate::world::Rendering| rendering.pages.contains_key(&(kind, id.clone()));
    world.instances.iter().filter(|(_, rendering)| has(rendering)).map(|(id, _)| id.clone()).collect()
}
