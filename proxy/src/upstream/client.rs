//! What is asked of one upstream: manifests, blobs, lists. Every request passes here.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use config::Upstream;
use governor::{DefaultDirectRateLimiter, Quota as Rate, RateLimiter};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ipnet::IpNet;
use oci::{Digest, MAX_MANIFEST_BYTES, Name, Reference, media};
use parking_lot::Mutex;
use reqwest::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::challenge::{Challenge, Realm, Trust};
use super::connect::{Connector, next_chunk, read_small};
use super::error::{Error, Reason};
use super::health::Health;
use super::quota::Quota;
use super::token::{Token, Tokens};
use crate::clock::Clock;
use crate::metrics::{Metrics, RateLimitLabels, UpstreamLabels, UpstreamRequestLabels};

/// A cold pull waits this long for an upstream that rests after a failure.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_TOKEN_BYTES: usize = 1024 * 1024;
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;

/// One upstream with its account, and what is known of it.
pub struct Client {
    upstream: Arc<Upstream>,
    label: Arc<str>,
    name: Arc<str>,
    connector: Result<Connector, Reason>,
    health: Health,
    tokens: Tokens,
    /// How it wants to be asked, once it has said so.
    challenge: Mutex<Option<Challenge>>,
    /// Upstream refused the credentials. They are not tried again, so that no account gets locked; a changed
    /// Secret makes a new client.
    rejected: AtomicBool,
    permits: Arc<Semaphore>,
    checks: DefaultDirectRateLimiter,
    quota: Mutex<Option<Quota>>,
    metrics: Metrics,
    clock: Clock,
}

/// How long a request may wait for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// There is a cached copy: where the upstream rests or is busy, that will do.
    Cached,
    /// There is nothing else.
    Cold,
}

/// What a HEAD of a manifest tells.
#[derive(Clone, Debug)]
pub struct ManifestHead {
    pub digest: Option<Digest>,
    pub media_type: Option<String>,
    pub size: Option<u64>,
}

/// A manifest as it came; nothing of it is proven.
pub struct ManifestBody {
    pub bytes: Bytes,
    pub content_type: Option<String>,
}

/// A list as it came: `tags/list` or `referrers`.
pub struct List {
    pub bytes: Bytes,
    pub link: Option<String>,
    pub filters_applied: Option<String>,
}

/// A blob's bytes as they come; nothing of them is proven.
pub struct BlobBody {
    response: Response,
    /// Bytes to leave out at the beginning: upstream ignored the Range.
    skip: u64,
    /// Length of the whole blob, where upstream says it.
    pub size: Option<u64>,
    _permit: OwnedSemaphorePermit,
}

impl BlobBody {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the transfer breaks or stalls.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        while let Some(mut chunk) = next_chunk(&mut self.response).await? {
            let skipped = self.skip.min(chunk.len() as u64);
            self.skip -= skipped;
            let rest = chunk.split_off(usize::try_from(skipped).unwrap_or(usize::MAX));
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
        Ok(None)
    }
}

/// One request to the registry's API.
struct Ask<'a> {
    method: Method,
    repository: &'a Name,
    /// Below the repository, such as `manifests/latest`.
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    patience: Patience,
    /// Whether the quota counts it: GETs of manifests.
    counted: bool,
}

