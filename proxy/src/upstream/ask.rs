//! The way of every request to an upstream: its turn, its authorization, and what the answer means.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use oci::Name;
use reqwest::Response;
use url::Url;

use super::authorize::Proof;
use super::challenge::Challenge;
use super::client::Client;
use super::error::{Error, Reason};
use super::permits::{Permit, Turn};
use super::quota::Quota;
use crate::clock::Clock;
use crate::metrics::UpstreamRequestLabels;

/// A cold pull waits this long for an upstream that rests after a failure.
const PATIENCE: Duration = Duration::from_secs(5);

/// One request to the registry's API.
pub(super) struct Ask<'a> {
    pub method: Method,
    /// `None`: the root of the API, `/v2/`.
    pub repository: Option<&'a Name>,
    /// Below the repository, such as `manifests/latest`.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub turn: Turn,
    /// Whether the quota counts it: GETs of manifests.
    pub counted: bool,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, repository: &'a Name, path: String, turn: Turn) -> Self {
        let repository = Some(repository);
        Self { method, repository, path, query: None, headers: HeaderMap::new(), turn, counted: false }
    }

    /// `GET /v2/`, which asks for nothing but who one is.
    pub(super) fn of_the_root() -> Self {
        let (method, turn) = (Method::GET, Turn::Check);
        let (path, query, headers) = (String::new(), None, HeaderMap::new());
        Self { method, repository: None, path, query, headers, turn, counted: false }
    }
}

impl Client {
    /// Sends a request when its turn has come. The permit is to be kept until the body has been read.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<(Response, Permit), Error> {
        if let Some(until) = self.frozen_until() {
            return Err(self.error(Reason::Frozen(until)));
        }
        let permit = self.turn(&ask).await.map_err(|reason| self.error(reason))?;
        let result = self.authorized(&ask).await;
        self.note(&result);
        result.map(|response| (response, permit)).map_err(|reason| self.error(reason))
    }

    /// Fetches the token that a request below this repository will need, if upstream is known to want one and can be asked
    /// now. What comes of it is the request's to find out.
    pub async fn prepare(&self, repository: &Name) {
        if self.frozen_until().is_none()
            && self.health.rests_for().is_none()
            && let Some(_permit) = self.permits.take(Turn::Check).await
        {
            self.authorization(&scope(repository)).await.ok();
        }
    }

    /// Waits for a permit, no longer than such a request may.
    async fn turn(&self, ask: &Ask<'_>) -> Result<Permit, Reason> {
        let mut patience = PATIENCE.min(ask.turn.patience());
        let turn = async {
            loop {
                while let Some(left) = self.rests_for(ask)? {
                    patience = patience.checked_sub(left).ok_or(Reason::Resting(left))?;
                    tokio::time::sleep(left).await;
                }
                let permit = self.permits.take(ask.turn).await.ok_or(Reason::Busy)?;
                // In the queue before this request another may have failed. Nobody holds a permit while waiting for that.
                if self.rests_for(ask)?.is_none() {
                    return Ok(permit);
                }
            }
        };
        tokio::time::timeout(ask.turn.patience(), turn).await.unwrap_or(Err(Reason::Busy))
    }

    /// How long upstream is left alone with this request.
    fn rests_for(&self, ask: &Ask<'_>) -> Result<Option<Duration>, Reason> {
        if let (true, Some(left)) = (ask.counted, self.health.pulls_rest_for()) {
            return Err(self.quota_used_up(crate::clock::later(self.clock.now(), left)));
        }
        Ok(self.health.rests_for())
    }

    /// Sends a request, answers a challenge once, and judges the status.
    async fn authorized(&self, ask: &Ask<'_>) -> Result<Response, Reason> {
        let url = self.url(ask)?;
        let scope = ask.repository.map(scope).unwrap_or_default();
        for _ in 0..2 {
            let proof = self.authorization(&scope).await?;
            let exchange = self.exchange(&ask.method, url.clone(), &ask.headers, proof.header()).await?;
            if exchange.response.status() != StatusCode::UNAUTHORIZED || exchange.elsewhere {
                if matches!(proof, Proof::Basic(_)) {
                    self.accepted.store(true, Ordering::Relaxed);
                }
                return self.judge(ask, exchange.response);
            }
            let challenge = Challenge::read(exchange.response.headers());
            match &proof {
                // Where a token is wanted now, the password was not looked at.
                Proof::Basic(_) if !matches!(challenge, Some(Challenge::Bearer(_))) => {
                    return Err(self.reject());
                }
                Proof::Bearer(_, token) => self.tokens.forget(&scope, token).await,
                Proof::Basic(_) | Proof::None => {}
            }
            if challenge.is_none() {
                break;
            }
            *self.challenge.lock() = challenge;
        }
        Err(Reason::Denied(401))
    }

    pub(super) async fn exchange(
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

    fn url(&self, ask: &Ask<'_>) -> Result<Url, Reason> {
        let base = self.upstream.url.as_str().trim_end_matches('/');
        let below = ask.repository.map(|name| format!("{name}/{}", ask.path)).unwrap_or_default();
        let mut url = Url::parse(&format!("{base}/v2/{below}"))
            .map_err(|_| Reason::Wrong("its URL cannot be used".to_owned()))?;
        url.set_query(ask.query.as_deref());
        Ok(url)
    }
}

/// What a token must open.
fn scope(repository: &Name) -> String {
    format!("repository:{repository}:pull")
}

/// RFC 9110 §10.2.3: seconds or a date.
pub(super) fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?;
    Some(crate::clock::since(at, clock.now()))
}
