//! PullBinding: credentials, a pull secret and CI variables where the images are pulled.

mod build;
mod credentials;
pub mod drift;
mod service_accounts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use config::{Kind, ObjectId, Reason, is_object_name};
use crds::{PullBinding, PullBindingStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, DynamicObject};
use kube::core::ApiResource;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::{Api, Resource, ResourceExt};
use url::Url;

use crate::apply::{Object, Outcome};
use crate::condition::State;
use crate::context::{Context, Error};
use crate::verdict::{self, conditions};
use crate::world::{Facts, Serving, Verdict, credentials_secret, id_of};
use build::Grant;
use credentials::{Credentials, Times};

/// It takes the pull secret back from service accounts.
pub const FINALIZER: &str = "dependencyproxy.dev/service-accounts";
/// On the credentials' Secret: which service accounts have which pull secret.
const GRANTED: &str = "dependencyproxy.dev/granted";
/// On the credentials' Secret: which other objects were made.
const MADE: &str = "dependencyproxy.dev/made";
/// For what waits for somebody else's object that wakes nobody.
const LATER: Duration = Duration::from_secs(30);
/// For what is called again when it changes: nothing is missed where that fails.
const RESYNC: Duration = Duration::from_secs(300);
/// For the world to see what was just written.
const SOON: Duration = Duration::from_millis(500);

/// Brings one binding where it wants to be.
///
/// # Errors
/// When the API server refuses; it is tried again.
pub async fn reconcile(binding: Arc<PullBinding>, context: Arc<Context>) -> Result<Action, Error> {
    let api = Api::<PullBinding>::namespaced(context.client.clone(), &id_of(binding.as_ref()).namespace);
    let result = finalizer(&api, FINALIZER, binding, |event| async {
        match event {
            Event::Apply(binding) => apply(&binding, &context).await,
            Event::Cleanup(binding) => clean_up(&binding, &context).await,
        }
    });
    use kube::runtime::finalizer::Error as Failure;
    result.await.map_err(|error| match error {
        Failure::ApplyFailed(error) | Failure::CleanupFailed(error) => error,
        Failure::AddFinalizer(error) | Failure::RemoveFinalizer(error) => Error::Finalizer(error),
        Failure::UnnamedObject | Failure::InvalidFinalizer => Error::Unnamed(error.to_string()),
    })
}

async fn apply(binding: &PullBinding, context: &Context) -> Result<Action, Error> {
    let id = id_of(binding);
    let verdict = context.world.borrow().verdicts.get(&(Kind::PullBinding, id.clone())).cloned();
    let Some(verdict) = verdict.filter(|verdict| verdict.generation == binding.metadata.generation) else {
        // The world hears of it in a moment, and then this is called again.
        return Ok(Action::requeue(SOON));
    };
    let mut state = Standing::default();
    if verdict::is_too_early(&verdict, binding.status.as_ref().and_then(|status| status.observed_generation))
    {
        return Ok(Action::requeue(LATER));
    }
    let wait = match &verdict.facts {
        // The group may well be served to others.
        _ if is_revoked(&verdict) => {
            withdraw(binding, context).await?;
            LATER
        }
        Facts::Binding { url, path, tokens } => {
            hand_out(binding, url, path, tokens, context, &mut state).await?
        }
        _ => RESYNC,
    };
    write_status(binding, &verdict, &state, context).await?;
    Ok(Action::requeue(wait))
}

