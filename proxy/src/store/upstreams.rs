//! What replicas write down of upstreams for each other, and for their own next start.

use bytes::Bytes;
use config::ObjectId;
use jiff::Timestamp;
use object_store::ObjectMeta;

use super::{Error, Key, Store, time};

/// The name of the record that says until when an upstream is frozen.
pub(super) const FROZEN: &str = "frozen";

/// What is written down of upstreams.
#[derive(Debug, Default)]
pub struct UpstreamRecords(Vec<(String, Version)>);

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
        let wanted = format!("{}.{}/{name}", id.namespace, id.name);
        self.0.iter().find(|(name, _)| *name == wanted).map(|(_, version)| version)
    }

    /// The upstreams of which it is said until when they are frozen, and the record that says so.
    #[must_use]
    pub fn frozen(&self) -> Vec<(ObjectId, Version)> {
        let id = |name: &str| {
            let (namespace, name) = name.strip_suffix(FROZEN)?.strip_suffix('/')?.split_once('.')?;
            Some(ObjectId { namespace: namespace.to_owned(), name: name.to_owned() })
        };
        self.0.iter().filter_map(|(name, version)| Some((id(name)?, version.clone()))).collect()
    }
}

/// What such a record says; `None` where that cannot be understood.
pub(super) fn frozen_until(record: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(record).ok()?.trim().parse().ok()
}

impl Store {
    /// All that is written down of upstreams, without its content.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn upstream_records(&self) -> Result<UpstreamRecords, Error> {
        let prefix = Key::Upstreams.path(&self.instance);
        let below = self.objects.below(&prefix).await?;
        let name = |meta: &ObjectMeta| {
            let parts: Vec<_> =
                meta.location.prefix_match(&prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        let version = |meta: &ObjectMeta| Version { written: time(meta), e_tag: meta.e_tag.clone() };
        let records = below.iter().filter_map(|meta| Some((name(meta)?, version(meta))));
        Ok(UpstreamRecords(records.collect()))
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
            ("ns.hub/0f".to_owned(), version.clone()),
            ("ns.my.registry/frozen".to_owned(), version.clone()),
        ]);
        assert_eq!(records.version(&id("hub"), "0f"), Some(&version));
        assert_eq!(records.version(&id("hub"), "1f"), None);
        assert_eq!(records.frozen(), [(id("my.registry"), version)]);
    }
}
