//! What a binding pulls with: random passwords, renewed with an overlap. Pure but for randomness.
//!
//! A new password is handed out only when every ready pod takes it, and the one before keeps working for a while: a
//! job that runs goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::instance::keys::NoRandomness;

/// An id is the time at which the password was made.
const ID: &str = "%Y%m%d%H%M%S";

/// How long passwords live.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub ttl: SignedDuration,
    pub overlap: SignedDuration,
}

/// The passwords of one binding by id.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub username: String,
    passwords: BTreeMap<String, Password>,
    /// The one that is handed out; none before pods take the first.
    current: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
struct Password {
    text: String,
    /// When it ends, once another is handed out.
    expires: Option<Timestamp>,
}

impl Credentials {
    /// What a Secret holds; none where it is none of ours.
    pub(super) fn of(secret: &Secret, username: &str) -> Self {
        let empty = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&empty);
        let text =
            |name: &str| data.get(name).and_then(|ByteString(value)| String::from_utf8(value.clone()).ok());
        let ids = data.keys().filter_map(|name| name.strip_prefix("password."));
        let passwords = ids.filter_map(|id| {
            let expires = text(&format!("expires.{id}")).and_then(|time| time.parse().ok());
            Some((id.to_owned(), Password { text: text(&format!("password.{id}"))?, expires }))
        });
        let passwords = passwords.collect::<BTreeMap<_, _>>();
        let current = text("current").filter(|id| passwords.contains_key(id));
        Self { username: username.to_owned(), passwords, current }
    }

    pub(super) fn none(username: &str) -> Self {
        Self { username: username.to_owned(), passwords: BTreeMap::new(), current: None }
    }

    /// One step on. `taken` are the ids of passwords that every ready pod takes.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) fn next(&self, now: Timestamp, times: Times, taken: &[String]) -> Result<Self, NoRandomness> {
        let mut next = self.clone();
        next.passwords.retain(|_, password| password.expires.is_none_or(|end| now < end));
        let made = id(now);
        let newest = next.passwords.keys().next_back().cloned();
        match newest {
            None => {
                // Pods may still take one of this second, which somebody has deleted.
                let made = if taken.contains(&made) { id(now + SignedDuration::from_secs(1)) } else { made };
                next.passwords.insert(made, Password { text: random()?, expires: None });
            }
            Some(newest) if next.current.as_ref() != Some(&newest) => {
                if taken.contains(&newest) {
                    for (_, password) in next.passwords.iter_mut().filter(|(id, _)| **id != newest) {
                        password.expires.get_or_insert(now + times.overlap);
                    }
                    next.current = Some(newest);
                }
            }
            Some(newest) if since(&newest, now) >= times.ttl && made > newest => {
                next.passwords.insert(made, Password { text: random()?, expires: None });
            }
            Some(_) => {}
        }
        Ok(next)
    }

    /// The password that is handed out.
    pub(super) fn current(&self) -> Option<&str> {
        Some(self.passwords.get(self.current.as_ref()?)?.text.as_str())
    }

    /// Whether what is handed out is among those that every ready pod takes.
    pub(super) fn is_taken(&self, taken: &[String]) -> bool {
        self.current.as_ref().is_some_and(|current| taken.contains(current))
    }

    /// When what is handed out ends, its overlap counted.
    pub(super) fn expires_at(&self, times: Times) -> Option<Timestamp> {
        Some(made_at(self.current.as_ref()?)? + times.ttl + times.overlap)
    }

    /// How long nothing is due.
    pub(super) fn rest(&self, now: Timestamp, times: Times) -> Duration {
        let renewal = self.current.as_ref().and_then(|id| Some(made_at(id)? + times.ttl));
        let ends = self.passwords.values().filter_map(|password| password.expires);
        let next = renewal.into_iter().chain(ends).min().map(|at| at.duration_since(now));
        next.and_then(|rest| Duration::try_from(rest).ok()).unwrap_or_default().max(Duration::from_secs(1))
    }

    /// As the Secret holds it.
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let mut data = BTreeMap::from([("username".to_owned(), bytes(&self.username))]);
        data.extend(self.current.iter().map(|id| ("current".to_owned(), bytes(id))));
        for (id, password) in &self.passwords {
            data.insert(format!("password.{id}"), bytes(&password.text));
            if let Some(end) = password.expires {
                data.insert(format!("expires.{id}"), bytes(&end.to_string()));
            }
        }
        data
    }
}

