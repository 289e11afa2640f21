//! Blobs: from the store, from a download in progress, or by a new one.

use std::fs::File;
use std::sync::Arc;

use oci::Digest;

use super::fill::{Begun, Place};
use super::{Asker, Cache, Error, Pull, Wanted, first_of};
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
    /// It is in the store, and this holder may have it.
    Stored(store::Blob, Outcome),
    /// Upstream said to this account that it may have it: it may join a download.
    Shown,
    /// Nothing to join: it may begin a download.
    Own,
    /// Only a download of its own can show a right, and another one is in its place.
    Waits,
}

/// Some registries answer no HEAD, or redirect it to where only GET is signed for: their GET decides.
pub(super) fn decides_nothing(head: &Reason) -> bool {
    matches!(head.class(), Class::Refused | Class::Wrong)
}

/// Where a blob's bytes are.
pub enum Body {
    /// A HEAD, answered by upstream's.
    None,
    File(Arc<File>),
    /// In the shared store.
    Store(store::Remote),
    /// Coming in.
    Fill(Place),
}

impl Blob {
    fn of(blob: store::Blob, outcome: Outcome) -> Self {
        let size = Some(blob.size());
        let body = match blob {
            store::Blob::Local { file, .. } => Body::File(file),
            store::Blob::Remote(remote) => Body::Store(remote),
        };
        Self { size, body, outcome }
    }

    fn coming(size: Option<u64>, place: Place) -> Self {
        let outcome = if place.source() == From::Cache { Outcome::Hit } else { Outcome::Miss };
        Self { size, body: Body::Fill(place), outcome }
    }

    /// As it is said to be where it comes from the cache.
    fn cached(self, outcome: Outcome) -> Self {
        if self.outcome == Outcome::Hit { Self { outcome, ..self } } else { self }
    }
}

impl Body {
    /// Where served bytes are counted.
    #[must_use]
    pub fn source(&self) -> From {
        match self {
            Self::Fill(place) => place.source(),
            Self::None => From::Upstream,
            Self::File(_) | Self::Store(_) => From::Cache,
        }
    }
}

impl Cache {
    /// Answers a request for a blob.
    ///
    /// # Errors
    /// When no upstream served it and there is no copy.
    pub async fn blob(self: &Arc<Self>, pull: &Pull, digest: &Digest, wanted: Wanted) -> Result<Blob, Error> {
        let mut absent = false;
        for source in pull.allowed() {
            let holder = pull.holder(source);
            // Who waits for a download of it finds nothing in the store yet.
            let key = (*digest, holder.origin.clone());
            if wanted == Wanted::Bytes && self.fills.running(&key, &holder) == Some(true) {
                continue;
            }
            let looked = self.look_for_blob(digest, &holder, wanted).await;
            absent |= looked.is_absent();
            if let Some((_, blob)) = looked.shown() {
                let client = self.client(pull, source);
                return Ok(self.brought(blob, digest, holder, client, wanted).await);
            }
        }
        first_of(self.likely_first(pull), |source| self.ask_blob(pull, source, digest, wanted, absent)).await
    }

    /// A blob to which this holder has the right. What the bucket alone has comes into the local folder on its way: once
    /// for all who ask for it, proven, and from elsewhere where the bucket breaks off. A part of it is read there, and all
    /// of it where the folder has no room.
    async fn brought(
        &self,
        blob: store::Blob,
        digest: &Digest,
        holder: Holder,
        client: Arc<Client>,
        wanted: Wanted,
    ) -> Blob {
        let direct = Blob::of(blob, Outcome::Hit);
        let Body::Store(stored) = &direct.body else { return direct };
        if wanted != Wanted::Bytes || !self.store.has_room(stored.size) {
            return direct;
        }
        let key = (*digest, holder.origin.clone());
        let stored = Some(stored.clone());
        let Some(fill) = self.fills.join(key, Asker { holder, client }, true, stored) else { return direct };
        match (fill.begun().await, fill.place()) {
            (Begun::Filling(size), Some(place)) => Blob::coming(size, place),
            // It is in the folder by now, or taken out of the bucket.
            _ => self.stored(digest).await.map_or(direct, |blob| Blob::of(blob, Outcome::Hit)),
        }
    }

