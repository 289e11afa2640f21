//! The writing half of a fill: from upstream to the spool, or through the window, hashed on the way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use oci::Hasher;
use tokio::task::JoinHandle;

use super::window::Abandoned;
use super::{Fill, Phase};
use crate::store::{Holder, Spool, Store};
use crate::upstream::{BlobBody, Class, Client, Reason};

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

struct Download<'a> {
    fill: &'a Fill,
    store: &'a Arc<Store>,
    size: Option<u64>,
    /// Upstream has answered 2xx to the account that began.
    is_answered: bool,
    /// `None` while a batch is being written.
    came: Option<Came>,
    sink: Sink,
}

/// What has come in so far.
struct Came {
    hasher: Hasher,
    bytes: u64,
}

enum Sink {
    /// Nothing has come yet.
    Fresh,
    /// `None` while a batch is being written.
    Disk(Option<Spool>),
    Window,
}

/// A batch that was given to the disk.
struct Batch {
    spool: Spool,
    came: Came,
    /// What did not fit, if the disk refused.
    refused: Option<(io::Error, Vec<Bytes>)>,
}

impl Fill {
    /// Downloads with one waiter's account after the other, each going on where the one before stopped.
    pub(super) async fn download(&self, store: &Arc<Store>) -> Result<Proven, (Holder, Reason)> {
        let hasher = Hasher::new(self.digest.algorithm());
        let came = Some(Came { hasher, bytes: 0 });
        let mut download =
            Download { fill: self, store, size: None, is_answered: false, came, sink: Sink::Fresh };
        let mut account = 0;
        loop {
            let (holder, client) = self.waiters.lock()[account].clone();
            let reason = match download.with(&client, &holder).await {
                Ok(()) => return download.prove().map_err(|reason| (holder, reason)),
                Err(reason) => reason,
            };
            account += 1;
            // Where upstream says no to one account, or nothing at all, the others ask for themselves: what another
            // account brings is for those who have shown their right.
            let shown = download.is_answered && reason.class() == Class::Outage;
            if !shown || account >= self.waiters.lock().len() {
                return Err((holder, reason));
            }
        }
    }
}