impl Client {
    pub(super) fn new(upstream: Arc<Upstream>, allowed: &[IpNet], metrics: Metrics, clock: Clock) -> Self {
        let limit = upstream.rate_limit;
        let rate = Rate::per_minute(NonZeroU32::new(limit.max_checks_per_minute).unwrap_or(NonZeroU32::MIN));
        let label: Arc<str> = upstream.id.to_string().into();
        if upstream.credentials.is_some() {
            metrics
                .upstream_credentials_valid
                .get_or_create(&UpstreamLabels { upstream: label.clone() })
                .set(1);
        }
        Self {
            name: upstream.id.name.as_str().into(),
            connector: Connector::new(&upstream, allowed),
            health: Health::new(clock.clone()),
            tokens: Tokens::new(),
            challenge: Mutex::new(None),
            rejected: AtomicBool::new(false),
            permits: Arc::new(Semaphore::new(limit.max_concurrent_requests.max(1))),
            checks: RateLimiter::direct(rate),
            quota: Mutex::new(None),
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

    /// What upstream last said about its limit.
    #[must_use]
    pub fn quota(&self) -> Option<Quota> {
        self.quota.lock().clone()
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

    /// Asks what a manifest is, which costs nothing of the quota.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn head_manifest(
        &self,
        repository: &Name,
        reference: &Reference,
        patience: Patience,
    ) -> Result<ManifestHead, Error> {
        if patience == Patience::Cached && self.checks.check().is_err() {
            return Err(self.error(Reason::Busy));
        }
        let ask = Ask {
            headers: accept(),
            ..ask(Method::HEAD, repository, format!("manifests/{reference}"), patience)
        };
        let (response, _permit) = self.ask(ask).await?;
        let text = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        Ok(ManifestHead {
            digest: text("docker-content-digest").and_then(|digest| Digest::parse(&digest).ok()),
            media_type: text("content-type"),
            size: text("content-length").and_then(|length| length.parse().ok()),
        })
    }

    /// Fetches a manifest, at most 4 MiB of it. This is what the quota counts.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn manifest(
        &self,
        repository: &Name,
        reference: &Reference,
        patience: Patience,
    ) -> Result<ManifestBody, Error> {
        let ask = Ask {
            headers: accept(),
            counted: true,
            ..ask(Method::GET, repository, format!("manifests/{reference}"), patience)
        };
        let (response, _permit) = self.ask(ask).await?;
        let content_type =
            response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = read_small(response, MAX_MANIFEST_BYTES, "a manifest")
            .await
            .map_err(|reason| self.broke(reason))?;
        Ok(ManifestBody { bytes, content_type })
    }

    /// Asks whether a blob is there; its length where upstream says it.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn head_blob(&self, repository: &Name, digest: &Digest) -> Result<Option<u64>, Error> {
        let (response, _permit) =
            self.ask(ask(Method::HEAD, repository, format!("blobs/{digest}"), Patience::Cold)).await?;
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Ok(length.and_then(|length| length.parse().ok()))
    }

