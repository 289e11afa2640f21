//! What is kept: blobs by digest, the rights to them, and what each tag was when it was last checked.
//!
//! Blobs are read from the local folder first, then from the object store where there is one. Records are small
//! objects; each can be lost without harm: a cache forgets, it never lies.

mod blob;
mod bucket;
mod claim;
mod error;
mod folder;
mod key;
mod known;
mod listing;
mod memory;
mod objects;
mod proven;
mod purge;
mod read;
mod record;
mod replicas;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
mod upstreams;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use config::{Instance, ObjectId, Storage};
use futures_util::future::join_all;
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::{ObjectMeta, ObjectStore};
use oci::{Digest, Tag};

pub use blob::{Blob, Bytestream, Remote};
pub use claim::{Claim, Claimed, RENEWED};
pub use error::Error;
use folder::Folder;
pub use folder::{Full, Spool};
pub use key::{GroupOrigin, Holder, Key, Stretch};
pub use known::Known;
pub use listing::{Entries, Entry, Link, StoredBlob};
use memory::Memory;
use objects::Objects;
pub use purge::{Crowded, Purge, Purged, What};
pub use read::{FileReader, read_file};
pub use record::TagRecord;
pub use upstreams::{UpstreamRecords, Version};

use crate::clock::Clock;
use crate::metrics::Metrics;

/// A right or a tag that is used is written again at most this often, to say so.
pub const USE_PRECISION: Duration = Duration::from_secs(3600);
/// An idle store is asked this often whether it works.
const PROBE_AFTER: Duration = Duration::from_secs(30);

/// What is opened at the start: the right and the bytes of two layers are read at once.
const CONNECTIONS: usize = 4;

/// When an object was last written, by the store's clock.
fn time(meta: &ObjectMeta) -> Timestamp {
    Timestamp::from_millisecond(meta.last_modified.timestamp_millis()).unwrap_or_default()
}

/// The store of one instance.
pub struct Store {
    instance: ObjectId,
    folder: Arc<Folder>,
    /// Where records are; blobs too if it is shared.
    objects: Arc<Objects>,
    /// Whether `objects` holds blobs beside the local folder.
    shared: bool,
    links: Memory<(Digest, Holder), Arc<str>>,
    tags: Memory<(Holder, Tag), Arc<TagRecord>>,
    purges: parking_lot::Mutex<purge::Waiting>,
    metrics: Metrics,
    clock: Clock,
}

impl Store {
    /// Opens the store that the instance names; the local folder is under `data_dir` in any case.
    ///
    /// # Errors
    /// When the folder cannot be made, or the bucket's settings are unusable. That a bucket cannot be reached is no
    /// error here: pulls go on without it.
    pub fn open(instance: &Instance, data_dir: &Path, metrics: Metrics, clock: Clock) -> Result<Self, Error> {
        let blobs: PathBuf = data_dir.join(format!("{}/v1/blobs", instance.id.dotted()));
        let folder = Folder::open(blobs, data_dir.join("spool"), instance.local_size_limit, metrics.clone())?;
        Self::over(folder, instance, data_dir, metrics, clock)
    }

    /// Opens the records of a store that another process is using; of its blobs nothing is seen and nothing touched.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn look_into(
        instance: &Instance,
        data_dir: &Path,
        empty: &Path,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, Error> {
        let folder = Folder::open(empty.join("blobs"), empty.join("spool"), u64::MAX, metrics.clone())?;
        Self::over(folder, instance, data_dir, metrics, clock)
    }

    fn over(
        folder: Folder,
        instance: &Instance,
        data_dir: &Path,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, Error> {
        let (store, shared): (Arc<dyn ObjectStore>, bool) = match &instance.storage {
            // With a record goes the folder that it was the last one in.
            Storage::Folder => {
                (Arc::new(LocalFileSystem::new_with_prefix(data_dir)?.with_automatic_cleanup(true)), false)
            }
            Storage::S3(s3) => (bucket::connect(s3)?, true),
        };
        Ok(Self::new(folder, instance, store, shared, metrics, clock))
    }

    fn new(
        folder: Folder,
        instance: &Instance,
        store: Arc<dyn ObjectStore>,
        shared: bool,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self {
            instance: instance.id.clone(),
            folder: Arc::new(folder),
            objects: Arc::new(Objects::new(store, metrics.clone())),
            shared,
            links: Memory::new(200_000, clock.clone()),
            tags: Memory::new(100_000, clock.clone()),
            purges: parking_lot::Mutex::default(),
            metrics,
            clock,
        }
    }

    /// What the store was last seen to be; asks nothing.
    #[must_use]
    pub fn known(&self) -> Known {
        self.objects.seen().into()
    }

    /// Asks the store whether it works, unless something did a moment ago.
    pub async fn probe(&self) {
        if self.objects.seen().is_none_or(|seen| seen.age() >= PROBE_AFTER) {
            // Nothing is below it: the answer is short.
            self.objects.any_below(&Key::Probe.path(&self.instance)).await.ok();
        }
    }

    /// Opens connections to the shared store, for who asks it for several things at once.
    pub async fn connect(&self) {
        if self.shared {
            let path = Key::Probe.path(&self.instance);
            join_all((0..CONNECTIONS).map(|_| self.objects.any_below(&path))).await;
        }
    }

    /// Whether the local folder can take a blob of that size now.
    #[must_use]
    pub fn has_room(&self, size: u64) -> bool {
        self.folder.has_room(size)
    }

    /// Begins a download in the local folder.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn spool(&self, stated: Option<u64>) -> Result<Spool, Full> {
        self.folder.spool(stated).inspect_err(|_| self.note_full())
    }

