//! The writing half of a fill: from upstream to the spool, or through the window, hashed on the way.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures_util::TryStreamExt;
use oci::Hasher;
use tokio::task::JoinHandle;

use super::window::Abandoned;
use super::{Fill, Phase};
use crate::cache::Asker;
use crate::replica::{FillBody, Gone};
use crate::store::{Bytestream, Spool, Store};
use crate::upstream::{BlobBody, Class, Reason};

/// Tries without a new byte before an account counts as exhausted.
const TRIES: usize = 4;
/// Bytes that wait for the disk while it is writing.
const PENDING: usize = 1024 * 1024;
/// How long a download in progress waits for an upstream that rests.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// The largest blob that is taken without a stated length: an endless body must not empty the folder.
const MAX_UNSTATED: u64 = 5 * 1024 * 1024 * 1024;

/// A blob that has its digest.
pub(super) struct Proven {
    pub size: u64,
    /// `None` if it passed through.
    pub spool: Option<Spool>,
}

/// Bytes on their way here.
pub(super) enum Incoming {
    Upstream(BlobBody),
    /// What the bucket has.
    Stored {
        bytes: Bytestream,
        size: u64,
    },
    /// Another replica's download.
    Replica(FillBody),
}

impl Incoming {
    fn size(&self) -> Option<u64> {
        match self {
            Self::Upstream(body) => body.size,
            Self::Replica(body) => body.size,
            Self::Stored { size, .. } => Some(*size),
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        match self {
            Self::Upstream(body) => body.next().await,
            Self::Stored { bytes, .. } => {
                let next = bytes.try_next().await;
                next.map_err(|_| Reason::Broken("the bucket's answer broke off".to_owned()))
            }
            Self::Replica(body) => {
                body.next().await.map_err(|Gone| Reason::Broken("the other replica is gone".to_owned()))
            }
        }
    }
}

/// A blob that comes in, from wherever.
pub(super) struct Download<'a> {
    fill: &'a Fill,
    store: &'a Arc<Store>,
    size: Option<u64>,
    /// Upstream has answered 2xx to the account that began.
    is_answered: bool,
    /// Bytes that came in.
    bytes: u64,
    /// Over the bytes that came in; `None` while a batch is being hashed.
    hasher: Option<Hasher>,
    sink: Sink,
}

enum Sink {
    /// Nothing has come yet.
    Fresh,
    /// `None` while a batch is being written.
    Disk(Option<Spool>),
    /// The folder is full: what comes is held for readers, and kept nowhere.
    Window,
}

/// A batch that was given to the disk, and hashed meanwhile.
struct Batch {
    spool: Spool,
    hasher: Hasher,
    /// Bytes in the file.
    written: u64,
    refused: Option<io::Error>,
}

impl<'a> Download<'a> {
    pub(super) fn new(fill: &'a Fill, store: &'a Arc<Store>) -> Self {
        let hasher = Some(Hasher::new(fill.digest.algorithm()));
        Self { fill, store, size: None, is_answered: false, bytes: 0, hasher, sink: Sink::Fresh }
    }
}

