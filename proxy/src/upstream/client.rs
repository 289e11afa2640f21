//! One upstream: its account, its limits, and what is known of its health and its quota.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use config::Upstream;
use governor::{DefaultDirectRateLimiter, Quota as Rate, RateLimiter};
use ipnet::IpNet;
use oci::{Name, Reference};
use parking_lot::Mutex;

use super::challenge::Challenge;
use super::connect::Connector;
use super::error::{Error, Reason};
use super::fetch::Patience;
use super::health::Health;
use super::known::Staleness;
use super::permits::Permits;
use super::quota::Quota;
use super::record_name;
use super::token::Tokens;
use crate::clock::{Clock, since};
use crate::metrics::{Metrics, RateLimitLabels, UpstreamLabels};

const BETWEEN_PROBES: Duration = Duration::from_secs(60);

/// One upstream with its account, and what is known of it.
pub struct Client {
    pub(super) upstream: Arc<Upstream>,
    pub(super) label: Arc<str>,
    name: Arc<str>,
    record_name: String,
    pub(super) connector: Result<Connector, Reason>,
    pub(super) health: Health,
    pub(super) tokens: Tokens,
    /// How it wants to be asked, once it has said so.
    pub(super) challenge: Mutex<Option<Challenge>>,
    /// Upstream refused the credentials. They are not tried again, so that no account gets locked; a changed
    /// Secret makes a new client.
    pub(super) rejected: AtomicBool,
    pub(super) permits: Permits,
    pub(super) checks: DefaultDirectRateLimiter,
    quota: Mutex<Option<Quota>>,
    /// What came of the last request that says something of the upstream as a whole, and when.
    pub(super) seen: Mutex<Option<(jiff::Timestamp, Result<(), Reason>)>>,
    /// Upstream took the credentials.
    pub(super) accepted: AtomicBool,
    pub(super) stale: Mutex<Staleness>,
    /// Nothing is asked before then, because somebody said so.
    frozen: Mutex<Option<jiff::Timestamp>>,
    /// When it was last asked for its numbers alone, and what came of it.
    probed: tokio::sync::Mutex<Option<(jiff::Timestamp, Result<(), Error>)>>,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
}

/// A client is itself and no other, whatever they are made of.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Client {}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self, state);
    }
}

impl Client {
    pub(super) fn new(upstream: Arc<Upstream>, allowed: &[IpNet], metrics: Metrics, clock: Clock) -> Self {
        let limit = upstream.rate_limit;
        let rate = Rate::per_minute(NonZeroU32::new(limit.max_checks_per_minute).unwrap_or(NonZeroU32::MIN));
        let label: Arc<str> = upstream.id.to_string().into();
        let labels = UpstreamLabels { upstream: label.clone() };
        metrics.oldest_stale.get_or_create(&labels).set(0);
        if upstream.credentials.is_some() {
            metrics.upstream_credentials_valid.get_or_create(&labels).set(1);
        }
        Self {
            name: upstream.id.name.as_str().into(),
            record_name: record_name(&upstream),
            connector: Connector::new(&upstream, allowed),
            health: Health::new(clock.clone()),
            tokens: Tokens::new(),
            challenge: Mutex::new(None),
            rejected: AtomicBool::new(false),
            permits: Permits::new(limit.max_concurrent_requests),
            checks: RateLimiter::direct(rate),
            quota: Mutex::new(None),
            seen: Mutex::new(None),
            accepted: AtomicBool::new(false),
            stale: Mutex::default(),
            frozen: Mutex::default(),
            probed: tokio::sync::Mutex::new(None),
            label,
            upstream,
            metrics,
            clock,
        }
    }

    /// The document behind it.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Under which name replicas speak of this upstream and account.
    #[must_use]
    pub fn record_name(&self) -> &str {
        &self.record_name
    }

    /// What upstream last said about its limit.
    #[must_use]
    pub fn quota(&self) -> Option<Quota> {
        self.quota.lock().clone()
    }

    /// Until when it is not asked, because somebody said so.
    #[must_use]
    pub fn frozen_until(&self) -> Option<jiff::Timestamp> {
        self.frozen.lock().filter(|until| *until > self.clock.now())
    }

    /// Asks nothing before then; `None`: asks again.
    pub(super) fn freeze(&self, until: Option<jiff::Timestamp>) {
        *self.frozen.lock() = until;
    }

    /// Whether the pulls that are left are kept for images of which there is no copy.
    #[must_use]
    pub fn spares_pulls(&self) -> bool {
        let reserve = self.upstream.rate_limit.reserve_pulls;
        self.quota.lock().as_ref().is_some_and(|quota| quota.is_down_to(reserve, self.clock.now()))
    }

