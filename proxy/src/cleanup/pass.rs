//! One pass over the store: what a plan decides is done in batches, and what stays is counted.

use futures_util::{StreamExt, TryStreamExt, stream};
use oci::{Digest, Tag};

use super::plan::{Census, Fate, Plan};
use super::report::Report;
use crate::store::{Error, Holder, Key, Store, StoredBlob};

/// Records that are deleted together; S3 takes as many at once.
const BATCH: usize = 1000;
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
            report.links.deleted += verdict.forgotten.len() as u64;
            batch.links.extend(verdict.forgotten.into_iter().map(|link| (digest, link.holder)));
            match (verdict.fate, blob) {
                (Fate::Stays, _) | (Fate::Buried | Fate::Deleted, None) => {}
                (Fate::Buried, Some(blob)) => {
                    report.blobs.condemned += 1;
                    report.blobs.condemned_bytes += blob.size;
                    batch.buried.push(digest);
                }
                (Fate::Deleted, Some(blob)) => batch.deleted.push((digest, blob)),
                (Fate::Raised, _) => batch.raised.push(digest),
            }
            if batch.is_full() {
                batch.flush(store, report).await?;
            }
        }
    }
    batch.flush(store, report).await?;
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
    let mut expired: Vec<(Holder, Tag)> = Vec::new();
    loop {
        let next = tags.try_next().await?;
        let ended = next.is_none();
        if let Some((holder, tag, written_at)) = next {
            report.tags.examined += 1;
            if plan.has_expired(&holder, written_at) {
                report.tags.deleted += 1;
                expired.push((holder, tag));
            } else {
                census.note_orphan(&holder, plan);
            }
        }
        if act == Act::Apply && (expired.len() >= BATCH || ended) {
            let keys: Vec<_> = expired.iter().map(|(holder, tag)| Key::Tag(holder, tag)).collect();
            store.delete(&keys).await?;
            expired.clear();
        }
        if ended {
            return Ok(());
        }
    }
}

/// What is to be done next.
struct Batch {
    act: Act,
    links: Vec<(Digest, Holder)>,
    buried: Vec<Digest>,
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
        let Self { links, buried, raised, deleted, .. } = std::mem::replace(self, Self::new(self.act));
        let gone = match self.act {
            Act::Apply => still_unlinked(store, deleted).await?,
            Act::Count | Act::Rehearse => deleted,
        };
        report.blobs.deleted += gone.len() as u64;
        report.blobs.bytes += gone.iter().map(|(_, blob)| blob.size).sum::<u64>();
        if self.act != Act::Apply {
            return Ok(());
        }
        let links: Vec<_> = links.iter().map(|(digest, holder)| Key::Link(digest, holder)).collect();
        store.delete(&links).await?;
        let marks = stream::iter(&buried).map(|digest| async move { store.mark(&Key::Tomb(digest)).await });
        marks.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        // The blob first: a tombstone without a blob is harmless, and the next run takes it away.
        let blobs: Vec<_> = gone.iter().map(|(digest, _)| Key::Blob(digest)).collect();
        store.delete(&blobs).await?;
        let tombs = gone.iter().map(|(digest, _)| digest).chain(&raised).map(Key::Tomb);
        store.delete(&tombs.collect::<Vec<_>>()).await
    }
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
