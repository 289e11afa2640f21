//! What the store has for one holder: the right and the bytes, asked for side by side. The bytes are shown only to who has
//! the right to them; who asks a bucket for the same at the same time asks once.

use std::sync::Arc;

use bytes::Bytes;
use oci::Digest;

use super::{Cache, Wanted};
use crate::store::{Blob, Holder};

/// What was found.
#[derive(Clone)]
pub(super) struct Looked<T> {
    /// The media type that is kept with the right.
    right: Option<Arc<str>>,
    bytes: Option<T>,
}

impl<T> Looked<T> {
    const NOTHING: Self = Self { right: None, bytes: None };

    /// Nobody's bytes were there a moment ago.
    pub(super) fn is_absent(&self) -> bool {
        self.bytes.is_none()
    }

    /// What may be served: the bytes, and the media type that is kept with the right.
    pub(super) fn shown(self) -> Option<(Arc<str>, T)> {
        self.right.zip(self.bytes)
    }
}

impl Cache {
    pub(super) async fn look_for_manifest(
        self: &Arc<Self>,
        digest: &Digest,
        holder: &Holder,
    ) -> Looked<Bytes> {
        if self.store.remembers_link(digest, holder) && self.manifests.contains_key(digest) {
            return self.manifest_beside_right(digest, holder).await;
        }
        let (cache, digest, holder) = (self.clone(), *digest, holder.clone());
        let key = (digest, holder.clone());
        let work = || async move { cache.manifest_beside_right(&digest, &holder).await };
        self.manifest_looks.join(key, work).await.unwrap_or(Looked::NOTHING)
    }

    async fn manifest_beside_right(&self, digest: &Digest, holder: &Holder) -> Looked<Bytes> {
        let (right, bytes) = tokio::join!(self.store.link(digest, holder), self.bytes(digest));
        Looked { right: self.or_empty("link", right), bytes }
    }

    /// Who wants all of it has the bytes on their way with the answer.
    pub(super) async fn look_for_blob(
        self: &Arc<Self>,
        digest: &Digest,
        holder: &Holder,
        wanted: Wanted,
    ) -> Looked<Blob> {
        if self.store.remembers_link(digest, holder)
            && let Ok(Some(copy)) = self.store.copy(digest)
        {
            return Looked {
                right: self.or_empty("link", self.store.link(digest, holder).await),
                bytes: Some(copy),
            };
        }
        let (cache, digest, holder) = (self.clone(), *digest, holder.clone());
        let key = (digest, holder.clone(), wanted);
        let work = || async move {
            let blob = async {
                match wanted {
                    Wanted::Bytes => cache.store.open_blob(&digest).await,
                    Wanted::Head | Wanted::Part => cache.store.blob(&digest).await,
                }
            };
            let (right, blob) = tokio::join!(cache.store.link(&digest, &holder), blob);
            Looked { right: cache.or_empty("link", right), bytes: cache.or_empty("blob", blob) }
        };
        self.blob_looks.join(key, work).await.unwrap_or(Looked::NOTHING)
    }
}
