//! Records in memory: believed for a moment, and after that only where the store cannot be asked.

use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;

use super::Error;
use crate::clock::{Clock, since};

/// How long a record is believed before the store is asked again: other replicas write there too.
const BELIEVED: Duration = Duration::from_secs(60);

/// Records by key, the least used ones forgotten first.
pub(super) struct Memory<K, V> {
    records: Cache<K, (V, Timestamp)>,
    clock: Clock,
}

impl<K, V> Memory<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(capacity: u64, clock: Clock) -> Self {
        Self { records: Cache::new(capacity), clock }
    }

    /// A record that needs no asking.
    pub(super) fn believed(&self, key: &K) -> Option<V> {
        let (record, at) = self.records.get(key)?;
        (since(self.clock.now(), at) < BELIEVED).then_some(record)
    }

    pub(super) fn insert(&self, key: K, record: V) {
        self.records.insert(key, (record, self.clock.now()));
    }

    /// What the store says, remembered; where it fails, what it said last, however long ago: without it, an outage of
    /// the store would hide what lies in the local folder.
    pub(super) fn learn(&self, key: K, said: Result<Option<V>, Error>) -> Result<Option<V>, Error> {
        match said {
            Ok(Some(record)) => {
                self.insert(key, record.clone());
                Ok(Some(record))
            }
            Ok(None) => {
                self.records.invalidate(&key);
                Ok(None)
            }
            Err(error) => self.records.get(&key).map(|(record, _)| Some(record)).ok_or(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_believed_for_a_minute_and_kept_for_when_the_store_fails() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let memory = Memory::<&str, u8>::new(10, clock.clone());
        memory.insert("key", 1);
        clock.advance(Duration::from_secs(59));
        assert_eq!(memory.believed(&"key"), Some(1));
        clock.advance(Duration::from_secs(1));
        assert_eq!(memory.believed(&"key"), None);
        assert_eq!(memory.learn("key", Err(Error::Resting)).unwrap(), Some(1));
        assert!(memory.learn("other", Err(Error::Resting)).is_err());
        assert_eq!(memory.learn("key", Ok(Some(2))).unwrap(), Some(2));
        assert_eq!(memory.believed(&"key"), Some(2));
        assert_eq!(memory.learn("key", Ok(None)).unwrap(), None);
        assert!(memory.learn("key", Err(Error::Resting)).is_err(), "the store said that it is not there");
    }
}
