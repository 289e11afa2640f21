//! What wakes a binding besides its own change: somebody has changed or deleted what it has made, or a service account
//! that it names lacks its pull secret.
//!
//! With thousands of bindings it costs the API server nothing at rest: Secrets and ConfigMaps are watched anyway, and
//! of service accounts there is one watch more.

use std::collections::HashMap;
use std::sync::Arc;

use crds::PullBinding;
use futures_util::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};

use crate::apply::Applier;
use crate::watch::{Feed, told};

/// Service accounts that are looked at together: each time, all bindings are gone through once.
const TOGETHER: usize = 1000;

/// Bindings of which somebody has changed or deleted an object.
pub fn of_objects<K>(
    feed: Feed<PartialObjectMeta<K>>,
    bindings: Store<PullBinding>,
    applier: Arc<Applier>,
) -> impl Stream<Item = ObjectRef<PullBinding>>
where
    K: Resource<DynamicType = ()> + 'static,
{
    let mut was_listed = false;
    let events = feed.events.filter_map(|event| std::future::ready(told(event)));
    events.flat_map(move |event| {
        stream::iter(match event {
            watcher::Event::Apply(object) if applier.is_own(&object) => Vec::new(),
            watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
                owner(&object).into_iter().collect()
            }
            // A list that is read anew does not say what was deleted meanwhile.
            watcher::Event::InitDone if std::mem::replace(&mut was_listed, true) => {
                bindings.state().iter().map(|binding| ObjectRef::from_obj(binding.as_ref())).collect()
            }
            watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::InitDone => Vec::new(),
        })
    })
}

fn owner<K: Resource>(object: &PartialObjectMeta<K>) -> Option<ObjectRef<PullBinding>> {
    let namespace = object.namespace()?;
    object.owner_references().iter().find_map(|owner| ObjectRef::from_owner_ref(Some(&namespace), owner, ()))
}

/// Bindings that name a service account which lacks their pull secret, or which was deleted.
pub fn of_service_accounts(
    accounts: Api<ServiceAccount>,
    bindings: Store<PullBinding>,
) -> impl Stream<Item = ObjectRef<PullBinding>> {
    let events = watcher(accounts, watcher::Config::default().any_semantic()).default_backoff();
    let events = events.filter_map(|event| std::future::ready(told(event)));
    events.ready_chunks(TOGETHER).flat_map(move |events| stream::iter(lacking(events, &bindings.state())))
}

fn lacking(
    events: Vec<watcher::Event<ServiceAccount>>,
    bindings: &[Arc<PullBinding>],
) -> Vec<ObjectRef<PullBinding>> {
    let mut seen = HashMap::new();
    for event in events {
        let (account, is_there) = match event {
            watcher::Event::Apply(account) | watcher::Event::InitApply(account) => (account, true),
            watcher::Event::Delete(account) => (account, false),
            watcher::Event::Init | watcher::Event::InitDone => continue,
        };
        let secrets = account.image_pull_secrets.clone().filter(|_| is_there).unwrap_or_default();
        let secrets = secrets.into_iter().map(|reference| reference.name).collect::<Vec<_>>();
        seen.insert((account.namespace(), account.name_any()), secrets);
    }
    let lacks = |binding: &&Arc<PullBinding>| {
        super::wanted_accounts(binding).into_iter().any(|(account, secret)| {
            let has = seen.get(&(binding.namespace(), account));
            has.is_some_and(|has| !has.contains(&secret))
        })
    };
    bindings.iter().filter(lacks).map(|binding| ObjectRef::from_obj(binding.as_ref())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(name: &str, account: &str) -> Arc<PullBinding> {
        let spec = json!({
            "groupRef": {"name": "team"}, "pullSecretName": "pull", "serviceAccounts": [account],
        });
        let object = json!({"metadata": {"name": name, "namespace": "ci"}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn account(name: &str, secrets: &[&str]) -> ServiceAccount {
        let secrets = secrets.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let object = json!({"metadata": {"name": name, "namespace": "ci"}, "imagePullSecrets": secrets});
        serde_json::from_value(object).unwrap()
    }

    fn woken(event: watcher::Event<ServiceAccount>) -> Vec<String> {
        let bindings = [binding("first", "default"), binding("second", "builder")];
        lacking(vec![event], &bindings).into_iter().map(|reference| reference.name).collect()
    }

    #[test]
    fn only_a_service_account_without_the_pull_secret_wakes_its_bindings() {
        use watcher::Event;
        assert_eq!(woken(Event::Apply(account("default", &["others"]))), ["first"]);
        assert_eq!(woken(Event::InitApply(account("builder", &[]))), ["second"]);
        assert_eq!(woken(Event::Delete(account("builder", &["pull"]))), ["second"]);
        assert!(woken(Event::Apply(account("default", &["others", "pull"]))).is_empty());
        assert!(woken(Event::Apply(account("nobodys", &[]))).is_empty());
    }
}
