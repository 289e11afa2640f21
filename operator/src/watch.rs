//! What the operator sees of the cluster: one watch per kind and namespace, each behind a store.

use std::collections::HashMap;
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

use crate::context::Statuses;

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

/// The objects of one watch, for a controller.
pub struct Feed<K: Resource<DynamicType = ()> + 'static> {
    pub store: Store<K>,
    pub objects: BoxStream<'static, Result<K, watcher::Error>>,
    listed: Listed,
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
}

/// Watches of kinds that no controller follows; they run as long as this is polled.
pub type Background = Vec<BoxStream<'static, ()>>;

impl Sight {
    /// Makes the watches; nothing is asked before they are polled. `changes` hears of every change that can matter,
    /// and controllers besides of a status that is none of `statuses`.
    #[must_use]
    pub fn open(
        client: &Client,
        scope: &Scope,
        changes: &Arc<Notify>,
        statuses: &Arc<Statuses>,
    ) -> (Self, Feeds, Background) {
        let (proxies, proxy_feeds) = shelf(scope.apis(client), changes, statuses);
        let (upstreams, upstream_feeds) = shelf(scope.apis(client), changes, statuses);
        let (groups, group_feeds) = shelf(scope.apis(client), changes, statuses);
        let (registries, registry_feeds) = shelf(scope.apis(client), changes, statuses);
        let (bindings, binding_feeds) = shelf(scope.apis(client), changes, statuses);
        let (namespaces, namespace_feeds) = shelf(vec![Api::all(client.clone())], changes, statuses);
        let (secrets, secret_feeds) = shelf(scope.apis(client), changes, statuses);
        let (config_maps, config_map_feeds) = shelf(scope.apis(client), changes, statuses);
        let mut background = Background::new();
        background.extend(namespace_feeds.into_iter().map(drained));
        background.extend(secret_feeds.into_iter().map(drained));
        background.extend(config_map_feeds.into_iter().map(drained));
        let sight =
            Self { proxies, upstreams, groups, registries, bindings, namespaces, secrets, config_maps };
        let feeds = Feeds {
            proxies: proxy_feeds,
            upstreams: upstream_feeds,
            groups: group_feeds,
            registries: registry_feeds,
            bindings: binding_feeds,
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

fn shelf<K>(apis: Vec<Api<K>>, changes: &Arc<Notify>, statuses: &Arc<Statuses>) -> (Shelf<K>, Vec<Feed<K>>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let feeds = apis.into_iter().map(|api| feed(api, changes.clone(), statuses.clone()));
    let feeds = feeds.collect::<Vec<_>>();
    let stores = feeds.iter().map(|feed| feed.store.clone()).collect();
    let listed = feeds.iter().map(|feed| feed.listed.clone()).collect();
    (Shelf { stores, listed }, feeds)
}

fn feed<K>(api: Api<K>, changes: Arc<Notify>, statuses: Arc<Statuses>) -> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let listed = Listed::default();
    let done = listed.clone();
    let mut seen = Seen::default();
    let objects = watcher(api, watcher::Config::default().any_semantic())
        .default_backoff()
        .modify(|object: &mut K| object.managed_fields_mut().clear())
        .reflect(writer)
        .try_filter_map(move |event| {
            let is_news = seen.is_news(&event);
            if is_news {
                changes.notify_one();
            }
            std::future::ready(Ok(match event {
                watcher::Event::Apply(object) => (is_news || !statuses.is_own(&object)).then_some(object),
                watcher::Event::Delete(object) => Some(object),
                watcher::Event::InitApply(object) => Some(object),
                watcher::Event::InitDone => {
                    done.set(()).ok();
                    None
                }
                watcher::Event::Init => None,
            }))
        })
        .boxed();
    Feed { store, objects, listed }
}

fn drained<K: Resource<DynamicType = ()> + Send + Sync + 'static>(feed: Feed<K>) -> BoxStream<'static, ()> {
    let kind = K::kind(&()).into_owned();
    feed.objects
        .filter_map(move |object| {
            if let Err(error) = object {
                tracing::warn!(%kind, %error, "the watch broke off; it is taken up again");
            }
            std::future::ready(None)
        })
        .boxed()
}

/// What was seen of each object last: an update of its status alone is no news to the world.
#[derive(Default)]
struct Seen {
    versions: HashMap<(Option<String>, String), u64>,
}

impl Seen {
    fn is_news<K: Resource<DynamicType = ()>>(&mut self, event: &watcher::Event<K>) -> bool {
        match event {
            watcher::Event::Init => false,
            // What is listed is in the store only when the list is complete.
            watcher::Event::InitApply(object) => {
                self.note(object);
                false
            }
            watcher::Event::InitDone => true,
            watcher::Event::Apply(object) => self.note(object),
            watcher::Event::Delete(object) => {
                self.versions.remove(&key(object));
                true
            }
        }
    }

    fn note<K: Resource<DynamicType = ()>>(&mut self, object: &K) -> bool {
        let meta = object.meta();
        let mut version = DefaultHasher::new();
        meta.uid.hash(&mut version);
        match meta.generation {
            Some(generation) => {
                (generation, meta.deletion_timestamp.is_some()).hash(&mut version);
                (&meta.annotations, &meta.labels, &meta.finalizers).hash(&mut version);
            }
            // Secrets, ConfigMaps and Namespaces have no generation.
            None => meta.resource_version.hash(&mut version),
        }
        let version = version.finish();
        self.versions.insert(key(object), version) != Some(version)
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> (Option<String>, String) {
    (object.namespace(), object.name_any())
}
