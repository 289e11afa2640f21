//! What replicas tell each other of an upstream, and a replica its own next start: that it wants to be left alone, that
//! it refused the credentials, what it said about its limit.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::quota::Quota;
use crate::clock::{later, since};

/// A shorter rest is over before others hear of it.
const WORTH_TELLING: Duration = Duration::from_secs(2);
/// Refused credentials are tried again after this, though their Secret is the same: somebody may have mended the account.
const REJECTED_FOR: Duration = Duration::from_secs(24 * 3600);

/// What is known of an upstream and account, in the time of this replica's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamRecord {
    /// It failed, and is left alone until then.
    pub(super) rests_until: Option<Timestamp>,
    /// It said that it wants to be left alone until then.
    pub(super) told_until: Option<Timestamp>,
    /// Its quota is used up until then.
    pub(super) pulls_rest_until: Option<Timestamp>,
    pub(super) rejected: bool,
    pub(super) quota: Option<Quota>,
}

/// The same as it is written: lengths of time, since the clocks of those who read and write may be apart.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    rests_for_seconds: Option<u64>,
    told_for_seconds: Option<u64>,
    pulls_rest_for_seconds: Option<u64>,
    rejected: bool,
    quota: Option<WrittenQuota>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenQuota {
    limit: Option<i64>,
    remaining: Option<i64>,
    window_seconds: Option<u64>,
    source: String,
    age_seconds: u64,
}

impl UpstreamRecord {
    /// As JSON, written at `now`.
    #[must_use]
    pub fn write(&self, now: Timestamp) -> Vec<u8> {
        let left = |until: Option<Timestamp>| {
            until.map(|until| since(until, now).as_secs()).filter(|seconds| *seconds > 0)
        };
        let written = Written {
            rests_for_seconds: left(self.rests_until),
            told_for_seconds: left(self.told_until),
            pulls_rest_for_seconds: left(self.pulls_rest_until),
            rejected: self.rejected,
            quota: self.quota.clone().map(|quota| WrittenQuota {
                limit: quota.limit,
                remaining: quota.remaining,
                window_seconds: quota.window,
                source: quota.source,
                age_seconds: since(now, quota.observed_at).as_secs(),
            }),
        };
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// What was written that long before `now`; `None` where it cannot be understood.
    #[must_use]
    pub fn read(bytes: &[u8], age: Duration, now: Timestamp) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        let until = |seconds: Option<u64>| {
            let left = Duration::from_secs(seconds?).checked_sub(age)?;
            Some(later(now, left))
        };
        let ago = |seconds| {
            let ago = age.saturating_add(Duration::from_secs(seconds));
            now.checked_sub(ago).unwrap_or_default()
        };
        Some(Self {
            rests_until: until(written.rests_for_seconds),
            told_until: until(written.told_for_seconds),
            pulls_rest_until: until(written.pulls_rest_for_seconds),
            rejected: written.rejected && age < REJECTED_FOR,
            quota: written.quota.map(|quota| Quota {
                limit: quota.limit,
                remaining: quota.remaining,
                window: quota.window_seconds,
                source: quota.source,
                observed_at: ago(quota.age_seconds),
            }),
        })
    }

    /// Whether others should hear of this, who know `told`. Seconds are not news.
    #[must_use]
    pub fn is_news(&self, told: &Self, now: Timestamp) -> bool {
        let longer = |until: Option<Timestamp>, told: Option<Timestamp>| {
            until.is_some_and(|until| {
                since(until, now) > WORTH_TELLING
                    && told.is_none_or(|told| since(until, told) > WORTH_TELLING)
            })
        };
        let numbers = |quota: &Option<Quota>| quota.as_ref().map(|quota| (quota.limit, quota.remaining));
        longer(self.rests_until, told.rests_until)
            || longer(self.told_until, told.told_until)
            || longer(self.pulls_rest_until, told.pulls_rest_until)
            || self.rejected != told.rejected
            || numbers(&self.quota) != numbers(&told.quota)
    }
}

impl Client {
    /// What this replica knows of it.
    #[must_use]
    pub fn record(&self) -> UpstreamRecord {
        UpstreamRecord {
            rejected: self.rejected.load(Ordering::Relaxed),
            quota: self.quota(),
            ..self.health.record()
        }
    }

    /// Takes what another replica knows, or an earlier start, where that is more or newer.
    pub fn hear(&self, record: UpstreamRecord) {
        self.health.hear(&record);
        if record.rejected {
            self.reject();
        }
        let known = self.quota().map(|quota| quota.observed_at);
        if let Some(quota) = record.quota.filter(|quota| known.is_none_or(|known| quota.observed_at > known))
        {
            self.note_quota(quota);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn record() -> UpstreamRecord {
        let quota = Quota { limit: Some(100), remaining: Some(7), observed_at: at(-10), ..Quota::default() };
        UpstreamRecord { told_until: Some(at(600)), quota: Some(quota), ..UpstreamRecord::default() }
    }

    #[test]
    fn it_is_read_in_the_time_of_whoever_reads_it() {
        let written = record().write(at(0));
        // A replica whose clock is five minutes behind reads it ten seconds later.
        let read = UpstreamRecord::read(&written, Duration::from_secs(10), at(-290)).unwrap();
        assert_eq!(read.told_until, Some(at(-290 + 590)));
        assert_eq!(read.quota.unwrap().observed_at, at(-290 - 20));
        let late = UpstreamRecord::read(&written, Duration::from_secs(601), at(601)).unwrap();
        assert_eq!(late.told_until, None);
    }

    #[test]
    fn a_rest_and_a_number_are_news_once() {
        let (nothing, known) = (UpstreamRecord::default(), record());
        assert!(known.is_news(&nothing, at(0)));
        assert!(!known.is_news(&known, at(0)));
        assert!(!UpstreamRecord { told_until: Some(at(601)), ..known.clone() }.is_news(&known, at(0)));
        assert!(UpstreamRecord { rejected: true, ..known.clone() }.is_news(&known, at(0)));
        let short = UpstreamRecord { rests_until: Some(at(1)), ..UpstreamRecord::default() };
        assert!(!short.is_news(&nothing, at(0)), "it is over before others hear of it");
    }

    #[test]
    fn refused_credentials_are_tried_again_after_a_day() {
        let written = UpstreamRecord { rejected: true, ..UpstreamRecord::default() }.write(at(0));
        let read = |age| UpstreamRecord::read(&written, age, at(0)).unwrap().rejected;
        assert!(read(Duration::from_secs(3600)) && !read(REJECTED_FOR));
    }

    #[test]
    fn what_cannot_be_understood_is_nothing() {
        assert_eq!(UpstreamRecord::read(b"{", Duration::ZERO, at(0)), None);
        let ages = br#"{"restsForSeconds":18446744073709551615,"quota":{"source":"","ageSeconds":18446744073709551615}}"#;
        let read = UpstreamRecord::read(ages, Duration::from_secs(1), at(0)).unwrap();
        assert_eq!(read.rests_until, Some(Timestamp::MAX), "as long as there is time");
        assert_eq!(read.quota.unwrap().observed_at, Timestamp::UNIX_EPOCH);
        assert_eq!(UpstreamRecord::read(b"{}", Duration::ZERO, at(0)), Some(UpstreamRecord::default()));
    }
}
