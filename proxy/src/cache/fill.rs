//! Filling: one download of a blob per origin, whoever asks and however many.
//!
//! A fill is a task of its own. It writes a spool file, hashes what it writes, and tells how far readers may read;
//! clients read the file by offset, so a slow one costs a cursor. The last bytes are shown only when the digest is
//! proven: a wrong body never ends cleanly. Where upstream breaks off, the fill goes on from where it stopped, with
//! the next waiter's account when its own is exhausted.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use oci::{Digest, Hasher};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::metrics::Metrics;
use crate::store::{Holder, Spool, Store, read_file};
use crate::upstream::{BlobBody, Class, Client, Reason};

/// Tries without a new byte before an account counts as exhausted.
const TRIES: usize = 4;
/// Bytes that wait for the disk while it is writing.
const PENDING: usize = 1024 * 1024;
/// What a reader takes at a time: two hundred slow ones then hold 13 MB.
const PIECE: u64 = 64 * 1024;
/// Room that a blob gets for which upstream states no length.
const UNSTATED: u64 = 16 * 1024 * 1024;
/// The largest blob that is taken without a stated length: an endless body must not empty the folder.
const MAX_UNSTATED: u64 = 5 * 1024 * 1024 * 1024;

/// A blob and who delivers it.
pub(super) type FillKey = (Digest, String);

/// The fills of one process.
pub(super) struct Fills {
    running: Mutex<HashMap<FillKey, Arc<Fill>>>,
    store: Arc<Store>,
    metrics: Metrics,
}

/// One download in progress.
pub(super) struct Fill {
    digest: Digest,
    progress: watch::Sender<Progress>,
    /// Who may have the blob once it is proven, each with the account that showed it; in the order of their coming.
    waiters: Mutex<Vec<(Holder, Arc<Client>)>>,
    file: OnceLock<Arc<File>>,
    waiting: Gauge,
}

#[derive(Clone, Debug)]
struct Progress {
    phase: Phase,
    /// Length of the blob, where upstream stated it.
    size: Option<u64>,
    /// Bytes that readers may have.
    readable: u64,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Upstream has not answered yet.
    Asking,
    /// Bytes come in.
    Filling,
    /// All is there and proven.
    Proven,
    /// Another fill ended a moment before this one began: it is in the store.
    Kept,
    /// It failed, with whose account.
    Failed(Holder, Reason),
}

/// How a fill began.
pub(super) enum Begun {
    /// Bytes come in; their number, where upstream stated it.
    Filling(Option<u64>),
    /// Look into the store.
    Kept,
    Failed(Holder, Reason),
}

impl Fills {
    pub(super) fn new(store: Arc<Store>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { running: Mutex::default(), store, metrics })
    }

    /// The fill in progress, and whether this holder has shown its right to it already.
    pub(super) fn running(&self, key: &FillKey, holder: &Holder) -> Option<(Arc<Fill>, bool)> {
        let fill = self.running.lock().get(key).cloned()?;
        let known = fill.waiters.lock().iter().any(|(waiter, _)| waiter == holder);
        Some((fill, known))
    }

    /// Joins the fill in progress, or begins it. The holder must have shown its right before joining one.
    pub(super) fn join(self: &Arc<Self>, key: FillKey, holder: Holder, client: Arc<Client>) -> Arc<Fill> {
        let mut running = self.running.lock();
        if let Some(fill) = running.get(&key) {
            let mut waiters = fill.waiters.lock();
            if !waiters.iter().any(|(waiter, _)| *waiter == holder) {
                waiters.push((holder, client));
            }
            return fill.clone();
        }
        let (progress, _) = watch::channel(Progress { phase: Phase::Asking, size: None, readable: 0 });
        let fill = Arc::new(Fill {
            digest: key.0,
            progress,
            waiters: Mutex::new(vec![(holder, client)]),
            file: OnceLock::new(),
            waiting: self.metrics.fill_waiters.clone(),
        });
        running.insert(key.clone(), fill.clone());
        let landing = Landing { fills: self.clone(), key, fill: fill.clone() };
        self.metrics.fills_in_flight.inc();
        tokio::spawn(run(landing));
        fill
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
        self.fills.metrics.fills_in_flight.dec();
    }
}

