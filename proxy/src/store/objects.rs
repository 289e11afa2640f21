//! Operations on the object store: each counted, each bounded in time, and none tried while the store is down.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    UpdateVersion,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::known::Seen;
use super::{Bytestream, Error, bucket, time};
use crate::clock::since;
use crate::metrics::Metrics;

/// A pull waits for a record no longer than this: better a request to upstream.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a store that failed is left alone.
const REST: Duration = Duration::from_secs(2);
/// The largest object that is read whole: a manifest or a record.
pub(super) const MAX_SMALL: u64 = oci::MAX_MANIFEST_BYTES as u64;
/// Uploads at once, which bounds their memory.
const UPLOADS: usize = 4;

/// An object store, with a memory of whether it works.
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    rests_until: Mutex<Option<Instant>>,
    seen: Mutex<Option<Seen>>,
    uploads: Semaphore,
    metrics: Metrics,
}

impl Objects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, metrics: Metrics) -> Self {
        Self {
            store,
            rests_until: Mutex::default(),
            seen: Mutex::default(),
            uploads: Semaphore::new(UPLOADS),
            metrics,
        }
    }

    /// The store itself, for work that nobody waits for: unhurried, and tried while the store rests.
    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// What the last operation said of the store as a whole.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen.lock().clone()
    }

    /// Reads a small object and when it was written; `None` if there is none, or it is none of ours because it is large.
    pub(super) async fn get(&self, path: &Path) -> Result<Option<(Bytes, Timestamp)>, Error> {
        self.attempt("get", async {
            let Some(result) = absent_is_none(self.store.get_opts(path, GetOptions::default()).await)? else {
                return Ok(None);
            };
            if result.meta.size > MAX_SMALL {
                return Ok(None);
            }
            let written = time(&result.meta);
            Ok(Some((result.bytes().await?, written)))
        })
        .await
    }

    /// Reads a small object that is in use: it is written again where that was longer ago than `precision`, for a cleanup
    /// goes by its LastModified.
    pub(super) async fn get_used(
        self: Arc<Self>,
        path: Path,
        precision: Duration,
        now: Timestamp,
        shared: bool,
    ) -> Result<Option<Bytes>, Error> {
        let Some((bytes, written)) = self.get(&path).await? else { return Ok(None) };
        if since(now, written) > precision {
            // Not one that was forgotten since it was read. A bucket is not waited for.
            let renewed = async move { self.renew(&path, shared).await.ok() };
            if shared {
                tokio::spawn(renewed);
            } else {
                renewed.await;
            }
        }
        Ok(Some(bytes))
    }

    /// The length of an object; `None` if there is none.
    pub(super) async fn head(&self, path: &Path) -> Result<Option<u64>, Error> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let head = async { absent_is_none(self.store.get_opts(path, options).await) };
        Ok(self.attempt("head", head).await?.map(|result: GetResult| result.meta.size))
    }

    /// Begins to read an object of any length: that, and its bytes, errors among them; `None` if there is none.
    pub(super) async fn open(&self, path: &Path) -> Result<Option<(u64, Bytestream)>, Error> {
        let got = async { absent_is_none(self.store.get_opts(path, GetOptions::default()).await) };
        let got = self.attempt("get", got).await?;
        Ok(got.map(|result: GetResult| (result.meta.size, result.into_stream())))
    }

    /// One object below a prefix, whichever comes first.
    pub(super) async fn any_below(&self, prefix: &Path) -> Result<Option<Path>, Error> {
        let first = async { self.store.list(Some(prefix)).next().await.transpose() };
        Ok(self.attempt("list", first).await?.map(|meta| meta.location))
    }

    /// All objects below a prefix of which there are few.
    pub(super) async fn below(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, Error> {
        self.attempt("list", async { self.store.list(Some(prefix)).try_collect().await }).await
    }

    pub(super) async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), Error> {
        let put = async { self.store.put(path, PutPayload::from_bytes(bytes)).await.map(drop) };
        self.attempt("put", put).await
    }

    /// Puts an object where none is, or, with a version, where that one still is. `false`: somebody else was first.
    pub(super) async fn put_if(
        &self,
        path: &Path,
        bytes: Bytes,
        version: Option<UpdateVersion>,
    ) -> Result<bool, Error> {
        let replaces = version.is_some();
        let mode = version.map_or(PutMode::Create, PutMode::Update);
        let put = async {
            match self.store.put_opts(path, PutPayload::from_bytes(bytes), mode.into()).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    Ok(false)
                }
                // Somebody took it away; where there was nothing, the bucket itself is missing.
                Err(object_store::Error::NotFound { .. }) if replaces => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.attempt("claim", put).await
    }

    /// Reads a small object and its version.
    pub(super) async fn get_version(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        self.attempt("get", async {
            let Some(result) = absent_is_none(self.store.get_opts(path, GetOptions::default()).await)? else {
                return Ok(None);
            };
            let meta = &result.meta;
            let version = UpdateVersion { e_tag: meta.e_tag.clone(), version: meta.version.clone() };
            Ok(Some((result.bytes().await?, version)))
        })
        .await
    }

    pub(super) async fn delete(&self, path: &Path) -> Result<(), Error> {
        let delete = async { absent_is_none(self.store.delete(path).await).map(drop) };
        self.attempt("delete", delete).await
    }

    /// Writes an object again as it is, unless somebody else writes it meanwhile; a folder has one writer only.
    pub(super) async fn renew(&self, path: &Path, shared: bool) -> Result<(), Error> {
        let renewed = async {
            let Some(result) = absent_is_none(self.store.get(path).await)? else { return Ok(()) };
            let version = UpdateVersion { e_tag: result.meta.e_tag.clone(), version: None };
            let mode = if shared { PutMode::Update(version) } else { PutMode::Overwrite };
            match self.store.put_opts(path, result.bytes().await?.into(), mode.into()).await {
                // Written or deleted by somebody else meanwhile.
                Ok(_)
                | Err(object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. }) => {
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        self.attempt("put", renewed).await
    }

    /// Streams a part of an object; errors after the beginning come in the stream.
    pub(super) async fn stream(&self, path: &Path, range: Range<u64>) -> Result<Bytestream, Error> {
        // Of nothing no range can be asked (RFC 9110 §14.1.2).
        if range.is_empty() {
            return Ok(futures_util::stream::empty().boxed());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let got = async { self.store.get_opts(path, options).await };
        Ok(self.attempt("get", got).await?.into_stream())
    }

    /// Uploads a whole file, however long it takes: nobody waits for it.
    pub(super) async fn upload(&self, path: &Path, file: Arc<File>) -> Result<(), Error> {
        let _turn = self.uploads.acquire().await;
        let started = Instant::now();
        self.may_be_asked()?;
        let uploaded = bucket::upload(self.store.as_ref(), path, file).await;
        self.metrics.store_operation("put", uploaded.is_err(), started.elapsed());
        if let Err(error @ Error::Objects(_)) = &uploaded {
            self.rest(error);
        }
        uploaded
    }

    async fn attempt<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Error> {
        self.may_be_asked()?;
        let started = Instant::now();
        let done = match tokio::time::timeout(PATIENCE, work).await {
            Ok(done) => done.map_err(Error::from),
            Err(_) => Err(Error::Slow(PATIENCE)),
        };
        self.metrics.store_operation(operation, done.is_err(), started.elapsed());
        match &done {
            Err(error) => self.rest(error),
            // A missing bucket, too, has none of the objects that are looked for.
            Ok(_) if matches!(operation, "get" | "head") => {}
            Ok(_) => *self.seen.lock() = Some(Seen::now(Ok(()))),
        }
        done
    }

    fn may_be_asked(&self) -> Result<(), Error> {
        let resting = self.rests_until.lock().is_some_and(|until| Instant::now() < until);
        if resting { Err(Error::Resting) } else { Ok(()) }
    }

    fn rest(&self, error: &Error) {
        *self.seen.lock() = Some(Seen::now(Err(error.clone())));
        *self.rests_until.lock() = Some(Instant::now() + REST);
    }
}

pub(super) fn absent_is_none<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
