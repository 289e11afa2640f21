//! Whether a tag that was checked then may be served now without asking. Pure.

use std::time::Duration;

use config::Upstream;
use jiff::Timestamp;

use crate::clock::since;
use crate::resolve::Target;

/// How long a check is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Validity {
    /// Upstream is asked before every answer.
    None,
    For(Duration),
    /// GitLab's meaning of `cacheValidityHours: 0`.
    Forever,
}

impl Validity {
    /// Of a group it is `recheckAfterSeconds`, of a virtual registry the upstream's `cacheValidityHours`.
    #[must_use]
    pub fn of(target: &Target, upstream: &Upstream) -> Self {
        match (target.is_registry, target.group.recheck_after, upstream.cache_validity) {
            (true, _, None) => Self::Forever,
            (true, _, Some(validity)) => Self::For(validity),
            (false, Duration::ZERO, _) => Self::None,
            (false, recheck_after, _) => Self::For(recheck_after),
        }
    }

    /// For how long, where that has an end and a beginning.
    #[must_use]
    pub fn length(self) -> Option<Duration> {
        if let Self::For(length) = self { Some(length) } else { None }
    }

    /// A check from the future is good: replicas' clocks differ a little, and it was made.
    #[must_use]
    pub fn covers(self, checked_at: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::None => false,
            Self::For(validity) => since(now, checked_at) < validity,
            Self::Forever => true,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_check_is_good_until_its_validity_has_passed() {
        let hour = Validity::For(Duration::from_secs(3600));
        assert!(hour.covers(at(0), at(3599)));
        assert!(!hour.covers(at(0), at(3600)));
        assert!(hour.covers(at(60), at(0)));
        assert!(!Validity::None.covers(at(0), at(0)));
        assert!(Validity::Forever.covers(at(0), at(1_000_000_000)));
    }
}
