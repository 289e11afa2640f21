//! What an upstream was last seen to be: for people and for an operator's conditions.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::ask::Ask;
use super::client::Client;
use super::error::{Error, Reason};
use super::quota::Quota;
use crate::clock::since;

/// How long after a failure an upstream that nobody pulls from is asked again.
const BETWEEN_PROBES: Duration = Duration::from_secs(60);
/// For a whole probe: its turn, a token, redirects, the answer.
const PROBE: Duration = Duration::from_secs(30);
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
    /// How long it is left alone after a failure, or because it said so.
    pub rests_for_seconds: Option<u64>,
    /// Until when it is not asked because somebody said so, RFC 3339.
    pub frozen_until: Option<String>,
    /// The longest that a copy served in the last 15 minutes had not been checked.
    pub oldest_stale_seconds: u64,
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
        | Reason::Frozen(_)
        | Reason::Abandoned
        | Reason::Busy => return None,
    })
}

impl Client {
    /// Keeps what a request says of the upstream as a whole.
    pub(super) fn see(&self, result: Result<(), &Reason>) {
        if result.err().is_none_or(|reason| verdict(reason).is_some()) {
            *self.seen.lock() = Some((self.clock.now(), result.map_err(Clone::clone)));
        }
    }

    /// What is known of it.
    #[must_use]
    pub fn known(&self) -> Known {
        let name = &self.upstream.id.name;
        let credentials = self.upstream.credentials.as_ref();
        let rejected = self.rejected.load(Ordering::Relaxed);
        let seen = self.seen.lock().clone();
        let (reachable, reason, message) = match seen.map(|(_, result)| result) {
            // A repository that is open to all says nothing of them.
            Some(_) if rejected => {
                (Some(true), "Unauthorized", format!("{name} refused the credentials; renew their Secret."))
            }
            None => (None, "NotAsked", format!("Nobody has asked {name} yet.")),
            Some(Ok(())) => (Some(true), "Reachable", format!("{name} answers.")),
            Some(Err(reason)) => match verdict(&reason) {
                Some((true, "Reachable")) => (Some(true), "Reachable", format!("{name} answers.")),
                Some((reachable, word)) => (Some(reachable), word, format!("{name}: {reason}.")),
                None => (Some(false), "InvalidAnswer", format!("{name}: {reason}.")),
            },
        };
        let valid =
            if rejected { Some(false) } else { self.accepted.load(Ordering::Relaxed).then_some(true) };
        Known {
            id: self.upstream.id.to_string(),
            reachable,
            reason,
            message,
            credentials_valid: credentials.and(valid),
            rate_limit: self.quota().map(Into::into),
            account: credentials.map(|credentials| credentials.username.clone()),
            rests_for_seconds: self.health.rests_for().map(|rest| rest.as_secs().max(1)),
            frozen_until: self.frozen_until().map(|until| until.to_string()),
            oldest_stale_seconds: self.stale.lock().longest(self.clock.now()).as_secs(),
        }
    }

    /// A copy was served that could not be checked since then.
    pub fn served_stale(&self, checked_at: Timestamp) {
        let now = self.clock.now();
        self.stale.lock().note(now, since(now, checked_at));
        self.show_staleness();
    }

    pub(super) fn show_staleness(&self) {
        let longest = self.stale.lock().longest(self.clock.now()).as_secs();
        let longest = i64::try_from(longest).unwrap_or(i64::MAX);
        self.metrics.oldest_stale.get_or_create(&self.labels()).set(longest);
    }

    /// Whether nobody has asked it yet, or it failed and nobody has asked since. Refused credentials are not shown again.
    pub(super) fn is_probe_due(&self) -> bool {
        if self.rejected.load(Ordering::Relaxed) || self.health.rests_for().is_some() {
            return false;
        }
        match &*self.seen.lock() {
            None => true,
            Some((_, Ok(()))) => false,
            Some((at, Err(_))) => since(self.clock.now(), *at) >= BETWEEN_PROBES,
        }
    }

    /// Asks whether it works: `/v2/` with its credentials, which costs no pull.
    pub(super) async fn probe_upstream(&self) {
        let asked = tokio::time::timeout(PROBE, self.ask(Ask::of_the_root())).await;
        // What was wrong with the answer to this question is wrong with the upstream.
        if let Ok(Err(Error { reason: reason @ Reason::Wrong(_), .. })) = asked {
            *self.seen.lock() = Some((self.clock.now(), Err(reason)));
        }
    }
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
