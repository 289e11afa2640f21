//! The cluster as the operator understands it: what every instance serves, and what is true of every object.
//!
//! One task makes it anew after every change that can matter. Controllers read it and act; what they learn of the pods
//! goes back into it as a [`Report`]. So an object's status has one source, and data flows one way.

mod collect;
mod contents;
mod draft;
mod narrow;
mod recall;
mod rendered;
mod rendering;
mod settle;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Kind, ObjectId};
use futures_util::{Stream, StreamExt, stream};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub use collect::{
    DOCUMENTS, Members, STORAGE, credentials_secret, documents_secret, id_of, keys_secret, named,
    storage_secret,
};
pub use rendered::CREDENTIALS;
pub use rendering::Rendering;
pub use verdict::{Facts, Serving, Verdict};

use crate::metrics::{Metrics, Proxy};
use crate::pods::UpstreamReport;
use crate::watch::Sight;
use collect::Collection;
use contents::Contents;
use draft::Sources;
use recall::recall;
use rendered::Renderings;
use rendering::render;

/// Changes that come together are taken together.
const GATHER: Duration = Duration::from_millis(30);
/// For reading what changed; what was read before the end of it is known the next time.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure to read.
const RETRY: Duration = Duration::from_secs(1);

/// What holds at one time.
#[derive(Default)]
pub struct World {
    pub instances: BTreeMap<ObjectId, Arc<Rendering>>,
    pub verdicts: HashMap<(Kind, ObjectId), Arc<Verdict>>,
}

/// What the pods of an instance said last.
#[derive(Clone)]
pub struct Report {
    /// Whether a pod is ready.
    pub is_served: bool,
    /// What every ready pod had last; none where they never had the same.
    pub rendering: Option<Arc<Rendering>>,
    pub upstreams: BTreeMap<String, UpstreamReport>,
}

/// Reports of all instances, by uid: one that is made again under its name has said nothing yet. Whoever adds one makes
/// the world anew.
#[derive(Clone, Default)]
pub struct Reports {
    by_instance: Arc<Mutex<HashMap<String, Report>>>,
    changes: Arc<Notify>,
}

impl Reports {
    #[must_use]
    pub fn new(changes: Arc<Notify>) -> Self {
        Self { by_instance: Arc::default(), changes }
    }

    /// Takes note of what pods said. While documents are on their way, those that all pods had before stay noted; where
    /// no pod is ready, none are served.
    pub fn add(&self, instance: &str, mut report: Report) {
        let mut all = self.by_instance.lock();
        let before = all.get(instance).cloned();
        if report.rendering.is_none() && report.is_served {
            report.rendering = before.as_ref().and_then(|before| before.rendering.clone());
        }
        all.insert(instance.to_owned(), report.clone());
        drop(all);
        let pointer = |report: &Report| report.rendering.as_ref().map(Arc::as_ptr);
        let is_news = before.is_none_or(|before| {
            pointer(&before) != pointer(&report) || before.upstreams != report.upstreams
        });
        if is_news {
            self.changes.notify_one();
        }
    }

    #[must_use]
    pub fn get(&self, instance: &str) -> Option<Report> {
        self.by_instance.lock().get(instance).cloned()
    }

    pub(crate) fn forget(&self, instance: &str) {
        self.by_instance.lock().remove(instance);
    }
}

/// Makes the world.
pub struct Maker {
    pub sight: Arc<Sight>,
    pub reports: Reports,
    pub metrics: Metrics,
    client: Client,
    contents: Contents,
    renderings: Renderings,
    instances: BTreeMap<ObjectId, Arc<Rendering>>,
}

impl Maker {
    #[must_use]
    pub fn new(client: Client, sight: Arc<Sight>, reports: Reports, metrics: Metrics) -> Self {
        Self {
            sight,
            reports,
            metrics,
            client,
            contents: Contents::default(),
            renderings: Renderings::default(),
            instances: BTreeMap::new(),
        }
    }

    /// Makes the world after every change, until it is dropped.
    pub async fn run(mut self, changes: Arc<Notify>, publish: watch::Sender<Arc<World>>) {
        self.sight.ready().await;
        changes.notify_one();
        let mut rested = Instant::now();
        loop {
            changes.notified().await;
            tokio::time::sleep(GATHER.max(rested.saturating_duration_since(Instant::now()))).await;
            let began = Instant::now();
            // A request of the API client has no limit of its own: one that is never answered must not end the world.
            let made = tokio::time::timeout(PATIENCE, self.make()).await;
            // While thousands of objects come, half of the time is theirs who act on what was judged.
            rested = Instant::now() + began.elapsed();
            let Ok(made) = made else {
                tracing::warn!("the API server did not answer in {PATIENCE:?}; trying again");
                changes.notify_one();
                continue;
            };
            match made {
                Ok(world) => {
                    publish.send_replace(Arc::new(world));
                    self.metrics.judge_duration.observe(began.elapsed().as_secs_f64());
                }
                Err(error) => {
                    tracing::warn!(%error, "Secrets could not be read; trying again");
                    tokio::time::sleep(RETRY).await;
                    changes.notify_one();
                }
            }
        }
    }

