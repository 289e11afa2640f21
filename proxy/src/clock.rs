//! The time of day, which tests can move. Freshness, tokens and back-off ask here and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Mutex<Timestamp>>>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until it is moved.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Some(Arc::new(Mutex::new(start))))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
            None => Timestamp::now(),
            Some(manual) => *manual.lock(),
        }
    }

    /// Moves a manual clock; a system clock cannot be moved.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            let mut now = manual.lock();
            *now = later(*now, by);
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
