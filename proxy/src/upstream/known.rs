//! What an upstream was last seen to be: for people and for an operator's conditions.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::error::Reason;
use super::quota::Quota;

/// How far back stale answers count.
const WINDOW_MINUTES: usize = 15;

/// What is known of an upstream. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// `namespace/name`.
    pub id: String,
    /// `None`: nobody has asked it yet.
    pub reachable: Option<bool>,
    /// A word that a condition takes as its reason.
    pub reason: &'static str,
    pub message: String,
    /// `None`: it has no credentials, or nobody has wanted to see them yet.
    pub credentials_valid: Option<bool>,
    /// What it last said about its limit.
    pub rate_limit: Option<RateLimit>,
    /// User name of the credentials.
    pub account: Option<String>,
}

/// Pulls per window, as upstream last said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    pub limit: Option<i64>,
    pub remaining: Option<i64>,
    pub window_seconds: Option<u64>,
    pub source: String,
}

impl From<Quota> for RateLimit {
    fn from(quota: Quota) -> Self {
        let Quota { limit, remaining, window, source, .. } = quota;
        Self { limit, remaining, window_seconds: window, source }
    }
}

/// What a failure says of the upstream as a whole: whether it can be reached, and the word for it. `None`: nothing.
pub(super) fn verdict(reason: &Reason) -> Option<(bool, &'static str)> {
    Some(match reason {
        // Many registries answer so for what is not there, or to strangers: they do answer.
        Reason::NotFound | Reason::Denied(_) => (true, "Reachable"),
        Reason::CredentialsRejected => (true, "Unauthorized"),
        Reason::QuotaUsedUp { .. } | Reason::TooManyRequests(_) => (true, "RateLimited"),
        Reason::Status(_) => (false, "ServerError"),
        Reason::Unreachable(_) => (false, "ConnectionFailed"),
        Reason::Timeout(_) => (false, "Timeout"),
        Reason::TokenService { .. } => (false, "TokenServiceFailed"),
        Reason::ForbiddenAddress(_) => (false, "AddressNotAllowed"),
        Reason::Wrong(_)
        | Reason::Resting(_)
        | Reason::Broken(_)
        | Reason::NoHead
        | Reason::Abandoned
        | Reason::Busy => return None,
    })
}

/// For how long copies that were served had not been checked; a bounded memory of the last minutes.
#[derive(Default)]
pub(super) struct Staleness([(i64, Duration); WINDOW_MINUTES]);

impl Staleness {
    /// A copy was served that had not been checked for so long.
    pub(super) fn note(&mut self, now: Timestamp, unchecked: Duration) {
        let minute = now.as_second() / 60;
        let place = usize::try_from(minute).unwrap_or_default() % WINDOW_MINUTES;
        let (of, longest) = &mut self.0[place];
        *longest = if *of == minute { unchecked.max(*longest) } else { unchecked };
        *of = minute;
    }

    /// The longest of the last 15 minutes; zero where there is none.
    pub(super) fn longest(&self, now: Timestamp) -> Duration {
        let minute = now.as_second() / 60;
        let recent = self.0.iter().filter(|(of, _)| minute - of < WINDOW_MINUTES as i64);
        recent.map(|(_, longest)| *longest).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_the_last_quarter_of_an_hour_counts() {
        let at = |minute: i64| Timestamp::from_second(1_800_000_000 + minute * 60).unwrap_or_default();
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let mut stale = Staleness::default();
        assert_eq!(stale.longest(at(0)), Duration::ZERO);
        stale.note(at(0), hours(7));
        stale.note(at(0), hours(2));
        stale.note(at(5), hours(3));
        assert_eq!(stale.longest(at(14)), hours(7));
        assert_eq!(stale.longest(at(15)), hours(3));
        stale.note(at(15), hours(1));
        assert_eq!(stale.longest(at(19)), hours(3));
        assert_eq!(stale.longest(at(100)), Duration::ZERO);
    }
}
