//! Blobs: from the store, from a download in progress, or by a new one.

use std::fs::File;
use std::sync::Arc;

use oci::Digest;

use super::fill::{Begun, Place};
use super::{Cache, Error, Pull, Wanted, first_of};
use crate::metrics::{Outcome, Source as From};
use crate::resolve::Source;
use crate::store::{self, Holder};
use crate::upstream::{Class, Client, Reason};

/// How often a request begins anew because somebody else's download failed.
const TAKEOVERS: usize = 5;

/// A blob to answer with.
pub struct Blob {
    /// Its length, where it is known.
    pub size: Option<u64>,
    pub body: Body,
    pub outcome: Outcome,
}

/// What a request can do about a blob to which it had no right.
enum Standing {
    Served(Blob),
    /// Upstream said to this account that it may have it: it may join a download.
    Shown,
    /// Nothing to join: it may begin a download.
    Own,
}

/// Where a blob's bytes are.
pub enum Body {
    /// A HEAD, answered by upstream's.
    None,
    File(Arc<File>),
    /// In the shared store.
    Store,
    /// Coming in.
    Fill(Place),
}

impl Body {
    /// Where served bytes are counted.
    #[must_use]
    pub fn source(&self) -> From {
        match self {
            Self::Fill(place) => place.source(),
            Self::None => From::Upstream,
            Self::File(_) | Self::Store => From::Cache,
        }
    }
}

impl Cache {
    /// Answers a request for a blob.
    ///
    /// # Errors
    /// When no upstream served it and there is no copy.
    pub async fn blob(self: &Arc<Self>, pull: &Pull, digest: &Digest, wanted: Wanted) -> Result<Blob, Error> {
        for source in pull.allowed() {
            let holder = pull.holder(source);
            if let Some(blob) = self.kept(digest, &holder).await {
                return Ok(blob);
            }
        }
        first_of(self.likely_first(pull), |source| self.ask_blob(pull, source, digest, wanted)).await
    }

    /// The blob from the store, if this holder may have it.
    async fn kept(&self, digest: &Digest, holder: &Holder) -> Option<Blob> {
        self.or_empty("link", self.store.link(digest, holder).await)?;
        self.stored(digest, Outcome::Hit).await
    }

    async fn stored(&self, digest: &Digest, outcome: Outcome) -> Option<Blob> {
        let blob = self.or_empty("blob", self.store.blob(digest).await)?;
        let size = Some(blob.size());
        let body = match blob {
            store::Blob::Local { file, .. } => Body::File(file),
            store::Blob::Remote { .. } => Body::Store,
        };
        Some(Blob { size, body, outcome })
    }

    /// Gets a blob, to which there is no right yet, through one upstream.
    async fn ask_blob(
        self: &Arc<Self>,
        pull: &Pull,
        source: &Source,
        digest: &Digest,
        wanted: Wanted,
    ) -> Result<Blob, Reason> {
        let holder = pull.holder(source);
        let client = self.client(pull, source);
        let mut failure = Reason::Broken("the download failed".to_owned());
        for _ in 0..TAKEOVERS {
            let shown = match self.standing(&client, &holder, digest, wanted).await? {
                Standing::Served(blob) => return Ok(blob),
                Standing::Shown => true,
                Standing::Own => false,
            };
            let key = (*digest, holder.origin.clone());
            // A stranger's download began while this request looked: to join it takes a right.
            let Some(fill) = self.fills.join(key, holder.clone(), client.clone(), shown) else { continue };
            match fill.begun().await {
                Begun::Filling(size) => match fill.place() {
                    Some(place) => return Ok(Blob { size, body: Body::Fill(place), outcome: Outcome::Miss }),
                    // Its beginning is not kept, and gone: the next download begins when this one has ended.
                    None => fill.ended().await,
                },
                Begun::Kept => {
                    if let Some(blob) = self.kept(digest, &holder).await {
                        return Ok(blob);
                    }
                }
                Begun::Failed(whose, reason) => {
                    let mine = whose == holder || reason.class() == Class::Wrong;
                    failure = reason;
                    if mine {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    /// What this holder has to show for a blob. To get what others got, or are getting, it shows its right by a HEAD
    /// of its own (design §4.3); its own download is a right in itself.
    async fn standing(
        &self,
        client: &Arc<Client>,
        holder: &Holder,
        digest: &Digest,
        wanted: Wanted,
    ) -> Result<Standing, Reason> {
        let running = self.fills.running(&(*digest, holder.origin.clone()), holder);
        if wanted == Wanted::Bytes && running == Some(true) {
            return Ok(Standing::Shown);
        }
        // A download of ours that ended since this request looked into the store has left everything there.
        if running.is_none()
            && self.store.remembers_link(digest, holder)
            && let Some(blob) = self.stored(digest, Outcome::Hit).await
        {
            return Ok(Standing::Served(blob));
        }
        let copy = self.delivered(digest, &holder.origin).await;
        if wanted == Wanted::Bytes && copy.is_none() && running.is_none() {
            return Ok(Standing::Own);
        }
        match client.head_blob(&holder.repository, digest).await {
            Ok(size) => match (copy, wanted) {
                (Some(blob), _) => {
                    self.or_empty("link", self.store.put_link(digest, holder, "").await);
                    Ok(Standing::Served(blob))
                }
                (None, Wanted::Bytes) => Ok(Standing::Shown),
                (None, Wanted::Head) => {
                    Ok(Standing::Served(Blob { size, body: Body::None, outcome: Outcome::Miss }))
                }
            },
            Err(error) => {
                // Some registries answer no HEAD, or redirect it to where only GET is signed for: their GET decides.
                let undecided = matches!(error.reason.class(), Class::Refused | Class::Wrong);
                let alone = wanted == Wanted::Bytes && running.is_none();
                if undecided && alone { Ok(Standing::Own) } else { Err(error.reason) }
            }
        }
    }

    /// The blob from the store, if this origin has ever delivered it to anybody.
    async fn delivered(&self, digest: &Digest, origin: &str) -> Option<Blob> {
        let copy = self.stored(digest, Outcome::Revalidated).await?;
        self.or_empty("links", self.store.delivered(digest, origin).await)?;
        Some(copy)
    }
}
