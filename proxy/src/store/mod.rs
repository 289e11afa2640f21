//! What is kept: blobs by digest, the rights to them, and what each tag was when it was last checked.
//!
//! Blobs are read from the local folder first, then from the object store where there is one. Records are small
//! objects; each can be lost without harm: a cache forgets, it never lies.

mod asking;
mod folder;
mod key;
mod memory;
mod object;
mod read;
mod record;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use config::{Instance, ObjectId, Storage};
use futures_util::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload};
use oci::{Digest, Tag};

pub use folder::{Folder, Full, Spool};
pub use key::{Holder, Key};
pub use read::read_file;
pub use record::TagRecord;

use asking::Asking;
use memory::Memory;

use crate::clock::Clock;
use crate::metrics::Metrics;

/// The store could not do it. Never "not there": that is `None`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("the store failed: {0}")]
    Objects(Arc<object_store::Error>),
    #[error("the local folder failed: {0}")]
    Folder(Arc<std::io::Error>),
    #[error("the store gave no answer in {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the store failed a moment ago")]
    Resting,
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Folder(Arc::new(error))
    }
}

/// A blob that is there.
pub enum Blob {
    Local { file: Arc<std::fs::File>, size: u64 },
    Remote { size: u64 },
}

impl Blob {
    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Local { size, .. } | Self::Remote { size } => *size,
        }
    }
}

/// The store of one instance.
pub struct Store {
    instance: ObjectId,
    folder: Arc<Folder>,
    /// Where records are; blobs too if it is shared.
    objects: Arc<dyn ObjectStore>,
    /// Whether `objects` holds blobs beside the local folder.
    shared: bool,
    asking: Asking,
    links: Memory<(Digest, Holder), Arc<str>>,
    tags: Memory<(Holder, Tag), Arc<TagRecord>>,
    metrics: Metrics,
    clock: Clock,
}

impl Store {
    /// Opens the store that the instance names; the local folder is under `data_dir` in any case.
    ///
    /// # Errors
    /// When the folder cannot be made, or the bucket's settings are unusable. That a bucket cannot be reached is no
    /// error here: pulls go on without it.
    pub fn open(
        instance: &Instance,
        data_dir: &std::path::Path,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, Error> {
        let blobs: PathBuf =
            data_dir.join(format!("{}.{}/v1/blobs", instance.id.namespace, instance.id.name));
        let folder = Folder::open(blobs, data_dir.join("spool"), instance.local_size_limit, metrics.clone())?;
        Self::over(folder, instance, data_dir, metrics, clock)
    }

    /// Opens the records of a store that another process is using; of its blobs nothing is seen and nothing touched.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn look_into(
        instance: &Instance,
        data_dir: &std::path::Path,
        empty: &std::path::Path,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, Error> {
        let folder = Folder::open(empty.join("blobs"), empty.join("spool"), u64::MAX, metrics.clone())?;
        Self::over(folder, instance, data_dir, metrics, clock)
    }

    fn over(
        folder: Folder,
        instance: &Instance,
        data_dir: &std::path::Path,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, Error> {
        let folder = Arc::new(folder);
        let (objects, shared): (Arc<dyn ObjectStore>, bool) = match &instance.storage {
            Storage::Folder => {
                (Arc::new(LocalFileSystem::new_with_prefix(data_dir).map_err(objects)?), false)
            }
            Storage::S3(s3) => (object::bucket(s3).map_err(objects)?, true),
        };
        Ok(Self {
            instance: instance.id.clone(),
            folder,
            objects,
            shared,
            asking: Asking::new(shared, metrics.clone(), clock.clone()),
            links: Memory::new(200_000, clock.clone()),
            tags: Memory::new(100_000, clock.clone()),
            metrics,
            clock,
        })
    }

    /// Begins a download in the local folder.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn spool(&self, expected: u64) -> Result<Spool, Full> {
        self.folder.spool(expected).inspect_err(|_| self.note_full())
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
        if let Some(media_type) = self.links.believed(&key) {
            return Ok(Some(media_type));
        }
        let read = self.read(&Key::Link(digest, holder)).await;
        // Its LastModified is the last read; once an hour is exact enough for a cleanup that counts days.
        if let Ok(Some((bytes, read_at))) = &read
            && crate::clock::since(self.clock.now(), *read_at) > Duration::from_secs(3600)
        {
            self.write(&Key::Link(digest, holder), bytes.clone()).await.ok();
        }
        let media_type = read.map(|read| read.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into()));
        self.links.learn(key, media_type)
    }

