//! Manifests: by tag with a check of its freshness, by digest without.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::WhenRefused;
use oci::{Algorithm, Digest, Reference, Tag};

use super::{Attempt, Cache, Error, Failure, Pull, Validity, Wanted, by_tag};
use crate::metrics::Outcome;
use crate::resolve::Source;
use crate::store::{Holder, TagRecord};
use crate::upstream::{Class, Client, ManifestHead, Patience, Reason};

/// How long a cached answer waits for an upstream that failed or was slow a moment ago: enough for a healthy one
/// nearby to show that it is back.
const SUSPECT_BUDGET: Duration = Duration::from_millis(5);
/// A check that found nothing new is written to the store at most this often.
const CHECKED_AT_PRECISION: Duration = Duration::from_secs(60);

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
    holder: Holder,
    digest: Digest,
    media_type: String,
    bytes: Bytes,
}

/// One source's cached tag.
struct Copy {
    source: Source,
    record: Arc<TagRecord>,
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

    async fn tag(self: &Arc<Self>, pull: &Pull, tag: &Tag, wanted: Wanted) -> Result<Manifest, Error> {
        let copies = self.copies(pull, tag).await;
        for copy in &copies {
            let validity = Validity::of(&pull.target, &copy.source.upstream);
            if validity.covers(copy.record.checked_at, self.clock.now())
                && let Some(found) = self.load(&copy.record, Outcome::Hit, None).await
            {
                return Ok(found);
            }
        }
        let budget = copies.iter().map(|copy| copy.source.upstream.recheck_budget).min();
        let suspect = copies.iter().any(|copy| self.client(pull, &copy.source).is_suspect());
        let walk = tokio::spawn({
            let (cache, pull, tag) = (self.clone(), pull.clone(), tag.clone());
            async move { cache.walk_tag(&pull, &tag, wanted).await }
        });
        let aborted =
            || Error(vec![Attempt { upstream: "dependency-proxy".to_owned(), failure: Failure::Internal }]);
        let Some(budget) = budget else { return walk.await.map_err(|_| aborted())? };
        let budget = if suspect { budget.min(SUSPECT_BUDGET) } else { budget };
        // The walk goes on behind a timeout, and its result is the next pull's.
        if let Ok(walked) = tokio::time::timeout(budget, walk).await {
            return walked.map_err(|_| aborted())?;
        }
        self.late(pull, &copies).await
    }

    /// The copy that is served because upstream takes longer than a cached answer waits.
    async fn late(&self, pull: &Pull, copies: &[Copy]) -> Result<Manifest, Error> {
        for copy in copies {
            self.client(pull, &copy.source).is_slow();
            let warning = format!(
                "{} has not answered yet; this copy could not be checked",
                copy.source.upstream.id.name
            );
            if let Some(found) = self.load(&copy.record, Outcome::Stale, Some(warning)).await {
                return Ok(found);
            }
        }
        let lost = |copy: &Copy| {
            Attempt::new(
                &copy.source,
                Failure::Upstream(Reason::Timeout(copy.source.upstream.recheck_budget)),
            )
        };
        Err(Error(copies.iter().map(lost).collect()))
    }

    async fn copies(&self, pull: &Pull, tag: &Tag) -> Vec<Copy> {
        let mut copies = Vec::new();
        for source in pull.allowed() {
            let record = self.store.tag(&pull.holder(source), tag).await;
            if let Some(record) = self.or_empty("tag", record) {
                copies.push(Copy { source: source.clone(), record });
            }
        }
        copies
    }

    /// Asks the upstreams in order what a tag is now.
    async fn walk_tag(self: &Arc<Self>, pull: &Pull, tag: &Tag, wanted: Wanted) -> Result<Manifest, Error> {
        let mut attempts = Vec::new();
        for (source, allowed) in pull.sources() {
            let checked = match allowed {
                Ok(()) => self.check(pull, source, tag, wanted).await.map_err(Failure::Upstream),
                Err(failure) => Err(failure),
            };
            match checked {
                Ok(found) => return Ok(found),
                Err(failure) => attempts.push(Attempt::new(source, failure)),
            }
        }
        Err(Error(attempts))
    }

