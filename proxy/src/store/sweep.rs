//! What a cleanup asks of the store: listings, tombstones, deletions. Unhurried: no pull waits for it.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt, PutPayload};
use oci::{Algorithm, Digest, Hasher, Tag};

use super::key::{GroupOrigin, Holder, Key, Kind, Named, Stretch};
use super::listing::{Entries, Listing};
use super::objects::absent_is_none;
use super::{Error, Store, time};

impl Store {
    /// The time as the store has it. Ages are told from the store's times alone: clocks of replicas may differ.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn store_time(&self) -> Result<Timestamp, Error> {
        let path = Key::Now.path(&self.instance);
        self.objects.store().put(&path, PutPayload::new()).await?;
        Ok(time(&self.objects.store().head(&path).await?))
    }

    /// The stretches of digests that make up the store. A bucket lists in order by itself; what a folder lists is
    /// sorted here, a shard at a time.
    #[must_use]
    pub fn stretches(&self) -> Vec<Stretch> {
        let shards = |algorithm| (0..=u8::MAX).map(move |shard| Stretch { algorithm, shard: Some(shard) });
        let all = |algorithm| Stretch { algorithm, shard: None };
        let algorithms = [Algorithm::Sha256, Algorithm::Sha512].into_iter();
        if self.shared { algorithms.map(all).collect() } else { algorithms.flat_map(shards).collect() }
    }

    /// Everything in a stretch of digests.
    #[must_use]
    pub fn entries(&self, stretch: Stretch) -> Entries {
        let listing = |kind: Kind| self.ordered(kind.stretch(&self.instance, stretch));
        Entries::new(&self.instance, listing(Kind::Blobs), listing(Kind::Links), listing(Kind::Tombs))
    }

    /// The digests of the blobs in a stretch that come after this one, in their order.
    #[must_use]
    pub fn blobs(&self, stretch: Stretch, after: Option<&Digest>) -> BoxStream<'_, Result<Digest, Error>> {
        let folder = Kind::Blobs.stretch(&self.instance, stretch);
        let listing = match after {
            Some(after) => {
                let after = Key::Blob(after).path(&self.instance);
                self.in_order(self.objects.store().list_with_offset(Some(&folder), &after))
            }
            None => self.ordered(folder),
        };
        let digest = |meta: ObjectMeta| match Named::parse(&self.instance, &meta.location) {
            Some(Named::Blob(digest)) => Some(digest),
            _ => None,
        };
        listing.try_filter_map(move |meta| std::future::ready(Ok(digest(meta)))).boxed()
    }

    fn ordered(&self, folder: Path) -> Listing {
        self.in_order(self.objects.store().list(Some(&folder)))
    }

    fn in_order(&self, listing: BoxStream<'static, object_store::Result<ObjectMeta>>) -> Listing {
        let listing = listing.map_err(Error::from).boxed();
        if self.shared {
            return listing;
        }
        let sorted = async move {
            let mut found: Vec<ObjectMeta> = listing.try_collect().await?;
            found.sort_by(|one, other| one.location.cmp(&other.location));
            Ok::<_, Error>(stream::iter(found.into_iter().map(Ok)))
        };
        stream::once(sorted).try_flatten().boxed()
    }

    pub(super) fn list(&self, folder: &Path) -> Listing {
        self.objects.store().list(Some(folder)).map_err(Error::from).boxed()
    }

    /// Every tag, and when it was last written; in no order.
    pub fn tags(&self) -> BoxStream<'_, Result<(Holder, Tag, Timestamp), Error>> {
        let listing = self.list(&Kind::Tags.folder(&self.instance));
        let tag = |meta: ObjectMeta| match Named::parse(&self.instance, &meta.location) {
            Some(Named::Tag(holder, tag)) => Some((holder, tag, time(&meta))),
            _ => None,
        };
        listing.try_filter_map(move |meta| std::future::ready(Ok(tag(meta)))).boxed()
    }

    /// What sweeps have found to be named by no document, and since when.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn orphans(&self) -> Result<HashMap<GroupOrigin, Timestamp>, Error> {
        let listing = self.list(&Kind::Orphans.folder(&self.instance));
        let orphan = |meta: ObjectMeta| match Named::parse(&self.instance, &meta.location) {
            Some(Named::Orphan(orphan)) => Some((orphan, time(&meta))),
            _ => None,
        };
        listing.try_filter_map(|meta| std::future::ready(Ok(orphan(meta)))).try_collect().await
    }

    /// Writes an empty record, such as a tombstone; its time is what it says.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn mark(&self, key: &Key<'_>) -> Result<(), Error> {
        self.objects.store().put(&key.path(&self.instance), PutPayload::new()).await?;
        Ok(())
    }

    /// Whether a blob is still as it was listed, and nobody has a right to it: asked right before it is deleted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_still_unlinked(&self, digest: &Digest, listed: Timestamp) -> Result<bool, Error> {
        let links = Key::AnyLinks(digest).path(&self.instance);
        if self.list(&links).next().await.transpose()?.is_some() {
            return Ok(false);
        }
        let head = self.objects.store().head(&Key::Blob(digest).path(&self.instance)).await;
        // A HEAD tells whole seconds.
        let same = |meta: ObjectMeta| time(&meta).as_second() == listed.as_second();
        Ok(absent_is_none(head)?.is_some_and(same))
    }

    /// Whether nobody has used a right or a tag since it was listed: asked right before it is deleted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_still_unused(&self, key: &Key<'_>, listed: Timestamp) -> Result<bool, Error> {
        let head = self.objects.store().head(&key.path(&self.instance)).await;
        // A HEAD tells whole seconds.
        let unused = |meta: ObjectMeta| time(&meta).as_second() <= listed.as_second();
        Ok(absent_is_none(head)?.is_none_or(unused))
    }

    /// Deletes, in bulk where the store can. What is not there is deleted.
    ///
    /// # Errors
    /// When the store refuses one of them.
    pub async fn delete(&self, keys: &[Key<'_>]) -> Result<(), Error> {
        self.delete_listed(keys.iter().map(|key| key.path(&self.instance)).collect()).await
    }

    /// The same for what a listing gave.
    pub(super) async fn delete_listed(&self, paths: Vec<Path>) -> Result<(), Error> {
        let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut deleted = self.objects.store().delete_stream(paths);
        while let Some(result) = deleted.next().await {
            match result {
                Err(error) if !is_absent(&error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes a blob that was read and does not have its digest.
    ///
    /// # Errors
    /// When the store refuses it.
    pub async fn delete_damaged(&self, digest: &Digest) -> Result<(), Error> {
        tracing::warn!(%digest, "a stored blob is damaged; it is fetched again when it is pulled");
        self.delete(&[Key::Blob(digest)]).await
    }

    /// What the last cleanup wrote down, and when; `None`: there was none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn last_cleanup(&self) -> Result<Option<(Bytes, Timestamp)>, Error> {
        let got = self.objects.store().get(&Key::Cleanup.path(&self.instance)).await;
        let Some(result) = absent_is_none(got)? else { return Ok(None) };
        let at = time(&result.meta);
        Ok(Some((result.bytes().await?, at)))
    }

    /// Writes down what a cleanup did.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn note_cleanup(&self, record: Bytes) -> Result<(), Error> {
        let path = Key::Cleanup.path(&self.instance);
        self.objects.store().put(&path, PutPayload::from_bytes(record)).await?;
        Ok(())
    }

    /// Up to which digest blobs were checked; `None`: the next check begins at the first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn verified_to(&self) -> Result<Option<Digest>, Error> {
        let got = self.objects.store().get(&Key::Verified.path(&self.instance)).await;
        let Some(result) = absent_is_none(got)? else { return Ok(None) };
        let record = result.bytes().await?;
        Ok(std::str::from_utf8(&record).ok().and_then(|digest| Digest::parse(digest).ok()))
    }

    /// Writes down up to which digest blobs were checked; `None`: all of them were.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn note_verified(&self, digest: Option<&Digest>) -> Result<(), Error> {
        let Some(digest) = digest else { return self.delete(&[Key::Verified]).await };
        let path = Key::Verified.path(&self.instance);
        self.objects.store().put(&path, digest.to_string().into()).await?;
        Ok(())
    }

    /// Whether a stored blob has its digest; `None` where it is not there any more. `read` is called with the length
    /// of each piece, and says how fast it goes on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_whole(
        &self,
        digest: &Digest,
        mut read: impl AsyncFnMut(usize),
    ) -> Result<Option<bool>, Error> {
        let got = self.objects.store().get(&Key::Blob(digest).path(&self.instance)).await;
        let Some(result) = absent_is_none(got)? else { return Ok(None) };
        let mut bytes = result.into_stream();
        let mut hasher = Hasher::new(digest.algorithm());
        while let Some(piece) = bytes.try_next().await? {
            hasher.update(&piece);
            read(piece.len()).await;
        }
        Ok(Some(hasher.finish() == *digest))
    }
}