    /// Writes the right to a blob. It holds in memory at once, also where the store fails.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_link(&self, digest: &Digest, holder: &Holder, media_type: &str) -> Result<(), Error> {
        self.links.insert((*digest, holder.clone()), media_type.into());
        self.write(&Key::Link(digest, holder), Bytes::copy_from_slice(media_type.as_bytes())).await
    }

    /// The media type of a blob that this origin has delivered to anybody; `None` if it never did.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn delivered(&self, digest: &Digest, origin: &str) -> Result<Option<Arc<str>>, Error> {
        let prefix = Key::Links(digest, origin).path(&self.instance);
        let first = async { self.objects.list(Some(&prefix)).next().await.transpose().map_err(objects) };
        let Some(link) = self.asking.ask("list", first).await? else { return Ok(None) };
        let got = self.get(&link.location, GetOptions::default()).await?;
        Ok(got.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into()))
    }

    /// What a tag was when it was last checked.
    ///
    /// # Errors
    /// When the store cannot be read. A record that cannot be understood counts as lost.
    pub async fn tag(&self, holder: &Holder, tag: &Tag) -> Result<Option<Arc<TagRecord>>, Error> {
        let key = (holder.clone(), tag.clone());
        if let Some(record) = self.tags.believed(&key) {
            return Ok(Some(record));
        }
        let read = self.read(&Key::Tag(holder, tag)).await;
        let record = read.map(|read| serde_json::from_slice(&read?.0).ok().map(Arc::new));
        self.tags.learn(key, record)
    }

    /// Writes what a tag is now. `durable: false` keeps it in memory alone: a check that found nothing new.
    ///
    /// # Errors
    /// When the store cannot be written; in memory it holds all the same.
    pub async fn put_tag(
        &self,
        holder: &Holder,
        tag: &Tag,
        record: TagRecord,
        durable: bool,
    ) -> Result<(), Error> {
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        self.tags.insert((holder.clone(), tag.clone()), Arc::new(record));
        if durable { self.write(&Key::Tag(holder, tag), bytes.into()).await } else { Ok(()) }
    }

    /// Looks for a blob's bytes, whoever may have them.
    ///
    /// # Errors
    /// When folder or store cannot be read.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        if let Some((file, size)) = self.folder.blob(digest)? {
            return Ok(Some(Blob::Local { file, size }));
        }
        if !self.shared {
            return Ok(None);
        }
        let options = GetOptions { head: true, ..GetOptions::default() };
        let path = Key::Blob(digest).path(&self.instance);
        let found = async { absent_is_none(self.objects.get_opts(&path, options).await) };
        let found = self.asking.ask("head", found).await?;
        Ok(found.map(|result| Blob::Remote { size: result.meta.size }))
    }

    /// Reads a whole small blob, such as a manifest.
    ///
    /// # Errors
    /// When folder or store cannot be read.
    pub async fn bytes(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        if let Some((file, size)) = self.folder.blob(digest)? {
            let bytes = read_file(file, 0, usize::try_from(size).unwrap_or(usize::MAX)).await?;
            return Ok(Some(bytes));
        }
        if !self.shared {
            return Ok(None);
        }
        Ok(self.read(&Key::Blob(digest)).await?.map(|(bytes, _)| bytes))
    }

    /// Streams a part of a blob from the shared store.
    ///
    /// # Errors
    /// When the store cannot be read; later errors come in the stream.
    pub async fn stream(
        &self,
        digest: &Digest,
        range: std::ops::Range<u64>,
    ) -> Result<futures_util::stream::BoxStream<'static, object_store::Result<Bytes>>, Error> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let path = Key::Blob(digest).path(&self.instance);
        let got = async { self.objects.get_opts(&path, options).await.map_err(objects) };
        Ok(self.asking.ask("get", got).await?.into_stream())
    }

    /// Keeps proven bytes under their digest: in the shared store if there is one, and in the local folder.
    ///
    /// # Errors
    /// When the shared store, or the folder where there is none, did not take them. The folder's copy is kept even
    /// when the shared store fails.
    pub async fn keep(&self, spool: Spool, digest: Digest) -> Result<(), Error> {
        let uploaded = if self.shared { self.upload(&spool, &digest).await } else { Ok(()) };
        let started = Instant::now();
        let kept = tokio::task::spawn_blocking(move || spool.keep(&digest)).await;
        let kept = kept.map_err(std::io::Error::other).and_then(|result| result);
        self.metrics.store_operation("keep", kept.is_err(), started.elapsed());
        if !self.shared {
            kept?;
        }
        uploaded
    }

    /// Keeps proven bytes that are in memory, such as a manifest's.
    ///
    /// # Errors
    /// As for [`Self::keep`].
    pub async fn keep_bytes(&self, digest: Digest, bytes: Bytes) -> Result<(), Error> {
        let mut spool = match self.spool(bytes.len() as u64) {
            Ok(spool) => spool,
            Err(Full) if self.shared => return self.write(&Key::Blob(&digest), bytes).await,
            Err(full) => return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, full).into()),
        };
        let written = tokio::task::spawn_blocking(move || spool.append(0, &bytes).map(|()| spool)).await;
        self.keep(written.map_err(std::io::Error::other)??, digest).await
    }

    async fn upload(&self, spool: &Spool, digest: &Digest) -> Result<(), Error> {
        let path = Key::Blob(digest).path(&self.instance);
        let file = spool.reader();
        let size = file.metadata()?.len();
        self.asking.send(size, "put", object::upload(self.objects.as_ref(), &path, file)).await
    }

    async fn read(&self, key: &Key<'_>) -> Result<Option<(Bytes, jiff::Timestamp)>, Error> {
        self.get(&key.path(&self.instance), GetOptions::default()).await
    }

    async fn get(
        &self,
        path: &object_store::path::Path,
        options: GetOptions,
    ) -> Result<Option<(Bytes, jiff::Timestamp)>, Error> {
        let read = async {
            let Some(result) = absent_is_none(self.objects.get_opts(path, options).await)? else {
                return Ok(None);
            };
            let modified =
                jiff::Timestamp::from_second(result.meta.last_modified.timestamp()).unwrap_or_default();
            Ok(Some((result.bytes().await.map_err(objects)?, modified)))
        };
        self.asking.ask("get", read).await
    }

    async fn write(&self, key: &Key<'_>, bytes: Bytes) -> Result<(), Error> {
        let (path, size) = (key.path(&self.instance), bytes.len() as u64);
        let put = async { self.objects.put(&path, PutPayload::from_bytes(bytes)).await.map_err(objects) };
        self.asking.send(size, "put", put).await.map(drop)
    }
}

fn objects(error: object_store::Error) -> Error {
    Error::Objects(Arc::new(error))
}

fn absent_is_none<T>(result: object_store::Result<T>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(objects(error)),
    }
}
