//! What reconciles work with.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::events::Recorder;
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::apply::Applier;
use crate::drive::Failures;
use crate::instance::Progress;
use crate::instance::keys::NoRandomness;
use crate::metrics::Metrics;
use crate::optional::Discovery;
use crate::purge::Taken;
use crate::world::{Reports, World};

/// Why a reconcile is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error("the finalizer: {0}")]
    Finalizer(kube::Error),
    #[error("{0}")]
    Unnamed(String),
    #[error("{0}")]
    Random(#[from] NoRandomness),
}

impl Error {
    /// Whether it passes: the API server is away or busy, or somebody else was faster.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Api(error) => is_passing(error),
            // Its patch says what was seen before; 422 is the answer where that has changed.
            Self::Finalizer(kube::Error::Api(status)) if status.code == 422 => true,
            Self::Finalizer(error) => is_passing(error),
            Self::Unnamed(_) | Self::Random(_) => false,
        }
    }
}

/// The same of what the API server answers.
pub(crate) fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => match status.code {
            404 | 409 | 410 | 429 | 500.. => true,
            // In a namespace that goes, nothing new is taken.
            403 => status
                .details
                .iter()
                .flat_map(|details| &details.causes)
                .any(|cause| cause.reason == "NamespaceTerminating"),
            _ => false,
        },
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// Shared by all reconciles.
pub struct Context {
    pub client: Client,
    pub http: reqwest::Client,
    pub world: watch::Receiver<Arc<World>>,
    pub memory: Memory,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub discovery: Discovery,
    pub proxy_image: String,
    /// The operator's own namespace.
    pub namespace: String,
}

/// What is known of objects for as long as they are there.
#[derive(Clone)]
pub struct Memory {
    pub statuses: Arc<Statuses>,
    pub applier: Arc<Applier>,
    pub reports: Reports,
    pub progress: Arc<Progress>,
    pub taken: Arc<Taken>,
    pub failures: Arc<Failures>,
}

impl Memory {
    /// The object with this uid is no more.
    pub fn forget(&self, uid: &str) {
        self.statuses.forget(uid);
        self.applier.forget(uid);
        self.reports.forget(uid);
        self.progress.forget(uid);
        self.taken.forget(uid);
        self.failures.forget(uid);
    }
}

impl Context {
    /// The time. In one place, so that everything else can be given another.
    #[allow(clippy::disallowed_methods, reason = "the one clock of the operator")]
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
impl Context {
    /// One whose API server nobody asks: nothing listens there.
    pub(crate) fn example() -> Self {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let memory = Memory {
            statuses: Arc::default(),
            applier: Arc::new(Applier::new(client.clone())),
            reports: Reports::default(),
            progress: Arc::default(),
            taken: Arc::default(),
            failures: Arc::default(),
        };
        Self {
            http: reqwest::Client::new(),
            world: watch::channel(Arc::default()).1,
            memory,
            recorder: Recorder::new(client.clone(), "test".to_owned().into()),
            metrics: Metrics::new(&mut prometheus_client::registry::Registry::default()),
            discovery: Discovery::default(),
            proxy_image: String::new(),
            namespace: "operators".to_owned(),
            client,
        }
    }
}

/// What was written to each status last: the watch may not have brought it back yet, and nothing is written twice.
#[derive(Default)]
pub struct Statuses(Mutex<HashMap<String, Written>>);

struct Written {
    status: String,
    /// The object's version that it made.
    version: u64,
}

impl Statuses {
    /// Whether a status says something new: it is another than what was written last, or somebody has changed that
    /// since. `current` is what the object says as far as the watch has seen it.
    pub fn is_news<K: Resource<DynamicType = ()>, S: Serialize>(
        &self,
        object: &K,
        current: Option<&S>,
        status: &S,
    ) -> bool {
        let text = |status: &S| serde_json::to_string(status).unwrap_or_default();
        let differs = || current.map(text) != Some(text(status));
        match self.0.lock().get(&key(object)) {
            Some(written) => {
                written.status != text(status) || (version(object) > written.version && differs())
            }
            None => differs(),
        }
    }

