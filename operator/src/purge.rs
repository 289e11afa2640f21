//! The annotations that ask for what is cached to be forgotten. A pod does it, and the status tells of it.

mod part;
mod taken;

use std::sync::Arc;
use std::time::Duration;

use config::{Kind, ObjectId};
use crds::Purged;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use crate::condition::{Conditions, State};
use crate::context::Context;
use crate::pods::{Answer, Pods};
use crate::world::{Rendering, id_of};
use part::{Mistake, Part};

pub use taken::Taken;

/// Everything, on a group, a virtual registry or an upstream; each new value asks once more.
pub const ANNOTATION: &str = "dependencyproxy.dev/purge";
/// An image, a tag or a digest of it. Another one than [`ANNOTATION`], so that no slip of the pen in the reference asks
/// for everything.
pub const IMAGE_ANNOTATION: &str = "dependencyproxy.dev/purge-image";
/// What of a value is remembered: more than the longest reference with a date behind it.
const REMEMBERED: usize = 512;
/// What operators before remembered of [`ANNOTATION`].
const REMEMBERED_BEFORE: usize = 64;
/// While no pod takes it.
const AGAIN: Duration = Duration::from_secs(2);

/// Asks a pod of each instance that serves the object, if an annotation is another than the one that was done last.
/// The condition `Purged`, of objects that have such an annotation, says how it stands.
///
/// What is done now, and when the object is to be looked at again.
pub async fn purge<K: Resource<DynamicType = ()>>(
    object: &K,
    kind: Kind,
    mut purged: Purged,
    conditions: &mut Conditions,
    context: &Context,
) -> (Purged, Action) {
    let mut is_asked = false;
    let mut is_due = false;
    let mut is_mistyped = false;
    let mut open = Vec::new();
    let wishes: [(_, fn(&str) -> _, _); 2] =
        [(ANNOTATION, everything, &mut purged.everything), (IMAGE_ANNOTATION, image, &mut purged.image)];
    for (annotation, read, done) in wishes {
        let value = object.annotations().get(annotation).map(String::as_str).unwrap_or_default();
        let value = value.chars().take(REMEMBERED).collect::<String>();
        if value.trim().is_empty() {
            continue;
        }
        is_asked = true;
        if done.as_deref().is_some_and(|done| is_done(annotation, done, &value)) {
            *done = Some(value);
            continue;
        }
        match read(&value) {
            Ok(part) => match ask(object, kind, (annotation, value.as_str()), &part, context).await {
                None => *done = Some(value),
                Some(why) => {
                    is_due = true;
                    open.push(format!("annotation {annotation} waits: {why}"));
                }
            },
            Err(mistake) => {
                is_mistyped = true;
                open.push(format!("annotation {annotation} forgets nothing: {mistake}"));
            }
        }
    }
    if is_asked {
        tell(conditions, is_mistyped, &open);
    } else {
        conditions.unset("Purged");
    }
    (purged, if is_due { Action::requeue(AGAIN) } else { Action::await_change() })
}

/// Whether a value is the one that a status remembers.
fn is_done(annotation: &str, remembered: &str, value: &str) -> bool {
    let is_cut = || annotation == ANNOTATION && remembered.chars().count() == REMEMBERED_BEFORE;
    remembered == value || (is_cut() && value.starts_with(remembered))
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
fn tell(conditions: &mut Conditions, is_mistyped: bool, open: &[String]) {
    if is_mistyped {
        conditions.set("Purged", State::False, "InvalidAnnotation", open.join("; "));
    } else if !open.is_empty() {
        conditions.set("Purged", State::Unknown, "Pending", open.join("; "));
    } else {
        conditions.set(
            "Purged",
            State::True,
            "Purged",
            "a pod of each instance that has something of it took it, and its log says when it is done",
        );
    }
}

/// Asks a pod of each instance that serves the object and has not taken it yet; there must be one that serves it. Why it
/// waits, unless all have taken it.
async fn ask<K: Resource<DynamicType = ()>>(
    object: &K,
    kind: Kind,
    (annotation, value): (&'static str, &str),
    part: &Query,
    context: &Context,
) -> Option<String> {
    let id = id_of(object);
    let uid = object.uid().unwrap_or_default();
    let serving = serving(kind, &id, context);
    if serving.is_empty() {
        return Some("no instance serves the object".to_owned());
    }
    let whose = match kind {
        Kind::VirtualRegistry => ("registry", id.dotted()),
        Kind::RegistryUpstream => ("upstream", id.to_string()),
        _ => ("group", id.to_string()),
    };
    let query = std::iter::once(&whose).chain(part).map(|(key, value)| (*key, value.as_str()));
    let query = query.collect::<Vec<_>>();
    let taken = &context.memory.taken;
    let before = taken.by(&uid, annotation, value);
    let mut waited_for = Vec::new();
    for (instance, rendering) in serving.iter().filter(|(instance, _)| !before.contains(instance)) {
        let pods = match Pods::look(&context.client, &context.http, instance).await {
            Ok(pods) => pods,
            Err(error) => {
                tracing::warn!(%instance, %error, "its pods are not known; they are asked to purge later");
                waited_for.push(instance.to_string());
                continue;
            }
        };
        match pods.take(&context.http, "/purge", &query).await {
            Answer::Taken => {
                let kind = kind.as_str();
                tracing::info!(kind, object = %id, %instance, ?part, "what is cached is being forgotten, as its annotation asks");
            }
            // Pods that do not have the documents yet do not know the object, and may have something of it.
            Answer::Nothing if rendering.hash().is_some_and(|hash| pods.all_have(hash)) => {}
            Answer::Nothing | Answer::Refused => {
                waited_for.push(instance.to_string());
                continue;
            }
        }
        taken.note(&uid, annotation, value, instance);
    }
    let why = || format!("no pod of DependencyProxy {} has taken it yet", waited_for.join(" or "));
    (!waited_for.is_empty()).then(why)
}

fn serving(kind: Kind, id: &ObjectId, context: &Context) -> Vec<(ObjectId, Arc<Rendering>)> {
    let world = context.world.borrow();
    let has = |rendering: &Rendering| rendering.pages.contains_key(&(kind, id.clone()));
    let serving = world.instances.iter().filter(|(_, rendering)| has(rendering));
    serving.map(|(id, rendering)| (id.clone(), rendering.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_an_older_operator_remembered_in_part_is_done() {
        let value = "a1".repeat(50);
        let cut = |length: usize| value.chars().take(length).collect::<String>();
        assert!(is_done(ANNOTATION, &value, &value));
        assert!(is_done(ANNOTATION, &cut(64), &value));
        for length in [0, 63, 65] {
            assert!(!is_done(ANNOTATION, &cut(length), &value), "{length}");
        }
        assert!(!is_done(ANNOTATION, &"b".repeat(64), &value));
        assert!(!is_done(IMAGE_ANNOTATION, &cut(64), &value), "it was always remembered whole");
    }
}