    /// Asks one upstream what a tag is now; its cached copy is what is served where that fails.
    async fn check(
        self: &Arc<Self>,
        pull: &Pull,
        source: &Source,
        tag: &Tag,
        wanted: Wanted,
    ) -> Result<Manifest, Reason> {
        let holder = pull.holder(source);
        let client = self.client(pull, source);
        let record = self.or_empty("tag", self.store.tag(&holder, tag).await);
        let patience = if record.is_some() { Patience::Cached } else { Patience::Cold };
        let head = match self.head(&client, &holder, by_tag(tag), patience).await {
            Ok(head) => head,
            Err(reason) => return self.fall_back(source, record.as_deref(), reason).await,
        };
        if let Some(found) = self.known(&holder, tag, record.as_deref(), &head).await {
            return Ok(found);
        }
        if wanted == Wanted::Head {
            return Ok(unproven(head));
        }
        if let Some(record) = &record
            && client.spares_pulls()
        {
            let warning = format!(
                "{} has a newer one, but its last pulls are kept for images without a copy",
                client.upstream().id.name
            );
            if let Some(found) = self.load(record, Outcome::Stale, Some(warning)).await {
                return Ok(found);
            }
        }
        let reference = head.digest.map_or_else(|| by_tag(tag), Reference::Digest);
        match self.fetch(&client, &holder, reference, patience).await {
            Ok(fetched) => Ok(self.record(&holder, tag, fetched).await),
            Err(reason) => self.fall_back(source, record.as_deref(), reason).await,
        }
    }

    async fn head(
        &self,
        client: &Arc<Client>,
        holder: &Holder,
        reference: Reference,
        patience: Patience,
    ) -> Result<ManifestHead, Reason> {
        let (client, repository) = (client.clone(), holder.repository.clone());
        let key = (holder.clone(), reference.clone());
        let work = || async move {
            client.head_manifest(&repository, &reference, patience).await.map_err(|e| e.reason)
        };
        self.heads.join(key, work).await.unwrap_or_else(|| Err(aborted()))
    }

    /// The copy of what upstream says the tag is, if there is one that this holder may have.
    async fn known(
        &self,
        holder: &Holder,
        tag: &Tag,
        record: Option<&TagRecord>,
        head: &ManifestHead,
    ) -> Option<Manifest> {
        let digest = head.digest?;
        let now = self.clock.now();
        if let Some(record) = record.filter(|record| record.digest == digest) {
            let found = self.load(record, Outcome::Revalidated, None).await?;
            let durable = crate::clock::since(now, record.checked_at) >= CHECKED_AT_PRECISION;
            let renewed = TagRecord { checked_at: now, ..record.clone() };
            self.or_empty("tag", self.store.put_tag(holder, tag, renewed, durable).await);
            return Some(found);
        }
        // Upstream just answered 2xx with this digest to this group's credentials; if it delivered the bytes once,
        // to whomever, nothing has to be fetched again (design §4.3).
        let media_type = self.or_empty("links", self.store.delivered(&digest, &holder.origin).await)?;
        let bytes = self.bytes(&digest).await?;
        let media_type = known_type(&media_type, &bytes)?;
        let fetched = Fetched { holder: holder.clone(), digest, media_type, bytes };
        self.link(holder, &fetched).await;
        let found = self.record(holder, tag, fetched).await;
        Some(Manifest { outcome: Outcome::Revalidated, ..found })
    }

    /// Upstream did not serve: the cached copy does, unless it was refused and the upstream's document says to refuse.
    async fn fall_back(
        &self,
        source: &Source,
        record: Option<&TagRecord>,
        reason: Reason,
    ) -> Result<Manifest, Reason> {
        let refused = matches!(reason.class(), Class::Missing | Class::Refused);
        let Some(record) =
            record.filter(|_| !refused || source.upstream.when_refused == WhenRefused::ServeCached)
        else {
            return Err(reason);
        };
        let warning = format!(
            "{}: {reason}; this copy was checked at {:.0}",
            source.upstream.id.name, record.checked_at
        );
        self.load(record, Outcome::Stale, Some(warning)).await.ok_or(reason)
    }

    async fn digest(
        self: &Arc<Self>,
        pull: &Pull,
        digest: &Digest,
        wanted: Wanted,
    ) -> Result<Manifest, Error> {
        for source in pull.allowed() {
            let link = self.store.link(digest, &pull.holder(source)).await;
            if let Some(media_type) = self.or_empty("link", link)
                && let Some(found) = self.held(digest, &media_type).await
            {
                return Ok(found);
            }
        }
        let mut attempts = Vec::new();
        for (source, allowed) in pull.sources() {
            let asked = match allowed {
                Ok(()) => self.ask_digest(pull, source, digest, wanted).await.map_err(Failure::Upstream),
                Err(failure) => Err(failure),
            };
            match asked {
                Ok(found) => return Ok(found),
                Err(failure) => attempts.push(Attempt::new(source, failure)),
            }
        }
        Err(Error(attempts))
    }

    /// Asks one upstream for a manifest to which there is no right yet.
    async fn ask_digest(
        &self,
        pull: &Pull,
        source: &Source,
        digest: &Digest,
        wanted: Wanted,
    ) -> Result<Manifest, Reason> {
        let holder = pull.holder(source);
        let client = self.client(pull, source);
        let delivered = self.or_empty("links", self.store.delivered(digest, &holder.origin).await);
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
        if fetched.holder != holder {
            // Another group's download: this group has shown nothing yet.
            self.head(&client, &holder, Reference::Digest(*digest), Patience::Cold).await?;
            self.link(&holder, &fetched).await;
        }
        Ok(fetched.into_manifest(Outcome::Miss))
    }