    async fn stored(&self, digest: &Digest) -> Option<store::Blob> {
        self.or_empty("blob", self.store.blob(digest).await)
    }

    /// Gets a blob, to which there is no right yet, through one upstream. `absent`: it was not in the store a moment ago.
    async fn ask_blob(
        self: &Arc<Self>,
        pull: &Pull,
        source: &Source,
        digest: &Digest,
        wanted: Wanted,
        mut absent: bool,
    ) -> Result<Blob, Reason> {
        let holder = pull.holder(source);
        let client = self.client(pull, source);
        let mut failure = Reason::Broken("the download failed".to_owned());
        for _ in 0..TAKEOVERS {
            let absent = std::mem::take(&mut absent);
            let shown = match self.standing(&client, &holder, digest, wanted, absent).await? {
                Standing::Served(blob) => return Ok(blob),
                Standing::Stored(blob, outcome) => {
                    return Ok(self.brought(blob, digest, holder, client, wanted).await.cached(outcome));
                }
                Standing::Shown => true,
                Standing::Own => false,
                Standing::Waits => {
                    self.fills.over(&(*digest, holder.origin.clone())).await;
                    continue;
                }
            };
            let key = (*digest, holder.origin.clone());
            // What it was shown for has ended meanwhile: everything is there, or it was nothing.
            if shown && self.fills.running(&key, &holder).is_none() {
                continue;
            }
            // A stranger's download began while this request looked: to join it takes a right.
            let asker = Asker { holder: holder.clone(), client: client.clone() };
            let Some(fill) = self.fills.join(key, asker.clone(), shown, None) else {
                continue;
            };
            match fill.begun().await {
                Begun::Filling(size) => match fill.place() {
                    Some(place) => return Ok(Blob::coming(size, place)),
                    // Its beginning is not kept, and gone: the next download begins when this one has ended.
                    None => fill.ended().await,
                },
                Begun::Kept => {
                    if let Some((_, blob)) = self.look_for_blob(digest, &holder, wanted).await.shown() {
                        return Ok(self.brought(blob, digest, holder, client, wanted).await);
                    }
                }
                Begun::Failed(whose, reason) => {
                    let mine = whose == asker || reason.class() == Class::Wrong;
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
        absent: bool,
    ) -> Result<Standing, Reason> {
        let running = self.fills.running(&(*digest, holder.origin.clone()), holder);
        let reads = wanted != Wanted::Head;
        if reads && running == Some(true) {
            return Ok(Standing::Shown);
        }
        // A download of ours that ended since this request looked into the store has left everything there.
        if running.is_none()
            && self.store.remembers_link(digest, holder)
            && let Some(blob) = self.stored(digest).await
        {
            return Ok(Standing::Stored(blob, Outcome::Hit));
        }
        let copy = if absent { None } else { self.delivered(digest, &holder.origin).await };
        if reads && copy.is_none() && running.is_none() {
            return Ok(Standing::Own);
        }
        match client.head_blob(&holder.repository, digest).await {
            Ok(size) => match (copy, wanted) {
                (Some(blob), _) => {
                    self.or_empty("link", self.store.put_link(digest, holder, "").await);
                    Ok(Standing::Stored(blob, Outcome::Revalidated))
                }
                (None, Wanted::Bytes | Wanted::Part) => Ok(Standing::Shown),
                (None, Wanted::Head) => {
                    Ok(Standing::Served(Blob { size, body: Body::None, outcome: Outcome::Miss }))
                }
            },
            Err(error) if reads && decides_nothing(&error.reason) => {
                Ok(if running.is_none() { Standing::Own } else { Standing::Waits })
            }
            Err(error) => Err(error.reason),
        }
    }

    /// The blob from the store, if this origin has ever delivered it to anybody.
    async fn delivered(&self, digest: &Digest, origin: &str) -> Option<store::Blob> {
        let copy = self.stored(digest).await?;
        self.or_empty("links", self.store.delivered(digest, origin).await)?;
        Some(copy)
    }
}