fn id(made: Timestamp) -> String {
    made.strftime(ID).to_string()
}

fn made_at(id: &str) -> Option<Timestamp> {
    let time = jiff::civil::DateTime::strptime(ID, id).ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|time| time.timestamp())
}

fn since(id: &str, now: Timestamp) -> SignedDuration {
    made_at(id).map_or(SignedDuration::MAX, |made| now.duration_since(made))
}

/// 256 bits as hex digits.
fn random() -> Result<String, NoRandomness> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(format!("dpb_{}", hex::encode(bytes)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const TIMES: Times =
        Times { ttl: SignedDuration::from_secs(1000), overlap: SignedDuration::from_secs(100) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn ids(credentials: &Credentials) -> Vec<String> {
        credentials.passwords.keys().cloned().collect()
    }

    fn begun() -> Credentials {
        let made = Credentials::none("u").next(at(0), TIMES, &[]).unwrap();
        made.next(at(1), TIMES, &ids(&made)).unwrap()
    }

    #[test]
    fn nothing_is_handed_out_before_all_pods_take_it() {
        let made = Credentials::none("u").next(at(0), TIMES, &[]).unwrap();
        assert_eq!((ids(&made).len(), made.current()), (1, None));
        assert!(made.next(at(1), TIMES, &[]).unwrap().current().is_none());
        assert!(made.next(at(1), TIMES, &ids(&made)).unwrap().current().is_some());
    }

    #[test]
    fn one_in_place_of_a_lost_one_is_told_from_it_within_the_same_second() {
        let lost = Credentials::none("u").next(at(0), TIMES, &[]).unwrap();
        let made = Credentials::none("u").next(at(0), TIMES, &ids(&lost)).unwrap();
        assert!(made.next(at(0), TIMES, &ids(&lost)).unwrap().current().is_none(), "pods take the lost one");
        assert!(made.next(at(0), TIMES, &ids(&made)).unwrap().current().is_some());
    }

    #[test]
    fn a_renewed_password_is_handed_out_when_taken_and_the_old_one_works_for_the_overlap() {
        let begun = begun();
        let old = begun.current().unwrap().to_owned();
        let due = begun.next(at(1000), TIMES, &ids(&begun)).unwrap();
        assert_eq!((ids(&due).len(), due.current()), (2, Some(old.as_str())));
        assert!(due.next(at(1001), TIMES, &ids(&begun)).unwrap() == due, "not before pods take it");
        let renewed = due.next(at(1002), TIMES, &ids(&due)).unwrap();
        assert_ne!(renewed.current(), Some(old.as_str()));
        assert!(renewed.next(at(1101), TIMES, &ids(&due)).unwrap() == renewed);
        assert_eq!(ids(&renewed.next(at(1102), TIMES, &ids(&due)).unwrap()).len(), 1);
    }

    #[test]
    fn what_is_kept_is_read_as_it_was() {
        let due = begun().next(at(1000), TIMES, &[]).unwrap();
        let renewed = due.next(at(1002), TIMES, &ids(&due)).unwrap();
        let secret = Secret { data: Some(renewed.data()), ..Secret::default() };
        assert!(Credentials::of(&secret, "u") == renewed);
    }

    #[test]
    fn it_is_looked_at_again_when_something_is_due() {
        let begun = begun();
        assert_eq!(begun.rest(at(1), TIMES), Duration::from_secs(999));
        assert_eq!(begun.expires_at(TIMES), Some(at(1100)));
    }
}
