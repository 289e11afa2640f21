//! DependencyProxy: from judged documents to pods that serve them.
//!
//! Five steps: what the world holds (dereference) -> `plan` (validate) -> `build` -> apply -> `status`.

mod build;
mod certificate;
mod cleanup;
mod exposure;
pub mod keys;
mod plan;
mod progress;
mod status;
mod trouble;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config::{Kind, ObjectId};
use crds::DependencyProxy;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use crate::apply::{FIELD_MANAGER, Object};
use crate::context::{Context, Error};
use crate::event::announce;
use crate::optional::Optional;
use crate::pods::Pods;
use crate::world::{Rendering, Report, id_of, keys_secret};
use keys::Keys;
use plan::{Plan, Refusal, has_cleanup};
use status::{Findings, status};

pub use plan::child;
pub use progress::Progress;
pub(crate) use status::sentences;

/// When nothing happens, everything is looked at again after so long.
const RESYNC: Duration = Duration::from_secs(300);
/// While pods wait for documents.
const SOON: Duration = Duration::from_millis(200);
/// While pods start, or nobody knows yet how the store and the upstreams are.
const LATER: Duration = Duration::from_secs(2);
/// How often upstreams and store of a healthy instance are asked about: `kubectl get` shall not lag behind for long.
const HEALTH: Duration = Duration::from_secs(15);

/// Who states the number of pods between us and the autoscaler.
const SCALING_MANAGER: &str = "dependency-proxy-operator-scaling";

/// Brings one instance where its documents want it.
///
/// # Errors
/// When the API server refuses; it is tried again.
pub async fn reconcile(proxy: Arc<DependencyProxy>, context: Arc<Context>) -> Result<Action, Error> {
    if proxy.metadata.deletion_timestamp.is_some() {
        // Everything it owns goes with it.
        return Ok(Action::await_change());
    }
    let (id, uid) = (id_of(proxy.as_ref()), proxy.uid().unwrap_or_default());
    let keys = ensure_keys(&proxy, &id, &context).await?;
    if keys == Provision::Made {
        return Ok(Action::requeue(SOON));
    }
    let rendering = context.world.borrow().instances.get(&id).cloned();
    // What is not in the world yet will be in a moment, and then this is called again.
    let Some(rendering) = rendering else { return Ok(Action::requeue(LATER)) };
    if rendering.proxy.metadata.generation != proxy.metadata.generation {
        return Ok(Action::requeue(SOON));
    }
    let is_waiting = keys == Provision::Waiting;
    let optional = context.discovery.look(&context.client).await?;
    let planned = match keys {
        // Without keys that they share, pods would not take each other's tokens.
        Provision::Refused(refusal) => Err(refusal),
        _ => Plan::of(&rendering, &context.proxy_image, &context.namespace),
    };
    let is_suspended = proxy.spec.suspend;
    let mut refusal = None;
    match &planned {
        Ok(plan) if !is_suspended => refusal = apply(plan, optional, &context).await?,
        Ok(_) => {}
        Err(reason) => refusal = Some(reason.clone()),
    }
    let pods = match Pods::look(&context.client, &context.http, &id).await {
        Ok(pods) => pods,
        Err(error) => {
            write_status(&proxy, &rendering, refusal, optional, Err(&error), &context).await?;
            return Err(error.into());
        }
    };
    let is_pushed = match rendering.hash() {
        Some(hash) if planned.is_ok() && !is_suspended => push(&uid, hash, &pods, &context).await?,
        _ => true,
    };
    let is_current = rendering.hash().is_some_and(|hash| pods.all_have(hash));
    let pushed = is_current.then(|| rendering.clone());
    let is_served = pods.ready().next().is_some();
    let report = Report { is_served, rendering: pushed, upstreams: pods.upstreams() };
    context.memory.reports.add(&uid, report);
    let all_known = pods.upstreams().values().all(|upstream| upstream.reachable.is_some());
    let settled = write_status(&proxy, &rendering, refusal, optional, Ok(&pods), &context).await?;
    let settled = settled && all_known;
    Ok(Action::requeue(match (is_pushed && !is_waiting, settled) {
        (false, _) => SOON,
        (true, false) => LATER,
        (true, true) if is_served => HEALTH,
        (true, true) => RESYNC,
    }))
}

/// How it is with the instance's keys.
#[derive(PartialEq, Eq)]
enum Provision {
    There,
    /// A new one waits for the pods.
    Waiting,
    /// Only just: the world has not seen them yet.
    Made,
    Refused(Refusal),
}

/// The instance's keys are there and one step on.
async fn ensure_keys(proxy: &DependencyProxy, id: &ObjectId, context: &Context) -> Result<Provision, Error> {
    if proxy.spec.auth.keys_secret_ref.is_some() || proxy.spec.suspend {
        return Ok(Provision::There);
    }
    let name = keys_secret(id).name;
    let secret = Api::<Secret>::namespaced(context.client.clone(), &id.namespace).get_opt(&name).await?;
    let request = proxy.annotations().get(keys::ROTATE).map(String::as_str);
    let known = secret.as_ref().and_then(Keys::of);
    let now = context.now();
    let next = match &known {
        None => Keys::first(now, request)?,
        Some(known) => {
            let shared = context.memory.progress.shared_keys(&proxy.uid().unwrap_or_default());
            known.next(now, &proxy.spec.auth.signing_keys, request, &shared)?
        }
    };
    let provision = if next.is_settled() { Provision::There } else { Provision::Waiting };
    if known.as_ref() == Some(&next) {
        return Ok(provision);
    }
    if known.is_some() {
        tracing::info!(instance = %id, signs = next.current(), "the signing keys go one step on");
    }
    let owner = proxy.controller_owner_ref(&());
    let made = Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(id.namespace.clone()),
            annotations: Some(next.annotations),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned())].into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(keys::KIND.to_owned()),
        data: Some(next.data),
        ..Secret::default()
    };
    let object = Object::of(&made);
    let outcome = context.memory.applier.apply(&object).await?;
    Ok(match (Refusal::of(&object, outcome), known) {
        (Some(refusal), _) => Provision::Refused(refusal),
        (None, Some(_)) => provision,
        (None, None) => Provision::Made,
    })
}

