//! Forgetting at somebody's wish: rights and tags go, bytes without rights go with the next cleanups.

use std::collections::{HashSet, VecDeque};

use config::ObjectId;
use futures_util::TryStreamExt;
use oci::{Algorithm, Digest, Name, Tag};

use super::key::{Holder, Key, Kind, Named, Stretch};
use super::{Error, Store};

/// Records that are deleted together.
const BATCH: usize = 1000;
/// Purges that wait at once.
const WAITING: usize = 100;

/// What is to be forgotten of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    pub group: ObjectId,
    /// `None`: whoever delivered it.
    pub origins: Option<HashSet<String>>,
    /// As upstreams name it; `None`: all.
    pub repositories: Option<Vec<Name>>,
    pub what: What,
}

/// What of these repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Everything,
    /// What a tag is, and the right to the manifest that it names.
    Tag(Tag),
    Digest(Digest),
}

/// How much was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub links: u64,
    pub tags: u64,
}

impl Purge {
    fn covers(&self, holder: &Holder) -> bool {
        holder.group == self.group
            && self.origins.as_ref().is_none_or(|origins| origins.contains(&holder.origin))
            && self.repositories.as_ref().is_none_or(|names| names.contains(&holder.repository))
    }
}

/// Purges that wait for their turn: each goes over all records, so one is done after the other.
#[derive(Default)]
pub(super) struct Waiting {
    asked: VecDeque<Vec<Purge>>,
    /// Whether somebody does them.
    busy: bool,
}

/// So many purges wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

impl Store {
    /// Takes a place for purges, the one of who waits for the same. `true`: nobody does them yet, the caller has to.
    ///
    /// # Errors
    /// When too many wait.
    pub fn queue_purges(&self, purges: Vec<Purge>) -> Result<bool, Crowded> {
        let mut waiting = self.purges.lock();
        if !waiting.asked.contains(&purges) {
            if waiting.asked.len() >= WAITING {
                return Err(Crowded);
            }
            waiting.asked.push_back(purges);
        }
        Ok(!std::mem::replace(&mut waiting.busy, true))
    }

    /// What is to be done next. `None`: nothing is, and whoever asks does them no longer.
    pub fn next_purges(&self) -> Option<Vec<Purge>> {
        let mut waiting = self.purges.lock();
        let next = waiting.asked.pop_front();
        waiting.busy = next.is_some();
        next
    }

    /// Forgets rights and tags. This process believes them no longer when this ends, other replicas within a minute.
    ///
    /// # Errors
    /// When the store fails; what was forgotten until then is forgotten, and trying again forgets the rest.
    pub async fn purge(&self, purge: &Purge) -> Result<Purged, Error> {
        let mut purged = Purged::default();
        match &purge.what {
            What::Digest(_) => {}
            What::Everything => self.forget_tags(purge, None, &mut purged).await?,
            What::Tag(tag) => self.forget_tags(purge, Some(tag), &mut purged).await?,
        }
        let folders = match &purge.what {
            What::Tag(_) => Vec::new(),
            What::Digest(digest) => vec![Key::AnyLinks(digest).path(&self.instance)],
            What::Everything => [Algorithm::Sha256, Algorithm::Sha512]
                .map(|algorithm| Kind::Links.stretch(&self.instance, Stretch { algorithm, shard: None }))
                .to_vec(),
        };
        let mut links = Vec::new();
        for folder in folders {
            let mut listing = self.list(&folder);
            while let Some(meta) = listing.try_next().await? {
                if let Some(Named::Link(digest, holder)) = Named::parse(&self.instance, &meta.location)
                    && purge.covers(&holder)
                {
                    links.push((digest, holder));
                }
                if links.len() >= BATCH {
                    self.forget_links(&mut links, &mut purged).await?;
                }
            }
        }
        self.forget_links(&mut links, &mut purged).await?;
        Ok(purged)
    }

    async fn forget_links(
        &self,
        links: &mut Vec<(Digest, Holder)>,
        purged: &mut Purged,
    ) -> Result<(), Error> {
        let keys: Vec<_> = links.iter().map(|(digest, holder)| Key::Link(digest, holder)).collect();
        let deleted = self.delete(&keys).await;
        self.links.clear();
        deleted?;
        purged.links += links.len() as u64;
        links.clear();
        Ok(())
    }

    /// Forgets the records of tags; with those of one tag the rights to the manifests that they name.
    async fn forget_tags(&self, purge: &Purge, only: Option<&Tag>, purged: &mut Purged) -> Result<(), Error> {
        let mut tags = self.tags();
        let (mut batch, mut named) = (Vec::new(), Vec::new());
        loop {
            let next = tags.try_next().await?;
            let ended = next.is_none();
            let covered =
                next.filter(|(holder, tag, _)| purge.covers(holder) && only.is_none_or(|only| only == tag));
            if let Some((holder, tag, _)) = covered {
                if only.is_some()
                    && let Some(record) = self.tag_anew(&holder, &tag).await?
                {
                    named.push((record.digest, holder.clone()));
                }
                batch.push((holder, tag));
            }
            if batch.len() >= BATCH || ended {
                // First, since whoever tries again finds them by the records alone.
                self.forget_links(&mut named, purged).await?;
                let keys: Vec<_> = batch.iter().map(|(holder, tag)| Key::Tag(holder, tag)).collect();
                let deleted = self.delete(&keys).await;
                self.tags.clear();
                deleted?;
                purged.tags += batch.len() as u64;
                batch.clear();
            }
            if ended {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::store::testing;

    #[test]
    fn one_purge_is_done_after_the_other_and_the_same_that_waits_once() {
        let data = tempfile::tempdir().unwrap();
        let store = testing::shared(&testing::config(), data.path());
        let of = |name: &str| {
            let group = ObjectId { namespace: "default".to_owned(), name: name.to_owned() };
            vec![Purge { group, origins: None, repositories: None, what: What::Everything }]
        };
        assert_eq!(store.queue_purges(of("a")), Ok(true), "who asks first does them");
        assert_eq!(store.next_purges(), Some(of("a")));
        for name in ["a", "b", "a"] {
            assert_eq!(store.queue_purges(of(name)), Ok(false), "somebody does them");
        }
        let next = [(); 3].map(|()| store.next_purges());
        assert_eq!(next, [Some(of("a")), Some(of("b")), None], "what is being done may have passed it");
        assert_eq!(store.queue_purges(of("a")), Ok(true));
    }
}
