//! Tags: what a tag is now, and the cached copy where upstream does not say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::WhenRefused;
use futures_util::future::{OptionFuture, join_all};
use oci::{Reference, Tag};

use super::check::{Check, Said};
use super::claims::Mine;
use super::manifest::{Fetched, known_type, unproven};
use super::{Attempt, Cache, Error, Failure, Manifest, Pull, Validity, Wanted, by_tag, first_of};
use crate::metrics::Outcome;
use crate::resolve::Source;
use crate::store::{Holder, TagRecord};
use crate::upstream::{Class, Client, Patience, Reason};

/// How long a cached answer waits for an upstream that failed or was slow a moment ago: enough for a healthy one
/// nearby to show that it is back.
const SUSPECT_BUDGET: Duration = Duration::from_millis(2);

/// A cached tag whose bytes are there and whose holder has the right to them.
#[derive(Clone)]
pub(super) struct Copy {
    pub record: Arc<TagRecord>,
    /// As it was proven with the bytes; the record's is what a HEAD said.
    media_type: String,
    bytes: Bytes,
}

impl Cache {
    pub(super) async fn tag(
        self: &Arc<Self>,
        pull: &Pull,
        tag: &Tag,
        wanted: Wanted,
    ) -> Result<Manifest, Error> {
        let mut old = Vec::new();
        for source in pull.allowed() {
            let (holder, validity) = (pull.holder(source), Validity::of(&pull.target, &source.upstream));
            if validity == Validity::None && !self.store.remembers_tag(&holder, tag) {
                // It is asked for in any case: what that needs is fetched while the record is read.
                let (client, repository) = (self.client(pull, source), holder.repository.clone());
                tokio::spawn(async move { client.prepare(&repository).await });
            }
            let Some(record) = self.or_empty("tag", self.store.tag(&holder, tag).await) else { continue };
            if !validity.covers(record.checked_at, self.clock.now()) {
                old.push((source, holder, record));
            } else if let Some(copy) = self.copy_of(&holder, record).await {
                self.came_from(pull, source);
                return Ok(copy.serve(Outcome::Hit, None));
            }
        }
        let walk = tokio::spawn({
            let (cache, pull, tag) = (self.clone(), pull.clone(), tag.clone());
            async move { cache.walk_tag(&pull, &tag, wanted).await }
        });
        // While upstream is asked: the copies are for when it does not answer.
        let copies = old.into_iter().map(async |(source, holder, record)| {
            let copy = self.copy_of(&holder, record).await;
            copy.map(|copy| (source, copy))
        });
        let copies: Vec<_> = join_all(copies).await.into_iter().flatten().collect();
        let budget = copies.iter().map(|(source, _)| source.upstream.recheck_budget).min();
        let suspect = copies.iter().any(|(source, _)| self.client(pull, source).is_suspect());
        let Some(budget) = budget else { return walk.await.unwrap_or_else(|_| Err(internal())) };
        let budget = if suspect { budget.min(SUSPECT_BUDGET) } else { budget };
        // The walk goes on behind a timeout, and its result is the next pull's.
        if let Ok(walked) = tokio::time::timeout(budget, walk).await {
            return walked.unwrap_or_else(|_| Err(internal()));
        }
        // The first one is asked first: what comes after it may never have been asked.
        if let Some((first, _)) = copies.first() {
            self.client(pull, first).is_slow();
        }
        let newest = copies.into_iter().max_by_key(|(_, copy)| copy.record.checked_at);
        let (source, copy) = newest.ok_or_else(internal)?;
        let name = &source.upstream.id.name;
        let warning = format!("{name} has not answered yet; this copy could not be checked");
        Ok(copy.serve(Outcome::Stale, Some(warning)))
    }

    /// The cached copy of a tag. A record alone is no copy, and no right: what upstream called the tag's digest may
    /// be a digest that somebody else's upstream delivered.
    async fn copy(self: &Arc<Self>, holder: &Holder, tag: &Tag) -> Option<Copy> {
        let record = self.or_empty("tag", self.store.tag(holder, tag).await)?;
        self.copy_of(holder, record).await
    }

    pub(super) async fn copy_of(self: &Arc<Self>, holder: &Holder, record: Arc<TagRecord>) -> Option<Copy> {
        let (right, bytes) = self.look_for_manifest(&record.digest, holder).await.shown()?;
        let media_type = known_type(&right, &bytes)?;
        Some(Copy { record, media_type, bytes })
    }

    /// Asks the upstreams in order what a tag is now.
    async fn walk_tag(self: &Arc<Self>, pull: &Pull, tag: &Tag, wanted: Wanted) -> Result<Manifest, Error> {
        let ask = |source| async move {
            let found = self.check(pull, source, tag, wanted).await?;
            self.came_from(pull, source);
            Ok(found)
        };
        first_of(pull.sources(), ask).await
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
        let (said, copy) = self.said_beside_copy(pull, source, &client, tag).await;
        let patience = patience(copy.as_ref());
        // Kept to the end: other replicas wait for what comes of it.
        let said = match said {
            Ok(said) if said.head.is_none() && wanted == Wanted::Head => {
                return fall_back(&client, copy, Reason::NoHead);
            }
            Ok(said) => said,
            Err(reason) => return fall_back(&client, copy, reason),
        };
        let copy = if said.is_written { self.copy(&holder, tag).await } else { copy };
        if let Some(found) = self.known(&holder, tag, copy.as_ref(), &said).await {
            return Ok(found);
        }
        let head = said.head.clone().unwrap_or_default();
        if wanted == Wanted::Head {
            return Ok(unproven(head));
        }
        if let Some(copy) = copy.as_ref().filter(|_| client.spares_pulls()) {
            let name = &client.upstream().id.name;
            client.served_stale(copy.record.checked_at);
            let warning =
                format!("{name} has a newer one, but its last pulls are kept for images without a copy");
            return Ok(copy.serve(Outcome::Stale, Some(warning)));
        }
        let reference = head.digest.map_or_else(|| by_tag(tag), Reference::Digest);
        match self.fetch(&client, &holder, reference, patience).await {
            Ok(fetched) => Ok(self.record(&holder, tag, fetched).await),
            // Asking by tag instead would cost a counted pull each time.
            Err(Reason::NotFound) if head.digest.is_some() => {
                let reason = Reason::Wrong("its HEAD named a digest that it does not have".to_owned());
                fall_back(&client, copy, reason)
            }
            Err(reason) => fall_back(&client, copy, reason),
        }
    }

