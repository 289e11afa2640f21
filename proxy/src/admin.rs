//! The second port: metrics, probes, status, log level. Not for clients; it listens where operators can reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, put};
use http::{StatusCode, header};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cache::Cache;
use crate::http::Live;
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
    pub log_level: Option<LogLevel>,
}

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/log-level", put(log_level))
        .with_state(admin)
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

async fn status(State(admin): State<Arc<Admin>>) -> axum::Json<Value> {
    let live = admin.live.borrow().clone();
    axum::Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": live.config.instance.id.to_string(),
        "configHash": live.config.hash,
        "configLoadedAt": live.loaded_at.to_string(),
        "problems": *admin.problems.lock(),
        "keyIDs": live.auth.signer.kids(),
        "storage": admin.storage,
        "groups": live.config.groups.len(),
        "virtualRegistries": live.config.registries.len(),
        "upstreams": admin.cache.upstreams.known(&live.config),
        "store": admin.cache.store.known(),
        "ready": admin.ready.load(Ordering::Relaxed),
    }))
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
