//! Filling: one download of a blob per origin, whoever asks and however many.
//!
//! A fill is a task of its own. It writes a spool file, hashes what it writes, and tells how far readers may read;
//! clients read the file by offset, so a slow one costs a cursor. The last bytes are shown only when the digest is
//! proven: a wrong body never ends cleanly. Where upstream breaks off, the fill goes on from where it stopped, with
//! the next waiter's account when its own is exhausted. Where the folder has no room, the bytes pass through a small
//! window of memory instead.

mod download;
mod lead;
mod reader;
#[cfg(test)]
mod tests;
mod window;

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use oci::Digest;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use lead::{Filled, Lead};
pub use reader::Reader;
use window::{Cursor, Window};

use super::Asker;
use super::claims::Claims;
use crate::metrics::{Metrics, Source};
use crate::store::{Holder, Remote, Store};
use crate::upstream::Reason;

/// A blob and who delivers it.
pub(super) type FillKey = (Digest, String);

/// The fills of one process.
pub(super) struct Fills {
    running: Mutex<HashMap<FillKey, Arc<Fill>>>,
    store: Arc<Store>,
    claims: Arc<Claims>,
    metrics: Metrics,
}

/// One download in progress.
pub(super) struct Fill {
    digest: Digest,
    origin: String,
    /// Where the bytes come from now.
    source: Mutex<Source>,
    /// The bucket has it, and who began it has the right to it.
    stored: Option<Remote>,
    progress: watch::Sender<Progress>,
    /// Who may have the blob once it is proven, each with the account that showed it; in the order of their coming.
    waiters: Mutex<Vec<Asker>>,
    file: OnceLock<Arc<File>>,
    /// When it began, or the last byte came.
    moved: Mutex<Instant>,
    /// What did not fit into the folder, as it passes through.
    window: Arc<Window>,
    /// It is out of the map.
    put_away: CancellationToken,
    metrics: Metrics,
}

#[derive(Clone)]
struct Progress {
    phase: Phase,
    /// Length of the blob, where upstream stated it.
    size: Option<u64>,
    /// Bytes that readers may have.
    readable: u64,
    /// Bytes of them that are in the file; the others are in the window.
    spooled: u64,
}

#[derive(Clone)]
enum Phase {
    /// Upstream has not answered yet.
    Asking,
    /// Bytes come in.
    Filling,
    /// All is there and proven.
    Proven,
    /// Another fill ended a moment before this one began: it is in the store.
    Kept,
    /// It failed, and for whom.
    Failed(Asker, Reason),
}

/// A download in progress, for people.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Download {
    pub digest: String,
    /// Length of the blob, where it is known.
    pub size: Option<u64>,
    /// Bytes that are here.
    pub bytes: u64,
    /// `upstream`, `replica`, or `cache` where it comes from the bucket.
    pub source: &'static str,
    /// Repositories of groups that wait for it.
    pub holders: usize,
    /// For how long no byte has come.
    pub idle_seconds: u64,
}

/// How a fill began.
pub(super) enum Begun {
    /// Bytes come in; their number, where upstream stated it.
    Filling(Option<u64>),
    /// Look into the store.
    Kept,
    Failed(Asker, Reason),
}

