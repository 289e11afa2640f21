//! What can go wrong with an upstream, by meaning: who is to blame, and whether another try helps.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A request to an upstream that did not give what was asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{upstream}: {reason}")]
pub struct Error {
    /// The upstream's name, without its namespace, as sentences name it.
    pub upstream: Arc<str>,
    pub reason: Reason,
}

/// What happened. Replicas tell it each other as JSON.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum Reason {
    #[error("404")]
    NotFound,
    /// 401 or 403 for this repository; many registries answer so for what is not there.
    #[error("{0}")]
    Denied(u16),
    #[error("it refused the credentials")]
    CredentialsRejected,
    /// The quota for pulls is used up.
    #[error("429, quota used up")]
    QuotaUsedUp { until: Option<Timestamp>, remaining: i64, limit: Option<i64> },
    /// Asked too fast; with its `Retry-After`.
    #[error("429")]
    TooManyRequests(Option<Duration>),
    #[error("{0}")]
    Status(u16),
    #[error("no connection: {0}")]
    Unreachable(String),
    #[error("no answer in {} s", .0.as_secs())]
    Timeout(Duration),
    /// It failed a moment ago and is left alone until then.
    #[error("it failed a moment ago; next try in {} s", .0.as_secs().max(1))]
    Resting(Duration),
    #[error("its token service failed: {why}")]
    TokenService { why: String, retry_after: Option<Duration> },
    /// The connection broke in the middle of a body.
    #[error("the transfer broke: {0}")]
    Broken(String),
    /// An address that upstreams may not have.
    #[error(
        "the address of {0} is not public, and not in spec.upstreamNetworks.allowedCIDRs of the DependencyProxy"
    )]
    ForbiddenAddress(String),
    #[error("a wrong answer: {0}")]
    Wrong(String),
    /// It does not answer HEAD requests.
    #[error("it does not answer HEAD requests")]
    NoHead,
    /// Somebody said that it is not to be asked before then.
    #[error("it is frozen until {} UTC", .0.strftime("%Y-%m-%d %H:%M"))]
    Frozen(Timestamp),
    /// Nobody reads what is not kept: the download was given up here, not by upstream.
    #[error("nobody reads what is not kept")]
    Abandoned,
    /// As many requests or checks at once as `rateLimit` allows.
    #[error("spec.rateLimit is reached")]
    Busy,
}

/// What a failure means for the pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It is not there: the next upstream may have it.
    Missing,
    /// It may not be had.
    Refused,
    /// Upstream is away or tired: another time, another upstream, or the cached copy.
    Outage,
    /// Upstream sent what must not be passed on.
    Wrong,
}

impl Reason {
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NotFound => Class::Missing,
            Self::Denied(_) | Self::CredentialsRejected => Class::Refused,
            Self::Wrong(_) | Self::ForbiddenAddress(_) | Self::NoHead => Class::Wrong,
            Self::QuotaUsedUp { .. }
            | Self::TooManyRequests(_)
            | Self::Status(_)
            | Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::Resting(_)
            | Self::TokenService { .. }
            | Self::Broken(_)
            | Self::Frozen(_)
            | Self::Abandoned
            | Self::Busy => Class::Outage,
        }
    }

    /// Whether the same request may succeed when it is sent again soon.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Status(_)
                | Self::Unreachable(_)
                | Self::Timeout(_)
                | Self::Broken(_)
                | Self::TokenService { .. }
                | Self::TooManyRequests(_)
        )
    }

    /// Whether it is this replica's own trouble, as far as it can know: another one may well get an answer.
    #[must_use]
    pub fn may_be_local(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Resting(_)
                | Self::Broken(_)
                | Self::TokenService { .. }
                | Self::Abandoned
                | Self::Busy
        )
    }

    /// How long upstream or its token service wants to be left alone, where it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests(retry_after) | Self::TokenService { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