    /// Takes note of what was written, and of what the API server made of it.
    pub fn note<K: Resource<DynamicType = ()>, S: Serialize>(&self, made: &K, status: &S) {
        let status = serde_json::to_string(status).unwrap_or_default();
        self.0.lock().insert(key(made), Written { status, version: version(made) });
    }

    fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// Whether this version of the object is no later than what was written last.
    pub fn is_own<K: Resource<DynamicType = ()>>(&self, object: &K) -> bool {
        self.0.lock().get(&key(object)).is_some_and(|written| version(object) <= written.version)
    }
}

/// Versions of one object are numbers that grow (KEP-5504).
fn version<K: Resource>(object: &K) -> u64 {
    let version = object.meta().resource_version.as_ref();
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use config::ObjectId;
    use crds::PullBinding;
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn answer(code: u16, details: serde_json::Value) -> kube::Error {
        let status = json!({"status": "Failure", "code": code, "details": details});
        kube::Error::Api(Box::new(serde_json::from_value::<Status>(status).unwrap()))
    }

    #[test]
    fn of_an_object_that_is_gone_nothing_is_remembered() {
        let statuses = Statuses::default();
        let object = |version: &str| PullBinding {
            metadata: kube::api::ObjectMeta {
                uid: Some("1".to_owned()),
                resource_version: Some(version.to_owned()),
                ..Default::default()
            },
            ..serde_json::from_value(json!({"metadata": {}, "spec": {"groupRef": {"name": "a"}}})).unwrap()
        };
        statuses.note(&object("7"), &"status");
        assert!(statuses.is_own(&object("7")));
        statuses.forget("1");
        assert!(!statuses.is_own(&object("7")) && statuses.0.lock().is_empty());
    }

    #[tokio::test]
    async fn of_an_instance_that_is_gone_no_push_no_key_and_no_object_is_remembered() {
        let memory = Context::example().memory;
        let duration = Metrics::new(&mut prometheus_client::registry::Registry::default()).push_duration;
        let names = BTreeSet::from([("Service".to_owned(), "main".to_owned())]);
        for uid in ["1", "2"] {
            memory.progress.step(uid, "hash", false, &duration);
            memory.progress.note_keys(uid, BTreeSet::from(["key".to_owned()]));
            memory.progress.note_built(uid, names.clone());
        }
        memory.forget("1");
        assert_eq!(memory.progress.known(), ["2"]);
        assert!(memory.progress.shared_keys("1").is_empty() && !memory.progress.has_built("1", &names));
        assert!(memory.progress.has_built("2", &names));
    }

    #[tokio::test]
    async fn of_an_object_that_is_gone_nobody_is_remembered_who_has_purged_it() {
        let memory = Context::example().memory;
        let instance = ObjectId { namespace: "a".to_owned(), name: "main".to_owned() };
        for uid in ["1", "2"] {
            memory.taken.note(uid, "purge", "monday", &instance);
        }
        memory.forget("1");
        assert!(memory.taken.by("1", "purge", "monday").is_empty());
        assert_eq!(memory.taken.by("2", "purge", "monday"), BTreeSet::from([instance]));
    }

    #[test]
    fn what_others_cause_passes_and_what_the_operator_does_wrong_does_not() {
        for code in [404, 409, 410, 429, 500, 502, 503, 504] {
            assert!(Error::Api(answer(code, json!({}))).is_passing(), "{code}");
        }
        for code in [400, 401, 403, 405, 415, 422] {
            assert!(!Error::Api(answer(code, json!({}))).is_passing(), "{code}");
        }
        let ends = json!({"causes": [{"reason": "NamespaceTerminating", "message": "namespace a ends"}]});
        assert!(Error::Api(answer(403, ends)).is_passing());
        assert!(Error::Finalizer(answer(422, json!({}))).is_passing());
        assert!(!Error::Finalizer(answer(400, json!({}))).is_passing());
    }
}
