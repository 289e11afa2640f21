//! Whether an upstream may be asked now. One that failed is left alone for a moment that grows with each failure, until
//! the first success. What it said itself (`Retry-After`) holds whatever else it answers meanwhile.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::record::UpstreamRecord;
use crate::clock::{Clock, later, since};

/// The longest that one failure can silence an upstream: its own `Retry-After` may say more than it means.
const LONGEST: Duration = Duration::from_secs(15 * 60);

pub(super) struct Health {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nothing is asked before then, because it failed.
    rests_until: Option<Timestamp>,
    /// Nothing is asked before then, because it said so.
    told_until: Option<Timestamp>,
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
        self.remaining(self.state.lock().until())
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

    /// What other replicas should know.
    pub(super) fn record(&self) -> UpstreamRecord {
        let State { rests_until, told_until, pulls_rest_until, .. } = *self.state.lock();
        UpstreamRecord { rests_until, told_until, pulls_rest_until, ..UpstreamRecord::default() }
    }

    /// What another replica knows: the longer rest holds.
    pub(super) fn hear(&self, record: &UpstreamRecord) {
        let longest = later(self.clock.now(), LONGEST);
        let longer =
            |own: Option<Timestamp>, other: Option<Timestamp>| own.max(other.map(|o| o.min(longest)));
        let mut state = self.state.lock();
        state.suspect |= record.rests_until.is_some() || record.told_until.is_some();
        state.rests_until = longer(state.rests_until, record.rests_until);
        state.told_until = longer(state.told_until, record.told_until);
        state.pulls_rest_until = longer(state.pulls_rest_until, record.pulls_rest_until);
    }

    /// It failed, and rests at least that long: as long as whoever asks next would wait.
    pub(super) fn failed(&self, at_least: Duration) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.suspect = true;
        // Requests that were under way together fail together: that is one failure.
        if state.until().is_some_and(|until| until > now) {
            return;
        }
        let step = state.steps.get_or_insert_with(|| steps().build()).next().unwrap_or(LONGEST);
        state.rests_until = Some(later(now, step.max(at_least).min(LONGEST)));
    }

    /// It said how long it wants to be left alone (`Retry-After`).
    pub(super) fn told_to_wait(&self, retry_after: Duration) {
        let until = later(self.clock.now(), retry_after.min(LONGEST));
        let mut state = self.state.lock();
        state.suspect = true;
        state.told_until = state.told_until.max(Some(until));
    }

    /// The quota for pulls is used up; until when.
    pub(super) fn quota_is_used_up(&self, retry_after: Option<Duration>) -> Timestamp {
        let rest = retry_after.unwrap_or(Duration::from_secs(60)).min(LONGEST);
        let mut state = self.state.lock();
        let until = later(self.clock.now(), rest);
        let until = state.pulls_rest_until.map_or(until, |told| told.max(until));
        state.pulls_rest_until = Some(until);
        until
    }
}

impl State {
    fn until(&self) -> Option<Timestamp> {
        self.rests_until.max(self.told_until)
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

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_failure_silences_it_longer_and_a_success_ends_it() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let health = Health::new(clock.clone());
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            health.failed(Duration::ZERO);
            let rest = health.rests_for().unwrap_or_default();
            longest = longest.max(rest);
            clock.advance(rest);
            assert_eq!(health.rests_for(), None);
        }
        assert!(longest >= Duration::from_secs(60), "{longest:?}");
        health.failed(Duration::ZERO);
        health.succeeded();
        assert_eq!(health.rests_for(), None);
        assert!(!health.is_suspect());
    }

    #[test]
    fn failures_under_way_together_count_once() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let health = Health::new(clock);
        for _ in 0..100 {
            health.failed(Duration::ZERO);
        }
        assert!(health.rests_for().unwrap_or_default() <= Duration::from_secs(1));
    }

    #[test]
    fn timeouts_under_way_together_count_once_and_rest_as_long_as_they_waited() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let health = Health::new(clock.clone());
        for _ in 0..100 {
            health.failed(SECOND * 10);
        }
        assert_eq!(health.rests_for(), Some(SECOND * 10));
        clock.advance(SECOND * 9);
        health.failed(SECOND * 10);
        assert_eq!(health.rests_for(), Some(SECOND));
        clock.advance(SECOND);
        health.failed(Duration::ZERO);
        assert!(health.rests_for().unwrap_or_default() <= SECOND * 2, "the hundred were one step");
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let health = Health::new(Clock::manual(Timestamp::UNIX_EPOCH));
        health.told_to_wait(SECOND * 30);
        assert_eq!(health.rests_for(), Some(SECOND * 30));
        health.told_to_wait(SECOND * 1_000_000);
        assert_eq!(health.rests_for(), Some(LONGEST));
    }

    #[test]
    fn what_upstream_said_is_ended_by_no_success_and_shortened_by_no_failure() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let health = Health::new(clock.clone());
        health.told_to_wait(SECOND * 30);
        health.succeeded();
        assert_eq!(health.rests_for(), Some(SECOND * 30));
        health.failed(Duration::ZERO);
        health.told_to_wait(SECOND);
        assert_eq!(health.rests_for(), Some(SECOND * 30));
        clock.advance(SECOND * 30);
        assert_eq!(health.rests_for(), None);
    }

    #[test]
    fn a_failure_rests_though_an_earlier_word_of_upstream_is_over() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let health = Health::new(clock.clone());
        health.told_to_wait(SECOND * 30);
        clock.advance(SECOND * 31);
        health.failed(SECOND * 10);
        assert_eq!(health.rests_for(), Some(SECOND * 10));
    }

    #[test]
    fn a_used_up_quota_stops_pulls_but_not_checks() {
        let health = Health::new(Clock::manual(Timestamp::UNIX_EPOCH));
        health.quota_is_used_up(None);
        assert!(health.pulls_rest_for().is_some());
        assert_eq!(health.rests_for(), None);
    }

    #[test]
    fn a_used_up_quota_is_not_said_to_last_shorter() {
        let health = Health::new(Clock::manual(Timestamp::UNIX_EPOCH));
        let until = health.quota_is_used_up(Some(SECOND * 300));
        assert_eq!(health.quota_is_used_up(None), until);
        assert_eq!(health.pulls_rest_for(), Some(SECOND * 300));
    }
}
