//! What the operator sees of the cluster: one watch per kind and namespace, each behind a store.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use config::ObjectId;
use crds::{DependencyProxy, DependencyProxyGroup, PullBinding, RegistryUpstream, VirtualRegistry};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, SetOnce};

use crate::context::Memory;

/// Namespaces that are watched.
#[derive(Clone, Debug)]
pub enum Scope {
    Cluster,
    Namespaces(Vec<String>),
}

impl Scope {
    /// No names mean the whole cluster.
    #[must_use]
    pub fn of(namespaces: &[String]) -> Self {
        if namespaces.is_empty() { Self::Cluster } else { Self::Namespaces(namespaces.to_vec()) }
    }

    /// One API per watch.
    pub fn apis<K>(&self, client: &Client) -> Vec<Api<K>>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::Cluster => vec![Api::all(client.clone())],
            Self::Namespaces(names) => {
                names.iter().map(|name| Api::namespaced(client.clone(), name)).collect()
            }
        }
    }
}

/// A kind that can be watched.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// All objects of a kind that are watched.
pub struct Shelf<K: Resource<DynamicType = ()> + 'static> {
    pub(crate) stores: Vec<Store<K>>,
    pub(crate) listed: Vec<Listed>,
}

/// Set when a kind was listed once. A store can say that itself, but wakes one waiter only, and that is its controller
/// (`kube-runtime`, `utils/delayed_init.rs`).
type Listed = Arc<SetOnce<()>>;

impl<K: Resource<DynamicType = ()> + Clone + 'static> Shelf<K> {
    /// All objects, in no order.
    pub fn all(&self) -> impl Iterator<Item = Arc<K>> {
        self.stores.iter().flat_map(Store::state)
    }

    /// One object.
    #[must_use]
    pub fn get(&self, id: &ObjectId) -> Option<Arc<K>> {
        let mut key = ObjectRef::new(&id.name);
        if !id.namespace.is_empty() {
            key = key.within(&id.namespace);
        }
        self.stores.iter().find_map(|store| store.get(&key))
    }

    async fn ready(&self) {
        for listed in &self.listed {
            listed.wait().await;
        }
    }
}

/// What one watch brings, for a controller.
pub struct Feed<K: Resource<DynamicType = ()> + 'static> {
    pub store: Store<K>,
    pub events: BoxStream<'static, Result<watcher::Event<K>, watcher::Error>>,
    listed: Listed,
}

impl<K: Resource<DynamicType = ()> + Send + 'static> Feed<K> {
    /// The objects that are there, change, or are deleted.
    pub fn objects(self) -> BoxStream<'static, Result<K, watcher::Error>> {
        let objects = self.events.try_filter_map(|event| {
            std::future::ready(Ok(match event {
                watcher::Event::Apply(object)
                | watcher::Event::Delete(object)
                | watcher::Event::InitApply(object) => Some(object),
                watcher::Event::Init | watcher::Event::InitDone => None,
            }))
        });
        objects.boxed()
    }
}

/// Everything that is watched.
pub struct Sight {
    pub proxies: Shelf<DependencyProxy>,
    pub upstreams: Shelf<RegistryUpstream>,
    pub groups: Shelf<DependencyProxyGroup>,
    pub registries: Shelf<VirtualRegistry>,
    pub bindings: Shelf<PullBinding>,
    pub namespaces: Shelf<PartialObjectMeta<Namespace>>,
    /// Only names and versions: what is in them is read when something refers to it.
    pub secrets: Shelf<PartialObjectMeta<Secret>>,
    pub config_maps: Shelf<PartialObjectMeta<ConfigMap>>,
}

/// What controllers follow.
pub struct Feeds {
    pub proxies: Vec<Feed<DependencyProxy>>,
    pub upstreams: Vec<Feed<RegistryUpstream>>,
    pub groups: Vec<Feed<DependencyProxyGroup>>,
    pub registries: Vec<Feed<VirtualRegistry>>,
    pub bindings: Vec<Feed<PullBinding>>,
    /// In the order of `bindings`, namespace by namespace, as is `config_maps`.
    pub secrets: Vec<Feed<PartialObjectMeta<Secret>>>,
    pub config_maps: Vec<Feed<PartialObjectMeta<ConfigMap>>>,
}

