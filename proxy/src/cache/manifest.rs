//! Manifests: by digest, and what tags and digests share: fetching, proving, keeping.

use std::sync::Arc;

use bytes::Bytes;
use oci::{Algorithm, Digest, Reference, Tag};

use super::claims::{Once, Work};
use super::{Asker, Cache, Error, Pull, Wanted, first_of};
use crate::metrics::Outcome;
use crate::resolve::Source;
use crate::store::Holder;
use crate::upstream::{Class, Client, ManifestHead, Patience, Reason};

/// How often a request begins anew because somebody else's account was refused.
const TAKEOVERS: usize = 3;

/// A manifest to answer with.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub digest: Option<Digest>,
    pub media_type: String,
    pub size: Option<u64>,
    /// `None` for a HEAD that was answered by upstream's.
    pub bytes: Option<Bytes>,
    pub outcome: Outcome,
    /// Why it could not be checked.
    pub warning: Option<String>,
}

/// Who delivers what: a digest by an origin to anybody, a tag to one holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum FetchKey {
    Digest(String, Digest),
    Tag(Holder, Tag),
}

/// A manifest that was fetched, proven and kept.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// Whose account fetched it; `None`: another replica's work.
    pub holder: Option<Holder>,
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
}

impl Cache {
    /// Answers a request for a manifest.
    ///
    /// # Errors
    /// When no upstream served it and there is no copy.
    pub async fn manifest(
        self: &Arc<Self>,
        pull: &Pull,
        reference: &Reference,
        wanted: Wanted,
    ) -> Result<Manifest, Error> {
        match reference {
            Reference::Tag(tag) => self.tag(pull, tag, wanted).await,
            Reference::Digest(digest) => self.digest(pull, digest, wanted).await,
        }
    }

    pub(super) async fn head(
        &self,
        client: &Arc<Client>,
        holder: &Holder,
        reference: Reference,
        patience: Patience,
    ) -> Result<ManifestHead, Reason> {
        let key = (client.clone(), holder.clone(), reference.clone());
        let (client, repository) = (client.clone(), holder.repository.clone());
        let work = || async move {
            client.head_manifest(&repository, &reference, patience).await.map_err(|e| e.reason)
        };
        self.heads.join(key, work).await.unwrap_or_else(|| Err(aborted()))
    }

    async fn digest(
        self: &Arc<Self>,
        pull: &Pull,
        digest: &Digest,
        wanted: Wanted,
    ) -> Result<Manifest, Error> {
        let mut absent = false;
        for source in pull.allowed() {
            let looked = self.look_for_manifest(digest, &pull.holder(source)).await;
            absent |= looked.is_absent();
            if let Some((right, bytes)) = looked.shown()
                && let Some(found) = held(digest, &right, bytes)
            {
                return Ok(found);
            }
        }
        let ask = |source| async move {
            let found = self.ask_digest(pull, source, digest, wanted, absent).await?;
            self.came_from(pull, source);
            Ok(found)
        };
        first_of(self.likely_first(pull), ask).await
    }

