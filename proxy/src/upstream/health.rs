//! Whether an upstream may be asked now. One that failed is left alone for a moment that grows with each failure;
//! `Retry-After` counts; the first success ends it.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::clock::{Clock, later, since};

/// The longest that one failure can silence an upstream: its own `Retry-After` may say more than it means.
const LONGEST: Duration = Duration::from_secs(15 * 60);

pub(super) struct Health {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nothing is asked before then.
    rests_until: Option<Timestamp>,
    /// No manifest is fetched before then: the quota counts those, HEADs stay free.
    pulls_rest_until: Option<Timestamp>,
    /// Since the last success something failed, or took longer than a cached answer waits.
    suspect: bool,
    steps: Option<ExponentialBackoff>,
}

impl Health {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// How long it still rests; `None` if it may be asked.
    pub(super) fn rests_for(&self) -> Option<Duration> {
        self.remaining(self.state.lock().rests_until)
    }

    /// How long manifests still rest.
    pub(super) fn pulls_rest_for(&self) -> Option<Duration> {
        self.remaining(self.state.lock().pulls_rest_until)
    }

    fn remaining(&self, until: Option<Timestamp>) -> Option<Duration> {
        Some(since(until?, self.clock.now())).filter(|left| !left.is_zero())
    }

    /// Whether a cached answer should not wait for it.
    pub(super) fn is_suspect(&self) -> bool {
        self.state.lock().suspect
    }

    /// It answered.
    pub(super) fn succeeded(&self) {
        let mut state = self.state.lock();
        state.suspect = false;
        state.rests_until = None;
        state.steps = None;
    }

    /// It takes too long to wait for; the request goes on and will say more.
    pub(super) fn is_slow(&self) {
        self.state.lock().suspect = true;
    }

    /// It failed.
    pub(super) fn failed(&self, retry_after: Option<Duration>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.suspect = true;
        // Requests that were under way together fail together: that is one failure.
        if state.rests_until.is_some_and(|until| until > now) && retry_after.is_none() {
            return;
        }
        let step = state.steps.get_or_insert_with(|| steps().build()).next();
        let rest = retry_after.or(step).unwrap_or(LONGEST).min(LONGEST);
        state.rests_until = Some(later(now, rest));
    }

    /// The quota for pulls is used up.
    pub(super) fn quota_is_used_up(&self, retry_after: Option<Duration>) -> Timestamp {
        let rest = retry_after.unwrap_or(Duration::from_secs(60)).min(LONGEST);
        let until = later(self.clock.now(), rest);
        self.state.lock().pulls_rest_until = Some(until);
        until
    }
}

/// From a second to a minute, doubled each time, with jitter so that replicas do not return together.
fn steps() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(60))
        .with_jitter()
        .without_max_times()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_silences_it_longer_and_a_success_ends_it() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let health = Health::new(clock.clone());
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            health.failed(None);
            let rest = health.rests_for().unwrap_or_default();
            longest = longest.max(rest);
            clock.advance(rest);
            assert_eq!(health.rests_for(), None);
        }
        assert!(longest >= Duration::from_secs(60), "{longest:?}");
        health.failed(None);
        health.succeeded();
        assert_eq!(health.rests_for(), None);
        assert!(!health.is_suspect());
    }

    #[test]
    fn failures_under_way_together_count_once() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let health = Health::new(clock);
        for _ in 0..100 {
            health.failed(None);
        }
        assert!(health.rests_for().unwrap_or_default() <= Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let health = Health::new(Clock::manual(Timestamp::UNIX_EPOCH));
        health.failed(Some(Duration::from_secs(30)));
        assert_eq!(health.rests_for(), Some(Duration::from_secs(30)));
        health.failed(Some(Duration::from_secs(1_000_000)));
        assert_eq!(health.rests_for(), Some(LONGEST));
    }

    #[test]
    fn a_used_up_quota_stops_pulls_but_not_checks() {
        let health = Health::new(Clock::manual(Timestamp::UNIX_EPOCH));
        health.quota_is_used_up(None);
        assert!(health.pulls_rest_for().is_some());
        assert_eq!(health.rests_for(), None);
    }
}
