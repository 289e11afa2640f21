//! One pass over the store: what a plan decides is done in batches, and what stays is counted.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use oci::{Digest, Tag};

use super::plan::{Census, Fate, Plan};
use super::report::Report;
use crate::store::{Error, Holder, Key, Link, Store, StoredBlob};

/// What is asked again and deleted together: few enough that the deletion follows the question within a fraction of a
/// second.
const BATCH: usize = 200;
/// Requests at once where each digest takes its own.
const AT_ONCE: usize = 16;

/// What a pass does with what it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing, and it is not reported: it only counts.
    Count,
    /// Nothing, but it is reported.
    Rehearse,
    Apply,
}

/// Goes over all digests.
pub(super) async fn digests(
    store: &Store,
    plan: &mut Plan<'_>,
    act: Act,
    report: &mut Report,
) -> Result<Census, Error> {
    let mut census = Census::default();
    let freed_before = report.blobs.bytes;
    let mut batch = Batch::new(act);
    for stretch in store.stretches() {
        let mut entries = store.entries(stretch);
        while let Some(entry) = entries.next().await? {
            let (digest, blob, examined) = (entry.digest, entry.blob, entry.links.len());
            let verdict = plan.judge(entry);
            census.count(blob.map(|blob| blob.size), examined, &verdict.kept, plan);
            if act == Act::Count {
                continue;
            }
            batch.links.extend(verdict.forgotten.into_iter().map(|link| (digest, link)));
            match (verdict.fate, blob) {
                (Fate::Stays, _) | (Fate::Buried | Fate::Deleted, None) => {}
                (Fate::Buried, Some(blob)) => batch.buried.push((digest, blob)),
                (Fate::Deleted, Some(blob)) => batch.deleted.push((digest, blob)),
                (Fate::Raised, _) => batch.raised.push(digest),
            }
            if batch.is_full() {
                batch.flush(store, report).await?;
            }
        }
    }
    batch.flush(store, report).await?;
    census.bytes -= report.blobs.bytes - freed_before;
    Ok(census)
}

/// Forgets the tags that nobody used.
pub(super) async fn tags(
    store: &Store,
    plan: &Plan<'_>,
    act: Act,
    census: &mut Census,
    report: &mut Report,
) -> Result<(), Error> {
    let mut tags = store.tags();
    let mut expired: Vec<ListedTag> = Vec::new();
    loop {
        let next = tags.try_next().await?;
        let ended = next.is_none();
        if let Some((holder, tag, written_at)) = next {
            report.tags.examined += 1;
            if plan.has_expired(&holder, written_at) {
                expired.push((holder, tag, written_at));
            } else {
                census.note_orphan(&holder, plan);
            }
        }
        if expired.len() >= BATCH || ended {
            report.tags.deleted += forget_tags(store, act, std::mem::take(&mut expired)).await?;
        }
        if ended {
            return Ok(());
        }
    }
}

/// A tag, and when it was written.
type ListedTag = (Holder, Tag, Timestamp);

/// How many of them were forgotten.
async fn forget_tags(store: &Store, act: Act, mut expired: Vec<ListedTag>) -> Result<u64, Error> {
    if act == Act::Apply {
        expired = still_unused(store, expired, |(holder, tag, at)| (Key::Tag(holder, tag), *at)).await?.0;
        let keys: Vec<_> = expired.iter().map(|(holder, tag, _)| Key::Tag(holder, tag)).collect();
        store.delete(&keys).await?;
    }
    Ok(expired.len() as u64)
}

/// What is to be done next.
struct Batch {
    act: Act,
    links: Vec<(Digest, Link)>,
    buried: Vec<(Digest, StoredBlob)>,
    raised: Vec<Digest>,
    deleted: Vec<(Digest, StoredBlob)>,
}

