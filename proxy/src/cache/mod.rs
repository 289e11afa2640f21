//! The cache: lookup, then fresh, stale or miss. It alone knows both the store and the upstreams.

mod blob;
mod fill;
mod flight;
mod fresh;
mod list;
mod manifest;
mod tag;

use std::sync::Arc;

use bytes::Bytes;
use config::{Config, ObjectId, Refusal};
use moka::sync::Cache as Memory;
use oci::{Digest, Name, Reference, Tag};

pub use blob::{Blob, Body};
pub use fill::{Place, Reader};
pub use fresh::Validity;
pub use list::{Page, Referrers, TagList};
pub use manifest::Manifest;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::resolve::{Source, Target};
use crate::store::{self, Holder, Store};
use crate::upstream::{Client, ManifestHead, Reason, Upstreams};

/// Manifests kept in memory, in bytes.
const MANIFEST_MEMORY: u64 = 32 * 1024 * 1024;

/// The cache of one process.
pub struct Cache {
    pub store: Arc<Store>,
    pub upstreams: Upstreams,
    /// HEADs of tags in flight.
    heads: flight::Flight<(Holder, Reference), Result<ManifestHead, Reason>>,
    /// GETs of manifests in flight, by who delivers them.
    fetches: flight::Flight<manifest::FetchKey, Result<manifest::Fetched, (Holder, Reason)>>,
    fills: Arc<fill::Fills>,
    metrics: Metrics,
    manifests: Memory<Digest, Bytes>,
    /// Of images in virtual registries: the upstream that served a manifest last. Its parts are asked of it first.
    origins: Memory<(ObjectId, Name), ObjectId>,
    clock: Clock,
}

/// One request for an image: what it leads to, under which configuration.
#[derive(Clone)]
pub struct Pull {
    pub config: Arc<Config>,
    pub target: Arc<Target>,
}

/// Whether the client wants the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A HEAD, which never costs an upstream GET.
    Head,
    Bytes,
}

/// Nothing could be served: what each upstream answered, in order. Never empty.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", summary(.0))]
pub struct Error(pub Vec<Attempt>);

/// What one upstream answered.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The upstream's name, without its namespace.
    pub upstream: String,
    pub failure: Failure,
}

/// Why an upstream did not serve.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Upstream(Reason),
    #[error("refused by rule {0}")]
    Rule(String),
    #[error("no allow rule matches")]
    NotAllowed,
    #[error("internal error")]
    Internal,
}

fn summary(attempts: &[Attempt]) -> String {
    let parts: Vec<_> = attempts.iter().map(|a| format!("{}: {}", a.upstream, a.failure)).collect();
    parts.join("; ")
}

impl Cache {
    #[must_use]
    pub fn new(store: Arc<Store>, upstreams: Upstreams, metrics: Metrics, clock: Clock) -> Arc<Self> {
        let manifests = Memory::builder()
            .max_capacity(MANIFEST_MEMORY)
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .build();
        Arc::new(Self {
            fills: fill::Fills::new(store.clone(), metrics.clone()),
            metrics,
            store,
            upstreams,
            heads: flight::Flight::default(),
            fetches: flight::Flight::default(),
            manifests,
            origins: Memory::builder().max_capacity(10_000).build(),
            clock,
        })
    }

    /// Waits until nothing is being downloaded or put away.
    pub async fn idle(&self) {
        self.fills.idle().await;
    }

    /// Shows what changes with time alone; called when the metrics are read.
    pub fn refresh_metrics(&self) {
        let idle = self.fills.longest_idle().as_secs();
        self.metrics.fill_idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
        self.upstreams.refresh_metrics();
    }

    fn client(&self, pull: &Pull, source: &Source) -> Arc<Client> {
        self.upstreams.client(&source.upstream, &pull.config)
    }

    /// Takes note of which upstream served an image.
    fn came_from(&self, pull: &Pull, source: &Source) {
        if pull.target.sources.len() > 1 {
            self.origins.insert(pull.image_key(), source.upstream.id.clone());
        }
    }

    /// The sources, that one first which served the image's manifest: what a digest names is the same everywhere.
    fn likely_first<'p>(&self, pull: &'p Pull) -> Vec<(&'p Source, Result<(), Failure>)> {
        let mut sources: Vec<_> = pull.sources().collect();
        if sources.len() > 1
            && let Some(upstream) = self.origins.get(&pull.image_key())
        {
            sources.sort_by_key(|(source, _)| source.upstream.id != upstream);
        }
        sources
    }

    /// What the store says; where it fails, what it would say if it were empty.
    fn or_empty<T: Default>(&self, what: &str, result: Result<T, store::Error>) -> T {
        result.unwrap_or_else(|error| {
            match error {
                // It was said when it failed.
                store::Error::Resting => tracing::debug!(%error, what, "going on without the store"),
                _ => tracing::warn!(%error, what, "the store failed; going on without it"),
            }
            T::default()
        })
    }
}

impl Pull {
    /// The sources that the rules allow, or why not, in order. Rules hold for cached copies too.
    fn sources(&self) -> impl Iterator<Item = (&Source, Result<(), Failure>)> {
        self.target.sources.iter().map(|source| {
            let allowed = match source.upstream.refusal(&source.repository) {
                None => Ok(()),
                Some(Refusal::Denied(rule)) => Err(Failure::Rule(rule.to_owned())),
                Some(Refusal::NotAllowed) => Err(Failure::NotAllowed),
            };
            (source, allowed)
        })
    }

    fn allowed(&self) -> impl Iterator<Item = &Source> {
        self.sources().filter_map(|(source, allowed)| allowed.is_ok().then_some(source))
    }

    fn image_key(&self) -> (ObjectId, Name) {
        (self.target.group.id.clone(), self.target.image.clone())
    }

    fn holder(&self, source: &Source) -> Holder {
        self.target.holder(source)
    }
}

/// Asks sources in order until one serves; what the others said is the error.
async fn first_of<'p, T, F>(
    sources: impl IntoIterator<Item = (&'p Source, Result<(), Failure>)>,
    ask: impl Fn(&'p Source) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Reason>>,
{
    let mut attempts = Vec::new();
    for (source, allowed) in sources {
        let asked = match allowed {
            Ok(()) => ask(source).await.map_err(Failure::Upstream),
            Err(failure) => Err(failure),
        };
        match asked {
            Ok(answer) => return Ok(answer),
            Err(failure) => attempts.push(Attempt::new(source, failure)),
        }
    }
    Err(Error(attempts))
}

impl Attempt {
    fn new(source: &Source, failure: Failure) -> Self {
        Self { upstream: source.upstream.id.name.clone(), failure }
    }
}

/// A tag as a reference, for upstream.
fn by_tag(tag: &Tag) -> Reference {
    Reference::Tag(tag.clone())
}
