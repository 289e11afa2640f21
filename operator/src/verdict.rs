//! From a verdict to the status of an object: what groups, registries and bindings have in common.

use config::Problem;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::apply::FIELD_MANAGER;
use crate::condition::{Conditions, State};
use crate::context::{Context, Error};
use crate::event::announce;
use crate::world::{Serving, Verdict};

/// `Accepted`, `ResolvedRefs` and `Programmed`, as a verdict says.
pub fn conditions(before: &[Condition], verdict: &Verdict, now: Timestamp) -> Conditions {
    let mut conditions = Conditions::of(before, verdict.generation, now);
    let (references, own) = verdict
        .problems
        .iter()
        .cloned()
        .partition::<Vec<_>, _>(|problem| problem.reason.concerns_references());
    judged(&mut conditions, "Accepted", &own, "Accepted");
    judged(&mut conditions, "ResolvedRefs", &references, "ResolvedRefs");
    let instance = verdict.instance.as_ref().map(ToString::to_string).unwrap_or_default();
    match verdict.serving {
        Serving::Yes => conditions.set("Programmed", State::True, "Programmed", "every ready pod has it"),
        Serving::Unheard | Serving::Pending => {
            conditions.set(
                "Programmed",
                State::Unknown,
                "Pending",
                "waiting until pods are ready and have it",
            );
        }
        Serving::Older => {
            let message = "pods serve its last good version, less what was taken out since; what was added does not hold";
            conditions.set("Programmed", State::False, "OlderVersion", message);
        }
        Serving::Frozen => {
            let message = format!(
                "DependencyProxy {instance} is refused: no change reaches its pods, which serve what they had"
            );
            conditions.set("Programmed", State::Unknown, "DependencyNotReady", message);
        }
        Serving::Suspended => {
            let message = format!("DependencyProxy {instance} is suspended: no change reaches its pods");
            conditions.set("Programmed", State::Unknown, "Suspended", message);
        }
        Serving::No => conditions.set("Programmed", State::False, "NotServed", "no pod serves it"),
    }
    if let Some(message) = &verdict.switched_off {
        conditions.switch_off(message.as_str());
    }
    conditions
}

fn judged(conditions: &mut Conditions, kind: &str, problems: &[Problem], well: &str) {
    match problems.first() {
        None => conditions.set(kind, State::True, well, ""),
        Some(first) => {
            conditions.set(kind, State::False, first.reason.as_str(), crate::instance::sentences(problems));
        }
    }
}

/// Whether it is too early to say anything: the operator has only just begun, and what an earlier one said of this
/// generation of the object holds until the pods were asked.
#[must_use]
pub fn is_too_early(verdict: &Verdict, said: Option<i64>) -> bool {
    verdict.serving == Serving::Unheard && said.is_some() && said == verdict.generation
}

/// Writes a status where it says something new, and tells of it.
///
/// # Errors
/// When the API server refuses. That the object is gone is none.
pub async fn write<K, S>(
    object: &K,
    current: Option<&S>,
    status: &S,
    (before, now): (&[Condition], &[Condition]),
    context: &Context,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
    S: Serialize,
{
    if !context.memory.statuses.is_news(object, current, status) {
        return Ok(());
    }
    let api = Api::<K>::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status});
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let made = match api.patch_status(&object.name_any(), &parameters, &Patch::Apply(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        result => result?,
    };
    context.memory.statuses.note(&made, status);
    announce(&context.recorder, &object.object_ref(&()), before, now).await;
    Ok(())
}
