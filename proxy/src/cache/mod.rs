//! The cache: lookup, then fresh, stale or miss. It alone knows both the store and the upstreams.

mod blob;
mod check;
mod claims;
mod fill;
mod flight;
mod fresh;
mod list;
mod look;
mod manifest;
mod share;
mod tag;

use std::sync::Arc;

use bytes::Bytes;
use config::{Config, ObjectId, Refusal};
use moka::sync::Cache as Memory;
use oci::{Digest, Name, Reference, Tag};

pub use blob::{Blob, Body};
pub use check::AskedTag;
pub use fill::{Download, Place, Reader};
pub use fresh::Validity;
pub use list::{Page, Referrers, TagList};
pub use manifest::Manifest;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::replica::{HEARTBEAT, Heard, Replica, State};
use crate::resolve::{Source, Target};
use crate::store::{self, Holder, Store};
use crate::upstream::{Client, ManifestHead, Reason, Upstreams};

/// Manifests kept in memory, in bytes.
const MANIFEST_MEMORY: u64 = 32 * 1024 * 1024;

/// The cache of one process.
pub struct Cache {
    pub store: Arc<Store>,
    pub upstreams: Upstreams,
    /// HEADs of manifests in flight, by who asks for what.
    heads: flight::Flight<(Arc<Client>, Holder, Reference), Result<ManifestHead, Reason>>,
    /// Checks of tags in flight that are made before every answer.
    heard: flight::Flight<(Arc<Client>, Holder, Tag), Heard>,
    /// Checks of tags in flight that are written down for all replicas.
    checks: flight::Flight<check::CheckKey, Result<check::Said, Reason>>,
    /// GETs of manifests in flight, by who delivers them.
    fetches: flight::Flight<manifest::FetchKey, Result<manifest::Fetched, (Asker, Reason)>>,
    /// Looks into the store in flight.
    manifest_looks: flight::Flight<(Digest, Holder), look::Looked<Bytes>>,
    blob_looks: flight::Flight<(Digest, Holder, Wanted), look::Looked<store::Blob>>,
    fills: Arc<fill::Fills>,
    claims: Arc<claims::Claims>,
    pub metrics: Metrics,
    manifests: Memory<Digest, Bytes>,
    /// Of images in virtual registries: the upstream that served a manifest last. Its parts are asked of it first.
    origins: Memory<(ObjectId, Name), ObjectId>,
    shared: tokio::sync::Mutex<share::Shared>,
    clock: Clock,
}

/// One request for an image: what it leads to, under which configuration.
#[derive(Clone)]
pub struct Pull {
    pub config: Arc<Config>,
    pub target: Arc<Target>,
}

/// Who asks upstream for what: another one may be given what was refused to this one.
#[derive(Clone, PartialEq, Eq)]
struct Asker {
    holder: Holder,
    client: Arc<Client>,
}

/// What there is for a replica that wants to follow.
pub enum Led {
    Fill {
        place: Place,
        /// Length of the blob, where upstream stated it.
        size: Option<u64>,
        /// Whether the holder that was named has shown its right here.
        shown: bool,
    },
    /// Upstream has not answered yet.
    NotYet,
    None,
}

/// Whether the client wants the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A HEAD, which never costs an upstream GET.
    Head,
    Bytes,
    /// A range of a blob's.
    Part,
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
    pub fn new(
        store: Arc<Store>,
        upstreams: Upstreams,
        replica: Option<Arc<Replica>>,
        metrics: Metrics,
        clock: Clock,
    ) -> Arc<Self> {
        let claims = claims::Claims::new(store.clone(), replica);
        let manifests = Memory::builder()
            .max_capacity(MANIFEST_MEMORY)
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .build();
        Arc::new(Self {
            fills: fill::Fills::new(store.clone(), claims.clone(), metrics.clone()),
            claims,
            metrics,
            store,
            upstreams,
            heads: flight::Flight::default(),
            heard: flight::Flight::default(),
            checks: flight::Flight::default(),
            fetches: flight::Flight::default(),
            manifest_looks: flight::Flight::default(),
            blob_looks: flight::Flight::default(),
            manifests,
            origins: Memory::builder().max_capacity(10_000).build(),
            shared: tokio::sync::Mutex::default(),
            clock,
        })
    }

    /// Waits until nothing is being downloaded or put away, and leaves no claim behind.
    pub async fn idle(&self) {
        self.fills.idle().await;
        self.claims.close().await;
        self.leave().await;
    }

    /// What is being downloaded here.
    #[must_use]
    pub fn downloads(&self) -> Vec<Download> {
        self.fills.downloads()
    }

    /// How it stands with a claim of this replica, for another one, after at most a [`HEARTBEAT`]; `None` where it has
    /// no such claim.
    pub async fn claim_state(&self, path: &str, id: &str) -> Option<State> {
        self.claims.state(path, id).await
    }

    /// A download from upstream in progress here, for another replica that has read of it in the claim with this id.
    pub async fn led_fill(&self, digest: Digest, holder: &Holder, claim: &str) -> Led {
        let key = (digest, holder.origin.clone());
        let Some((fill, shown)) = self.fills.led(&key, holder) else {
            // The claim is read by others a moment before this replica hears that it has it.
            let begins = self.claims.holds(&claims::Work::Fill(key.0, key.1.clone()), claim);
            return if begins && self.fills.running(&key, holder).is_some() {
                Led::NotYet
            } else {
                Led::None
            };
        };
        match tokio::time::timeout(HEARTBEAT, fill.begun()).await {
            Err(_) => Led::NotYet,
            Ok(fill::Begun::Filling(size)) => {
                fill.place().map_or(Led::None, |place| Led::Fill { place, size, shown })
            }
            Ok(_) => Led::None,
        }
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