/// Watches of kinds that no controller follows; they run as long as this is polled.
pub type Background = Vec<BoxStream<'static, ()>>;

impl Sight {
    /// Makes the watches; nothing is asked before they are polled. `changes` hears of every change that can matter,
    /// and controllers besides of a status that the operator has not written. `memory` forgets what is gone.
    #[must_use]
    pub fn open(
        client: &Client,
        scope: &Scope,
        changes: &Arc<Notify>,
        memory: &Memory,
    ) -> (Self, Feeds, Background) {
        let (proxies, proxy_feeds) = shelf(scope.apis(client), changes, memory);
        let (upstreams, upstream_feeds) = shelf(scope.apis(client), changes, memory);
        let (groups, group_feeds) = shelf(scope.apis(client), changes, memory);
        let (registries, registry_feeds) = shelf(scope.apis(client), changes, memory);
        let (bindings, binding_feeds) = shelf(scope.apis(client), changes, memory);
        let (namespaces, namespace_feeds) = shelf(vec![Api::all(client.clone())], changes, memory);
        let (secrets, secret_feeds) = shelf(scope.apis(client), changes, memory);
        let (config_maps, config_map_feeds) = shelf(scope.apis(client), changes, memory);
        let mut background = Background::new();
        background.extend(namespace_feeds.into_iter().map(drained));
        let sight =
            Self { proxies, upstreams, groups, registries, bindings, namespaces, secrets, config_maps };
        let feeds = Feeds {
            proxies: proxy_feeds,
            upstreams: upstream_feeds,
            groups: group_feeds,
            registries: registry_feeds,
            bindings: binding_feeds,
            secrets: secret_feeds,
            config_maps: config_map_feeds,
        };
        (sight, feeds, background)
    }

    /// Waits until every kind was listed once.
    pub async fn ready(&self) {
        self.proxies.ready().await;
        self.upstreams.ready().await;
        self.groups.ready().await;
        self.registries.ready().await;
        self.bindings.ready().await;
        self.namespaces.ready().await;
        self.secrets.ready().await;
        self.config_maps.ready().await;
    }
}

fn shelf<K: Watched>(apis: Vec<Api<K>>, changes: &Arc<Notify>, memory: &Memory) -> (Shelf<K>, Vec<Feed<K>>) {
    let feeds = apis.into_iter().map(|api| feed(api, changes.clone(), memory.clone()));
    let feeds = feeds.collect::<Vec<_>>();
    let stores = feeds.iter().map(|feed| feed.store.clone()).collect();
    let listed = feeds.iter().map(|feed| feed.listed.clone()).collect();
    (Shelf { stores, listed }, feeds)
}

fn feed<K: Watched>(api: Api<K>, changes: Arc<Notify>, memory: Memory) -> Feed<K> {
    let (store, writer) = reflector::store();
    let listed = Listed::default();
    let done = listed.clone();
    let mut seen = Seen::default();
    let events = watcher(api, watcher::Config::default().any_semantic())
        .default_backoff()
        .modify(|object: &mut K| object.managed_fields_mut().clear())
        .reflect(writer)
        .try_filter_map(move |event| {
            let news = seen.take(&event);
            for uid in &news.gone {
                memory.forget(uid);
            }
            if news.is_news {
                changes.notify_one();
            }
            if matches!(event, watcher::Event::InitDone) {
                done.set(()).ok();
            }
            let is_own = |object: &K| !news.is_news && memory.statuses.is_own(object);
            let is_echo = matches!(&event, watcher::Event::Apply(object) if is_own(object));
            std::future::ready(Ok((!is_echo).then_some(event)))
        })
        .boxed();
    Feed { store, events, listed }
}