impl Fills {
    pub(super) fn new(store: Arc<Store>, claims: Arc<Claims>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { running: Mutex::default(), store, claims, metrics })
    }

    /// Waits until nothing is being downloaded or put away.
    pub(super) async fn idle(&self) {
        loop {
            let Some(fill) = self.running.lock().values().next().cloned() else { return };
            fill.put_away.cancelled().await;
        }
    }

    /// What is being downloaded.
    pub(super) fn downloads(&self) -> Vec<Download> {
        let running = self.running.lock();
        running.values().map(|fill| fill.shown()).collect()
    }

    /// For how long the download that stands still the longest has got no byte; zero where none is in progress.
    pub(super) fn longest_idle(&self) -> Duration {
        let downloads = self.running.lock();
        let downloads = downloads
            .values()
            .filter(|fill| matches!(fill.progress.borrow().phase, Phase::Asking | Phase::Filling));
        downloads.map(|fill| fill.moved.lock().elapsed()).max().unwrap_or_default()
    }

    /// Waits until nobody is at this download any more.
    pub(super) async fn over(&self, key: &FillKey) {
        let running = self.running.lock().get(key).cloned();
        if let Some(fill) = running {
            fill.put_away.cancelled().await;
        }
    }

    /// Whether there is a fill in progress, and whether this holder is among those who wait for it.
    pub(super) fn running(&self, key: &FillKey, holder: &Holder) -> Option<bool> {
        self.running.lock().get(key).map(|fill| fill.waits(holder))
    }

    /// The download from upstream in progress here, which another replica may follow; whether this holder waits for it.
    pub(super) fn led(&self, key: &FillKey, holder: &Holder) -> Option<(Arc<Fill>, bool)> {
        let fill = self.running.lock().get(key).cloned().filter(|fill| fill.leads())?;
        let waits = fill.waits(holder);
        Some((fill, waits))
    }

    /// Joins the fill in progress, or begins it from the bucket that has it, or from upstream. `None`: there is one, and
    /// this holder has not `shown` its right.
    pub(super) fn join(
        self: &Arc<Self>,
        key: FillKey,
        asker: Asker,
        shown: bool,
        stored: Option<Remote>,
    ) -> Option<Arc<Fill>> {
        let mut running = self.running.lock();
        if let Some(fill) = running.get(&key) {
            if !fill.waits(&asker.holder) {
                shown.then(|| fill.waiters.lock().push(asker))?;
            }
            return Some(fill.clone());
        }
        let (progress, _) =
            watch::channel(Progress { phase: Phase::Asking, size: None, readable: 0, spooled: 0 });
        let fill = Arc::new(Fill {
            digest: key.0,
            origin: key.1.clone(),
            source: Mutex::new(if stored.is_some() { Source::Cache } else { Source::Replica }),
            stored,
            progress,
            waiters: Mutex::new(vec![asker]),
            file: OnceLock::new(),
            moved: Mutex::new(Instant::now()),
            window: Arc::default(),
            put_away: CancellationToken::new(),
            metrics: self.metrics.clone(),
        });
        running.insert(key.clone(), fill.clone());
        let landing = Landing { fills: self.clone(), key, fill: fill.clone() };
        self.metrics.fills_in_flight.inc();
        tokio::spawn(run(landing));
        Some(fill)
    }
}

/// Takes a fill out of the map when it ends, also by a panic.
struct Landing {
    fills: Arc<Fills>,
    key: FillKey,
    fill: Arc<Fill>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.fills.running.lock().remove(&self.key);
        // A task that panicked has told nobody.
        self.fill.progress.send_if_modified(|progress| {
            let silent = matches!(progress.phase, Phase::Asking | Phase::Filling) && std::thread::panicking();
            if silent && let Some(asker) = self.fill.waiters.lock().first() {
                progress.phase =
                    Phase::Failed(asker.clone(), Reason::Broken("the download was aborted".to_owned()));
            }
            silent
        });
        self.fills.metrics.fills_in_flight.dec();
        self.fill.put_away.cancel();
    }
}

async fn run(landing: Landing) {
    let (fill, store) = (landing.fill.clone(), landing.fills.store.clone());
    if fill.is_kept(&store).await {
        drop(landing);
        fill.tell(Phase::Kept);
        return;
    }
    match fill.fill(&store, &landing.fills.claims).await {
        Err((asker, reason)) => {
            tracing::warn!(digest = %fill.digest, group = %asker.holder.group, %reason, "the download failed; nothing is kept");
            // Out of the map first: whom the failure reaches may begin anew.
            drop(landing);
            fill.tell(Phase::Failed(asker, reason));
        }
        Ok((Filled::Kept, _)) => {
            drop(landing);
            fill.tell(Phase::Kept);
        }
        Ok((Filled::Proven(proven), lead)) => {
            fill.progress.send_modify(|progress| {
                progress.size = Some(proven.size);
                progress.readable = proven.size;
                progress.phase = Phase::Proven;
            });
            // What passed through is kept nowhere: the next request downloads it again.
            let Some(spool) = proven.spool else { return };
            let kept = match &lead {
                Lead::Ours(_) => store.keep(spool, fill.digest).await,
                Lead::Theirs { .. } => store.keep_copy(spool, fill.digest).await,
            };
            if let Err(error) = kept {
                tracing::warn!(%error, digest = %fill.digest, "the blob is passed on but could not be kept");
            }
            let mut linked = 0;
            if let Lead::Theirs { first_shown: true } = lead {
                let first = fill.waiters.lock().first().map(|asker| asker.holder.clone());
                first.iter().for_each(|holder| store.remember_link(&fill.digest, holder, ""));
            }
            fill.link(&store, &mut linked).await;
            if let Lead::Ours(mine) = lead {
                mine.succeeded();
            }
            drop(landing);
            // Whoever came while the links were written.
            fill.link(&store, &mut linked).await;
        }
    }
}

