//! What a replica shows another with each request: a token for this request alone, signed with the key they share.

use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::Replica;
use crate::clock::since;

/// Who issues these, and no others.
const ISSUER: &str = "dependency_proxy_replica";
/// How far from now it may have been made, before or after: clocks of nodes are minutes apart at times, and all that
/// it opens is one download in progress.
const GOOD_FOR: Duration = Duration::from_secs(15 * 60);

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    /// The instance.
    aud: String,
    /// Path and query of the request.
    sub: String,
    iat: i64,
}

impl Replica {
    /// A token for a request of this path and query; `None` where there is no key.
    pub(super) fn pass(&self, target: &str) -> Option<String> {
        let key = self.key.read().clone()?;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: self.instance.to_string(),
            sub: target.to_owned(),
            iat: self.clock.now().as_second(),
        };
        let key = EncodingKey::from_secret(key.expose().as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).ok()
    }

    /// Whether a token was made by a replica of this instance for this path and query.
    #[must_use]
    pub fn admits(&self, token: &str, target: &str) -> bool {
        let Some(key) = self.key.read().clone() else { return false };
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[self.instance.to_string()]);
        validation.set_required_spec_claims(&["iss", "aud", "sub"]);
        // The time is compared with our clock, which tests move.
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(key.expose().as_bytes());
        let Ok(token) = jsonwebtoken::decode::<Claims>(token, &key, &validation) else { return false };
        let now = self.clock.now();
        let made = Timestamp::from_second(token.claims.iat).unwrap_or_default();
        token.claims.sub == target && since(now, made).max(since(made, now)) <= GOOD_FOR
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use config::{ObjectId, Secret};
    use parking_lot::RwLock;

    fn replica(key: &str, name: &str, clock: &Clock) -> Replica {
        Replica {
            address: ([127, 0, 0, 1], 1).into(),
            instance: ObjectId { namespace: "dp".to_owned(), name: name.to_owned() },
            key: RwLock::new(Some(Secret::new(key.to_owned()))),
            others: RwLock::default(),
            http: reqwest::Client::new(),
            clock: clock.clone(),
        }
    }

    #[test]
    fn a_token_opens_the_request_that_it_was_made_for_and_no_other() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let one = replica("a key", "main", &clock);
        let token = one.pass("/a?from=0").unwrap();
        assert!(replica("a key", "main", &clock).admits(&token, "/a?from=0"));
        assert!(!one.admits(&token, "/a?from=1"));
        assert!(!replica("another", "main", &clock).admits(&token, "/a?from=0"));
        assert!(!replica("a key", "other", &clock).admits(&token, "/a?from=0"));
    }

    #[test]
    fn a_token_is_good_where_clocks_are_minutes_apart_and_not_for_ever() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let one = replica("a key", "main", &clock);
        let token = one.pass("/a").unwrap();
        let behind = Clock::manual(crate::clock::later(Timestamp::UNIX_EPOCH, Duration::from_secs(300)));
        assert!(one.admits(&replica("a key", "main", &behind).pass("/a").unwrap(), "/a"));
        clock.advance(Duration::from_secs(300));
        assert!(one.admits(&token, "/a"));
        clock.advance(GOOD_FOR);
        assert!(!one.admits(&token, "/a"));
    }

    #[test]
    fn without_a_key_nobody_is_admitted_and_nobody_is_asked() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let token = replica("", "main", &clock).pass("/a").unwrap();
        let keyless = replica("", "main", &clock);
        *keyless.key.write() = None;
        assert!(!keyless.admits(&token, "/a"));
        assert_eq!(keyless.pass("/a"), None);
    }
}
