//! Who downloads: this replica, or another one, whose download is read as it comes in there.

use std::sync::Arc;

use super::Fill;
use super::download::{Download, Incoming, Proven};
use crate::cache::Asker;
use crate::cache::blob::decides_nothing;
use crate::cache::claims::{Claims, Mine, Theirs, Turn, Work};
use crate::metrics::Source;
use crate::replica::Gone;
use crate::store::{self, Remote, Store};
use crate::upstream::Reason;

/// How often another replica is followed before one goes on without it.
const FOLLOWED: usize = 4;

/// How a fill came to its end.
pub(super) enum Filled {
    Proven(Proven),
    /// Another replica ended a moment before this one began: it is in the store.
    Kept,
}

/// Who puts the bytes into the shared store.
pub(super) enum Lead {
    /// This replica, which lets go of the claim when that is done.
    Ours(Mine),
    /// Another one, which also writes the right of the first who waited here, if it is `first_shown` there.
    Theirs { first_shown: bool },
}

/// How following another replica ended.
enum Followed {
    /// Whether the holder that was named waits for it there, too.
    Whole(bool),
    Kept,
    /// It is gone, or its download failed: somebody goes on from here.
    Lost,
    /// Only a download of its own can show a right.
    Apart,
    Failed(Asker, Reason),
}

impl Fill {
    pub(super) async fn fill(
        &self,
        store: &Arc<Store>,
        claims: &Arc<Claims>,
    ) -> Result<(Filled, Lead), (Asker, Reason)> {
        let work = Work::Fill(self.digest, self.origin.clone());
        let mut download = Download::new(self, store);
        if let Some(blob) = &self.stored {
            match self.bring(&mut download, store, blob).await {
                Ok(()) => return self.proven_from_store(download, store).await,
                Err(reason) => {
                    tracing::warn!(digest = %self.digest, %reason, at = download.bytes(), "the bucket does not give what it has; going on without it");
                }
            }
        }
        let mut turn = claims.turn(&work).await;
        for _ in 0..FOLLOWED {
            let other = match turn {
                Turn::Mine(mine) => return self.lead(download, mine).await,
                Turn::Theirs(other) => other,
            };
            match self.follow(&mut download, store, claims, &other).await {
                Followed::Whole(first_shown) => {
                    let first = self.waiters.lock()[0].clone();
                    let proven = download.prove().map_err(|reason| (first, reason))?;
                    return Ok((Filled::Proven(proven), Lead::Theirs { first_shown }));
                }
                Followed::Kept => return Ok((Filled::Kept, Lead::Theirs { first_shown: false })),
                Followed::Failed(asker, reason) => return Err((asker, reason)),
                Followed::Apart => break,
                Followed::Lost => turn = claims.turn_after(&work, Some(other)).await,
            }
        }
        self.lead(download, Mine::unclaimed()).await
    }

    /// Takes the bytes from the bucket.
    async fn bring(&self, download: &mut Download<'_>, store: &Store, blob: &Remote) -> Result<(), Reason> {
        let broken = |error: store::Error| Reason::Broken(error.to_string());
        let bytes = store.stream_whole(&self.digest, blob).await.map_err(broken)?;
        download.copy(Incoming::Stored { bytes, size: blob.size }).await
    }

    /// What the bucket gave, if it has its digest. Otherwise it is taken out of there: the next pull fetches it again.
    async fn proven_from_store(
        &self,
        download: Download<'_>,
        store: &Store,
    ) -> Result<(Filled, Lead), (Asker, Reason)> {
        match download.prove() {
            Ok(proven) => Ok((Filled::Proven(proven), Lead::Theirs { first_shown: true })),
            Err(reason) => {
                if let Err(error) = store.delete_damaged(&self.digest).await {
                    tracing::warn!(%error, digest = %self.digest, "the damaged blob is still there");
                }
                let first = self.waiters.lock()[0].clone();
                Err((first, reason))
            }
        }
    }

    /// Downloads from upstream, for this replica and for those that follow it.
    async fn lead(&self, download: Download<'_>, mine: Mine) -> Result<(Filled, Lead), (Asker, Reason)> {
        *self.source.lock() = Source::Upstream;
        let proven = download.fetch().await?;
        Ok((Filled::Proven(proven), Lead::Ours(mine)))
    }

    /// Reads another replica's download from where this one stands.
    async fn follow(
        &self,
        download: &mut Download<'_>,
        store: &Store,
        claims: &Claims,
        other: &Theirs,
    ) -> Followed {
        let first = self.waiters.lock()[0].clone();
        let Asker { holder, client } = &first;
        let opened = match (&claims.replica, other.claim()) {
            (Some(replica), Some(claim)) => {
                let from = download.bytes();
                replica.open_fill(claim, &other.path, (&self.digest, &self.origin), holder, from).await
            }
            _ => {
                claims.ended(other).await;
                Ok(None)
            }
        };
        let body = match opened {
            Ok(Some(body)) => body,
            Ok(None) if download.bytes() == 0 && self.is_stored(store).await => {
                return Followed::Kept;
            }
            Ok(None) | Err(Gone) => return Followed::Lost,
        };
        // What another group downloads is joined by who shows a right of its own (design §4.3).
        if !body.shown
            && !download.is_answered()
            && let Err(error) = client.head_blob(&holder.repository, &self.digest).await
        {
            let own = decides_nothing(&error.reason);
            return if own { Followed::Apart } else { Followed::Failed(first, error.reason) };
        }
        tracing::debug!(digest = %self.digest, replica = ?other.claim(), "following another replica");
        *self.source.lock() = Source::Replica;
        let shown = body.shown;
        match download.copy(Incoming::Replica(body)).await {
            Ok(()) => Followed::Whole(shown),
            Err(reason @ Reason::Wrong(_)) => Followed::Failed(first, reason),
            Err(reason) => {
                tracing::info!(digest = %self.digest, %reason, at = download.bytes(), "the other replica's download broke off");
                Followed::Lost
            }
        }
    }

    /// Whether the other one has left it in the store. Bytes alone do not say so: they may be there without any right, for
    /// the next cleanup.
    async fn is_stored(&self, store: &Store) -> bool {
        matches!(store.delivered(&self.digest, &self.origin).await, Ok(Some(_)))
            && matches!(store.blob(&self.digest).await, Ok(Some(_)))
    }
}

impl Fill {
    /// Whether this replica downloads it from upstream: one that follows is not followed.
    pub(in crate::cache) fn leads(&self) -> bool {
        self.source() == Source::Upstream
    }
}
