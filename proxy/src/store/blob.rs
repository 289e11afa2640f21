//! Blobs: from the local folder, else from the shared store where there is one. Whose they are is not asked here.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use oci::Digest;
use parking_lot::Mutex;

use super::objects::MAX_SMALL;
use super::{Error, Key, Store, read_file};

/// A blob that is there.
#[derive(Clone)]
pub enum Blob {
    Local { file: Arc<std::fs::File>, size: u64 },
    Remote(Remote),
}

/// Bytes as the shared store gives them.
pub type Bytestream = BoxStream<'static, object_store::Result<Bytes>>;

/// A blob in the shared store.
#[derive(Clone)]
pub struct Remote {
    pub size: u64,
    /// All of it on its way already, where it was asked for at once: for whoever takes it first.
    opened: Arc<Mutex<Option<Bytestream>>>,
}

impl Blob {
    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Local { size, .. } | Self::Remote(Remote { size, .. }) => *size,
        }
    }
}

impl Store {
    /// Looks for a blob's bytes, whoever may have them.
    ///
    /// # Errors
    /// When folder or store cannot be read.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        if let Some(copy) = self.copy(digest)? {
            return Ok(Some(copy));
        }
        if !self.shared {
            return Ok(None);
        }
        let size = self.objects.head(&Key::Blob(digest).path(&self.instance)).await?;
        Ok(size.map(|size| Blob::Remote(Remote { size, opened: Arc::default() })))
    }

    /// The same for who wants all of it: what the shared store has is on its way with the answer.
    ///
    /// # Errors
    /// As for [`Self::blob`].
    pub async fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        if let Some(copy) = self.copy(digest)? {
            return Ok(Some(copy));
        }
        if !self.shared {
            return Ok(None);
        }
        let opened = self.objects.open(&Key::Blob(digest).path(&self.instance)).await?;
        let remote = |(size, bytes)| Remote { size, opened: Arc::new(Some(bytes).into()) };
        Ok(opened.map(|opened| Blob::Remote(remote(opened))))
    }

    /// The blob in the local folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn copy(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        Ok(self.folder.blob(digest)?.map(|(file, size)| Blob::Local { file, size }))
    }

    /// Reads a whole small blob, such as a manifest; `None` also for what is too large to be one.
    ///
    /// # Errors
    /// When folder or store cannot be read.
    pub async fn bytes(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        if let Some((file, size)) = self.folder.blob(digest)? {
            let Some(length) = usize::try_from(size).ok().filter(|_| size <= MAX_SMALL) else {
                return Ok(None);
            };
            return Ok(Some(read_file(file, 0, length).await?));
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
    pub async fn stream(&self, digest: &Digest, range: Range<u64>) -> Result<Bytestream, Error> {
        self.objects.stream(&Key::Blob(digest).path(&self.instance), range).await
    }

    /// Streams all of a blob from the shared store.
    ///
    /// # Errors
    /// As for [`Self::stream`].
    pub async fn stream_whole(&self, digest: &Digest, blob: &Remote) -> Result<Bytestream, Error> {
        let opened = blob.opened.lock().take();
        match opened {
            Some(bytes) => Ok(bytes),
            None => self.stream(digest, 0..blob.size).await,
        }
    }
}
