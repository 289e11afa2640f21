//! The pods of an instance: what they say in `/status`, and the nudge that makes kubelet bring new documents at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::ObjectId;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

/// The port of `/status`.
pub const ADMIN_PORT: u16 = 9090;
/// Kubelet looks at a pod again when one of its annotations changes, and brings mounted Secrets up to date then;
/// without it that takes a minute and more.
const NUDGE: &str = "dependencyproxy.dev/documents";
/// How long a pod may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a pod says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub config_hash: String,
    #[serde(rename = "keyIDs")]
    pub key_ids: Vec<String>,
    pub version: String,
    pub store: Option<StoreReport>,
    pub upstreams: Vec<Value>,
    pub problems: Vec<String>,
}

/// Whether a pod reaches the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoreReport {
    /// `None`: it had no reason to ask yet.
    pub reachable: Option<bool>,
    pub reason: Option<String>,
    pub message: Option<String>,
}

/// What a pod knows of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpstreamReport {
    pub id: String,
    /// `None`: it was not asked yet.
    pub reachable: Option<bool>,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub credentials_valid: Option<bool>,
    pub rate_limit: Option<RateLimit>,
}

/// The pull limit that an upstream states. What remains changes with every pull: that is a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimit {
    pub limit: i64,
    pub window_seconds: Option<i64>,
}

/// A pod and what it says, if it answers.
pub struct Seen {
    pub pod: Pod,
    pub is_ready: bool,
    pub status: Option<PodStatus>,
}

/// What an instance answers when it is told to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A pod has taken it.
    Taken,
    /// There are ready pods, and none of them serves what it is about.
    Nothing,
    /// No ready pod takes it.
    Refused,
}

/// All pods of an instance.
pub struct Pods {
    pub all: Vec<Seen>,
}

/// Label selector of an instance's pods.
#[must_use]
pub fn selector(instance: &ObjectId) -> String {
    format!(
        "app.kubernetes.io/name=dependency-proxy,app.kubernetes.io/component=proxy,app.kubernetes.io/instance={}",
        instance.name
    )
}

impl Pods {
    /// Lists the pods and asks each that runs.
    ///
    /// # Errors
    /// When the API server does not list them. A pod that does not answer is no error.
    pub async fn look(
        client: &Client,
        http: &reqwest::Client,
        instance: &ObjectId,
    ) -> Result<Self, kube::Error> {
        let api = Api::<Pod>::namespaced(client.clone(), &instance.namespace);
        let pods = api.list(&ListParams::default().labels(&selector(instance))).await?;
        let living = pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let all = join_all(living.map(|pod| async {
            let status = ask(http, &pod).await;
            Seen { is_ready: is_ready(&pod), pod, status }
        }));
        Ok(Self { all: all.await })
    }

    /// The ready ones.
    pub fn ready(&self) -> impl Iterator<Item = &Seen> {
        self.all.iter().filter(|seen| seen.is_ready)
    }

    /// Whether there are ready pods, and all of them have documents with this hash.
    #[must_use]
    pub fn all_have(&self, hash: &str) -> bool {
        let mut ready = self.ready().peekable();
        ready.peek().is_some()
            && ready.all(|seen| seen.status.as_ref().is_some_and(|status| status.config_hash == hash))
    }

    /// Ready pods that have these documents.
    #[must_use]
    pub fn that_have(&self, hash: &str) -> usize {
        let has = |seen: &&Seen| seen.status.as_ref().is_some_and(|status| status.config_hash == hash);
        self.ready().filter(has).count()
    }

    /// Key ids that every ready pod has.
    #[must_use]
    pub fn shared_keys(&self) -> BTreeSet<String> {
        let sets = self.ready().map(|seen| {
            let keys = seen.status.iter().flat_map(|status| status.key_ids.iter().cloned());
            keys.collect::<BTreeSet<_>>()
        });
        sets.reduce(|a, b| a.intersection(&b).cloned().collect()).unwrap_or_default()
    }