    /// Begins to fetch a blob from that offset on.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn blob(&self, repository: &Name, digest: &Digest, offset: u64) -> Result<BlobBody, Error> {
        let mut ask = ask(Method::GET, repository, format!("blobs/{digest}"), Patience::Cold);
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            ask.headers
                .insert(header::RANGE, range.map_err(|_| self.error(Reason::Wrong("an offset".to_owned())))?);
        }
        let (response, permit) = self.ask(ask).await?;
        let length = response.content_length();
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(BlobBody { response, skip: offset, size: length, _permit: permit });
        }
        match content_range(response.headers()) {
            Some((start, size)) if start == offset => {
                Ok(BlobBody { response, skip: 0, size, _permit: permit })
            }
            _ => Err(self.error(Reason::Wrong("another range than the one asked for".to_owned()))),
        }
    }

    /// Fetches a list below a repository, at most 4 MiB of it.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn list(&self, repository: &Name, path: String, query: Option<String>) -> Result<List, Error> {
        let ask = Ask { query, headers: accept(), ..ask(Method::GET, repository, path, Patience::Cold) };
        let (response, _permit) = self.ask(ask).await?;
        let text = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (link, filters_applied) = (text("link"), text("oci-filters-applied"));
        let bytes =
            read_small(response, MAX_LIST_BYTES, "a list").await.map_err(|reason| self.broke(reason))?;
        Ok(List { bytes, link, filters_applied })
    }

    /// Asks Docker Hub for its numbers, with the image that it keeps for this. Of other upstreams nothing of the kind
    /// is known: what they said last has to do.
    ///
    /// # Errors
    /// As [`Reason`] says; an upstream that answers at all has said its numbers.
    pub async fn probe_quota(&self) -> Result<(), Error> {
        if !self.upstream.docker_hub {
            return Ok(());
        }
        let (Ok(repository), Ok(tag)) = (Name::parse("ratelimitpreview/test"), Reference::parse("latest"))
        else {
            return Ok(());
        };
        match self.head_manifest(&repository, &tag, Patience::Cold).await {
            Err(Error { reason: Reason::NotFound | Reason::Denied(_), .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<(Response, OwnedSemaphorePermit), Error> {
        self.wait_for_rest(&ask).await?;
        let permit = match ask.patience {
            Patience::Cached => self.permits.clone().try_acquire_owned().ok(),
            Patience::Cold => self.permits.clone().acquire_owned().await.ok(),
        };
        let permit = permit.ok_or_else(|| self.error(Reason::Busy))?;
        let result = self.authorized(&ask).await;
        self.note(&result);
        result.map(|response| (response, permit)).map_err(|reason| self.error(reason))
    }

    async fn wait_for_rest(&self, ask: &Ask<'_>) -> Result<(), Error> {
        if let (true, Some(left)) = (ask.counted, self.health.pulls_rest_for()) {
            return Err(self.error(self.quota_used_up(crate::clock::later(self.clock.now(), left))));
        }
        match self.health.rests_for() {
            None => Ok(()),
            Some(left) if ask.patience == Patience::Cold && left <= PATIENCE => {
                tokio::time::sleep(left).await;
                Ok(())
            }
            Some(left) => Err(self.error(Reason::Resting(left))),
        }
    }

    /// Sends a request, answers a challenge once, and judges the status.
    async fn authorized(&self, ask: &Ask<'_>) -> Result<Response, Reason> {
        let url = self.url(ask)?;
        let scope = format!("repository:{}:pull", ask.repository);
        for last in [false, true] {
            let (authorization, token) = self.authorization(&scope).await?;
            let exchange =
                self.exchange(&ask.method, url.clone(), &ask.headers, authorization.as_ref()).await?;
            if exchange.response.status() != StatusCode::UNAUTHORIZED || exchange.elsewhere {
                return self.judge(ask, exchange.response);
            }
            if let Some(token) = &token {
                self.tokens.forget(&scope, token).await;
            }
            let Some(challenge) = Challenge::read(exchange.response.headers()) else {
                return Err(Reason::Denied(401));
            };
            let tried_basic = authorization.is_some() && challenge == Challenge::Basic;
            *self.challenge.lock() = Some(challenge);
            if tried_basic {
                return Err(self.reject());
            }
            if last {
                break;
            }
        }
        Err(Reason::Denied(401))
    }

    /// What to send along, as far as upstream has said what it wants.
    async fn authorization(&self, scope: &str) -> Result<(Option<HeaderValue>, Option<Token>), Reason> {
        let challenge = self.challenge.lock().clone();
        match challenge {
            None => Ok((None, None)),
            Some(Challenge::Basic) => Ok((self.basic()?, None)),
            Some(Challenge::Bearer(realm)) => {
                let token = self.tokens.get(scope.to_owned(), self.fetch_token(realm, scope)).await?;
                Ok((sensitive(format!("Bearer {}", token.value)), Some(token)))
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
            StatusCode::OK => Token::read(
                &read_small(exchange.response, MAX_TOKEN_BYTES, "a token").await.map_err(service)?,
            ),
            StatusCode::UNAUTHORIZED if authorization.is_some() && !exchange.elsewhere => Err(self.reject()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Reason::Denied(status.as_u16())),
            _ => Err(Reason::TokenService {
                why: status.as_u16().to_string(),
                retry_after: retry_after(exchange.response.headers(), &self.clock),
            }),
        }
    }

    async fn exchange(
        &self,
        method: &Method,
        url: Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<super::connect::Exchange, Reason> {
        let connector = self.connector.as_ref().map_err(Clone::clone)?;
        let started = Instant::now();
        let result = connector.exchange(method, url, headers, authorization).await;
        let code =
            result.as_ref().map_or_else(|_| "none".to_owned(), |e| e.response.status().as_u16().to_string());
        let method = if method == Method::HEAD { "HEAD" } else { "GET" };
        self.metrics
            .upstream_requests
            .get_or_create(&UpstreamRequestLabels { upstream: self.label.clone(), method, code })
            .inc();
        let took = started.elapsed().as_secs_f64();
        self.metrics.upstream_request_duration.get_or_create(&self.labels()).observe(took);
        result
    }

    fn judge(&self, ask: &Ask<'_>, response: Response) -> Result<Response, Reason> {
        if let Some(quota) = Quota::read(response.headers(), self.clock.now()) {
            self.note_quota(quota);
        }
        let status = response.status();
        match status.as_u16() {
            200 | 206 => Ok(response),
            404 | 410 => Err(Reason::NotFound),
            status @ (401 | 403) => Err(Reason::Denied(status)),
            429 => Err(self.too_many(ask, response.headers())),
            405 | 501 if ask.method == Method::HEAD => Err(Reason::NoHead),
            500..=599 => {
                if let Some(wait) = retry_after(response.headers(), &self.clock) {
                    self.health.told_to_wait(wait);
                }
                Err(Reason::Status(status.as_u16()))
            }
            status => Err(Reason::Wrong(format!("status {status}"))),
        }
    }

    /// 429 on a manifest is the quota, unless upstream says that pulls are left: then, as on all other requests, it is
    /// asked too fast.
    fn too_many(&self, ask: &Ask<'_>, headers: &HeaderMap) -> Reason {
        let retry_after = retry_after(headers, &self.clock);
        let left = Quota::read(headers, self.clock.now()).and_then(|quota| quota.remaining);
        if ask.counted && left.is_none_or(|left| left <= 0) {
            let until = self.health.quota_is_used_up(retry_after);
            return self.quota_used_up(until);
        }
        Reason::TooManyRequests(retry_after)
    }

    fn quota_used_up(&self, until: jiff::Timestamp) -> Reason {
        let quota = self.quota();
        let (limit, remaining) = quota.map_or((None, None), |quota| (quota.limit, quota.remaining));
        Reason::QuotaUsedUp { until: Some(until), remaining: remaining.unwrap_or(0), limit }
    }

    fn note_quota(&self, quota: Quota) {
        let labels = RateLimitLabels { upstream: self.label.clone(), source: quota.source.clone() };
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
        *self.quota.lock() = Some(quota);
    }

    /// Draws the conclusion for the next requests.
    fn note(&self, result: &Result<Response, Reason>) {
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

    fn reject(&self) -> Reason {
        if !self.rejected.swap(true, Ordering::Relaxed) {
            tracing::warn!(upstream = %self.label, "upstream refused the credentials; they are not tried again until the Secret changes");
        }
        self.metrics.upstream_credentials_valid.get_or_create(&self.labels()).set(0);
        Reason::CredentialsRejected
    }

    fn labels(&self) -> UpstreamLabels {
        UpstreamLabels { upstream: self.label.clone() }
    }

    fn broke(&self, reason: Reason) -> Error {
        if matches!(reason, Reason::Broken(_) | Reason::Timeout(_)) {
            self.health.failed(Duration::ZERO);
        }
        self.error(reason)
    }

    fn error(&self, reason: Reason) -> Error {
        Error { upstream: self.name.clone(), reason }
    }

    fn url(&self, ask: &Ask<'_>) -> Result<Url, Reason> {
        let base = self.upstream.url.as_str().trim_end_matches('/');
        let mut url = Url::parse(&format!("{base}/v2/{}/{}", ask.repository, ask.path))
            .map_err(|_| Reason::Wrong("its URL cannot be used".to_owned()))?;
        url.set_query(ask.query.as_deref());
        Ok(url)
    }
}

fn ask(method: Method, repository: &Name, path: String, patience: Patience) -> Ask<'_> {
    Ask { method, repository, path, query: None, headers: HeaderMap::new(), patience, counted: false }
}

fn accept() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(media::ACCEPT))])
}

/// A header that no log shows.
fn sensitive(value: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// RFC 9110 §10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?;
    Some(crate::clock::since(at, clock.now()))
}

/// Start and whole length of `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    Some((start, size.parse().ok()))
}