    /// What upstream says a tag is, and the copy of what it was.
    async fn said_beside_copy(
        self: &Arc<Self>,
        pull: &Pull,
        source: &Source,
        client: &Arc<Client>,
        tag: &Tag,
    ) -> (Result<Said, Reason>, Option<Copy>) {
        let (holder, validity) = (pull.holder(source), Validity::of(&pull.target, &source.upstream));
        let record = self.store.tag(&holder, tag).await;
        let is_cold = matches!(record, Ok(None));
        let record = self.or_empty("tag", record);
        // One that is asked for in any case is asked for at once: the copy is read meanwhile.
        let is_asked = record.is_some() && validity == Validity::None;
        let head = is_asked.then(|| self.heard(client, &holder, tag));
        let copy = async { self.copy_of(&holder, record?).await };
        let (head, copy) = tokio::join!(OptionFuture::from(head), copy);
        // It did not wait for its turn, as one that has no copy must.
        let is_void = |head: &Result<_, Reason>| matches!(head, Err(Reason::Busy | Reason::Resting(_)));
        let head = head.filter(|head| copy.is_some() || !is_void(head));
        let (client, tag, patience) = (client.clone(), tag.clone(), patience(copy.as_ref()));
        let check = Check { client, holder, tag, is_cold, copy: copy.clone(), validity, patience };
        let said = match head {
            Some(head) => self.conclude(&check, head, Mine::unclaimed()),
            None => Box::pin(self.said(check)).await,
        };
        (said, copy)
    }

    /// The copy of what upstream says the tag is, if there is one that this holder may have.
    async fn known(&self, holder: &Holder, tag: &Tag, copy: Option<&Copy>, said: &Said) -> Option<Manifest> {
        let digest = said.head.as_ref()?.digest?;
        if let Some(copy) = copy.filter(|copy| copy.record.digest == digest) {
            let outcome = if said.is_written { Outcome::Hit } else { Outcome::Revalidated };
            return Some(copy.serve(outcome, None));
        }
        // Upstream just answered 2xx with this digest to this group's credentials; if it delivered the bytes once,
        // to whomever, nothing has to be fetched again (design §4.3).
        let media_type = self.or_empty("links", self.store.delivered(&digest, &holder.origin).await)?;
        let bytes = self.bytes(&digest).await?;
        let media_type = known_type(&media_type, &bytes)?;
        let fetched = Fetched { holder: Some(holder.clone()), digest, media_type, bytes };
        self.link(holder, &fetched).await;
        let found = self.record(holder, tag, fetched).await;
        Some(Manifest { outcome: Outcome::Revalidated, ..found })
    }

    /// Writes down what a tag is now.
    async fn record(&self, holder: &Holder, tag: &Tag, fetched: Fetched) -> Manifest {
        if fetched.holder.as_ref() != Some(holder) {
            self.link(holder, &fetched).await;
        }
        let (media_type, size) = (fetched.media_type.clone(), fetched.bytes.len() as u64);
        let record = TagRecord::new(fetched.digest, media_type, size, self.clock.now());
        if let Some(write) = self.store.put_tag(holder, tag, record, None) {
            self.or_empty("tag", write.await);
        }
        fetched.into_manifest(Outcome::Miss)
    }
}

impl Copy {
    fn serve(&self, outcome: Outcome, warning: Option<String>) -> Manifest {
        Manifest {
            digest: Some(self.record.digest),
            media_type: self.media_type.clone(),
            size: Some(self.bytes.len() as u64),
            bytes: Some(self.bytes.clone()),
            outcome,
            warning,
        }
    }
}

/// How long upstream is waited for.
fn patience(copy: Option<&Copy>) -> Patience {
    if copy.is_some() { Patience::Cached } else { Patience::Cold }
}

/// Upstream did not serve: the cached copy does, unless it was refused and the upstream's document says to refuse.
fn fall_back(client: &Client, copy: Option<Copy>, reason: Reason) -> Result<Manifest, Reason> {
    let upstream = client.upstream();
    let refused = matches!(reason.class(), Class::Missing | Class::Refused);
    let serves = |_: &Copy| !refused || upstream.when_refused == WhenRefused::ServeCached;
    let Some(copy) = copy.filter(serves) else { return Err(reason) };
    client.served_stale(copy.record.checked_at);
    let checked_at = copy.record.checked_at.strftime("%Y-%m-%dT%H:%M:%SZ");
    let warning = format!("{}: {reason}; this copy was checked at {checked_at}", upstream.id.name);
    Ok(copy.serve(Outcome::Stale, Some(warning)))
}

/// A task of ours ended without a result.
fn internal() -> Error {
    Error(vec![Attempt { upstream: "dependency-proxy".to_owned(), failure: Failure::Internal }])
}
