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
/// How often a request begins anew because somebody else's account was refused.
const TAKEOVERS: usize = 3;
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

/// A cached tag whose bytes are there and whose holder has the right to them.
struct Copy {
    record: Arc<TagRecord>,
    bytes: Bytes,
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
        let mut copies = Vec::new();
        for source in pull.allowed() {
            let Some(copy) = self.copy(&pull.holder(source), tag).await else { continue };
            if Validity::of(&pull.target, &source.upstream).covers(copy.record.checked_at, self.clock.now()) {
                self.came_from(pull, source);
                return Ok(copy.serve(Outcome::Hit, None));
            }
            copies.push((source, copy));
        }
        let budget = copies.iter().map(|(source, _)| source.upstream.recheck_budget).min();
        let suspect = copies.iter().any(|(source, _)| self.client(pull, source).is_suspect());
        let walk = tokio::spawn({
            let (cache, pull, tag) = (self.clone(), pull.clone(), tag.clone());
            async move { cache.walk_tag(&pull, &tag, wanted).await }
        });
        let Some(budget) = budget else { return walk.await.unwrap_or_else(|_| Err(internal())) };
        let budget = if suspect { budget.min(SUSPECT_BUDGET) } else { budget };
        // The walk goes on behind a timeout, and its result is the next pull's.
        if let Ok(walked) = tokio::time::timeout(budget, walk).await {
            return walked.unwrap_or_else(|_| Err(internal()));
        }
        for (source, _) in &copies {
            self.client(pull, source).is_slow();
        }
        let (source, copy) = copies.into_iter().next().ok_or_else(internal)?;
        let name = &source.upstream.id.name;
        let warning = format!("{name} has not answered yet; this copy could not be checked");
        Ok(copy.serve(Outcome::Stale, Some(warning)))
    }

    /// The cached copy of a tag. A record alone is no copy, and no right: what upstream called the tag's digest may
    /// be a digest that somebody else's upstream delivered.
    async fn copy(&self, holder: &Holder, tag: &Tag) -> Option<Copy> {
        let record = self.or_empty("tag", self.store.tag(holder, tag).await)?;
        self.or_empty("link", self.store.link(&record.digest, holder).await)?;
        let bytes = self.bytes(&record.digest).await?;
        Some(Copy { record, bytes })
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
                Ok(found) => {
                    self.came_from(pull, source);
                    return Ok(found);
                }
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
        let copy = self.copy(&holder, tag).await;
        let patience = if copy.is_some() { Patience::Cached } else { Patience::Cold };
        let head = match self.head(&client, &holder, by_tag(tag), patience).await {
            Ok(head) => head,
            Err(Reason::NoHead) if wanted == Wanted::Bytes => {
                ManifestHead { digest: None, media_type: None, size: None }
            }
            Err(reason) => return fall_back(source, copy, reason),
        };
        if let Some(found) = self.known(&holder, tag, copy.as_ref(), &head).await {
            return Ok(found);
        }
        if wanted == Wanted::Head {
            if copy.is_none() {
                self.announce(&holder, tag, &head).await;
            }
            return Ok(unproven(head));
        }
        if let Some(copy) = copy.as_ref().filter(|_| client.spares_pulls()) {
            let name = &client.upstream().id.name;
            let warning =
                format!("{name} has a newer one, but its last pulls are kept for images without a copy");
            return Ok(copy.serve(Outcome::Stale, Some(warning)));
        }
        let reference = head.digest.map_or_else(|| by_tag(tag), Reference::Digest);
        match self.fetch(&client, &holder, reference, patience).await {
            Ok(fetched) => Ok(self.record(&holder, tag, fetched).await),
            Err(reason) => fall_back(source, copy, reason),
        }
    }

    /// Writes down what a HEAD said a tag is. Clients that ask for the manifest by digest next (containerd, docker)
    /// never ask for the tag's bytes: without this the tag would be unknown when upstream is away.
    async fn announce(&self, holder: &Holder, tag: &Tag, head: &ManifestHead) {
        if let (Some(digest), Some(media_type), Some(size)) =
            (head.digest, head.media_type.clone(), head.size)
        {
            let record = TagRecord { digest, media_type, size, checked_at: self.clock.now() };
            self.or_empty("tag", self.store.put_tag(holder, tag, record, true).await);
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
        copy: Option<&Copy>,
        head: &ManifestHead,
    ) -> Option<Manifest> {
        let digest = head.digest?;
        let now = self.clock.now();
        if let Some(copy) = copy.filter(|copy| copy.record.digest == digest) {
            let durable = crate::clock::since(now, copy.record.checked_at) >= CHECKED_AT_PRECISION;
            let renewed = TagRecord { checked_at: now, ..(*copy.record).clone() };
            self.or_empty("tag", self.store.put_tag(holder, tag, renewed, durable).await);
            return Some(copy.serve(Outcome::Revalidated, None));
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
        for (source, allowed) in self.likely_first(pull) {
            let asked = match allowed {
                Ok(()) => self.ask_digest(pull, source, digest, wanted).await.map_err(Failure::Upstream),
                Err(failure) => Err(failure),
            };
            match asked {
                Ok(found) => {
                    self.came_from(pull, source);
                    return Ok(found);
                }
                Err(failure) => attempts.push(Attempt::new(source, failure)),
            }
        }
        Err(Error(attempts))
    }

    /// Asks one upstream for a manifest to which there is no right yet.
    async fn ask_digest(
        self: &Arc<Self>,
        pull: &Pull,
        source: &Source,
        digest: &Digest,
        wanted: Wanted,
    ) -> Result<Manifest, Reason> {
        let holder = pull.holder(source);
        let client = self.client(pull, source);
        let delivered = self.or_empty("links", self.store.delivered(digest, &holder.origin).await);
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
        if fetched.holder != holder {
            // Another group's download: this group has shown nothing yet.
            self.head(&client, &holder, Reference::Digest(*digest), Patience::Cold).await?;
            self.link(&holder, &fetched).await;
        }
        Ok(fetched.into_manifest(Outcome::Miss))
    }

    /// Fetches a manifest, proves it and keeps it; once for all who ask an origin for it at a time.
    async fn fetch(
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
        let mut failure = aborted();
        for _ in 0..TAKEOVERS {
            let work = fetching(self.clone(), client.clone(), holder.clone(), reference.clone(), patience);
            match self.fetches.join(key.clone(), || work).await {
                Some(Ok(fetched)) => return Ok(fetched),
                // What upstream refused to another account it may give to this one.
                Some(Err((whose, reason))) if whose != *holder && reason.class() != Class::Outage => {
                    failure = reason
                }
                Some(Err((_, reason))) => return Err(reason),
                None => {}
            }
        }
        Err(failure)
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

impl Copy {
    fn serve(&self, outcome: Outcome, warning: Option<String>) -> Manifest {
        Manifest {
            digest: Some(self.record.digest),
            media_type: self.record.media_type.clone(),
            size: Some(self.bytes.len() as u64),
            bytes: Some(self.bytes.clone()),
            outcome,
            warning,
        }
    }
}

/// Upstream did not serve: the cached copy does, unless it was refused and the upstream's document says to refuse.
fn fall_back(source: &Source, copy: Option<Copy>, reason: Reason) -> Result<Manifest, Reason> {
    let refused = matches!(reason.class(), Class::Missing | Class::Refused);
    let serves = |_: &Copy| !refused || source.upstream.when_refused == WhenRefused::ServeCached;
    let Some(copy) = copy.filter(serves) else { return Err(reason) };
    let checked_at = copy.record.checked_at.strftime("%Y-%m-%dT%H:%M:%SZ");
    let warning = format!("{}: {reason}; this copy was checked at {checked_at}", source.upstream.id.name);
    Ok(copy.serve(Outcome::Stale, Some(warning)))
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

/// One GET of a manifest; whose account failed, if it does.
async fn fetching(
    cache: Arc<Cache>,
    client: Arc<Client>,
    holder: Holder,
    reference: Reference,
    patience: Patience,
) -> Result<Fetched, (Holder, Reason)> {
    let body = client.manifest(&holder.repository, &reference, patience).await;
    let proven = body.map_err(|error| error.reason).and_then(|body| prove(&holder, &reference, body));
    let fetched = proven.map_err(|reason| (holder, reason))?;
    cache.manifests.insert(fetched.digest, fetched.bytes.clone());
    if let Err(error) = keep(&cache.store, &fetched).await {
        tracing::warn!(%error, digest = %fetched.digest, "the manifest is passed on but could not be kept");
    }
    Ok(fetched)
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
    Ok(Fetched { holder: holder.clone(), digest, media_type: checked.media_type, bytes: body.bytes })
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

/// A task of ours ended without a result.
fn internal() -> Error {
    Error(vec![Attempt { upstream: "dependency-proxy".to_owned(), failure: Failure::Internal }])
}

fn aborted() -> Reason {
    Reason::Broken("the request was aborted".to_owned())
}
