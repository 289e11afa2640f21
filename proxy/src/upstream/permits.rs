//! How many requests to one upstream run at once. Blob bodies run for minutes: they leave room for what others wait for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::HEADERS;

/// The permits of one upstream.
pub(super) struct Permits {
    all: Arc<Semaphore>,
    /// What of them bodies of blobs may hold.
    bodies: Arc<Semaphore>,
}

/// A request that runs; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _any: OwnedSemaphorePermit,
    _body: Option<OwnedSemaphorePermit>,
}

/// What a request is, which says how long it may wait for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is a cached copy: now or not at all.
    Check,
    /// Somebody waits, and the answer is short.
    Small,
    /// The body of a blob.
    Body,
}

impl Turn {
    /// How long such a request may wait until it is sent.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Check => Duration::ZERO,
            Self::Small => HEADERS,
            Self::Body => Duration::from_secs(60),
        }
    }
}

impl Permits {
    /// `max` requests at once; three quarters of them, rounded up, may be bodies.
    pub(super) fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(max)), bodies: Arc::new(Semaphore::new(max - max / 4)) }
    }

    /// Waits for a permit; a check does not wait. `None`: there is none.
    pub(super) async fn take(&self, turn: Turn) -> Option<Permit> {
        let all = self.all.clone();
        match turn {
            Turn::Check => Some(Permit { _any: all.try_acquire_owned().ok()?, _body: None }),
            Turn::Small => Some(Permit { _any: all.acquire_owned().await.ok()?, _body: None }),
            Turn::Body => {
                // First this one: who waits for it must not hold one of the others.
                let body = self.bodies.clone().acquire_owned().await.ok()?;
                Some(Permit { _any: all.acquire_owned().await.ok()?, _body: Some(body) })
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn take_all(permits: &Permits, turn: Turn) -> Vec<Permit> {
        std::iter::from_fn(|| permits.take(turn).now_or_never().flatten()).collect()
    }

    #[test]
    fn bodies_leave_a_quarter_and_the_limit_holds_as_a_whole() {
        for (max, most) in [(16, 12), (4, 3), (3, 3), (2, 2), (1, 1)] {
            let permits = Permits::new(max);
            let bodies = take_all(&permits, Turn::Body);
            assert_eq!(bodies.len(), most, "of {max}");
            assert_eq!(take_all(&permits, Turn::Small).len(), max - most, "of {max}");
            drop(bodies);
            assert_eq!(take_all(&permits, Turn::Check).len(), max, "of {max}");
        }
    }

    #[test]
    fn a_body_that_waits_takes_nothing_from_others() {
        let permits = Permits::new(4);
        let bodies = take_all(&permits, Turn::Body);
        let mut waits = Box::pin(permits.take(Turn::Body));
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(permits.take(Turn::Check).now_or_never().flatten().is_some());
        drop(bodies);
        assert!(waits.now_or_never().flatten().is_some());
    }
}
