//! The time of day, which tests can move. Freshness, tokens and back-off ask here and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// `None`: the machine.
    manual: Option<Arc<Mutex<Timestamp>>>,
    /// How far the machine's clock is off, for tests of replicas whose clocks are apart.
    offset: SignedDuration,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// The machine's clock, if it were that much ahead.
    #[must_use]
    pub fn ahead(offset: SignedDuration) -> Self {
        Self { manual: None, offset }
    }

    /// A clock that stands still until it is moved.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self { manual: Some(Arc::new(Mutex::new(start))), offset: SignedDuration::ZERO }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.manual {
            #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
            None => Timestamp::now().saturating_add(self.offset).unwrap_or(Timestamp::MAX),
            Some(manual) => *manual.lock(),
        }
    }

    /// Moves a manual clock; a system clock cannot be moved.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual {
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