async fn run(landing: Landing) {
    let (fill, store) = (landing.fill.clone(), landing.fills.store.clone());
    if fill.is_kept(&store).await {
        drop(landing);
        fill.tell(Phase::Kept);
        return;
    }
    match fill.download(&store).await {
        Err((holder, reason)) => {
            tracing::warn!(digest = %fill.digest, group = %holder.group, %reason, "the download failed; nothing is kept");
            // Out of the map first: whom the failure reaches may begin anew.
            drop(landing);
            fill.tell(Phase::Failed(holder, reason));
        }
        Ok(disk) => {
            fill.progress.send_modify(|progress| {
                progress.size = Some(disk.written);
                progress.readable = disk.written;
                progress.phase = Phase::Proven;
            });
            let kept = store.keep(disk.spool, fill.digest).await;
            if let Err(error) = &kept {
                tracing::warn!(%error, digest = %fill.digest, "the blob is passed on but could not be kept");
            }
            let mut linked = 0;
            fill.link(&store, &mut linked).await;
            drop(landing);
            // Whoever came while the links were written.
            fill.link(&store, &mut linked).await;
        }
    }
}

impl Fill {
    /// Waits until bytes come in, or it is clear that none will.
    pub(super) async fn begun(&self) -> Begun {
        let _waiting = Waiting::new(&self.waiting);
        let mut progress = self.progress.subscribe();
        let begun = progress.wait_for(|progress| !matches!(progress.phase, Phase::Asking)).await;
        let Ok(progress) = begun else { return self.gone() };
        match &progress.phase {
            Phase::Failed(holder, reason) => Begun::Failed(holder.clone(), reason.clone()),
            Phase::Kept => Begun::Kept,
            Phase::Asking | Phase::Filling | Phase::Proven => Begun::Filling(progress.size),
        }
    }

    fn gone(&self) -> Begun {
        let holder = self.waiters.lock().first().map(|(holder, _)| holder.clone());
        holder.map_or(Begun::Kept, |holder| {
            Begun::Failed(holder, Reason::Broken("the download was aborted".to_owned()))
        })
    }

    /// Reads from `start` up to `end`, or to the blob's end, as the bytes come in.
    pub(super) fn reader(self: &Arc<Self>, start: u64, end: Option<u64>) -> Reader {
        let waiting = Waiting::new(&self.waiting);
        Reader { progress: self.progress.subscribe(), fill: self.clone(), at: start, end, _waiting: waiting }
    }

    fn tell(&self, phase: Phase) {
        self.progress.send_modify(|progress| progress.phase = phase);
    }

    /// Whether a fill that ended after this one's requests had looked has left the blob in the store.
    async fn is_kept(&self, store: &Store) -> bool {
        let first = self.waiters.lock().first().map(|(holder, _)| holder.clone());
        let Some(holder) = first else { return false };
        matches!(store.link(&self.digest, &holder).await, Ok(Some(_)))
            && matches!(store.blob(&self.digest).await, Ok(Some(_)))
    }

    /// Writes the rights of the waiters from number `from` on.
    async fn link(&self, store: &Store, from: &mut usize) {
        loop {
            let next = self.waiters.lock().get(*from).map(|(holder, _)| holder.clone());
            let Some(holder) = next else { return };
            *from += 1;
            if let Err(error) = store.put_link(&self.digest, &holder, "").await {
                tracing::warn!(%error, digest = %self.digest, "the right to a blob could not be kept");
            }
        }
    }