/// What was done, for the status.
#[derive(Default)]
struct Standing {
    expires_at: Option<Timestamp>,
    is_handed_out: bool,
    /// Ready pods take what is handed out.
    is_taken: bool,
    prefix: Option<String>,
    /// What keeps it from being as it shall be: reason and sentence.
    trouble: Option<(&'static str, String)>,
}

async fn hand_out(
    binding: &PullBinding,
    url: &str,
    path: &str,
    tokens: &[String],
    context: &Context,
    state: &mut Standing,
) -> Result<Duration, Error> {
    let id = id_of(binding);
    let Ok(url) = Url::parse(url) else { return Ok(LATER) };
    let times = Times {
        ttl: SignedDuration::from_secs(binding.spec.token_ttl_seconds),
        overlap: SignedDuration::from_secs(binding.spec.overlap_seconds),
    };
    let api = Api::<Secret>::namespaced(context.client.clone(), &id.namespace);
    let kept = api.get_opt(&credentials_secret(&id).name).await?;
    let username = id.dotted();
    let before =
        kept.as_ref().map_or_else(|| Credentials::none(&username), |s| Credentials::of(s, &username));
    let now = context.now();
    let next = before.next(now, times, tokens)?;
    let grant =
        next.current().map(|password| Grant { url: url.clone(), path, username: &username, password });
    state.is_handed_out = grant.is_some();
    state.is_taken = next.is_taken(tokens);
    state.expires_at = next.expires_at(times);
    state.prefix = Some(format!("{}/{path}/dependency_proxy/containers", authority(&url)));
    let before_it = Marks::of(kept.as_ref());
    let objects = build::all(binding, grant.as_ref());
    let wanted = Marks {
        granted: wanted_accounts(binding).into_iter().filter(|_| grant.is_some()).collect(),
        made: objects.iter().map(|object| (object.resource.kind.clone(), object.name.clone())).collect(),
    };
    // Noted before it is done: what is done is always taken back.
    let noted = before_it.joined(&wanted);
    if let Some(trouble) = keep(binding, &next, &noted, context).await? {
        state.trouble = Some(trouble);
        state.is_handed_out = false;
        return Ok(LATER);
    }
    for object in &objects {
        let outcome = context.memory.applier.apply(object).await?;
        state.trouble = state.trouble.take().or_else(|| trouble(object, outcome));
    }
    let missing = grant_accounts(&id, &before_it.granted, &wanted.granted, context).await?;
    // Before anything is handed out nothing was asked for under other names.
    if grant.is_some() {
        for (kind, name) in before_it.made.difference(&wanted.made) {
            delete_own(binding, kind, name, context).await?;
        }
        if noted != wanted {
            keep(binding, &next, &wanted, context).await?;
        }
    }
    let is_hindered = state.trouble.is_some();
    if let Some(account) = missing {
        let message =
            format!("there is no ServiceAccount {account} in namespace {}; create it", id.namespace);
        state.trouble.get_or_insert(("ServiceAccountNotFound", message));
    }
    if is_hindered {
        return Ok(LATER);
    }
    // What waits for pods is called again when they have it, and whoever waits for a service account when it comes.
    Ok(if state.is_handed_out { next.rest(now, times) } else { RESYNC })
}

/// What was done outside of the credentials' Secret; noted on it, so that it can be undone.
#[derive(Clone, Default, PartialEq, Eq)]
struct Marks {
    granted: BTreeSet<service_accounts::Grant>,
    /// Kind and name.
    made: BTreeSet<(String, String)>,
}

impl Marks {
    fn of<K: Resource>(kept: Option<&K>) -> Self {
        let text =
            |name: &str| kept.and_then(|kept| kept.annotations().get(name)).cloned().unwrap_or_default();
        Self { granted: service_accounts::read(&text(GRANTED)), made: service_accounts::read(&text(MADE)) }
    }

    fn joined(&self, other: &Self) -> Self {
        Self {
            granted: self.granted.union(&other.granted).cloned().collect(),
            made: self.made.union(&other.made).cloned().collect(),
        }
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (GRANTED.to_owned(), service_accounts::write(&self.granted)),
            (MADE.to_owned(), service_accounts::write(&self.made)),
        ])
    }
}

/// Writes the credentials. Trouble where another object has their place.
async fn keep(
    binding: &PullBinding,
    credentials: &Credentials,
    marks: &Marks,
    context: &Context,
) -> Result<Option<(&'static str, String)>, Error> {
    let object = build::kept(binding, credentials.data(), marks.annotations());
    let outcome = context.memory.applier.apply(&object).await?;
    Ok(trouble(&object, outcome))
}

/// What keeps an object from being as it shall, if anything does.
fn trouble(object: &Object, outcome: Outcome) -> Option<(&'static str, String)> {
    match outcome {
        Outcome::Unchanged | Outcome::Written => None,
        Outcome::Taken => Some(("NameConflict", object.taken())),
        Outcome::Refused(message) => Some(("InvalidSpec", message)),
    }
}

fn wanted_accounts(binding: &PullBinding) -> BTreeSet<service_accounts::Grant> {
    let secret = binding.spec.pull_secret_name.iter();
    secret
        .flat_map(|secret| {
            binding.spec.service_accounts.iter().map(|account| (account.clone(), secret.clone()))
        })
        .collect()
}

