//! What replicas write down of upstreams for each other, and for their own next start.

use std::time::Duration;

use bytes::Bytes;
use config::ObjectId;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::key::Named;
use super::objects::absent_is_none;
use super::{Error, Key, Store, time};
use crate::clock::since;

/// The name of the record that says until when an upstream is frozen.
const FROZEN: &str = "frozen";
/// What was said of an upstream is believed for a day at most.
const EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far clocks are apart at most: so long after its end a freeze has ended for everybody.
const APART: Duration = Duration::from_secs(3600);

/// What is written down of upstreams.
#[derive(Debug, Default)]
pub struct UpstreamRecords(Vec<(ObjectId, String, Version)>);

/// Which record it is that stands there: another one differs in one of both. Times of S3 have whole seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// By the store's clock.
    pub written: Timestamp,
    e_tag: Option<String>,
}

impl UpstreamRecords {
    /// The record of an upstream that stands there; `None` where there is none.
    #[must_use]
    pub fn version(&self, id: &ObjectId, name: &str) -> Option<&Version> {
        self.0.iter().find(|(of, other, _)| of == id && other == name).map(|(_, _, version)| version)
    }

    /// The upstreams of which it is said until when they are frozen, and the record that says so.
    #[must_use]
    pub fn frozen(&self) -> Vec<(ObjectId, Version)> {
        let frozen = self.0.iter().filter(|(_, name, _)| name == FROZEN);
        frozen.map(|(id, _, version)| (id.clone(), version.clone())).collect()
    }
}

/// What such a record says; `None` where that cannot be understood.
fn frozen_until(record: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(record).ok()?.trim().parse().ok()
}

impl Store {
    /// All that is written down of upstreams, without its content.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn upstream_records(&self) -> Result<UpstreamRecords, Error> {
        let below = self.objects.below(&Key::Upstreams.path(&self.instance)).await?;
        let record = |meta: ObjectMeta| match Named::parse(&self.instance, &meta.location)? {
            Named::Upstream(id, name) => {
                Some((id, name, Version { written: time(&meta), e_tag: meta.e_tag }))
            }
            _ => None,
        };
        Ok(UpstreamRecords(below.into_iter().filter_map(record).collect()))
    }

    /// One record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn upstream_record(&self, id: &ObjectId, name: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.read(&Key::Upstream(id, name)).await?.map(|(bytes, _)| bytes))
    }

    /// Writes one record.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_upstream_record(&self, id: &ObjectId, name: &str, record: Bytes) -> Result<(), Error> {
        self.write(&Key::Upstream(id, name), record).await
    }

    /// Until when an upstream is frozen; `None` where it is not, or what is written cannot be understood.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn frozen(&self, id: &ObjectId) -> Result<Option<Timestamp>, Error> {
        Ok(self.upstream_record(id, FROZEN).await?.and_then(|bytes| frozen_until(&bytes)))
    }

    /// Freezes an upstream until then, or ends that.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn freeze(&self, id: &ObjectId, until: Option<Timestamp>) -> Result<(), Error> {
        let key = Key::Upstream(id, FROZEN);
        match until {
            Some(until) => self.write(&key, until.to_string().into()).await,
            None => self.objects.delete(&key.path(&self.instance)).await,
        }
    }

    /// Takes away what was said of upstreams long ago, such as with credentials that have changed.
    ///
    /// # Errors
    /// When the store cannot be listed or read, or refuses a deletion.
    pub async fn remove_old_upstream_records(&self, now: Timestamp) -> Result<(), Error> {
        let mut old = Vec::new();
        let mut found = self.list(&Key::Upstreams.path(&self.instance));
        while let Some(meta) = found.try_next().await? {
            let is_old = if meta.location.filename() == Some(FROZEN) {
                self.has_thawed(&meta, now).await?
            } else {
                since(now, time(&meta)) > EXPIRY
            };
            old.extend(is_old.then_some(meta.location));
        }
        self.delete_listed(old).await
    }

    /// Whether an upstream is frozen no longer, by any clock.
    async fn has_thawed(&self, record: &ObjectMeta, now: Timestamp) -> Result<bool, Error> {
        let Some(got) = absent_is_none(self.objects.store().get(&record.location).await)? else {
            return Ok(false);
        };
        let until = frozen_until(&got.bytes().await?);
        Ok(until.is_none_or(|until| since(now, until) > APART))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_by_upstream_and_name() {
        let id = |name: &str| ObjectId { namespace: "ns".into(), name: name.into() };
        let version = Version { written: Timestamp::from_second(1).unwrap(), e_tag: None };
        let records = UpstreamRecords(vec![
            (id("hub"), "0f".to_owned(), version.clone()),
            (id("my.registry"), FROZEN.to_owned(), version.clone()),
        ]);
        assert_eq!(records.version(&id("hub"), "0f"), Some(&version));
        assert_eq!(records.version(&id("hub"), "1f"), None);
        assert_eq!(records.frozen(), [(id("my.registry"), version)]);
    }
}