    /// Asks one upstream for a manifest to which there is no right yet. `absent`: it was not in the store a moment ago.
    async fn ask_digest(
        self: &Arc<Self>,
        pull: &Pull,
        source: &Source,
        digest: &Digest,
        wanted: Wanted,
        absent: bool,
    ) -> Result<Manifest, Reason> {
        let holder = pull.holder(source);
        let client = self.client(pull, source);
        let delivered = if absent && !self.store.remembers_link(digest, &holder) {
            None
        } else {
            self.or_empty("links", self.store.delivered(digest, &holder.origin).await)
        };
        // A fetch that ended since this request looked has left the right there.
        if delivered.is_some()
            && let Some(media_type) = self.or_empty("link", self.store.link(digest, &holder).await)
            && let Some(found) = self.held(digest, &media_type).await
        {
            return Ok(found);
        }
        if wanted == Wanted::Head || delivered.is_some() {
            let head = self.head(&client, &holder, Reference::Digest(*digest), Patience::Cold).await?;
            if let Some(media_type) = delivered
                && let Some(found) = self.held(digest, &media_type).await
            {
                self.or_empty("link", self.store.put_link(digest, &holder, &found.media_type).await);
                return Ok(Manifest { outcome: Outcome::Revalidated, ..found });
            }
            if wanted == Wanted::Head {
                return Ok(Manifest { digest: Some(*digest), ..unproven(head) });
            }
        }
        let fetched = self.fetch(&client, &holder, Reference::Digest(*digest), Patience::Cold).await?;
        if fetched.holder.as_ref() != Some(&holder) {
            // Another group's download: this group has shown nothing yet.
            self.head(&client, &holder, Reference::Digest(*digest), Patience::Cold).await?;
            self.link(&holder, &fetched).await;
        }
        Ok(fetched.into_manifest(Outcome::Miss))
    }

    /// Fetches a manifest, proves it and keeps it; once for all who ask an origin for it at a time.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        client: &Arc<Client>,
        holder: &Holder,
        reference: Reference,
        patience: Patience,
    ) -> Result<Fetched, Reason> {
        let key = match &reference {
            Reference::Digest(digest) => FetchKey::Digest(holder.origin.clone(), *digest),
            Reference::Tag(tag) => FetchKey::Tag(holder.clone(), tag.clone()),
        };
        let asker = Asker { holder: holder.clone(), client: client.clone() };
        let mut failure = aborted();
        for _ in 0..TAKEOVERS {
            let work = Box::pin(fetching(self.clone(), asker.clone(), reference.clone(), patience));
            match self.fetches.join(key.clone(), || work).await {
                Some(Ok(fetched)) => return Ok(fetched),
                Some(Err((whose, reason))) if whose != asker && reason.class() != Class::Outage => {
                    failure = reason
                }
                Some(Err((_, reason))) => return Err(reason),
                None => {}
            }
        }
        Err(failure)
    }

    /// A manifest that another replica has fetched from this origin, and whether this holder has the right to it.
    async fn left(&self, holder: &Holder, digest: &Digest) -> Option<Fetched> {
        let media_type = self.or_empty("links", self.store.delivered(digest, &holder.origin).await)?;
        let bytes = self.bytes(digest).await?;
        let media_type = known_type(&media_type, &bytes)?;
        let link = self.or_empty("link", self.store.link(digest, holder).await);
        Some(Fetched { holder: link.map(|_| holder.clone()), digest: *digest, media_type, bytes })
    }

    pub(super) async fn link(&self, holder: &Holder, fetched: &Fetched) {
        self.or_empty("link", self.store.put_link(&fetched.digest, holder, &fetched.media_type).await);
    }

    /// The manifest to which somebody has the right, if its bytes are still there.
    async fn held(&self, digest: &Digest, media_type: &str) -> Option<Manifest> {
        held(digest, media_type, self.bytes(digest).await?)
    }

    pub(super) async fn bytes(&self, digest: &Digest) -> Option<Bytes> {
        if let Some(bytes) = self.manifests.get(digest) {
            return Some(bytes);
        }
        let bytes = self.or_empty("blob", self.store.bytes(digest).await)?;
        if Digest::of(digest.algorithm(), &bytes) != *digest {
            tracing::warn!(%digest, "the kept manifest is damaged; it is fetched again");
            return None;
        }
        self.manifests.insert(*digest, bytes.clone());
        Some(bytes)
    }
}

impl Fetched {
    pub(super) fn into_manifest(self, outcome: Outcome) -> Manifest {
        Manifest {
            digest: Some(self.digest),
            media_type: self.media_type,
            size: Some(self.bytes.len() as u64),
            bytes: Some(self.bytes),
            outcome,
            warning: None,
        }
    }
}