impl Batch {
    fn new(act: Act) -> Self {
        Self { act, links: Vec::new(), buried: Vec::new(), raised: Vec::new(), deleted: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.links.len() + self.buried.len() + self.raised.len() + self.deleted.len() >= BATCH
    }

    async fn flush(&mut self, store: &Store, report: &mut Report) -> Result<(), Error> {
        let Self { mut links, mut buried, raised, mut deleted, .. } =
            std::mem::replace(self, Self::new(self.act));
        if self.act == Act::Apply {
            deleted = still_unlinked(store, deleted).await?;
            let (unused, used) =
                still_unused(store, links, |(digest, link)| (Key::Link(digest, &link.holder), link.read_at))
                    .await?;
            let used: HashSet<_> = used.into_iter().map(|(digest, _)| digest).collect();
            links = unused;
            buried.retain(|(digest, _)| !used.contains(digest));
        }
        let bytes = |blobs: &[(Digest, StoredBlob)]| blobs.iter().map(|(_, blob)| blob.size).sum::<u64>();
        report.links.deleted += links.len() as u64;
        report.blobs.condemned += buried.len() as u64;
        report.blobs.condemned_bytes += bytes(&buried);
        report.blobs.deleted += deleted.len() as u64;
        report.blobs.bytes += bytes(&deleted);
        if self.act != Act::Apply {
            return Ok(());
        }
        let links: Vec<_> = links.iter().map(|(digest, link)| Key::Link(digest, &link.holder)).collect();
        store.delete(&links).await?;
        let marks =
            stream::iter(&buried).map(|(digest, _)| async move { store.mark(&Key::Tomb(digest)).await });
        marks.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        // The blob first: a tombstone without a blob is harmless, and the next run takes it away.
        let blobs: Vec<_> = deleted.iter().map(|(digest, _)| Key::Blob(digest)).collect();
        store.delete(&blobs).await?;
        let tombs = deleted.iter().map(|(digest, _)| digest).chain(&raised).map(Key::Tomb);
        store.delete(&tombs.collect::<Vec<_>>()).await
    }
}

/// Records that nobody has used since they were listed, and those that somebody has: a listing may be minutes old.
async fn still_unused<T>(
    store: &Store,
    listed: Vec<T>,
    key: impl Fn(&T) -> (Key<'_>, Timestamp),
) -> Result<(Vec<T>, Vec<T>), Error> {
    let key = &key;
    let check = |record: T| async move {
        let (asked, listed) = key(&record);
        let unused = store.is_still_unused(&asked, listed).await?;
        Ok::<_, Error>((record, unused))
    };
    let checked: Vec<_> = stream::iter(listed).map(check).buffered(AT_ONCE).try_collect().await?;
    let (unused, used): (Vec<_>, Vec<_>) = checked.into_iter().partition(|(_, unused)| *unused);
    let records = |checked: Vec<(T, bool)>| checked.into_iter().map(|(record, _)| record).collect();
    Ok((records(unused), records(used)))
}

/// Those to which nobody has come back since they were listed.
async fn still_unlinked(
    store: &Store,
    listed: Vec<(Digest, StoredBlob)>,
) -> Result<Vec<(Digest, StoredBlob)>, Error> {
    let check = |(digest, blob): (Digest, StoredBlob)| async move {
        let unlinked = store.is_still_unlinked(&digest, blob.modified).await?;
        Ok(unlinked.then_some((digest, blob)))
    };
    let checked = stream::iter(listed).map(check).buffered(AT_ONCE);
    checked.try_filter_map(|found| std::future::ready(Ok(found))).try_collect().await
}

/// Keeps the marks of what no document names as they should be.
pub(super) async fn orphans(store: &Store, plan: &Plan<'_>, census: &Census) -> Result<(), Error> {
    for orphan in census.orphans.iter().filter(|orphan| !plan.orphans.contains_key(orphan)) {
        store.mark(&Key::Orphan(orphan)).await?;
    }
    let ended = plan.orphans.keys().filter(|orphan| !census.orphans.contains(orphan));
    store.delete(&ended.map(Key::Orphan).collect::<Vec<_>>()).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use config::ObjectId;
    use oci::{Algorithm, Name};

    use super::*;
    use crate::store::{TagRecord, testing};

    fn holder(repository: &str) -> Holder {
        let group = ObjectId { namespace: "default".to_owned(), name: "team-a".to_owned() };
        Holder { origin: "0f".to_owned(), group, repository: Name::parse(repository).unwrap() }
    }

    /// Between the listing and the deletion are minutes, and the upstream may be away.
    #[tokio::test]
    async fn a_right_that_was_used_since_it_was_listed_is_not_forgotten_nor_its_blob_buried() {
        let data = tempfile::tempdir().unwrap();
        let store = testing::shared(&testing::config(), data.path());
        let now = store.store_time().await.unwrap();
        let before = now.checked_sub(Duration::from_secs(3600)).unwrap();
        let later = now.checked_add(Duration::from_secs(3600)).unwrap();
        let blob = StoredBlob { size: 7, modified: before };
        let digests = [&b"used"[..], b"unused"].map(|text| Digest::of(Algorithm::Sha256, text));
        let mut batch = Batch::new(Act::Apply);
        for (digest, read_at) in digests.iter().zip([before, later]) {
            store.put_link(digest, &holder("a"), "").await.unwrap();
            batch.links.push((*digest, Link { holder: holder("a"), read_at }));
            batch.buried.push((*digest, blob));
        }
        let mut report = Report::default();
        batch.flush(&store, &mut report).await.unwrap();
        assert_eq!((report.links.deleted, report.blobs.condemned, report.blobs.condemned_bytes), (1, 1, 7));
        let mut left = Vec::new();
        for stretch in store.stretches() {
            let mut entries = store.entries(stretch);
            while let Some(entry) = entries.next().await.unwrap() {
                left.push((entry.digest, entry.links.len(), entry.tomb.is_some()));
            }
        }
        left.sort();
        let mut expected = [(digests[0], 1, false), (digests[1], 0, true)];
        expected.sort();
        assert_eq!(left, expected);
    }

    #[tokio::test]
    async fn a_tag_that_was_used_since_it_was_listed_is_not_forgotten() {
        let data = tempfile::tempdir().unwrap();
        let store = testing::shared(&testing::config(), data.path());
        let now = store.store_time().await.unwrap();
        let before = now.checked_sub(Duration::from_secs(3600)).unwrap();
        let later = now.checked_add(Duration::from_secs(3600)).unwrap();
        let record = TagRecord::new(Digest::of(Algorithm::Sha256, b""), String::new(), 0, now);
        let mut listed = Vec::new();
        for (tag, written_at) in [("used", before), ("unused", later)] {
            let tag = Tag::parse(tag).unwrap();
            store.put_tag(&holder("a"), &tag, record.clone(), None).unwrap().await.unwrap();
            listed.push((holder("a"), tag, written_at));
        }
        assert_eq!(forget_tags(&store, Act::Apply, listed).await.unwrap(), 1);
        let left: Vec<_> = store.tags().try_collect().await.unwrap();
        assert_eq!(left.iter().map(|(_, tag, _)| tag.as_str()).collect::<Vec<_>>(), ["used"]);
    }
}
