//! The time of day, which tests can move. Freshness, tokens and back-off ask here and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Where it stands still; `None`: it goes as the machine's does.
    still: Option<Timestamp>,
    /// How far it was moved from there; `None`: nobody can move it.
    moved: Option<Arc<Mutex<SignedDuration>>>,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// The machine's clock, if it were that much ahead; it can be moved on.
    #[must_use]
    pub fn ahead(offset: SignedDuration) -> Self {
        Self { still: None, moved: Some(Arc::new(Mutex::new(offset))) }
    }

    /// A clock that stands still until it is moved.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self { still: Some(start), ..Self::ahead(SignedDuration::ZERO) }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
        let now = self.still.unwrap_or_else(Timestamp::now);
        match &self.moved {
            None => now,
            Some(moved) => now.saturating_add(*moved.lock()).unwrap_or(Timestamp::MAX),
        }
    }

    /// Whether it can be moved.
    #[must_use]
    pub fn is_movable(&self) -> bool {
        self.moved.is_some()
    }

    /// Moves it on; a system clock cannot be moved.
    pub fn advance(&self, by: Duration) {
        if let Some(moved) = &self.moved {
            let mut moved = moved.lock();
            *moved = moved.saturating_add(SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX));
        }
    }
}

/// The time that much later; the end of time where there is none.
#[must_use]
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// How long ago that was; zero for times to come.
#[must_use]
pub fn since(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}