impl Fill {
    /// Waits until a byte can be shown, or it is clear that none will: what fails before can still be told in words,
    /// and a small blob is proven before its answer begins.
    pub(super) async fn begun(&self) -> Begun {
        let _waiting = Waiting::new(&self.metrics.fill_waiters);
        let mut progress = self.progress.subscribe();
        let shows = |p: &Progress| p.readable > 0 || !matches!(p.phase, Phase::Asking | Phase::Filling);
        // The sender is in this fill: it is not gone before us.
        let Ok(progress) = progress.wait_for(shows).await else { return Begun::Kept };
        match &progress.phase {
            Phase::Failed(asker, reason) => Begun::Failed(asker.clone(), reason.clone()),
            Phase::Kept => Begun::Kept,
            Phase::Asking | Phase::Filling | Phase::Proven => Begun::Filling(progress.size),
        }
    }

    /// A place from which to read the blob from its beginning; `None` where that has passed through already.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let cursor = self.window.enter()?;
        Some(Place { fill: self.clone(), cursor, _waiting: Waiting::new(&self.metrics.fill_waiters) })
    }

    fn shown(&self) -> Download {
        let progress = self.progress.borrow().clone();
        Download {
            digest: self.digest.to_string(),
            size: progress.size,
            bytes: progress.readable,
            source: self.source().as_str(),
            holders: self.waiters.lock().len(),
            idle_seconds: self.moved.lock().elapsed().as_secs(),
        }
    }

    /// Where its bytes come from now.
    pub(super) fn source(&self) -> Source {
        *self.source.lock()
    }

    /// Waits until it has ended, one way or the other.
    pub(super) async fn ended(&self) {
        let over =
            |progress: &Progress| matches!(progress.phase, Phase::Proven | Phase::Kept | Phase::Failed(..));
        self.progress.subscribe().wait_for(over).await.ok();
    }

    fn tell(&self, phase: Phase) {
        self.progress.send_modify(|progress| progress.phase = phase);
    }

    fn waits(&self, holder: &Holder) -> bool {
        self.waiters.lock().iter().any(|waiter| waiter.holder == *holder)
    }

    /// Whether a fill of ours that ended after this one's requests had looked has left the blob in the store.
    async fn is_kept(&self, store: &Store) -> bool {
        let first = self.waiters.lock().first().map(|asker| asker.holder.clone());
        let Some(holder) = first else { return false };
        if !store.remembers_link(&self.digest, &holder) {
            return false;
        }
        // What is in the bucket is what this one is to bring.
        let kept =
            if self.stored.is_some() { store.copy(&self.digest) } else { store.blob(&self.digest).await };
        matches!(kept, Ok(Some(_)))
    }

    /// Writes the rights of the waiters from number `from` on, but for those that are known to be written.
    async fn link(&self, store: &Store, from: &mut usize) {
        loop {
            let next = self.waiters.lock().get(*from).map(|asker| asker.holder.clone());
            let Some(holder) = next else { return };
            *from += 1;
            if store.remembers_link(&self.digest, &holder) {
                continue;
            }
            if let Err(error) = store.put_link(&self.digest, &holder, "").await {
                tracing::warn!(%error, digest = %self.digest, "the right to a blob could not be kept");
            }
        }
    }
}

/// A client's place in a fill: what it has not read yet stays readable.
pub struct Place {
    fill: Arc<Fill>,
    cursor: Cursor,
    _waiting: Waiting,
}

impl Place {
    /// Who delivers it.
    #[must_use]
    pub fn source(&self) -> Source {
        self.fill.source()
    }

    /// Reads from `start` up to `end`, or to the blob's end, as the bytes come in.
    #[must_use]
    pub fn reader(self, start: u64, end: Option<u64>) -> Reader {
        Reader::new(self, start, end)
    }
}

/// Counts who is served from a download.
struct Waiting(Gauge);

impl Waiting {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