impl Download<'_> {
    /// Bytes that have come in.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether upstream has said yes to the account that began, or another replica for it.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Downloads with one waiter's account after the other, each going on where the one before stopped.
    pub(super) async fn fetch(mut self) -> Result<Proven, (Asker, Reason)> {
        let mut account = 0;
        loop {
            let asker = self.fill.waiters.lock()[account].clone();
            let reason = match self.with(&asker).await {
                Ok(()) => return self.prove().map_err(|reason| (asker, reason)),
                Err(reason) => reason,
            };
            account += 1;
            // An account to which upstream never said yes has shown nothing: the others ask for themselves. One that
            // is exhausted or was refused midway is followed by the next, which has shown its right by a HEAD.
            let shown = self.is_answered && reason.class() != Class::Wrong;
            if !shown || account >= self.fill.waiters.lock().len() {
                return Err((asker, reason));
            }
        }
    }

    /// Downloads what is missing with one account, trying again as long as bytes come.
    async fn with(&mut self, asker: &Asker) -> Result<(), Reason> {
        let Asker { holder, client } = asker;
        let mut waits = tries();
        let mut failure = None;
        loop {
            let before = self.bytes;
            let reason = match client.blob(&holder.repository, &self.fill.digest, before).await {
                Ok(body) => match self.copy(Incoming::Upstream(body)).await {
                    Ok(()) => return Ok(()),
                    Err(reason) => reason,
                },
                Err(error) => error.reason,
            };
            // The upstream rests because of others' failures: a download that has begun waits for it.
            if let Reason::Resting(left) = reason
                && before > 0
                && left <= LONGEST_REST
            {
                tokio::time::sleep(left).await;
                continue;
            }
            if !reason.is_transient() {
                // That it rests now is because it failed before.
                return Err(failure.filter(|_| matches!(reason, Reason::Resting(_))).unwrap_or(reason));
            }
            if self.bytes > before {
                waits = tries();
            }
            let Some(wait) = waits.next() else { return Err(reason) };
            let (digest, at) = (&self.fill.digest, self.bytes);
            tracing::info!(%digest, %reason, at, "the download broke off; going on from there");
            failure = Some(reason);
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes a body in to its end, from where the download stands.
    pub(super) async fn copy(&mut self, mut body: Incoming) -> Result<(), Reason> {
        self.begin(body.size())?;
        if matches!(self.sink, Sink::Disk(_)) && self.spool_body(&mut body).await? {
            return self.ended();
        }
        while let Some(chunk) = body.next().await? {
            self.pass(chunk).await?;
        }
        self.ended()
    }

    /// Takes note of what upstream says about the length, and makes the spool file.
    fn begin(&mut self, stated: Option<u64>) -> Result<(), Reason> {
        self.is_answered = true;
        match (self.size, stated) {
            (Some(size), Some(stated)) if size != stated => {
                return Err(Reason::Wrong(format!("the blob had {size} bytes before and has {stated} now")));
            }
            (None, Some(_)) => self.size = stated,
            _ => {}
        }
        if matches!(self.sink, Sink::Fresh) {
            // Room is taken as bytes come: what an upstream states costs nobody else's blobs.
            match self.store.spool(self.size) {
                Ok(spool) => {
                    self.fill.file.set(spool.reader()).ok();
                    self.sink = Sink::Disk(Some(spool));
                }
                Err(_) => self.pass_through(),
            }
        }
        let size = self.size;
        self.fill.progress.send_modify(|progress| {
            progress.phase = Phase::Filling;
            progress.size = size;
        });
        Ok(())
    }

    /// From here on nothing is kept.
    fn pass_through(&mut self) {
        tracing::warn!(digest = %self.fill.digest, "the local folder is full: the blob passes through and is not kept");
        self.sink = Sink::Window;
    }

    /// Copies a body to the disk: readers have each chunk at once, and while a batch is being written and hashed the
    /// next one comes in. `false` if the disk takes no more.
    async fn spool_body(&mut self, body: &mut Incoming) -> Result<bool, Reason> {
        let mut pending: Vec<Bytes> = Vec::new();
        let mut pending_bytes = 0;
        let mut writing: Option<JoinHandle<Option<Batch>>> = None;
        let mut ended = None;
        loop {
            if writing.is_none() && !pending.is_empty() {
                writing = self.write(std::mem::take(&mut pending));
                pending_bytes = 0;
            }
            if writing.is_none()
                && let Some(ended) = ended.take()
            {
                return match ended {
                    Ok(()) => Ok(true),
                    Err(reason) => Err(reason),
                };
            }
            tokio::select! {
                biased;
                batch = finished(&mut writing) => {
                    writing = None;
                    if !self.written(batch.ok().flatten())? {
                        self.pass_through();
                        self.hash(pending).await?;
                        return ended.unwrap_or(Ok(())).map(|()| false);
                    }
                }
                chunk = body.next(), if ended.is_none() && pending_bytes < PENDING => match chunk {
                    Ok(Some(chunk)) => {
                        pending_bytes += chunk.len();
                        pending.push(chunk.clone());
                        let shown = self.came(&chunk)?;
                        self.fill.window.add(chunk);
                        self.show(shown);
                    }
                    Ok(None) => ended = Some(Ok(())),
                    Err(reason) => ended = Some(Err(reason)),
                },
            }
        }
    }

    /// Counts a chunk; how far readers may read with it.
    fn came(&mut self, chunk: &Bytes) -> Result<u64, Reason> {
        *self.fill.moved.lock() = Instant::now();
        let before = self.bytes;
        self.bytes += chunk.len() as u64;
        self.shown(self.bytes, before)
    }

    fn show(&self, shown: u64) {
        self.fill.progress.send_if_modified(|progress| {
            let more = shown > progress.readable;
            progress.readable = shown.max(progress.readable);
            more
        });
    }

    /// Writes a batch and hashes it at the same time.
    fn write(&mut self, chunks: Vec<Bytes>) -> Option<JoinHandle<Option<Batch>>> {
        let Sink::Disk(spool) = &mut self.sink else { return None };
        let (mut spool, hasher) = (spool.take()?, self.hasher.take()?);
        let hashing = tokio::task::spawn_blocking({
            let chunks = chunks.clone();
            move || hashed(hasher, &chunks)
        });
        let mut written = self.fill.progress.borrow().spooled;
        let writing = tokio::task::spawn_blocking(move || {
            for chunk in chunks {
                if let Err(error) = spool.append(written, &chunk) {
                    return (spool, written, Some(error));
                }
                written += chunk.len() as u64;
            }
            (spool, written, None)
        });
        Some(tokio::spawn(async move {
            let ((spool, written, refused), hasher) = (writing.await.ok()?, hashing.await.ok()?);
            Some(Batch { spool, hasher, written, refused })
        }))
    }

    /// Takes note of what is in the file now. `false` if the disk refused a part.
    fn written(&mut self, batch: Option<Batch>) -> Result<bool, Reason> {
        let batch = batch.ok_or_else(lost)?;
        self.hasher = Some(batch.hasher);
        self.sink = Sink::Disk(Some(batch.spool));
        self.fill.progress.send_modify(|progress| progress.spooled = batch.written);
        self.fill.window.spooled(batch.written);
        let Some(error) = batch.refused else { return Ok(true) };
        tracing::warn!(%error, digest = %self.fill.digest, "the local folder does not take more");
        self.store.note_full();
        Ok(false)
    }

    async fn hash(&mut self, chunks: Vec<Bytes>) -> Result<(), Reason> {
        let hasher = self.hasher.take().ok_or_else(lost)?;
        let hashing = tokio::task::spawn_blocking(move || hashed(hasher, &chunks)).await;
        self.hasher = Some(hashing.map_err(|_| lost())?);
        Ok(())
    }

    /// Lets a chunk pass through the window.
    async fn pass(&mut self, chunk: Bytes) -> Result<(), Reason> {
        let shown = self.came(&chunk)?;
        let pushed = self.fill.window.push(chunk.clone()).await;
        pushed.map_err(|Abandoned| Reason::Abandoned)?;
        self.show(shown);
        self.hash(vec![chunk]).await
    }

    /// How far readers may read when so many bytes are here: never to the end before the digest is proven. Any byte
    /// of unstated length may be the last one: the newest chunk is kept back.
    fn shown(&self, bytes: u64, unstated: u64) -> Result<u64, Reason> {
        match self.size {
            Some(size) if bytes > size => Err(Reason::Wrong("more bytes than stated".to_owned())),
            Some(size) if bytes == size => Ok(0),
            Some(_) => Ok(bytes),
            None if bytes > MAX_UNSTATED => Err(Reason::Wrong("a body without end".to_owned())),
            None => Ok(unstated),
        }
    }

    fn ended(&self) -> Result<(), Reason> {
        match self.size {
            Some(size) if self.bytes < size => Err(Reason::Broken("the body ended early".to_owned())),
            _ => Ok(()),
        }
    }

    pub(super) fn prove(self) -> Result<Proven, Reason> {
        let digest = self.hasher.ok_or_else(lost)?.finish();
        if digest != self.fill.digest {
            return Err(Reason::Wrong(format!("the blob has digest {digest}, not {}", self.fill.digest)));
        }
        let spool = if let Sink::Disk(spool) = self.sink { Some(spool.ok_or_else(lost)?) } else { None };
        Ok(Proven { size: self.bytes, spool })
    }
}

fn hashed(mut hasher: Hasher, chunks: &[Bytes]) -> Hasher {
    for chunk in chunks {
        hasher.update(chunk);
    }
    hasher
}

fn lost() -> Reason {
    Reason::Wrong("the disk's thread ended".to_owned())
}

async fn finished(
    writing: &mut Option<JoinHandle<Option<Batch>>>,
) -> Result<Option<Batch>, tokio::task::JoinError> {
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