/// Applies what was built, in order. A refusal where somebody else has the name of an object, or the API server does
/// not take one.
async fn apply(plan: &Plan, optional: Optional, context: &Context) -> Result<Option<Refusal>, Error> {
    let objects = build::all(plan, &optional);
    let mut refusal = None;
    if plan.spec.autoscaling.is_some() {
        leave_replicas(plan, context).await?;
    }
    for object in &objects {
        let outcome = context.memory.applier.apply(object).await?;
        refusal = refusal.or_else(|| Refusal::of(object, outcome));
    }
    let names = objects.iter().map(|object| (object.resource.kind.clone(), object.name.clone()));
    let names = names.collect::<BTreeSet<_>>();
    if !context.memory.progress.has_built(&plan.owner.uid, &names) {
        let labels = labels(&plan.id);
        for resource in build::prunable(&optional) {
            context.memory.applier.prune(&resource, &plan.id.namespace, &labels, &objects).await?;
        }
        context.memory.progress.note_built(&plan.owner.uid, names);
    }
    Ok(refusal)
}

/// Label selector of what was built for an instance.
fn labels(id: &ObjectId) -> String {
    format!(
        "app.kubernetes.io/managed-by={FIELD_MANAGER},app.kubernetes.io/name=dependency-proxy,app.kubernetes.io/instance={}",
        id.name
    )
}

/// Gives the number of pods to the autoscaler as it is. Where we only stopped stating it, the API server would make it
/// one, until the autoscaler looks.
async fn leave_replicas(plan: &Plan, context: &Context) -> Result<(), Error> {
    let api = Api::<Deployment>::namespaced(context.client.clone(), &plan.id.namespace);
    let Some(live) = api.get_opt(&plan.name()).await? else { return Ok(()) };
    let states = live.managed_fields().iter().any(|fields| {
        let stated = fields.fields_v1.as_ref().is_some_and(|f| !f.0["f:spec"]["f:replicas"].is_null());
        stated && fields.manager.as_deref() == Some(FIELD_MANAGER)
    });
    if states && let Some(replicas) = live.spec.replicas {
        let patch = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": replicas}});
        let parameters = PatchParams::apply(SCALING_MANAGER).force();
        api.patch_metadata(&plan.name(), &parameters, &Patch::Apply(patch)).await?;
    }
    Ok(())
}

/// Sees to it that all pods get the documents. `true` when every ready pod has them.
async fn push(uid: &str, hash: &str, pods: &Pods, context: &Context) -> Result<bool, Error> {
    let progress = &context.memory.progress;
    progress.note_keys(uid, pods.shared_keys());
    pods.nudge(&context.client, hash).await?;
    let is_there = pods.ready().next().is_none() || pods.all_have(hash);
    let again = progress.step(uid, hash, is_there, &context.metrics.push_duration);
    if let Some(time) = again {
        pods.nudge_again(&context.client, hash, time).await?;
    }
    Ok(is_there)
}

/// Writes the status where it changed. Whether the instance is as it shall be.
async fn write_status(
    proxy: &DependencyProxy,
    rendering: &Rendering,
    refusal: Option<Refusal>,
    optional: Optional,
    pods: Result<&Pods, &kube::Error>,
    context: &Context,
) -> Result<bool, Error> {
    let id = &id_of(proxy);
    let name = child(id);
    let deployment =
        Api::<Deployment>::namespaced(context.client.clone(), &id.namespace).get_opt(&name).await?;
    let service = Api::<Service>::namespaced(context.client.clone(), &id.namespace).get_opt(&name).await?;
    let problems = rendering.problems.get(&(Kind::DependencyProxy, id.clone()));
    let api = Api::<DependencyProxy>::namespaced(context.client.clone(), &id.namespace);
    let certificate = certificate::look(proxy, optional, &context.client).await?;
    let mut exposure = exposure::look(proxy, optional, &context.client).await?;
    exposure.add(certificate.word);
    let findings = Findings {
        missing: certificate.missing,
        exposure,
        proxy,
        rendering,
        refusal,
        problems: problems.map(Vec::as_slice).unwrap_or_default(),
        // Without a cleanup there are no pods of one to look for.
        cleanup: if has_cleanup(&proxy.spec.storage) && pods.is_ok() {
            cleanup::last(&context.client, id).await?
        } else {
            None
        },
        deployment: deployment.as_ref(),
        service: service.as_ref(),
        pods,
        optional,
        now: context.now(),
    };
    let status = status(&findings);
    if context.memory.statuses.is_news(proxy, proxy.status.as_ref(), &status) {
        let patch = json!({"apiVersion": crds::API_VERSION, "kind": "DependencyProxy", "status": status});
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let made = match api.patch_status(&id.name, &parameters, &Patch::Apply(patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(true),
            result => result?,
        };
        let before = proxy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        announce(&context.recorder, &proxy.object_ref(&()), before, &status.conditions).await;
        context.memory.statuses.note(&made, &status);
    }
    let settled = |kind: &str, wanted: &str| {
        status.conditions.iter().any(|condition| condition.type_ == kind && condition.status == wanted)
    };
    Ok(settled("Progressing", "False") && settled("StorageReachable", "True"))
}
