//! What is written down of a tag.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use oci::{Digest, Tag};
use serde::{Deserialize, Serialize};

use super::{Error, Holder, Key, Store, USE_PRECISION};
use crate::clock::since;

/// A check that found nothing new is written to the store at most this often.
const CHECKED_AT_PRECISION: Duration = Duration::from_secs(60);

/// A tag as it was when upstream was last asked. Unknown fields of a newer version are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagRecord {
    pub digest: Digest,
    pub media_type: String,
    /// Bytes of the manifest.
    pub size: u64,
    /// When upstream last said that the tag is this.
    pub checked_at: Timestamp,
    /// The `checked_at` that is in the store: that in memory may be newer.
    #[serde(skip)]
    pub written_at: Timestamp,
}

impl TagRecord {
    /// What a tag is, as it was said just now.
    #[must_use]
    pub fn new(digest: Digest, media_type: String, size: u64, checked_at: Timestamp) -> Self {
        Self { digest, media_type, size, checked_at, written_at: checked_at }
    }
}

impl Store {
    /// What a tag was when it was last checked.
    ///
    /// # Errors
    /// When the store cannot be read. A record that cannot be understood counts as lost.
    pub async fn tag(&self, holder: &Holder, tag: &Tag) -> Result<Option<Arc<TagRecord>>, Error> {
        let key = (holder.clone(), tag.clone());
        match self.tags.get(&key) {
            Some(record) => Ok(Some(record)),
            None => self.tags.recall(key, self.read_tag(holder, tag)).await,
        }
    }

    /// Whether this process wrote or read that record a moment ago; asks no store.
    #[must_use]
    pub fn remembers_tag(&self, holder: &Holder, tag: &Tag) -> bool {
        self.tags.get(&(holder.clone(), tag.clone())).is_some()
    }

    /// The same as the store has it now: another replica may have checked the tag a moment ago.
    ///
    /// # Errors
    /// As for [`Self::tag`].
    pub async fn tag_anew(&self, holder: &Holder, tag: &Tag) -> Result<Option<Arc<TagRecord>>, Error> {
        let read = self.read_tag(holder, tag).await;
        self.tags.settle((holder.clone(), tag.clone()), read)
    }

    /// One that is good without a check is written by nobody else.
    fn read_tag(
        &self,
        holder: &Holder,
        tag: &Tag,
    ) -> impl Future<Output = Result<Option<Arc<TagRecord>>, Error>> + Send + 'static {
        let path = Key::Tag(holder, tag).path(&self.instance);
        let read = self.objects.clone().get_used(path, USE_PRECISION, self.clock.now(), self.shared);
        let record = |bytes: Bytes| {
            let record = serde_json::from_slice::<TagRecord>(&bytes).ok()?;
            Some(Arc::new(TagRecord { written_at: record.checked_at, ..record }))
        };
        async move { Ok(read.await?.and_then(record)) }
    }

    /// Takes note of what a tag is now, and writes it: what is known already once a minute at most, or, where a check holds
    /// for less than that, so often. `None`: it need not be written.
    #[must_use]
    pub fn put_tag(
        &self,
        holder: &Holder,
        tag: &Tag,
        record: TagRecord,
        holds: Option<Duration>,
    ) -> Option<impl Future<Output = Result<(), Error>> + Send + use<>> {
        let bytes = self.remember_tag(holder, tag, record, holds)?;
        let (objects, path) = (self.objects.clone(), Key::Tag(holder, tag).path(&self.instance));
        Some(async move { objects.put(&path, bytes).await })
    }

    /// The record, where it is to be written.
    fn remember_tag(
        &self,
        holder: &Holder,
        tag: &Tag,
        record: TagRecord,
        holds: Option<Duration>,
    ) -> Option<Bytes> {
        let precision = holds.unwrap_or(CHECKED_AT_PRECISION).min(CHECKED_AT_PRECISION);
        let key = (holder.clone(), tag.clone());
        let before = self.tags.get(&key).filter(|before| before.digest == record.digest);
        let written = before.map(|before| before.written_at);
        let is_due = written.is_none_or(|at| since(record.checked_at, at) >= precision);
        let written_at = written.filter(|_| !is_due).unwrap_or(record.checked_at);
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        self.tags.insert(key, Arc::new(TagRecord { written_at, ..record }));
        is_due.then(|| bytes.into())
    }
}