    /// What pods know of the upstreams; what one knows goes before what another does not, and trouble goes first.
    #[must_use]
    pub fn upstreams(&self) -> BTreeMap<String, UpstreamReport> {
        let mut merged = BTreeMap::<String, UpstreamReport>::new();
        let reports =
            self.ready().filter_map(|seen| seen.status.as_ref()).flat_map(|status| &status.upstreams);
        for report in reports.filter_map(|value| serde_json::from_value::<UpstreamReport>(value.clone()).ok())
        {
            let known = merged.entry(report.id.clone()).or_insert_with(|| report.clone());
            if rank(&report) > rank(known) {
                *known = report;
            }
        }
        merged
    }

    /// What pods say of the store: trouble first.
    #[must_use]
    pub fn store(&self) -> Option<&StoreReport> {
        let reports = || self.ready().filter_map(|seen| seen.status.as_ref()?.store.as_ref());
        reports()
            .find(|store| store.reachable == Some(false))
            .or_else(|| reports().find(|store| store.reachable == Some(true)).or_else(|| reports().next()))
    }

    /// Tells one of the ready pods to do something.
    pub async fn take(&self, http: &reqwest::Client, path: &str, query: &[(&str, &str)]) -> Answer {
        let mut knows_nothing = self.ready().next().is_some();
        for seen in self.ready() {
            let Some(url) = admin_url(&seen.pod, path, query) else { continue };
            let answer = http.put(url).timeout(PATIENCE).send().await;
            match answer.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => return Answer::Taken,
                Ok(StatusCode::NOT_FOUND) => {}
                _ => knows_nothing = false,
            }
        }
        if knows_nothing { Answer::Nothing } else { Answer::Refused }
    }

    /// Makes kubelet bring the current documents to pods that do not have them.
    ///
    /// # Errors
    /// When the API server refuses; pods that are gone are no error.
    pub async fn nudge(&self, client: &Client, hash: &str) -> Result<(), kube::Error> {
        for seen in &self.all {
            let has = seen.status.as_ref().is_some_and(|status| status.config_hash == hash);
            let was_nudged = seen.pod.annotations().get(NUDGE).is_some_and(|value| value == hash);
            if has || was_nudged {
                continue;
            }
            nudge(client, &seen.pod, hash).await?;
        }
        Ok(())
    }

    /// The same for pods whose kubelet looked a moment too early: the annotation must change once more.
    ///
    /// # Errors
    /// As [`Pods::nudge`].
    pub async fn nudge_again(&self, client: &Client, hash: &str, time: u32) -> Result<(), kube::Error> {
        for seen in &self.all {
            let has = seen.status.as_ref().is_some_and(|status| status.config_hash == hash);
            if !has {
                nudge(client, &seen.pod, &format!("{hash} {time}")).await?;
            }
        }
        Ok(())
    }
}

async fn nudge(client: &Client, pod: &Pod, value: &str) -> Result<(), kube::Error> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let patch = json!({"metadata": {"annotations": {NUDGE: value}}});
    match api.patch_metadata(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        result => result.map(drop),
    }
}

fn rank(report: &UpstreamReport) -> u8 {
    match (report.reachable, report.credentials_valid) {
        (Some(false), _) | (_, Some(false)) => 2,
        (Some(true), _) => 1,
        (None, _) => 0,
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Of a pod's second port.
fn admin_url(pod: &Pod, path: &str, query: &[(&str, &str)]) -> Option<Url> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?;
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
    let mut url = Url::parse(&format!("http://{host}:{ADMIN_PORT}{path}")).ok()?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Some(url)
}

async fn ask(http: &reqwest::Client, pod: &Pod) -> Option<PodStatus> {
    let answer = http.get(admin_url(pod, "/status", &[])?).timeout(PATIENCE).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status).ok()?;
    answer.json().await.ok()
}