    /// Downloads with one waiter's account after the other, each going on where the one before stopped.
    async fn download(&self, store: &Arc<Store>) -> Result<Disk, (Holder, Reason)> {
        let mut spooling = Spooling::new(self, store);
        let mut account = 0;
        loop {
            let waiter = self.waiters.lock().get(account).cloned();
            let Some((holder, client)) = waiter else {
                return Err((self.first_holder(), Reason::Broken("nobody waits".to_owned())));
            };
            let reason = match spooling.from(&client, &holder).await {
                Ok(()) => return spooling.prove().map_err(|reason| (holder, reason)),
                Err(reason) => reason,
            };
            account += 1;
            let another = account < self.waiters.lock().len();
            // Where upstream says no to one account, the others ask for themselves.
            if reason.class() != Class::Outage || !another {
                return Err((holder, reason));
            }
        }
    }

    fn first_holder(&self) -> Holder {
        let waiters = self.waiters.lock();
        // A fill is made with one waiter and never loses any.
        waiters[0].0.clone()
    }
}

/// The writing half of a fill.
struct Spooling<'a> {
    fill: &'a Fill,
    store: &'a Arc<Store>,
    size: Option<u64>,
    disk: Option<Disk>,
}

/// A spool file and the digest of what is in it.
struct Disk {
    spool: Spool,
    hasher: Hasher,
    written: u64,
}

impl Disk {
    /// Writes and hashes; blocks.
    fn write(mut self, chunks: Vec<Bytes>) -> io::Result<Self> {
        for chunk in chunks {
            self.spool.append(self.written, &chunk)?;
            self.hasher.update(&chunk);
            self.written += chunk.len() as u64;
        }
        Ok(self)
    }
}

impl<'a> Spooling<'a> {
    fn new(fill: &'a Fill, store: &'a Arc<Store>) -> Self {
        Self { fill, store, size: None, disk: None }
    }