/// Adds and takes back; the name of a service account that is not there.
async fn grant_accounts(
    id: &ObjectId,
    had: &BTreeSet<service_accounts::Grant>,
    wanted: &BTreeSet<service_accounts::Grant>,
    context: &Context,
) -> Result<Option<String>, Error> {
    for grant in had.difference(wanted) {
        service_accounts::set(&context.client, &id.namespace, grant, false).await?;
    }
    let mut missing = None;
    for grant in wanted {
        if !service_accounts::set(&context.client, &id.namespace, grant, true).await? {
            missing = Some(grant.0.clone());
        }
    }
    Ok(missing)
}

/// Deletes an object that the binding has made.
async fn delete_own(binding: &PullBinding, kind: &str, name: &str, context: &Context) -> Result<(), Error> {
    let resource = match kind {
        "ConfigMap" => ApiResource::erase::<ConfigMap>(&()),
        _ => ApiResource::erase::<Secret>(&()),
    };
    if !is_object_name(name) {
        return Ok(());
    }
    let namespace = id_of(binding).namespace;
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &namespace, &resource);
    let live = api.get_metadata_opt(name).await?;
    let owner = binding.uid();
    let is_own = live.is_some_and(|live| {
        live.owner_references().iter().any(|reference| Some(&reference.uid) == owner.as_ref())
    });
    if !is_own {
        return Ok(());
    }
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

/// The group does not let this namespace pull, or is gone: then what was handed out goes too.
fn is_revoked(verdict: &Verdict) -> bool {
    verdict.problems.iter().any(|p| matches!(p.reason, Reason::NotAllowedByGroup | Reason::GroupNotFound))
}

async fn withdraw(binding: &PullBinding, context: &Context) -> Result<(), Error> {
    let Some(marks) = take_back_accounts(binding, context).await? else { return Ok(()) };
    for (kind, name) in &marks.made {
        delete_own(binding, kind, name, context).await?;
    }
    // Last, because it says what else there is.
    delete_own(binding, "Secret", &credentials_secret(&id_of(binding)).name, context).await
}

/// Takes the pull secret back from service accounts. What was done is given back; nothing where nothing was.
async fn take_back_accounts(binding: &PullBinding, context: &Context) -> Result<Option<Marks>, Error> {
    let id = id_of(binding);
    let api = Api::<Secret>::namespaced(context.client.clone(), &id.namespace);
    let kept = api.get_metadata_opt(&credentials_secret(&id).name).await?;
    let Some(kept) = kept else { return Ok(None) };
    let marks = Marks::of(Some(&kept));
    for grant in &marks.granted {
        service_accounts::set(&context.client, &id.namespace, grant, false).await?;
    }
    Ok(Some(marks))
}

/// The binding goes. Its objects go with it by their owner references.
async fn clean_up(binding: &PullBinding, context: &Context) -> Result<Action, Error> {
    take_back_accounts(binding, context).await?;
    Ok(Action::await_change())
}

async fn write_status(
    binding: &PullBinding,
    verdict: &Verdict,
    state: &Standing,
    context: &Context,
) -> Result<(), Error> {
    let before = binding.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let mut conditions = conditions(before, verdict, context.now());
    match &state.trouble {
        Some((reason, message)) => conditions.set("ResolvedRefs", State::False, reason, message.clone()),
        // What was handed out works, also while pods take later changes.
        None if state.is_handed_out && state.is_taken => {
            conditions.set("Programmed", State::True, "Programmed", "every ready pod takes the credential");
        }
        None if !matches!(verdict.serving, Serving::No | Serving::Suspended | Serving::Frozen) => {
            let message = "waiting until pods are ready and take the credential";
            conditions.set("Programmed", State::Unknown, "Pending", message);
        }
        None => {}
    }
    let message = state.prefix.as_ref().map(|prefix| format!("Pull from {prefix}")).unwrap_or_default();
    let ready = conditions.sum_up(&["Accepted", "ResolvedRefs", "Programmed"], "Programmed", &message);
    let status = PullBindingStatus {
        observed_generation: binding.metadata.generation,
        ready: Some(ready),
        expires_at: state.expires_at.map(Time),
        image_prefix: state.prefix.clone(),
        conditions: conditions.finish(),
    };
    let now = status.conditions.clone();
    verdict::write(binding, binding.status.as_ref(), &status, (before, &now), context).await
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
