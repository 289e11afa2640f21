//! The second port: metrics, probes, status, log level. Not for clients; it listens where operators can reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use config::ObjectId;
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cache::Cache;
use crate::clock::{Clock, later};
use crate::http::Live;
use crate::purge::{Scope, Target, begin, concerned};
use crate::telemetry::LogLevel;

/// What the second port shows.
pub struct Admin {
    pub registry: Registry,
    pub live: watch::Receiver<Live>,
    pub cache: Arc<Cache>,
    /// Documents are loaded and ports are open, and nobody has asked us to stop. A store outage changes nothing
    /// here: it must not empty the Service.
    pub ready: AtomicBool,
    /// Problems of the documents, as `check` prints them.
    pub problems: Mutex<Vec<String>>,
    pub storage: String,
    pub clock: Clock,
    pub log_level: Option<LogLevel>,
}

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    let is_movable = admin.clock.is_movable();
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/replicas", get(replicas))
        .route("/freeze", put(freeze))
        .route("/purge", put(purge))
        .route("/log-level", put(log_level));
    // Only where a test said at the start that it will move the time.
    let router = if is_movable { router.route("/clock", post(clock)) } else { router };
    router.with_state(admin)
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    admin.cache.refresh_metrics();
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    if admin.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    }
}

impl Admin {
    /// What this replica says of itself.
    #[must_use]
    pub fn status(&self) -> Value {
        let live = self.live.borrow().clone();
        let metrics = &self.cache.metrics;
        let cleanup = Timestamp::from_second(metrics.cleanup_last_run.get()).unwrap_or_default();
        let cleanup = (cleanup > Timestamp::UNIX_EPOCH)
            .then(|| json!({"at": cleanup.to_string(), "keptBytes": metrics.cleanup_kept_bytes.get()}));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "instance": live.config.instance.id.to_string(),
            "configHash": live.config.hash,
            "configLoadedAt": live.loaded_at.to_string(),
            "problems": *self.problems.lock(),
            "keyIDs": live.auth.signer.kids(),
            "storage": self.storage,
            "groups": live.config.groups.len(),
            "virtualRegistries": live.config.registries.len(),
            "upstreams": self.cache.upstreams.known(&live.config),
            "downloads": self.cache.downloads(),
            "cachedBytes": metrics.cached_bytes.get(),
            "localBytes": metrics.local_bytes.get(),
            "store": self.cache.store.known(),
            "lastCleanup": cleanup,
            "ready": self.ready.load(Ordering::Relaxed),
        })
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> axum::Json<Value> {
    axum::Json(admin.status())
}

/// This replica and the others, each with what it says of itself; `status` is null where one does not answer.
async fn replicas(State(admin): State<Arc<Admin>>) -> axum::Json<Value> {
    let others = admin.cache.others().await;
    let own = json!({"address": admin.cache.address(), "seenSecondsAgo": 0, "status": admin.status()});
    let others = others.into_iter().map(|other| {
        json!({"address": other.address, "seenSecondsAgo": other.seen.as_secs(), "status": other.status})
    });
    axum::Json(std::iter::once(own).chain(others).collect())
}

#[derive(Deserialize)]
struct Frozen {
    upstream: String,
    seconds: i64,
}

/// Forgets what is cached of one group, registry or upstream, behind the answer: `group` or `upstream` as
/// `namespace/name`, `registry` by its id, and what of it as the API has it.
async fn purge(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<Vec<(String, String)>>,
) -> (StatusCode, String) {
    let mut targets = Vec::new();
    let mut rest = Vec::new();
    for (key, value) in &query {
        match key.as_str() {
            "group" => targets.extend(value.parse().map(Target::Group)),
            "upstream" => targets.extend(value.parse().map(Target::Upstream)),
            "registry" => targets.push(Target::Registry(value.clone())),
            other => rest.push((other, value.as_str())),
        }
    }
    let scope = match Scope::read(rest.into_iter()) {
        Ok(scope) => scope,
        Err(sentence) => return (StatusCode::BAD_REQUEST, format!("{sentence}\n")),
    };
    let [target] = targets.as_slice() else {
        let sentence = "Name one group or upstream as namespace/name, or one registry as namespace.name.\n";
        return (StatusCode::BAD_REQUEST, sentence.to_owned());
    };
    let concerned = concerned(&admin.live.borrow().config.clone(), target);
    if concerned.is_empty() {
        return (StatusCode::NOT_FOUND, format!("This instance does not serve {target}.\n"));
    }
    if begin(&admin.cache.store, &concerned, &scope, "an administrator").is_err() {
        return (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many purges wait for their turn: ask again in a minute.\n".to_owned(),
        );
    }
    (
        StatusCode::ACCEPTED,
        format!("What is cached of {target} is being forgotten; the log says when it is.\n"),
    )
}

async fn freeze(State(admin): State<Arc<Admin>>, Query(wanted): Query<Frozen>) -> (StatusCode, String) {
    let config = admin.live.borrow().config.clone();
    let named = |id: &ObjectId| id.name == wanted.upstream || id.to_string() == wanted.upstream;
    let found: Vec<_> = config.upstreams().into_keys().filter(|id| named(id)).cloned().collect();
    let [id] = found.as_slice() else {
        let all: Vec<_> = config.upstreams().keys().map(ToString::to_string).collect();
        let sentence = format!("Name one upstream as namespace/name: {}.\n", all.join(", "));
        return (StatusCode::NOT_FOUND, sentence);
    };
    let length = Duration::from_secs(wanted.seconds.max(0).unsigned_abs());
    let until = Some(later(admin.clock.now(), length)).filter(|_| !length.is_zero());
    match admin.cache.freeze(id, until).await {
        Ok(()) => {
            tracing::warn!(upstream = %id, ?until, "frozen by hand");
            let until = until.map(|until| until.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
            let sentence = until.map_or_else(
                || format!("{id} is asked again.\n"),
                |until| format!("{id} is not asked until {until}; cached copies are served.\n"),
            );
            (StatusCode::OK, sentence)
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("It could not be written down: {error}.\n")),
    }
}

/// Moves the clock on by so long, such as `60s`; from its answer on, that is the time.
async fn clock(State(admin): State<Arc<Admin>>, by: String) -> (StatusCode, String) {
    let by = by.trim().parse::<SignedDuration>().ok().and_then(|by| Duration::try_from(by).ok());
    let Some(by) = by else {
        return (StatusCode::BAD_REQUEST, "Write how long, such as 60s.\n".to_owned());
    };
    admin.clock.advance(by);
    (StatusCode::OK, format!("{}\n", admin.clock.now()))
}

async fn log_level(State(admin): State<Arc<Admin>>, filter: String) -> impl IntoResponse {
    let Some(level) = &admin.log_level else {
        return (StatusCode::CONFLICT, "the log belongs to the program that runs this proxy\n".to_owned());
    };
    match level.set(&filter) {
        Ok(()) => {
            tracing::warn!(filter = %filter.trim().escape_default(), "the log level changed");
            (StatusCode::OK, "ok\n".to_owned())
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}
