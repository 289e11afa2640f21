//! What upstream wants to see before it answers: nothing, a password, or a token of its token service.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::ask::retry_after;
use super::challenge::{Challenge, Realm, Trust};
use super::client::Client;
use super::connect::read_small;
use super::error::Reason;
use super::token::Token;

const MAX_TOKEN_BYTES: usize = 1024 * 1024;

/// What goes along with a request.
pub(super) enum Proof {
    None,
    Basic(HeaderValue),
    Bearer(HeaderValue, Token),
}

impl Proof {
    /// The value of `Authorization`.
    pub(super) fn header(&self) -> Option<&HeaderValue> {
        match self {
            Self::None => None,
            Self::Basic(header) | Self::Bearer(header, _) => Some(header),
        }
    }
}

impl Client {
    /// What to send along, as far as upstream has said what it wants.
    pub(super) async fn authorization(&self, scope: &str) -> Result<Proof, Reason> {
        let challenge = self.challenge.lock().clone();
        match challenge {
            None => Ok(Proof::None),
            Some(Challenge::Basic) => Ok(self.basic()?.map_or(Proof::None, Proof::Basic)),
            Some(Challenge::Bearer(realm)) => {
                let token = self.tokens.get(scope.to_owned(), self.fetch_token(realm, scope)).await?;
                Ok(sensitive(format!("Bearer {}", token.value))
                    .map_or(Proof::None, |header| Proof::Bearer(header, token)))
            }
        }
    }

    fn basic(&self) -> Result<Option<HeaderValue>, Reason> {
        let Some(credentials) = &self.upstream.credentials else { return Ok(None) };
        if self.rejected.load(Ordering::Relaxed) {
            return Err(Reason::CredentialsRejected);
        }
        let pair = format!("{}:{}", credentials.username, credentials.password.expose());
        Ok(sensitive(format!("Basic {}", BASE64_STANDARD.encode(pair))))
    }

    async fn fetch_token(&self, realm: Realm, scope: &str) -> Result<Token, Reason> {
        let authorization = match realm.trust(&self.upstream) {
            Trust::Own => self.basic()?,
            Trust::Foreign => {
                if self.upstream.credentials.is_some() {
                    tracing::warn!(
                        upstream = %self.label,
                        realm = realm.url.host_str(),
                        "the token service is on another site; credentials are not sent to it (spec.tokenHosts may list it)"
                    );
                }
                None
            }
            Trust::Refused => {
                return Err(Reason::Wrong(
                    "a token service that is not to be trusted: plain http, or no URL".to_owned(),
                ));
            }
        };
        let service = |reason: Reason| match reason {
            Reason::Wrong(_) | Reason::ForbiddenAddress(_) => reason,
            reason => Reason::TokenService { why: reason.to_string(), retry_after: None },
        };
        let exchange = self
            .exchange(&Method::GET, realm.token_url(scope), &HeaderMap::new(), authorization.as_ref())
            .await;
        let exchange = exchange.map_err(service)?;
        let status = exchange.response.status();
        match status {
            StatusCode::OK => {
                if authorization.is_some() {
                    self.accepted.store(true, Ordering::Relaxed);
                }
                let body = read_small(exchange.response, MAX_TOKEN_BYTES, "a token").await;
                Token::read(&body.map_err(service)?)
            }
            StatusCode::UNAUTHORIZED if authorization.is_some() && !exchange.elsewhere => Err(self.reject()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Reason::Denied(status.as_u16())),
            _ => Err(Reason::TokenService {
                why: status.as_u16().to_string(),
                retry_after: retry_after(exchange.response.headers(), &self.clock),
            }),
        }
    }

    /// Upstream or its token service answered 401 to the credentials.
    pub(super) fn reject(&self) -> Reason {
        if !self.rejected.swap(true, Ordering::Relaxed) {
            tracing::warn!(upstream = %self.label, "upstream refused the credentials; they are not tried again until the Secret changes");
        }
        self.metrics.upstream_credentials_valid.get_or_create(&self.labels()).set(0);
        Reason::CredentialsRejected
    }
}

/// A header that no log shows.
fn sensitive(value: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}