    /// Whether a cached answer should not wait for this upstream.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.health.is_suspect()
    }

    /// A cached answer waited for this upstream as long as it may.
    pub fn is_slow(&self) {
        self.health.is_slow();
    }

    /// Asks Docker Hub for its numbers, with the image that it keeps for this, at most once a minute: whoever asks more
    /// often gets what came of it the last time. Of other upstreams nothing of the kind is known: what they said last has
    /// to do.
    ///
    /// # Errors
    /// As [`Reason`] says; an upstream that answers at all has said its numbers.
    pub async fn probe_quota(&self) -> Result<(), Error> {
        if !self.upstream.docker_hub {
            return Ok(());
        }
        let mut probed = self.probed.lock().await;
        let now = self.clock.now();
        if let Some((at, result)) = &*probed
            && since(now, *at) < BETWEEN_PROBES
        {
            return result.clone();
        }
        // Set before the answer: a caller that hangs up must not make way for the next probe.
        *probed = Some((now, Ok(())));
        let result = self.probe().await;
        *probed = Some((now, result.clone()));
        result
    }

    async fn probe(&self) -> Result<(), Error> {
        let (Ok(repository), Ok(tag)) = (Name::parse("ratelimitpreview/test"), Reference::parse("latest"))
        else {
            return Ok(());
        };
        match self.head_manifest(&repository, &tag, Patience::Cold).await {
            Err(Error { reason: Reason::NotFound | Reason::Denied(_), .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps what upstream said about its limit, and shows it.
    pub(super) fn note_quota(&self, quota: Quota) {
        let mut known = self.quota.lock();
        let labels =
            |quota: &Quota| RateLimitLabels { upstream: self.label.clone(), source: quota.source.clone() };
        // The source is upstream's text: only the last one is shown, or it could make labels without end.
        if let Some(old) = known.as_ref().filter(|old| old.source != quota.source) {
            let old = labels(old);
            self.metrics.ratelimit_limit.remove(&old);
            self.metrics.ratelimit_remaining.remove(&old);
            self.metrics.ratelimit_window.remove(&old);
        }
        let labels = labels(&quota);
        if let Some(limit) = quota.limit {
            self.metrics.ratelimit_limit.get_or_create(&labels).set(limit);
        }
        if let Some(remaining) = quota.remaining {
            self.metrics.ratelimit_remaining.get_or_create(&labels).set(remaining);
        }
        if let Some(window) = quota.window {
            self.metrics
                .ratelimit_window
                .get_or_create(&labels)
                .set(i64::try_from(window).unwrap_or(i64::MAX));
        }
        *known = Some(quota);
    }

    /// Draws the conclusion for the next requests, from what upstream said to this replica or to another one.
    pub fn note<T>(&self, result: &Result<T, Reason>) {
        self.see(result.as_ref().map(drop));
        let up = match result {
            Ok(_)
            | Err(
                Reason::NotFound
                | Reason::Denied(_)
                | Reason::CredentialsRejected
                | Reason::QuotaUsedUp { .. },
            ) => {
                self.health.succeeded();
                1
            }
            Err(
                reason @ (Reason::Unreachable(_)
                | Reason::Timeout(_)
                | Reason::TokenService { .. }
                | Reason::Status(_)
                | Reason::TooManyRequests(_)),
            ) => {
                self.health.failed(if let Reason::Timeout(waited) = reason {
                    *waited
                } else {
                    Duration::ZERO
                });
                if let Some(wait) = reason.retry_after() {
                    self.health.told_to_wait(wait);
                }
                i64::from(matches!(reason, Reason::TooManyRequests(_)))
            }
            Err(_) => return,
        };
        self.metrics.upstream_up.get_or_create(&self.labels()).set(up);
    }

    pub(super) fn labels(&self) -> UpstreamLabels {
        UpstreamLabels { upstream: self.label.clone() }
    }

    /// A body did not come to its end.
    pub(super) fn broke(&self, reason: Reason) -> Error {
        if matches!(reason, Reason::Broken(_) | Reason::Timeout(_)) {
            self.health.failed(Duration::ZERO);
        }
        self.error(reason)
    }

    pub(super) fn error(&self, reason: Reason) -> Error {
        Error { upstream: self.name.clone(), reason }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::upstream::testing::upstream_at;
    use jiff::Timestamp;
    use prometheus_client::registry::Registry;

    /// A client of an upstream that is reached by nobody, its clock, and what the metrics say.
    fn client(docker_hub: bool) -> (Client, Clock, impl Fn(&str) -> Vec<String>) {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        // An address that upstreams may not have: nothing is sent to it.
        let upstream = Upstream { docker_hub, ..upstream_at("http://127.0.0.1:9") };
        let client = Client::new(Arc::new(upstream), &[], metrics, clock.clone());
        let lines = move |name: &str| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text.lines()
                .filter(|line| !line.starts_with('#') && line.contains(name))
                .map(str::to_owned)
                .collect()
        };
        (client, clock, lines)
    }

    #[tokio::test]
    async fn docker_hub_is_asked_for_its_numbers_once_a_minute() {
        let (client, clock, lines) = client(true);
        let asked = || lines("upstream_requests_total").iter().any(|line| line.ends_with(" 2"));
        for _ in 0..10 {
            let reason = client.probe_quota().await.unwrap_err().reason;
            assert!(matches!(reason, Reason::ForbiddenAddress(_)), "{reason}");
        }
        clock.advance(BETWEEN_PROBES);
        assert!(!asked());
        client.probe_quota().await.unwrap_err();
        assert!(asked());
    }

    #[tokio::test]
    async fn other_upstreams_are_not_asked_for_their_numbers() {
        let (client, _, lines) = client(false);
        client.probe_quota().await.unwrap();
        assert!(lines("upstream_requests_total").is_empty());
    }

    #[test]
    fn only_the_last_source_of_a_limit_is_shown() {
        let (client, _, lines) = client(true);
        for source in ["192.0.2.1", "", "account"] {
            let source = source.to_owned();
            client.note_quota(Quota {
                limit: Some(100),
                remaining: Some(7),
                window: Some(60),
                source,
                ..Quota::default()
            });
        }
        let shown = lines("upstream_ratelimit");
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown.iter().all(|line| line.contains("source=\"account\"")), "{shown:?}");
    }
}
