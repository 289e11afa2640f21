//! The operator's port: metrics and probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::metrics::{Metrics, Objects};
use crate::watch::Sight;

/// What the port shows.
pub struct Admin {
    pub registry: Registry,
    /// The API server was reached and has our kinds. A standby is ready too.
    pub is_ready: AtomicBool,
    pub metrics: Metrics,
    /// What the leader sees.
    pub sight: Mutex<Option<Arc<Sight>>>,
}

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(admin)
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    if let Some(sight) = &*admin.sight.lock() {
        count(sight, &admin.metrics);
    }
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Counts the objects that are ready, as their column READY says.
fn count(sight: &Sight, metrics: &Metrics) {
    let set = |kind: &'static str, states: Vec<bool>| {
        for (ready, wanted) in [("true", true), ("false", false)] {
            let number = states.iter().filter(|is_ready| **is_ready == wanted).count();
            let gauge = metrics.objects.get_or_create_owned(&Objects { kind, ready });
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    };
    macro_rules! states {
        ($shelf:ident) => {
            sight
                .$shelf
                .all()
                .map(|o| o.status.as_ref().and_then(|s| s.ready.as_deref()) == Some("True"))
                .collect()
        };
    }
    set("DependencyProxy", states!(proxies));
    set("RegistryUpstream", states!(upstreams));
    set("DependencyProxyGroup", states!(groups));
    set("VirtualRegistry", states!(registries));
    set("PullBinding", states!(bindings));
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if admin.is_ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the API server was not reached yet\n")
    }
}
