//! Forgetting at somebody's wish: rights and tags go, bytes without rights go with the next cleanups.

use std::collections::HashSet;

use config::ObjectId;
use futures_util::TryStreamExt;
use oci::{Algorithm, Digest, Name, Tag};

use super::key::{Holder, Key, Kind, Named, Stretch};
use super::{Error, Store};

/// Records that are deleted together.
const BATCH: usize = 1000;

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

impl Store {
    /// Forgets rights and tags. This process believes them no longer when this ends, other replicas within a minute.
    ///
    /// # Errors
    /// When the store fails; what was forgotten until then is forgotten.
    pub async fn purge(&self, purge: &Purge) -> Result<Purged, Error> {
        let purged = self.forget(purge).await;
        self.links.clear();
        self.tags.clear();
        purged
    }

    async fn forget(&self, purge: &Purge) -> Result<Purged, Error> {
        let mut purged = Purged::default();
        let mut links = match &purge.what {
            What::Digest(_) => Vec::new(),
            What::Everything => self.forget_tags(purge, None, &mut purged).await?,
            What::Tag(tag) => self.forget_tags(purge, Some(tag), &mut purged).await?,
        };
        let folders = match &purge.what {
            What::Tag(_) => Vec::new(),
            What::Digest(digest) => vec![Key::AnyLinks(digest).path(&self.instance)],
            What::Everything => [Algorithm::Sha256, Algorithm::Sha512]
                .map(|algorithm| Kind::Links.stretch(&self.instance, Stretch { algorithm, shard: None }))
                .to_vec(),
        };
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
        self.delete(&keys).await?;
        purged.links += links.len() as u64;
        links.clear();
        Ok(())
    }

    /// Forgets the records of tags; of one tag, tells the rights to the manifests that it named.
    async fn forget_tags(
        &self,
        purge: &Purge,
        only: Option<&Tag>,
        purged: &mut Purged,
    ) -> Result<Vec<(Digest, Holder)>, Error> {
        let mut named = Vec::new();
        let mut tags = self.tags();
        let mut batch = Vec::new();
        loop {
            let next = tags.try_next().await?;
            let ended = next.is_none();
            let covered =
                next.filter(|(holder, tag, _)| purge.covers(holder) && only.is_none_or(|only| only == tag));
            if let Some((holder, tag, _)) = covered {
                if only.is_some()
                    && let Some(record) = self.tag(&holder, &tag).await?
                {
                    named.push((record.digest, holder.clone()));
                }
                batch.push((holder, tag));
            }
            if batch.len() >= BATCH || ended {
                let keys: Vec<_> = batch.iter().map(|(holder, tag)| Key::Tag(holder, tag)).collect();
                self.delete(&keys).await?;
                purged.tags += batch.len() as u64;
                batch.clear();
            }
            if ended {
                return Ok(named);
            }
        }
    }
}
