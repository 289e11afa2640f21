//! One piece of work however many ask for it at once. It runs in a task of its own: who leaves cancels nothing.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Work in progress by key.
pub(super) struct Flight<K, V>(Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>);

impl<K, V> Default for Flight<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Flight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the work under this key, or begins it. `None` only if the work itself was aborted.
    pub(super) async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut done = {
            let mut running = self.0.lock();
            match running.get(&key) {
                Some(done) => done.clone(),
                None => {
                    let (sender, done) = watch::channel(None);
                    running.insert(key.clone(), done.clone());
                    let landing = Landing { running: self.0.clone(), key };
                    let work = work();
                    tokio::spawn(async move {
                        let value = work.await;
                        // Out of the map first: who comes from now on begins anew.
                        drop(landing);
                        sender.send_replace(Some(value));
                    });
                    done
                }
            }
        };
        done.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
    }
}

/// Takes the work out of the map when it ends, also by a panic.
struct Landing<K: Eq + Hash, V> {
    running: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn work_is_done_once_for_all_who_wait_and_again_for_who_comes_later() {
        let flight = Arc::new(Flight::<&str, usize>::default());
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let join = || {
            let (flight, runs, gate) = (flight.clone(), runs.clone(), gate.clone());
            async move {
                flight
                    .join("key", || async move {
                        gate.notified().await;
                        runs.fetch_add(1, Ordering::SeqCst) + 1
                    })
                    .await
            }
        };
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..10 {
            waiting.spawn(join());
        }
        tokio::task::yield_now().await;
        gate.notify_one();
        assert_eq!(waiting.join_all().await, vec![Some(1); 10]);
        gate.notify_one();
        assert_eq!(join().await, Some(2));
    }

    #[tokio::test]
    async fn who_leaves_cancels_nothing() {
        let flight = Arc::new(Flight::<&str, ()>::default());
        let (started, finish, finished) =
            (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let leaving = tokio::spawn({
            let (flight, started, finish, finished) =
                (flight.clone(), started.clone(), finish.clone(), finished.clone());
            async move {
                let work = || async move {
                    started.notify_one();
                    finish.notified().await;
                    finished.notify_one();
                };
                flight.join("key", work).await
            }
        });
        started.notified().await;
        leaving.abort();
        finish.notify_one();
        finished.notified().await;
    }

    #[tokio::test]
    async fn work_that_panics_blocks_nobody() {
        let flight = Flight::<&str, usize>::default();
        #[allow(clippy::panic, reason = "the point of the test")]
        let broken = flight.join("key", || async { panic!("on purpose") }).await;
        assert_eq!(broken, None);
        assert_eq!(flight.join("key", || async { 1 }).await, Some(1));
    }
}
