//! Tokens of an upstream's token service: kept for their lifetime, fetched once however many wait.
//!
//! Source: Docker token authentication specification, "token" and "scope".

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use moka::Expiry;
use moka::future::Cache;
use serde::Deserialize;

use super::challenge::Realm;
use super::error::Reason;

/// The specification's lifetime where the answer names none.
const DEFAULT_LIFETIME: u64 = 60;

/// A bearer token.
#[derive(Clone)]
pub(super) struct Token {
    pub value: Arc<str>,
    lifetime: Duration,
}

/// The tokens of one upstream under one account, by scope.
pub(super) struct Tokens {
    by_scope: Cache<String, Token>,
}

/// Answer of a token service.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

struct Lifetime;

impl Expiry<String, Token> for Lifetime {
    fn expire_after_create(&self, _: &String, token: &Token, _: Instant) -> Option<Duration> {
        Some(token.lifetime)
    }
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self { by_scope: Cache::builder().max_capacity(10_000).expire_after(Lifetime).build() }
    }

    /// The token for a scope: a kept one, or the one that `fetch` brings.
    pub(super) async fn get(
        &self,
        scope: String,
        fetch: impl Future<Output = Result<Token, Reason>>,
    ) -> Result<Token, Reason> {
        self.by_scope.try_get_with(scope, fetch).await.map_err(|reason| (*reason).clone())
    }

    /// Forgets a token that upstream no longer takes.
    pub(super) async fn forget(&self, scope: &str, refused: &Token) {
        // Another request may have fetched a new one meanwhile.
        if self.by_scope.get(scope).await.is_some_and(|kept| kept.value == refused.value) {
            self.by_scope.invalidate(scope).await;
        }
    }
}

impl Token {
    /// Reads the answer of a token service.
    pub(super) fn read(body: &[u8]) -> Result<Self, Reason> {
        let unusable =
            || Reason::TokenService { why: "its answer has no token".to_owned(), retry_after: None };
        let answer: Answer = serde_json::from_slice(body).map_err(|_| unusable())?;
        let can_be_sent = |token: &String| !token.is_empty() && HeaderValue::from_str(token).is_ok();
        let value = answer.token.or(answer.access_token).filter(can_be_sent).ok_or_else(unusable)?;
        // A margin, so that a token does not expire on its way; absurd lifetimes are cut to a day.
        let seconds = answer.expires_in.filter(|s| *s > 0).unwrap_or(DEFAULT_LIFETIME).min(86_400);
        let lifetime = Duration::from_secs(seconds).mul_f64(0.9);
        Ok(Self { value: value.into(), lifetime })
    }
}

impl Realm {
    /// The address to fetch a token for that scope from.
    pub(super) fn token_url(&self, scope: &str) -> url::Url {
        let mut url = self.url.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        if !scope.is_empty() {
            query.append_pair("scope", scope);
        }
        drop(query);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_name_of_the_token_is_read_and_the_lifetime_has_a_margin() {
        let read = |text: &str| {
            Token::read(text.as_bytes()).map(|t| (t.value.to_string(), t.lifetime.as_secs())).ok()
        };
        assert_eq!(read(r#"{"token":"a","expires_in":300}"#), Some(("a".into(), 270)));
        assert_eq!(read(r#"{"access_token":"b"}"#), Some(("b".into(), 54)));
        assert_eq!(read(r#"{"expires_in":300}"#), None);
        assert_eq!(read(r#"{"token":""}"#), None);
        assert_eq!(read(r#"{"token":"a\nb"}"#), None);
        assert_eq!(read("<html>"), None);
    }
}
