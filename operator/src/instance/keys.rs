//! The instance's keys: the one under which tokens are hashed, and those that sign tokens. Pure but for randomness.
//!
//! A new key signs only when every ready pod has it, and the one before is accepted until the tokens that it signed
//! have ended: no pull fails because of a rotation.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use crds::SigningKeys;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

/// Type of the Secret, as the judge wants it.
pub const KIND: &str = "dependencyproxy.dev/keys";
/// Since when the current key signs.
const SIGNS_SINCE: &str = "dependencyproxy.dev/signs-since";
/// The request for a rotation that was heard last.
const ROTATED_FOR: &str = "dependencyproxy.dev/rotated-for";
/// A person asks for a new key by setting this on the DependencyProxy to a value that it had not before.
pub const ROTATE: &str = "dependencyproxy.dev/rotate-keys";
/// What replicas show each other who they are with. It is never rotated: a download that another replica follows must
/// not break off, and it opens nothing but these.
const REPLICA: &str = "replica";
/// Before the id's time in a data key.
const SIGNING: &str = "signing.";
/// An id is the time at which the key was made.
const ID: &str = "%Y%m%d%H%M%S";

/// No randomness could be had from the system.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// The keys as they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub data: BTreeMap<String, ByteString>,
    pub annotations: BTreeMap<String, String>,
}

impl Keys {
    /// What a Secret holds; `None` where it is none of ours or broken, and new ones must be made.
    #[must_use]
    pub fn of(secret: &Secret) -> Option<Self> {
        let data = secret.data.clone()?;
        let keys = Self { data, annotations: secret.metadata.annotations.clone().unwrap_or_default() };
        let current = keys.current()?.to_owned();
        (keys.data.contains_key("instance") && keys.ids().any(|id| id == current)).then_some(keys)
    }

    /// The first keys.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn first(now: Timestamp, request: Option<&str>) -> Result<Self, NoRandomness> {
        let id = id_at(now);
        let mut keys = Self {
            data: BTreeMap::from([
                ("instance".to_owned(), random()?),
                (REPLICA.to_owned(), random()?),
                (format!("{SIGNING}{id}"), random()?),
                ("current".to_owned(), ByteString(id.into_bytes())),
            ]),
            annotations: BTreeMap::new(),
        };
        keys.note(SIGNS_SINCE, &now.to_string());
        keys.note(ROTATED_FOR, request.unwrap_or_default());
        Ok(keys)
    }

    /// The key id that signs.
    #[must_use]
    pub fn current(&self) -> Option<&str> {
        std::str::from_utf8(&self.data.get("current")?.0).ok()
    }

    /// Whether the newest key signs: no step waits for the pods.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ids().max() == self.current()
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.data.keys().filter_map(|name| name.strip_prefix(SIGNING))
    }

    /// One step on: add a key that is due, sign with one that all pods have, drop one whose tokens have ended. The
    /// same keys where nothing is due.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn next(
        &self,
        now: Timestamp,
        times: &SigningKeys,
        request: Option<&str>,
        shared: &BTreeSet<String>,
    ) -> Result<Self, NoRandomness> {
        let mut next = self.clone();
        // Keys of an operator that knew none of it.
        if !next.data.contains_key(REPLICA) {
            next.data.insert(REPLICA.to_owned(), random()?);
        }
        let newest = self.ids().max().unwrap_or_default().to_owned();
        let current = self.current().unwrap_or_default().to_owned();
        let since = self.annotations.get(SIGNS_SINCE).and_then(|text| text.parse::<Timestamp>().ok());
        let elapsed = |seconds: i64| {
            since.is_none_or(|since| now.duration_since(since) >= SignedDuration::from_secs(seconds))
        };
        let asked = request
            .is_some_and(|request| self.annotations.get(ROTATED_FOR).is_none_or(|heard| heard != request));
        let made = id_at(now);
        if newest != current {
            if shared.contains(&newest) {
                next.data.insert("current".to_owned(), ByteString(newest.into_bytes()));
                next.note(SIGNS_SINCE, &now.to_string());
            }
        } else if (asked || elapsed(times.rotation_period_seconds)) && made > newest {
            next.data.insert(format!("{SIGNING}{made}"), random()?);
            next.note(ROTATED_FOR, request.unwrap_or_default());
        } else if elapsed(times.overlap_seconds) {
            next.data.retain(|name, _| name.strip_prefix(SIGNING).is_none_or(|id| id == current));
        }
        Ok(next)
    }

    fn note(&mut self, name: &str, value: &str) {
        self.annotations.insert(name.to_owned(), value.to_owned());
    }
}

fn id_at(now: Timestamp) -> String {
    now.strftime(ID).to_string()
}

/// 32 bytes as hex digits: the Secret stays readable as text.
fn random() -> Result<ByteString, NoRandomness> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(ByteString(hex::encode(bytes).into_bytes()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const TIMES: SigningKeys = SigningKeys { rotation_period_seconds: 1000, overlap_seconds: 100 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn ids(keys: &Keys) -> Vec<&str> {
        keys.ids().collect()
    }

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn nothing_changes_before_a_key_is_due() {
        let keys = Keys::first(at(0), None).unwrap();
        assert_eq!(keys.next(at(999), &TIMES, None, &BTreeSet::new()).unwrap(), keys);
    }

    #[test]
    fn a_new_key_signs_only_when_all_pods_have_it_and_the_old_one_stays_for_the_overlap() {
        let first = Keys::first(at(0), None).unwrap();
        let old = first.current().unwrap().to_owned();
        let added = first.next(at(1000), &TIMES, None, &BTreeSet::new()).unwrap();
        assert_eq!((ids(&added).len(), added.current()), (2, Some(old.as_str())));
        let new = id_at(at(1000));
        assert_eq!(added.next(at(1001), &TIMES, None, &set(&[&old])).unwrap(), added);
        let signing = added.next(at(1002), &TIMES, None, &set(&[&old, &new])).unwrap();
        assert_eq!((ids(&signing).len(), signing.current()), (2, Some(new.as_str())));
        assert_eq!(signing.next(at(1101), &TIMES, None, &set(&[&new])).unwrap(), signing);
        let alone = signing.next(at(1102), &TIMES, None, &set(&[&new])).unwrap();
        assert_eq!(ids(&alone), [new.as_str()]);
    }

    #[test]
    fn a_request_rotates_once() {
        let keys = Keys::first(at(0), None).unwrap();
        let asked = keys.next(at(10), &TIMES, Some("now"), &BTreeSet::new()).unwrap();
        assert_eq!(ids(&asked).len(), 2);
        let signing = asked.next(at(11), &TIMES, Some("now"), &set(&[&id_at(at(10))])).unwrap();
        assert_eq!(ids(&signing.next(at(12), &TIMES, Some("now"), &BTreeSet::new()).unwrap()).len(), 2);
    }

    #[test]
    fn keys_without_one_for_replicas_get_it_and_keep_it() {
        let mut old = Keys::first(at(0), None).unwrap();
        let key = old.data.remove(REPLICA);
        let next = old.next(at(1), &TIMES, None, &BTreeSet::new()).unwrap();
        assert!(next.data.contains_key(REPLICA) && key.is_some());
        assert_eq!(
            next.next(at(2000), &TIMES, None, &BTreeSet::new()).unwrap().data[REPLICA],
            next.data[REPLICA]
        );
    }

    #[test]
    fn the_instance_key_never_changes() {
        let first = Keys::first(at(0), None).unwrap();
        let next = first.next(at(5000), &TIMES, None, &BTreeSet::new()).unwrap();
        assert_eq!(first.data["instance"], next.data["instance"]);
    }
}