    /// Counts a download that the folder did not take.
    pub fn note_full(&self) {
        self.metrics.store_operation("spool", true, Duration::ZERO);
    }

    /// The media type that is kept with this holder's right to a blob; `None` where there is no right.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn link(&self, digest: &Digest, holder: &Holder) -> Result<Option<Arc<str>>, Error> {
        let key = (*digest, holder.clone());
        if let Some(media_type) = self.links.get(&key) {
            return Ok(Some(media_type));
        }
        let path = Key::Link(digest, holder).path(&self.instance);
        let read = self.objects.clone().get_used(path, USE_PRECISION, self.clock.now(), self.shared);
        let media_type = |bytes: Bytes| String::from_utf8_lossy(&bytes).into();
        self.links.recall(key, async move { Ok(read.await?.map(media_type)) }).await
    }

    /// Whether this process wrote or read that right a moment ago; asks no store.
    #[must_use]
    pub fn remembers_link(&self, digest: &Digest, holder: &Holder) -> bool {
        self.links.get(&(*digest, holder.clone())).is_some()
    }

    /// Takes note of a right to a blob that another replica writes.
    pub fn remember_link(&self, digest: &Digest, holder: &Holder, media_type: &str) {
        self.links.insert((*digest, holder.clone()), media_type.into());
    }

    /// Writes the right to a blob. It holds in memory at once, also where the store fails.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_link(&self, digest: &Digest, holder: &Holder, media_type: &str) -> Result<(), Error> {
        self.remember_link(digest, holder, media_type);
        self.write(&Key::Link(digest, holder), Bytes::copy_from_slice(media_type.as_bytes())).await
    }

    /// The media type of a blob that this origin has delivered to anybody; `None` if it never did.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn delivered(&self, digest: &Digest, origin: &str) -> Result<Option<Arc<str>>, Error> {
        let prefix = Key::Links(digest, origin).path(&self.instance);
        let Some(link) = self.objects.any_below(&prefix).await? else { return Ok(None) };
        let got = self.objects.get(&link).await?;
        Ok(got.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into()))
    }

    /// Keeps proven bytes under their digest: in the shared store if there is one, and in the local folder.
    ///
    /// # Errors
    /// When the shared store, or the folder where there is none, did not take them. The folder's copy is kept even
    /// when the shared store fails.
    pub async fn keep(&self, spool: Spool, digest: Digest) -> Result<(), Error> {
        let uploaded = if self.shared {
            self.objects.upload(&Key::Blob(&digest).path(&self.instance), spool.reader()).await
        } else {
            Ok(())
        };
        let kept = self.keep_copy(spool, digest).await;
        if !self.shared {
            kept?;
        }
        uploaded
    }

    /// Keeps proven bytes in the local folder alone: another replica puts them into the shared store.
    ///
    /// # Errors
    /// When the folder did not take them.
    pub async fn keep_copy(&self, spool: Spool, digest: Digest) -> Result<(), Error> {
        let started = Instant::now();
        let kept = tokio::task::spawn_blocking(move || spool.keep(&digest)).await;
        let kept = kept.map_err(std::io::Error::other).and_then(|result| result);
        self.metrics.store_operation("keep", kept.is_err(), started.elapsed());
        Ok(kept?)
    }

    /// Keeps proven bytes that are in memory, such as a manifest's.
    ///
    /// # Errors
    /// As for [`Self::keep`].
    pub async fn keep_bytes(&self, digest: Digest, bytes: Bytes) -> Result<(), Error> {
        let mut spool = match self.spool(Some(bytes.len() as u64)) {
            Ok(spool) => spool,
            Err(Full) if self.shared => return self.write(&Key::Blob(&digest), bytes).await,
            Err(full) => return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, full).into()),
        };
        let written = tokio::task::spawn_blocking(move || spool.append(0, &bytes).map(|()| spool)).await;
        self.keep(written.map_err(std::io::Error::other)??, digest).await
    }

    async fn read(&self, key: &Key<'_>) -> Result<Option<(Bytes, jiff::Timestamp)>, Error> {
        self.objects.get(&key.path(&self.instance)).await
    }

    async fn write(&self, key: &Key<'_>, bytes: Bytes) -> Result<(), Error> {
        self.objects.put(&key.path(&self.instance), bytes).await
    }
}