/// Whether there was nothing to delete: another run was faster. S3 does not call that an error in a bulk deletion, other
/// servers do, and object_store tells the code as text only.
fn is_absent(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotFound { .. } => true,
        object_store::Error::Generic { source, .. } => source.to_string().contains("NoSuchKey"),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use config::ObjectId;
    use oci::Name;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::Metrics;
    use crate::store::{Holder, testing};

    /// Between the listing and the deletion anybody can come back.
    #[tokio::test]
    async fn a_blob_is_not_deleted_that_got_a_right_or_was_written_since_it_was_listed() {
        let data = tempfile::tempdir().unwrap();
        let metrics = Metrics::new(&mut Registry::default());
        let store = testing::in_folder(&testing::config(), data.path(), &metrics);
        let bytes = Bytes::from_static(b"blob");
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        store.keep_bytes(digest, bytes).await.unwrap();
        let blob = Key::Blob(&digest).path(&store.instance);
        let listed = time(&store.objects.store().head(&blob).await.unwrap());
        assert!(store.is_still_unlinked(&digest, listed).await.unwrap());

        let before = listed.checked_sub(std::time::Duration::from_secs(5)).unwrap();
        assert!(!store.is_still_unlinked(&digest, before).await.unwrap(), "it was written since");
        let group = ObjectId { namespace: "default".to_owned(), name: "team-a".to_owned() };
        let holder = Holder { origin: "0f".to_owned(), group, repository: Name::parse("a").unwrap() };
        store.put_link(&digest, &holder, "").await.unwrap();
        assert!(!store.is_still_unlinked(&digest, listed).await.unwrap(), "it has a right again");
    }
}