impl Download<'_> {
    fn bytes(&self) -> u64 {
        self.came.as_ref().map_or(0, |came| came.bytes)
    }

    /// Downloads what is missing with one account, trying again as long as bytes come.
    async fn with(&mut self, client: &Client, holder: &Holder) -> Result<(), Reason> {
        let mut waits = tries();
        let mut failure = None;
        loop {
            let before = self.bytes();
            let reason = match client.blob(&holder.repository, &self.fill.digest, before).await {
                Ok(body) => match self.copy(body).await {
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
            if self.bytes() > before {
                waits = tries();
            }
            let Some(wait) = waits.next() else { return Err(reason) };
            let (digest, at) = (&self.fill.digest, self.bytes());
            tracing::info!(%digest, %reason, at, "the download broke off; going on from there");
            failure = Some(reason);
            tokio::time::sleep(wait).await;
        }
    }

    async fn copy(&mut self, mut body: BlobBody) -> Result<(), Reason> {
        self.begin(body.size)?;
        if matches!(self.sink, Sink::Disk(_)) {
            let Some(unwritten) = self.spool_body(&mut body).await? else { return self.ended() };
            self.pass_through();
            for chunk in unwritten {
                self.pass(chunk).await?;
            }
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
        self.fill.window.begin(self.bytes());
        self.sink = Sink::Window;
    }

    /// Copies a body to the disk: while a batch is being written the next one comes in. `Some` are the bytes that
    /// the disk did not take.
    async fn spool_body(&mut self, body: &mut BlobBody) -> Result<Option<Vec<Bytes>>, Reason> {
        let mut pending: Vec<Bytes> = Vec::new();
        let mut pending_bytes = 0;
        let mut writing: Option<JoinHandle<Batch>> = None;
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
                    Ok(()) => Ok(None),
                    Err(reason) => Err(reason),
                };
            }
            tokio::select! {
                biased;
                batch = finished(&mut writing) => {
                    writing = None;
                    if let Some(mut refused) = self.written(batch)? {
                        refused.append(&mut pending);
                        return Ok(Some(refused));
                    }
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

    fn write(&mut self, chunks: Vec<Bytes>) -> Option<JoinHandle<Batch>> {
        let Sink::Disk(spool) = &mut self.sink else { return None };
        let (spool, came) = (spool.take()?, self.came.take()?);
        Some(tokio::task::spawn_blocking(move || Batch::write(spool, came, chunks)))
    }

    /// Shows readers what was written. `Some` is what the disk refused.
    fn written(
        &mut self,
        batch: Result<Batch, tokio::task::JoinError>,
    ) -> Result<Option<Vec<Bytes>>, Reason> {
        let batch = batch.map_err(|_| lost())?;
        let bytes = batch.came.bytes;
        self.came = Some(batch.came);
        self.sink = Sink::Disk(Some(batch.spool));
        let before = self.fill.progress.borrow().readable;
        // Any byte of unstated length may be the last one: the newest batch is kept back.
        let shown = self.shown(bytes, bytes.saturating_sub(PENDING as u64).max(before))?;
        self.fill.progress.send_modify(|progress| {
            progress.readable = shown.max(before);
            progress.spooled = bytes;
        });
        let refused = batch.refused.map(|(error, chunks)| {
            tracing::warn!(%error, digest = %self.fill.digest, "the local folder does not take more");
            self.store.note_full();
            chunks
        });
        Ok(refused)
    }

    /// Lets a chunk pass through the window.
    async fn pass(&mut self, chunk: Bytes) -> Result<(), Reason> {
        let Some(before) = self.came.as_ref().map(|came| came.bytes) else { return Err(lost()) };
        let bytes = before + chunk.len() as u64;
        let shown = self.shown(bytes, before)?;
        let pushed = self.fill.window.push(chunk.clone()).await;
        pushed.map_err(|Abandoned| Reason::Wrong("nobody reads what is not kept".to_owned()))?;
        if let Some(came) = &mut self.came {
            came.hasher.update(&chunk);
            came.bytes = bytes;
        }
        self.fill.progress.send_modify(|progress| progress.readable = shown.max(progress.readable));
        Ok(())
    }

    /// How far readers may read when so many bytes are here: never to the end before the digest is proven.
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
            Some(size) if self.bytes() < size => Err(Reason::Broken("the body ended early".to_owned())),
            _ => Ok(()),
        }
    }

    fn prove(self) -> Result<Proven, Reason> {
        let came = self.came.ok_or_else(lost)?;
        let digest = came.hasher.finish();
        if digest != self.fill.digest {
            return Err(Reason::Wrong(format!("the blob has digest {digest}, not {}", self.fill.digest)));
        }
        let spool = if let Sink::Disk(spool) = self.sink { Some(spool.ok_or_else(lost)?) } else { None };
        Ok(Proven { size: came.bytes, spool })
    }
}

impl Batch {
    /// Writes and hashes; blocks.
    fn write(mut spool: Spool, mut came: Came, chunks: Vec<Bytes>) -> Self {
        let mut chunks = chunks.into_iter();
        while let Some(chunk) = chunks.next() {
            if let Err(error) = spool.append(came.bytes, &chunk) {
                let refused = std::iter::once(chunk).chain(chunks).collect();
                return Self { spool, came, refused: Some((error, refused)) };
            }
            came.hasher.update(&chunk);
            came.bytes += chunk.len() as u64;
        }
        Self { spool, came, refused: None }
    }
}

fn lost() -> Reason {
    Reason::Wrong("the disk's thread ended".to_owned())
}

async fn finished(writing: &mut Option<JoinHandle<Batch>>) -> Result<Batch, tokio::task::JoinError> {
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