    async fn make(&mut self) -> Result<World, kube::Error> {
        let collection = Collection::of(&self.sight);
        for (id, members) in &collection.instances {
            if !self.instances.contains_key(id)
                && let Some(before) = recall(&self.client, members, &self.sight.upstreams).await?
            {
                self.instances.insert(id.clone(), Arc::new(before));
            }
        }
        // What is served as it last was good refers to others than what is there now.
        let served = || self.instances.values().map(|rendering| &rendering.served);
        let all = || collection.instances.values().chain(std::iter::once(&collection.loose)).chain(served());
        let secrets = all().flat_map(Members::secrets).collect::<BTreeSet<_>>();
        let maps = all().flat_map(Members::config_maps).collect::<BTreeSet<_>>();
        self.contents.follow_secrets(&self.client, &secrets, &self.sight.secrets).await?;
        self.contents.follow_config_maps(&self.client, &maps, &self.sight.config_maps).await?;
        // Judging thousands of documents takes a processor for a while.
        Ok(tokio::task::block_in_place(|| self.judge(&collection)))
    }

    fn judge(&mut self, collection: &Collection) -> World {
        self.renderings.turn();
        let mut sources = Sources {
            contents: &self.contents,
            namespaces: &self.sight.namespaces,
            upstreams: &self.sight.upstreams,
            renderings: &mut self.renderings,
        };
        let mut world = World::default();
        for (id, members) in &collection.instances {
            let Some(rendering) = render(members, &mut sources, self.instances.get(id)) else { continue };
            let uid = members.proxy.as_ref().and_then(|proxy| proxy.metadata.uid.as_ref());
            let report = uid.and_then(|uid| self.reports.get(uid));
            verdict::of_instance(&mut world, id, members, &rendering, report.as_ref());
            world.instances.insert(id.clone(), rendering);
        }
        verdict::of_loose(&mut world, &collection.loose, &mut sources);
        self.show_bytes(&world);
        self.instances.clone_from(&world.instances);
        world
    }

    /// Shows how large the documents of each instance are, and no longer those of one that is gone.
    fn show_bytes(&self, world: &World) {
        let label = |id: &ObjectId| Proxy { proxy: id.to_string() };
        for gone in self.instances.keys().filter(|id| !world.instances.contains_key(id)) {
            self.metrics.rendered_bytes.remove(&label(gone));
        }
        for (id, rendering) in &world.instances {
            let bytes = i64::try_from(rendering.documents.len()).unwrap_or(i64::MAX);
            self.metrics.rendered_bytes.get_or_create_owned(&label(id)).set(bytes);
        }
    }
}

/// The objects of a kind whose verdict changes, as it changes.
pub fn changed<K>(
    worlds: watch::Receiver<Arc<World>>,
    kind: Kind,
) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    let start = (worlds, Arc::new(World::default()));
    stream::unfold(start, move |(mut worlds, before)| async move {
        worlds.changed().await.ok()?;
        let now = worlds.borrow_and_update().clone();
        let news = now.verdicts.iter().filter(|(key, verdict)| {
            key.0 == kind && before.verdicts.get(*key).is_none_or(|before| before != *verdict)
        });
        let news =
            news.map(|((_, id), _)| ObjectRef::new(&id.name).within(&id.namespace)).collect::<Vec<_>>();
        Some((stream::iter(news), (worlds, now)))
    })
    .flatten()
}

/// The instances whose documents or reports change, as they change.
pub fn changed_instances<K>(
    worlds: watch::Receiver<Arc<World>>,
) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    let start = (worlds, Arc::new(World::default()));
    stream::unfold(start, move |(mut worlds, before)| async move {
        worlds.changed().await.ok()?;
        let now = worlds.borrow_and_update().clone();
        let news = now.instances.iter().filter(|(id, rendering)| {
            before.instances.get(*id).is_none_or(|before| !Arc::ptr_eq(before, rendering))
        });
        let news = news.map(|(id, _)| ObjectRef::new(&id.name).within(&id.namespace)).collect::<Vec<_>>();
        Some((stream::iter(news), (worlds, now)))
    })
    .flatten()
}