    fn written(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.written)
    }

    /// Downloads what is missing with one account, trying again as long as bytes come.
    async fn from(&mut self, client: &Client, holder: &Holder) -> Result<(), Reason> {
        let mut waits = tries();
        loop {
            let before = self.written();
            let reason = match client.blob(&holder.repository, &self.fill.digest, before).await {
                Ok(body) => match self.copy(body).await {
                    Ok(()) => return Ok(()),
                    Err(reason) => reason,
                },
                Err(error) => error.reason,
            };
            if !reason.is_transient() {
                return Err(reason);
            }
            if self.written() > before {
                waits = tries();
            }
            let Some(wait) = waits.next() else { return Err(reason) };
            tracing::info!(digest = %self.fill.digest, %reason, at = self.written(), "the download broke off; going on from there");
            tokio::time::sleep(wait).await;
        }
    }

    /// Copies one body to the disk: while a batch is being written the next one comes in.
    async fn copy(&mut self, mut body: BlobBody) -> Result<(), Reason> {
        self.begin(body.size)?;
        let mut pending: Vec<Bytes> = Vec::new();
        let mut pending_bytes = 0;
        let mut writing: Option<JoinHandle<io::Result<Disk>>> = None;
        let mut ended = None;
        loop {
            if writing.is_none() && !pending.is_empty() {
                writing = self.write(std::mem::take(&mut pending));
                pending_bytes = 0;
            }
            if let (None, Some(ended)) = (&writing, ended.take()) {
                return self.ended(ended);
            }
            tokio::select! {
                biased;
                written = finished(&mut writing) => {
                    writing = None;
                    self.wrote(written)?;
                }
                chunk = body.next(), if ended.is_none() && pending_bytes < PENDING => match chunk {
                    Ok(Some(chunk)) => {
                        pending_bytes += chunk.len();
                        pending.push(chunk);
                    }
                    Ok(None) => ended = Some(Ok(())),
                    Err(reason) => ended = Some(Err(reason)),
                },
            }
        }
    }

    /// Takes note of what upstream says about the length, and makes the spool file.
    fn begin(&mut self, stated: Option<u64>) -> Result<(), Reason> {
        match (self.size, stated) {
            (Some(size), Some(stated)) if size != stated => {
                return Err(Reason::Wrong(format!("the blob had {size} bytes before and has {stated} now")));
            }
            (None, Some(_)) => self.size = stated,
            _ => {}
        }
        if self.disk.is_none() {
            let spool = self.store.folder().spool(self.size.unwrap_or(UNSTATED));
            let spool = spool.map_err(|full| Reason::Wrong(full.to_string()))?;
            self.fill.file.set(spool.reader()).ok();
            self.disk = Some(Disk { spool, hasher: Hasher::new(self.fill.digest.algorithm()), written: 0 });
        }
        let size = self.size;
        self.fill.progress.send_modify(|progress| {
            progress.phase = Phase::Filling;
            progress.size = size;
        });
        Ok(())
    }

    fn write(&mut self, chunks: Vec<Bytes>) -> Option<JoinHandle<io::Result<Disk>>> {
        let disk = self.disk.take()?;
        Some(tokio::task::spawn_blocking(move || disk.write(chunks)))
    }

    /// Shows readers what was written, but never the end of what is not proven.
    fn wrote(&mut self, written: Result<io::Result<Disk>, tokio::task::JoinError>) -> Result<(), Reason> {
        let disk = written.map_err(io::Error::other).and_then(|result| result);
        let disk = disk.map_err(|error| Reason::Wrong(format!("the local folder: {error}")))?;
        let before = self.fill.progress.borrow().readable;
        let readable = match self.size {
            Some(size) if disk.written > size => {
                return Err(Reason::Wrong("more bytes than stated".to_owned()));
            }
            Some(size) if disk.written == size => before,
            Some(_) => disk.written,
            None if disk.written > MAX_UNSTATED => {
                return Err(Reason::Wrong("a body without end".to_owned()));
            }
            // Any byte may be the last one: keep the newest batch back.
            None => disk.written.saturating_sub(PENDING as u64).max(before),
        };
        self.disk = Some(disk);
        if readable > before {
            self.fill.progress.send_modify(|progress| progress.readable = readable);
        }
        Ok(())
    }

    fn ended(&self, ended: Result<(), Reason>) -> Result<(), Reason> {
        ended?;
        match self.size {
            Some(size) if self.written() < size => Err(Reason::Broken("the body ended early".to_owned())),
            _ => Ok(()),
        }
    }

    fn prove(self) -> Result<Disk, Reason> {
        let disk = self.disk.ok_or_else(|| Reason::Broken("the disk was lost".to_owned()))?;
        let digest = disk.hasher.clone().finish();
        if digest != self.fill.digest {
            return Err(Reason::Wrong(format!("the blob has digest {digest}, not {}", self.fill.digest)));
        }
        Ok(disk)
    }
}

async fn finished(
    writing: &mut Option<JoinHandle<io::Result<Disk>>>,
) -> Result<io::Result<Disk>, tokio::task::JoinError> {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}

fn tries() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(TRIES)
        .with_jitter()
        .build()
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

/// One client's cursor in a download.
pub struct Reader {
    fill: Arc<Fill>,
    progress: watch::Receiver<Progress>,
    at: u64,
    end: Option<u64>,
    _waiting: Waiting,
}

impl Reader {
    /// The next piece; `None` at the end. An error must cut the client's connection.
    ///
    /// # Errors
    /// When the download failed, or the disk cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.end.is_some_and(|end| self.at >= end) {
            return Ok(None);
        }
        let at = self.at;
        let ready = |p: &Progress| p.readable > at || matches!(p.phase, Phase::Proven | Phase::Failed(..));
        let readable = match self.progress.wait_for(ready).await {
            Err(_) => return Err(io::Error::other("the download was aborted")),
            Ok(progress) => match &progress.phase {
                Phase::Failed(_, reason) if progress.readable <= at => {
                    return Err(io::Error::other(reason.to_string()));
                }
                _ => progress.readable,
            },
        };
        let length = self.end.unwrap_or(u64::MAX).min(readable).saturating_sub(at).min(PIECE);
        let (Some(file), Ok(length @ 1..)) = (self.fill.file.get(), usize::try_from(length)) else {
            return Ok(None);
        };
        let bytes = read_file(file.clone(), at, length).await?;
        if bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }
}
