//! The metrics of design §9, and the enums whose names are label value, log value and header value at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// From the cache, without asking upstream.
    Hit,
    /// Fetched from upstream, or from a download in progress.
    Miss,
    /// From the cache although it could not be checked.
    Stale,
    /// From the cache after upstream said that it is unchanged.
    Revalidated,
    /// The caller has no right to it, or a rule refuses it.
    Denied,
    /// The request was wrong, or nothing has that name.
    ClientError,
    /// Upstream failed and there was no copy.
    UpstreamError,
    /// The store failed and upstream could not help.
    StoreError,
    /// Our own fault.
    InternalError,
}

impl Outcome {
    /// The name in labels, logs and `X-Cache`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Denied => "denied",
            Self::ClientError => "client_error",
            Self::UpstreamError => "upstream_error",
            Self::StoreError => "store_error",
            Self::InternalError => "internal_error",
        }
    }
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Manifest,
    Blob,
}

impl Kind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Blob => "blob",
        }
    }
}

/// Where served bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Cache,
    Upstream,
    /// Another replica's download in progress.
    Replica,
}

impl Source {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Upstream => "upstream",
            Self::Replica => "replica",
        }
    }
}

macro_rules! label_value {
    ($($name:ty),*) => {$(
        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    )*};
}
label_value!(Outcome, Kind, Source);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    pub group: Arc<str>,
    pub kind: Kind,
    pub result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DurationLabels {
    pub kind: Kind,
    pub result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ServedLabels {
    pub group: Arc<str>,
    pub kind: Kind,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamRequestLabels {
    pub upstream: Arc<str>,
    pub method: &'static str,
    /// The status, or `none` where there was no answer.
    pub code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamLabels {
    pub upstream: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RateLimitLabels {
    pub upstream: Arc<str>,
    /// What upstream counts by, from `docker-ratelimit-source`; empty where it does not say.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreLabels {
    pub operation: &'static str,
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    pub operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HashLabels {
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TokenLabels {
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BuildLabels {
    pub version: &'static str,
}

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

/// Every metric that the proxy has.
#[derive(Clone)]
pub struct Metrics {
    pub requests: Family<RequestLabels, Counter>,
    pub request_duration: Seconds<DurationLabels>,
    pub first_byte: Seconds<DurationLabels>,
    pub served_bytes: Family<ServedLabels, Counter>,
    pub upstream_requests: Family<UpstreamRequestLabels, Counter>,
    pub upstream_request_duration: Seconds<UpstreamLabels>,
    pub upstream_up: Family<UpstreamLabels, Gauge>,
    pub upstream_credentials_valid: Family<UpstreamLabels, Gauge>,
    pub ratelimit_limit: Family<RateLimitLabels, Gauge>,
    pub ratelimit_remaining: Family<RateLimitLabels, Gauge>,
    pub ratelimit_window: Family<RateLimitLabels, Gauge>,
    pub oldest_stale: Family<UpstreamLabels, Gauge>,
    pub fills_in_flight: Gauge,
    pub fill_waiters: Gauge,
    pub fill_idle: Gauge,
    pub replicas_known: Gauge,
    pub store_operations: Family<StoreLabels, Counter>,
    pub store_operation_duration: Seconds<OperationLabels>,
    pub cached_bytes: Gauge<u64, AtomicU64>,
    pub local_bytes: Gauge<u64, AtomicU64>,
    pub evictions: Counter,
    pub cleanup_last_run: Gauge,
    pub cleanup_freed_bytes: Gauge<u64, AtomicU64>,
    pub cleanup_kept_bytes: Gauge<u64, AtomicU64>,
    pub config_reload_success: Gauge,
    pub config_problems: Gauge,
    pub config_info: Family<HashLabels, Gauge>,
    pub tokens_issued: Family<TokenLabels, Counter>,
    pub tls_certificate_expiry: Gauge,
    pub tls_reload_success: Gauge,
}

impl Metrics {
    /// Makes all metrics and registers them, each once, with its help text.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            request_duration: Family::new_with_constructor(seconds),
            first_byte: Family::new_with_constructor(seconds),
            served_bytes: Family::default(),
            upstream_requests: Family::default(),
            upstream_request_duration: Family::new_with_constructor(seconds),
            upstream_up: Family::default(),
            upstream_credentials_valid: Family::default(),
            ratelimit_limit: Family::default(),
            ratelimit_remaining: Family::default(),
            ratelimit_window: Family::default(),
            oldest_stale: Family::default(),
            fills_in_flight: Gauge::<i64, AtomicI64>::default(),
            fill_waiters: Gauge::default(),
            fill_idle: Gauge::default(),
            replicas_known: Gauge::default(),
            store_operations: Family::default(),
            store_operation_duration: Family::new_with_constructor(seconds),
            cached_bytes: Gauge::default(),
            local_bytes: Gauge::default(),
            evictions: Counter::default(),
            cleanup_last_run: Gauge::default(),
            cleanup_freed_bytes: Gauge::default(),
            cleanup_kept_bytes: Gauge::default(),
            config_reload_success: Gauge::default(),
            config_problems: Gauge::default(),
            config_info: Family::default(),
            tokens_issued: Family::default(),
            tls_certificate_expiry: Gauge::default(),
            tls_reload_success: Gauge::default(),
        };
        metrics.register(registry.sub_registry_with_prefix("dependency_proxy"));
        metrics
    }

    fn register(&self, r: &mut Registry) {
        r.register("requests", "Pull requests by group, kind and result", self.requests.clone());
        r.register(
            "request_duration_seconds",
            "Time until the last byte was sent",
            self.request_duration.clone(),
        );
        r.register("first_byte_seconds", "Time until the answer began", self.first_byte.clone());
        r.register(
            "served_bytes",
            "Body bytes sent to clients by where they came from",
            self.served_bytes.clone(),
        );
        r.register(
            "upstream_requests",
            "Requests to upstreams; code none means no answer",
            self.upstream_requests.clone(),
        );
        let duration = self.upstream_request_duration.clone();
        r.register("upstream_request_duration_seconds", "Time until upstream's headers came", duration);
        r.register(
            "upstream_up",
            "1 if the upstream's last answer was one, 0 in an outage",
            self.upstream_up.clone(),
        );
        let valid = self.upstream_credentials_valid.clone();
        r.register("upstream_credentials_valid", "0 if the upstream refused the credentials", valid);
        r.register(
            "upstream_ratelimit_limit",
            "Pulls per window, as the upstream last said",
            self.ratelimit_limit.clone(),
        );
        let remaining = self.ratelimit_remaining.clone();
        r.register("upstream_ratelimit_remaining", "Pulls left, as the upstream last said", remaining);
        let window = self.ratelimit_window.clone();
        r.register(
            "upstream_ratelimit_window_seconds",
            "Length of the window, as the upstream last said",
            window,
        );
        r.register(
            "oldest_stale_seconds",
            "The longest that a copy served in the last 15 minutes had not been checked",
            self.oldest_stale.clone(),
        );
        r.register("fills_in_flight", "Downloads from upstream in progress", self.fills_in_flight.clone());
        r.register("fill_waiters", "Requests served from downloads in progress", self.fill_waiters.clone());
        r.register(
            "fill_idle_seconds",
            "The longest that a download in progress has got no byte",
            self.fill_idle.clone(),
        );
        r.register(
            "replicas_known",
            "Replicas of the instance that run, as this one has last read; 0 where it shares nothing",
            self.replicas_known.clone(),
        );
        r.register("store_operations", "Operations on the store", self.store_operations.clone());
        let duration = self.store_operation_duration.clone();
        r.register("store_operation_duration_seconds", "Time of operations on the store", duration);
        r.register("cached_bytes", "Bytes of blobs in the local folder", self.cached_bytes.clone());
        r.register(
            "local_bytes",
            "Bytes in the local folder, downloads in progress included",
            self.local_bytes.clone(),
        );
        r.register("evictions", "Blobs removed from the local folder to make room", self.evictions.clone());
        r.register(
            "cleanup_last_run_timestamp_seconds",
            "When the last cleanup of the store ended, in seconds of Unix time; 0: there was none",
            self.cleanup_last_run.clone(),
        );
        let freed = self.cleanup_freed_bytes.clone();
        r.register("cleanup_freed_bytes", "What the last cleanup of the store deleted", freed);
        let kept = self.cleanup_kept_bytes.clone();
        r.register("cleanup_kept_bytes", "What was in the store after its last cleanup", kept);
        let success = self.config_reload_success.clone();
        r.register(
            "config_reload_success",
            "0 if the last change of the documents could not be taken",
            success,
        );
        r.register("config_problems", "Problems in the documents", self.config_problems.clone());
        r.register("config_info", "The hash of the documents that are served", self.config_info.clone());
        r.register("tokens_issued", "Answers of the token endpoint", self.tokens_issued.clone());
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        r.register("build_info", "The version that runs", build);
    }

    /// Registers what a proxy with a certificate has besides.
    pub fn register_tls(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("dependency_proxy");
        r.register(
            "tls_certificate_expiry_timestamp_seconds",
            "When the certificate of the port for clients ends, in seconds of Unix time",
            self.tls_certificate_expiry.clone(),
        );
        let success = self.tls_reload_success.clone();
        r.register(
            "tls_reload_success",
            "0 if the certificate's files hold a pair that cannot be used",
            success,
        );
    }

    /// Counts one operation on the store.
    pub fn store_operation(&self, operation: &'static str, failed: bool, took: Duration) {
        let result = if failed { "error" } else { "ok" };
        self.store_operations.get_or_create(&StoreLabels { operation, result }).inc();
        self.store_operation_duration
            .get_or_create(&OperationLabels { operation })
            .observe(took.as_secs_f64());
    }
}

/// 0.5 ms to 16 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}
