//! Records in memory: believed for a minute, and kept longer for when the store is away.

use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;

use super::Error;
use crate::clock::{Clock, since};

/// How long a record is believed before the store is asked again: other replicas write there too.
const BELIEVED: Duration = Duration::from_secs(60);
/// How long one that nobody asks for is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long who asks waits for a record that is remembered from more than a minute ago.
const AGAIN: Duration = Duration::from_millis(250);

/// Records of one kind. Clones share them.
pub(super) struct Memory<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    records: Cache<K, (V, Timestamp)>,
    clock: Clock,
}

impl<K, V> Clone for Memory<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn clone(&self) -> Self {
        Self { records: self.records.clone(), clock: self.clock.clone() }
    }
}

impl<K, V> Memory<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(capacity: u64, clock: Clock) -> Self {
        Self { records: Cache::builder().max_capacity(capacity).time_to_idle(KEPT).build(), clock }
    }

    pub(super) fn insert(&self, key: K, value: V) {
        self.records.insert(key, (value, self.clock.now()));
    }

    /// Forgets all: the store knows better.
    pub(super) fn clear(&self) {
        self.records.invalidate_all();
    }

    /// A record that is believed without asking the store.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let (value, at) = self.records.get(key)?;
        (since(self.clock.now(), at) < BELIEVED).then_some(value)
    }

    /// What the store says, or, where it fails, what is remembered. Where there is something, a store that is slow is not
    /// waited for: what it says counts when it comes.
    pub(super) async fn recall(
        &self,
        key: K,
        read: impl Future<Output = Result<Option<V>, Error>> + Send + 'static,
    ) -> Result<Option<V>, Error>
    where
        K: Clone,
    {
        let remembers = self.records.contains_key(&key);
        let reading = {
            let (memory, key) = (self.clone(), key.clone());
            // In one place: it is part of the future of every request.
            Box::pin(async move { memory.settle(key, read.await) })
        };
        if !remembers {
            return reading.await;
        }
        match tokio::time::timeout(AGAIN, tokio::spawn(reading)).await {
            Ok(Ok(settled)) => settled,
            _ => self.settle(key, Err(Error::Slow(AGAIN))),
        }
    }

    /// What the store said, or, where it failed, what is remembered.
    pub(super) fn settle(&self, key: K, read: Result<Option<V>, Error>) -> Result<Option<V>, Error> {
        match read {
            Ok(Some(value)) => {
                self.insert(key, value.clone());
                Ok(Some(value))
            }
            Ok(None) => {
                self.records.invalidate(&key);
                Ok(None)
            }
            // Believed for a minute more: whoever comes next need not wait for the store again.
            Err(error) => {
                let (value, _) = self.records.get(&key).ok_or(error)?;
                self.insert(key, value.clone());
                Ok(Some(value))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_stands_in_for_a_store_that_fails_but_not_for_one_that_has_forgotten() {
        let memory = Memory::<&str, u8>::new(10, Clock::system());
        assert!(memory.settle("a", Err(Error::Resting)).is_err());
        memory.insert("a", 1);
        assert_eq!(memory.settle("a", Err(Error::Resting)).ok(), Some(Some(1)));
        assert_eq!(memory.settle("a", Ok(None)).ok(), Some(None));
        assert!(memory.settle("a", Err(Error::Resting)).is_err());
    }

    #[tokio::test]
    async fn a_slow_store_is_not_waited_for_and_is_heard_when_it_answers() {
        let memory = Memory::<&str, u8>::new(10, Clock::system());
        memory.insert("a", 1);
        let (answer, answered) = tokio::sync::oneshot::channel();
        let read = async move { Ok(answered.await.ok()) };
        assert_eq!(memory.recall("a", read).await.ok(), Some(Some(1)));
        answer.send(2).unwrap();
        while memory.get(&"a") != Some(2) {
            tokio::task::yield_now().await;
        }
    }
}
