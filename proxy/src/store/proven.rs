//! Blobs of the bucket that come into no folder, proven on their way.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use futures_util::{Stream, StreamExt};
use oci::{Digest, Hasher};

use super::{Bytestream, Error, Remote, Store};

/// A blob on its way.
struct Proof {
    store: Arc<Store>,
    digest: Digest,
    bytes: Bytestream,
    /// `None` when all has come.
    hasher: Option<Hasher>,
    /// The newest piece, which may be the last one.
    held: Option<Bytes>,
}

impl Store {
    /// Streams a whole blob from the shared store. Its last piece comes when all of it has its digest; otherwise the
    /// stream ends with an error instead, and the blob is deleted, as in design §4.1.
    ///
    /// # Errors
    /// When the store cannot be read; later errors come in the stream.
    pub async fn stream_proven(
        self: &Arc<Self>,
        digest: Digest,
        blob: &Remote,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static, Error> {
        let bytes = self.stream_whole(&digest, blob).await?;
        let hasher = Some(Hasher::new(digest.algorithm()));
        let proof = Proof { store: self.clone(), digest, bytes, hasher, held: None };
        Ok(stream::try_unfold(proof, |mut proof| async move {
            Ok(proof.next().await?.map(|piece| (piece, proof)))
        }))
    }
}

impl Proof {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(piece) = self.bytes.next().await {
            let piece = piece?;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&piece);
            }
            if let Some(before) = self.held.replace(piece) {
                return Ok(Some(before));
            }
        }
        let Some(hasher) = self.hasher.take() else { return Ok(None) };
        if hasher.finish() == self.digest {
            return Ok(self.held.take());
        }
        if let Err(error) = self.store.delete_damaged(&self.digest).await {
            tracing::warn!(%error, digest = %self.digest, "the damaged blob is still there");
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "a stored blob is damaged"))
    }
}
