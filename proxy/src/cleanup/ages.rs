//! Bytes by the time since their last use, in constant memory, and from which age on they have to go. Pure.

use std::time::Duration;

use super::{GRACE, UNKNOWN_USE};

/// Steps per doubling of the age: each is 9 % longer than the one before.
const STEPS: u32 = 8;
/// One below [`SPARED`], and steps from there to four years.
const BUCKETS: usize = 1 + 14 * STEPS as usize;

/// What may have been used within the grace.
const SPARED: Duration = GRACE.saturating_add(UNKNOWN_USE);

/// Bytes by age.
#[derive(Clone, Debug)]
pub(super) struct Ages([u64; BUCKETS]);

/// From which age on something goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cutoff {
    bucket: usize,
    /// Bytes of that bucket which go; of older ones all do.
    excess: u64,
}

impl Default for Ages {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Ages {
    pub(super) fn add(&mut self, age: Duration, bytes: u64) {
        self.0[bucket(age)] += bytes;
    }

    /// What has to go for at most `limit` bytes to stay; `None`: nothing.
    pub(super) fn cutoff(&self, limit: u64) -> Option<Cutoff> {
        let mut kept = 0;
        for (bucket, bytes) in self.0.iter().enumerate() {
            kept += bytes;
            if kept > limit {
                return Some(Cutoff { bucket, excess: kept - limit });
            }
        }
        None
    }
}

impl Cutoff {
    /// Whether bytes of this age go. What may have been used within the grace stays, whatever the limit.
    pub(super) fn takes(&mut self, age: Duration, bytes: u64) -> bool {
        let its = bucket(age);
        if its == 0 || its < self.bucket || (its == self.bucket && self.excess == 0) {
            return false;
        }
        if its == self.bucket {
            self.excess = self.excess.saturating_sub(bytes);
        }
        true
    }
}

fn bucket(age: Duration) -> usize {
    let doublings = (age.as_secs_f64() / SPARED.as_secs_f64()).log2();
    if doublings < 0.0 {
        return 0;
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small number, not below zero"
    )]
    let step = (doublings * f64::from(STEPS)) as usize;
    (1 + step).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn ages(bytes: &[(u32, u64)]) -> Ages {
        let mut ages = Ages::default();
        bytes.iter().for_each(|(hours, bytes)| ages.add(HOUR * *hours, *bytes));
        ages
    }

    #[test]
    fn nothing_goes_where_all_fits() {
        assert_eq!(ages(&[(0, 10), (5, 10), (100_000, 10)]).cutoff(30), None);
    }

    #[test]
    fn what_is_older_goes_first_and_no_more_than_has_to() {
        let mut cutoff = ages(&[(3, 10), (50, 10), (50, 10), (700, 10)]).cutoff(25).into_iter();
        let mut cutoff = cutoff.next().unwrap_or(Cutoff { bucket: 0, excess: 0 });
        assert!(!cutoff.takes(HOUR * 3, 10));
        assert!(cutoff.takes(HOUR * 700, 10));
        assert!(cutoff.takes(HOUR * 50, 10), "one of the two of that age");
        assert!(!cutoff.takes(HOUR * 50, 10), "and not the other");
    }

    #[test]
    fn what_was_used_within_the_hour_stays_though_it_is_too_much() {
        let mut cutoff = ages(&[(0, 100), (3, 1)]).cutoff(50).into_iter().next();
        let mut takes = |age| cutoff.as_mut().is_some_and(|cutoff| cutoff.takes(age, 1));
        assert!(!takes(Duration::ZERO));
        assert!(!takes(HOUR * 2), "it may have been used an hour after it was written down");
        assert!(takes(HOUR * 3));
    }
}
