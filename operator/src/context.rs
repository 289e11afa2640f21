//! What reconciles work with.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use config::ObjectId;
use jiff::Timestamp;
use kube::runtime::events::Recorder;
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::apply::Applier;
use crate::instance::Pushes;
use crate::instance::keys::NoRandomness;
use crate::metrics::Metrics;
use crate::optional::Discovery;
use crate::world::{Reports, World};

/// Why a reconcile is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error("the finalizer: {0}")]
    Finalizer(String),
    #[error("{0}")]
    Random(#[from] NoRandomness),
}

/// Shared by all reconciles.
pub struct Context {
    pub client: Client,
    pub http: reqwest::Client,
    pub world: watch::Receiver<Arc<World>>,
    pub reports: Reports,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub applier: Applier,
    pub discovery: Discovery,
    pub proxy_image: String,
    /// The operator's own namespace.
    pub namespace: String,
    pub pushes: Pushes,
    /// Key ids that every ready pod of an instance has.
    pub shared_keys: Mutex<HashMap<ObjectId, BTreeSet<String>>>,
    /// Kinds and names of what was built last for an instance.
    pub built: Mutex<HashMap<ObjectId, BTreeSet<(String, String)>>>,
    pub statuses: Statuses,
}

impl Context {
    /// The time. In one place, so that everything else can be given another.
    #[allow(clippy::disallowed_methods, reason = "the one clock of the operator")]
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What was written to each status last: the watch may not have brought it back yet, and nothing is written twice.
#[derive(Default)]
pub struct Statuses(Mutex<HashMap<String, String>>);

impl Statuses {
    /// Whether a status says something new. `current` is what the object says as far as the watch has seen it.
    pub fn is_news<K: Resource<DynamicType = ()>, S: Serialize>(
        &self,
        object: &K,
        current: Option<&S>,
        status: &S,
    ) -> bool {
        let text = |status: &S| serde_json::to_string(status).unwrap_or_default();
        match self.0.lock().get(&key(object)) {
            Some(written) => *written != text(status),
            None => current.map(text) != Some(text(status)),
        }
    }

    /// Takes note of what was written.
    pub fn note<K: Resource<DynamicType = ()>, S: Serialize>(&self, object: &K, status: &S) {
        let text = serde_json::to_string(status).unwrap_or_default();
        self.0.lock().insert(key(object), text);
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_default()
}