fn drained<K: Resource<DynamicType = ()> + Send + Sync + 'static>(feed: Feed<K>) -> BoxStream<'static, ()> {
    let told = feed.events.filter_map(|event| {
        told(event);
        std::future::ready(None)
    });
    told.boxed()
}

/// What a watch brings; that it broke off is told.
pub fn told<K>(event: Result<watcher::Event<K>, watcher::Error>) -> Option<watcher::Event<K>>
where
    K: Resource<DynamicType = ()>,
{
    let kind = K::kind(&());
    event.inspect_err(|error| tracing::warn!(%kind, %error, "the watch broke off; it is taken up again")).ok()
}

/// What was seen of each object last: an update of its status alone is no news to the world.
#[derive(Default)]
struct Seen {
    versions: HashMap<Key, Version>,
    /// What a list that is read has had so far.
    listed: HashSet<Key>,
}

type Key = (Option<String>, String);

#[derive(PartialEq, Eq)]
struct Version {
    uid: String,
    digest: u64,
}

/// What an event says.
#[derive(Default)]
struct News {
    is_news: bool,
    /// Uids of objects that are no more.
    gone: Vec<String>,
}

impl Seen {
    fn take<K: Resource<DynamicType = ()>>(&mut self, event: &watcher::Event<K>) -> News {
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                News::default()
            }
            // What is listed is in the store only when the list is complete.
            watcher::Event::InitApply(object) => {
                self.listed.insert(key(object));
                News { is_news: false, ..self.note(object) }
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone = self.versions.extract_if(|key, _| !listed.contains(key));
                News { is_news: true, gone: gone.map(|(_, version)| version.uid).collect() }
            }
            watcher::Event::Apply(object) => self.note(object),
            watcher::Event::Delete(object) => {
                let gone = self.versions.remove(&key(object)).map(|version| version.uid);
                News { is_news: true, gone: gone.into_iter().collect() }
            }
        }
    }

    fn note<K: Resource<DynamicType = ()>>(&mut self, object: &K) -> News {
        let meta = object.meta();
        let mut digest = DefaultHasher::new();
        match meta.generation {
            Some(generation) => {
                (generation, meta.deletion_timestamp.is_some()).hash(&mut digest);
                (&meta.annotations, &meta.labels, &meta.finalizers).hash(&mut digest);
            }
            // Secrets, ConfigMaps and Namespaces have no generation.
            None => meta.resource_version.hash(&mut digest),
        }
        let uid = meta.uid.clone().unwrap_or_default();
        let now = Version { uid: uid.clone(), digest: digest.finish() };
        let before = self.versions.insert(key(object), now);
        let is_news = before.as_ref() != self.versions.get(&key(object));
        let gone = before.map(|before| before.uid).filter(|before| *before != uid);
        News { is_news, gone: gone.into_iter().collect() }
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> Key {
    (object.namespace(), object.name_any())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;
    use watcher::Event;

    use super::*;

    fn secret(name: &str, uid: &str, version: &str) -> PartialObjectMeta<Secret> {
        let metadata = json!({"name": name, "namespace": "a", "uid": uid, "resourceVersion": version});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn what_was_deleted_is_gone_also_where_only_a_later_list_lacks_it() {
        let mut seen = Seen::default();
        let mut gone = |event| seen.take(&event).gone;
        assert!(gone(Event::Init).is_empty());
        assert!(gone(Event::InitApply(secret("first", "1", "1"))).is_empty());
        assert!(gone(Event::InitApply(secret("second", "2", "1"))).is_empty());
        assert!(gone(Event::InitDone).is_empty());
        assert!(gone(Event::Apply(secret("third", "3", "2"))).is_empty());
        assert_eq!(gone(Event::Delete(secret("third", "3", "3"))), ["3"]);
        assert!(gone(Event::Init).is_empty());
        assert_eq!(gone(Event::InitApply(secret("first", "4", "5"))), ["1"], "it was made again");
        assert_eq!(gone(Event::InitDone), ["2"]);
    }
}
