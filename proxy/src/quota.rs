//! How many pulls are left, without spending one: the seeds' job `hub_docker_quota_check` as one call.

use std::sync::Arc;

use config::{Config, Group, Upstream};
use serde::Serialize;

use crate::upstream::Upstreams;

/// What one upstream says about its limit.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// `namespace/name`.
    pub upstream: String,
    pub limit: Option<i64>,
    pub remaining: Option<i64>,
    pub window_seconds: Option<u64>,
    pub source: Option<String>,
    pub observed_at: Option<String>,
    /// Why the numbers are missing or old.
    pub note: Option<String>,
}

/// Asks the upstreams of a group and of its virtual registries.
pub async fn of_group(config: &Config, group: &Arc<Group>, upstreams: &Upstreams) -> Vec<Left> {
    let registries = config.registries.values().filter(|registry| registry.group.id == group.id);
    let all = std::iter::once(&group.upstream).chain(registries.flat_map(|registry| &registry.upstreams));
    ask(config, all, upstreams).await
}

/// Asks all upstreams that anything refers to.
pub async fn of_all(config: &Config, upstreams: &Upstreams) -> Vec<Left> {
    let groups = config.groups.values().map(|group| &group.upstream);
    let registries = config.registries.values().flat_map(|registry| &registry.upstreams);
    ask(config, groups.chain(registries), upstreams).await
}

async fn ask<'a>(
    config: &Config,
    all: impl Iterator<Item = &'a Arc<Upstream>>,
    upstreams: &Upstreams,
) -> Vec<Left> {
    let mut asked = std::collections::BTreeMap::new();
    for upstream in all {
        let name = upstream.id.to_string();
        if asked.contains_key(&name) {
            continue;
        }
        let client = upstreams.client(upstream, config);
        let probed = client.probe_quota().await;
        let quota = client.quota();
        let note = match (&probed, &quota) {
            (Err(error), _) => Some(error.to_string()),
            (Ok(()), None) => {
                Some("it sends no RateLimit headers: it has no limit, or keeps it to itself".to_owned())
            }
            (Ok(()), Some(_)) => None,
        };
        let left = Left {
            upstream: name.clone(),
            limit: quota.as_ref().and_then(|quota| quota.limit),
            remaining: quota.as_ref().and_then(|quota| quota.remaining),
            window_seconds: quota.as_ref().and_then(|quota| quota.window),
            source: quota.as_ref().map(|quota| quota.source.clone()).filter(|source| !source.is_empty()),
            observed_at: quota
                .as_ref()
                .map(|quota| quota.observed_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            note,
        };
        asked.insert(name, left);
    }
    asked.into_values().collect()
}