/// A manifest of the store, for somebody who has the right to it.
fn held(digest: &Digest, right: &str, bytes: Bytes) -> Option<Manifest> {
    let media_type = known_type(right, &bytes)?;
    let fetched = Fetched { holder: None, digest: *digest, media_type, bytes };
    Some(fetched.into_manifest(Outcome::Hit))
}

/// One GET of a manifest for the whole instance, where it has a digest; who was refused, if it fails.
async fn fetching(
    cache: Arc<Cache>,
    asker: Asker,
    reference: Reference,
    patience: Patience,
) -> Result<Fetched, (Asker, Reason)> {
    let Reference::Digest(digest) = reference else {
        return fetching_here(&cache, asker, &reference, patience).await;
    };
    let work = Work::Fill(digest, asker.holder.origin.clone());
    match Box::pin(cache.claims.once(&work, || cache.left(&asker.holder, &digest))).await {
        Once::Found(fetched) => Ok(fetched),
        Once::Make(mine) => {
            let fetched = fetching_here(&cache, asker, &reference, patience).await?;
            mine.succeeded();
            Ok(fetched)
        }
    }
}

async fn fetching_here(
    cache: &Cache,
    asker: Asker,
    reference: &Reference,
    patience: Patience,
) -> Result<Fetched, (Asker, Reason)> {
    let Asker { holder, client } = &asker;
    let body = client.manifest(&holder.repository, reference, patience).await;
    let proven = body.map_err(|error| error.reason).and_then(|body| prove(holder, reference, body));
    let fetched = proven.map_err(|reason| (asker.clone(), reason))?;
    cache.manifests.insert(fetched.digest, fetched.bytes.clone());
    if let Err(error) = keep(&cache.store, &fetched, holder).await {
        tracing::warn!(%error, digest = %fetched.digest, "the manifest is passed on but could not be kept");
    }
    Ok(fetched)
}

/// Upstream's HEAD, passed on: nothing of it is proven, and nothing of it is kept.
pub(super) fn unproven(head: ManifestHead) -> Manifest {
    let media_type = head.media_type.as_deref().map(oci::media::essence).unwrap_or_default();
    Manifest {
        digest: head.digest,
        media_type,
        size: head.size.filter(|size| *size > 0),
        bytes: None,
        outcome: Outcome::Miss,
        warning: None,
    }
}

/// Checks digest and shape of what came.
fn prove(
    holder: &Holder,
    reference: &Reference,
    body: crate::upstream::ManifestBody,
) -> Result<Fetched, Reason> {
    let digest = match reference {
        Reference::Digest(expected) => {
            let digest = Digest::of(expected.algorithm(), &body.bytes);
            if digest != *expected {
                return Err(Reason::Wrong(format!("the manifest has digest {digest}, not {expected}")));
            }
            digest
        }
        // Upstream's Docker-Content-Digest is not believed: the bytes have the digest that they have.
        Reference::Tag(_) => Digest::of(Algorithm::Sha256, &body.bytes),
    };
    let checked = oci::Manifest::check(&body.bytes, body.content_type.as_deref())
        .map_err(|e| Reason::Wrong(e.to_string()))?;
    Ok(Fetched { holder: Some(holder.clone()), digest, media_type: checked.media_type, bytes: body.bytes })
}

/// The bytes first, then the right to them.
async fn keep(
    store: &crate::store::Store,
    fetched: &Fetched,
    holder: &Holder,
) -> Result<(), crate::store::Error> {
    store.keep_bytes(fetched.digest, fetched.bytes.clone()).await?;
    store.put_link(&fetched.digest, holder, &fetched.media_type).await
}

/// The media type that is kept with the right, or, where the right was a blob's, the one that the bytes tell.
pub(super) fn known_type(kept: &str, bytes: &[u8]) -> Option<String> {
    if kept.is_empty() {
        oci::Manifest::check(bytes, None).ok().map(|m| m.media_type)
    } else {
        Some(kept.to_owned())
    }
}

pub(super) fn aborted() -> Reason {
    Reason::Broken("the request was aborted".to_owned())
}