    /// Fetches a manifest, proves it and keeps it; once for all who ask an origin for it at a time.
    async fn fetch(
        &self,
        client: &Arc<Client>,
        holder: &Holder,
        reference: Reference,
        patience: Patience,
    ) -> Result<Fetched, Reason> {
        let key = match &reference {
            Reference::Digest(digest) => FetchKey::Digest(holder.origin.clone(), *digest),
            Reference::Tag(tag) => FetchKey::Tag(holder.clone(), tag.clone()),
        };
        let (client, holder, store) = (client.clone(), holder.clone(), self.store.clone());
        let manifests = self.manifests.clone();
        let work = || async move {
            let body = client
                .manifest(&holder.repository, &reference, patience)
                .await
                .map_err(|error| error.reason)?;
            let fetched = prove(holder, &reference, body)?;
            manifests.insert(fetched.digest, fetched.bytes.clone());
            if let Err(error) = keep(&store, &fetched).await {
                tracing::warn!(%error, digest = %fetched.digest, "the manifest is passed on but could not be kept");
            }
            Ok(fetched)
        };
        self.fetches.join(key, work).await.unwrap_or_else(|| Err(aborted()))
    }

    async fn link(&self, holder: &Holder, fetched: &Fetched) {
        self.or_empty("link", self.store.put_link(&fetched.digest, holder, &fetched.media_type).await);
    }

    /// Writes down what a tag is now.
    async fn record(&self, holder: &Holder, tag: &Tag, fetched: Fetched) -> Manifest {
        if fetched.holder != *holder {
            self.link(holder, &fetched).await;
        }
        let record = TagRecord {
            digest: fetched.digest,
            media_type: fetched.media_type.clone(),
            size: fetched.bytes.len() as u64,
            checked_at: self.clock.now(),
        };
        self.or_empty("tag", self.store.put_tag(holder, tag, record, true).await);
        fetched.into_manifest(Outcome::Miss)
    }

    /// The copy that a record names, if its bytes are still there.
    async fn load(&self, record: &TagRecord, outcome: Outcome, warning: Option<String>) -> Option<Manifest> {
        let bytes = self.bytes(&record.digest).await?;
        Some(Manifest {
            digest: Some(record.digest),
            media_type: record.media_type.clone(),
            size: Some(bytes.len() as u64),
            bytes: Some(bytes),
            outcome,
            warning,
        })
    }

    /// The manifest to which somebody has the right, if its bytes are still there.
    async fn held(&self, digest: &Digest, media_type: &str) -> Option<Manifest> {
        let bytes = self.bytes(digest).await?;
        let media_type = known_type(media_type, &bytes)?;
        let size = Some(bytes.len() as u64);
        Some(Manifest {
            digest: Some(*digest),
            media_type,
            size,
            bytes: Some(bytes),
            outcome: Outcome::Hit,
            warning: None,
        })
    }

    async fn bytes(&self, digest: &Digest) -> Option<Bytes> {
        if let Some(bytes) = self.manifests.get(digest) {
            return Some(bytes);
        }
        let bytes = self.or_empty("blob", self.store.bytes(digest).await)?;
        self.manifests.insert(*digest, bytes.clone());
        Some(bytes)
    }
}

impl Fetched {
    fn into_manifest(self, outcome: Outcome) -> Manifest {
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

/// Upstream's HEAD, passed on: nothing of it is proven, and nothing of it is kept.
fn unproven(head: ManifestHead) -> Manifest {
    let media_type = head.media_type.unwrap_or_default();
    Manifest {
        digest: head.digest,
        media_type,
        size: head.size,
        bytes: None,
        outcome: Outcome::Miss,
        warning: None,
    }
}

/// Checks digest and shape of what came.
fn prove(
    holder: Holder,
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
    Ok(Fetched { holder, digest, media_type: checked.media_type, bytes: body.bytes })
}

/// The bytes first, then the right to them.
async fn keep(store: &crate::store::Store, fetched: &Fetched) -> Result<(), crate::store::Error> {
    store.keep_bytes(fetched.digest, fetched.bytes.clone()).await?;
    store.put_link(&fetched.digest, &fetched.holder, &fetched.media_type).await
}

/// The media type that is kept with the right, or, where the right was a blob's, the one that the bytes tell.
fn known_type(kept: &str, bytes: &[u8]) -> Option<String> {
    if kept.is_empty() {
        oci::Manifest::check(bytes, None).ok().map(|m| m.media_type)
    } else {
        Some(kept.to_owned())
    }
}

fn aborted() -> Reason {
    Reason::Broken("the request was aborted".to_owned())
}
