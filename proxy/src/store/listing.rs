//! What the store has of each digest: three listings, each in the order of digests, merged. No record is read, and
//! memory holds one page of each listing and what there is of one digest.

use config::ObjectId;
use futures_util::stream::{BoxStream, Fuse};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::ObjectMeta;
use oci::Digest;

use super::key::{Holder, Named};
use super::{Error, time};

/// All that there is of one digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub digest: Digest,
    pub blob: Option<StoredBlob>,
    /// Since when a sweep has found no right to it.
    pub tomb: Option<Timestamp>,
    pub links: Vec<Link>,
}

/// A blob as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// In bytes.
    pub size: u64,
    pub modified: Timestamp,
}

/// A right as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub holder: Holder,
    /// When it was last used, to the hour.
    pub read_at: Timestamp,
}

pub(super) type Listing = BoxStream<'static, Result<ObjectMeta, Error>>;

/// Entries in the order of digests.
pub struct Entries {
    blobs: Ordered,
    links: Ordered,
    tombs: Ordered,
}

impl Entries {
    pub(super) fn new(instance: &ObjectId, blobs: Listing, links: Listing, tombs: Listing) -> Self {
        let ordered = |listing| Ordered::new(instance.clone(), listing);
        Self { blobs: ordered(blobs), links: ordered(links), tombs: ordered(tombs) }
    }

    /// The next one.
    ///
    /// # Errors
    /// When the store cannot be listed, or lists in no order: what is not found in its place would count as absent.
    pub async fn next(&mut self) -> Result<Option<Entry>, Error> {
        let heads = tokio::try_join!(self.blobs.peek(), self.links.peek(), self.tombs.peek())?;
        let Some(digest) = [heads.0, heads.1, heads.2].into_iter().flatten().min() else { return Ok(None) };
        let mut entry = Entry { digest, blob: None, tomb: None, links: Vec::new() };
        for listing in [&mut self.blobs, &mut self.links, &mut self.tombs] {
            while let Some((named, meta)) = listing.take(&digest).await? {
                match named {
                    Named::Blob(_) => {
                        entry.blob = Some(StoredBlob { size: meta.size, modified: time(&meta) });
                    }
                    Named::Link(_, holder) => entry.links.push(Link { holder, read_at: time(&meta) }),
                    Named::Tomb(_) => entry.tomb = Some(time(&meta)),
                    Named::Tag(..) | Named::Orphan(_) | Named::Upstream(..) => {}
                }
            }
        }
        Ok(Some(entry))
    }
}

/// One listing, and what comes next in it.
struct Ordered {
    instance: ObjectId,
    listing: Fuse<Listing>,
    head: Option<(Digest, Named, ObjectMeta)>,
    before: Option<Digest>,
}

impl Ordered {
    fn new(instance: ObjectId, listing: Listing) -> Self {
        Self { instance, listing: listing.fuse(), head: None, before: None }
    }

    async fn peek(&mut self) -> Result<Option<Digest>, Error> {
        while self.head.is_none() {
            let Some(meta) = self.listing.try_next().await? else { return Ok(None) };
            // What is not ours is passed over.
            let Some(named) = Named::parse(&self.instance, &meta.location) else { continue };
            let Some(digest) = named.digest() else { continue };
            if self.before.is_some_and(|before| before > digest) {
                return Err(Error::Unordered);
            }
            self.before = Some(digest);
            self.head = Some((digest, named, meta));
        }
        Ok(self.head.as_ref().map(|(digest, ..)| *digest))
    }

    /// What comes next, if it is about this digest.
    async fn take(&mut self, digest: &Digest) -> Result<Option<(Named, ObjectMeta)>, Error> {
        let is_next = self.peek().await? == Some(*digest);
        Ok(self.head.take_if(|_| is_next).map(|(_, named, meta)| (named, meta)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use futures_util::stream;
    use oci::{Algorithm, Name};

    use super::super::key::Key;
    use super::*;

    fn instance() -> ObjectId {
        ObjectId { namespace: "ns".into(), name: "main".into() }
    }

    fn listing(keys: &[Key<'_>]) -> Listing {
        let metas = keys.iter().map(|key| {
            Ok(ObjectMeta {
                location: key.path(&instance()),
                last_modified: Default::default(),
                size: 7,
                e_tag: None,
                version: None,
            })
        });
        stream::iter(metas.collect::<Vec<_>>()).boxed()
    }

    /// Three digests in the order of their hex digits.
    fn digests() -> [Digest; 3] {
        let mut digests = [b"a", b"b", b"c"].map(|text| Digest::of(Algorithm::Sha256, text));
        digests.sort();
        digests
    }

    fn holder(repository: &str) -> Holder {
        let group = ObjectId { namespace: "ns".into(), name: "team".into() };
        Holder { origin: "0f".into(), group, repository: Name::parse(repository).unwrap() }
    }

    #[tokio::test]
    async fn each_digest_comes_once_with_all_that_there_is_of_it() {
        let [first, second, third] = digests();
        let (one, other) = (holder("one"), holder("other"));
        let links = [Key::Link(&first, &one), Key::Link(&first, &other), Key::Link(&third, &one)];
        let mut entries = Entries::new(
            &instance(),
            listing(&[Key::Blob(&first), Key::Blob(&second)]),
            listing(&links),
            listing(&[Key::Tomb(&second)]),
        );
        let mut found = Vec::new();
        while let Some(entry) = entries.next().await.unwrap() {
            found.push((entry.digest, entry.blob.is_some(), entry.tomb.is_some(), entry.links.len()));
        }
        assert_eq!(found, [(first, true, false, 2), (second, true, true, 0), (third, false, false, 1)]);
    }

    #[tokio::test]
    async fn a_store_that_lists_in_no_order_is_not_believed() {
        let [first, second, _] = digests();
        let blobs = listing(&[Key::Blob(&second), Key::Blob(&first)]);
        let mut entries = Entries::new(&instance(), blobs, listing(&[]), listing(&[]));
        assert!(matches!(entries.next().await, Err(Error::Unordered)));
    }
}
