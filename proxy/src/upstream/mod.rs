//! Upstream registries. Knows nothing of the store.

mod address;
mod ask;
mod authorize;
mod challenge;
mod client;
mod connect;
mod error;
mod fetch;
mod health;
mod known;
mod permits;
mod quota;
mod record;
#[cfg(test)]
mod testing;
mod token;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use config::{Config, ObjectId, RateLimit, Upstream};
use futures_util::StreamExt as _;
use ipnet::IpNet;
use jiff::Timestamp;
use parking_lot::Mutex;

pub use client::Client;
pub use error::{Class, Error, Reason};
pub use fetch::{BlobBody, List, ManifestBody, ManifestHead, Patience};
pub use known::Known;
pub use quota::Quota;
pub use record::UpstreamRecord;

use crate::clock::Clock;
use crate::metrics::Metrics;

/// Upstreams that are asked at once whether they work.
const PROBES_AT_ONCE: usize = 4;

/// The clients of all upstreams. A client lives on over changes of the configuration that do not concern it, and with
/// it its tokens, its health and what is known of its quota.
pub struct Upstreams {
    clients: Mutex<HashMap<ClientKey, Arc<Client>>>,
    /// Upstreams that are not asked before then, also by clients to come.
    frozen: Mutex<HashMap<ObjectId, Timestamp>>,
    metrics: Metrics,
    clock: Clock,
}

/// All that a client is made of: another value makes another client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    id: ObjectId,
    origin: String,
    /// Of the credentials: a changed Secret is a new account for all that is known.
    fingerprint: Option<String>,
    insecure: bool,
    token_hosts: Vec<String>,
    rate_limit: (i64, usize, u32),
    allowed: Vec<IpNet>,
}

impl Upstreams {
    #[must_use]
    pub fn new(metrics: Metrics, clock: Clock) -> Self {
        Self { clients: Mutex::default(), frozen: Mutex::default(), metrics, clock }
    }

    /// The client for an upstream of this configuration.
    #[must_use]
    pub fn client(&self, upstream: &Arc<Upstream>, config: &Config) -> Arc<Client> {
        let allowed = &config.instance.allowed_cidrs;
        let mut clients = self.clients.lock();
        let client = clients.entry(key(upstream, allowed)).or_insert_with(|| {
            let client = Client::new(upstream.clone(), allowed, self.metrics.clone(), self.clock.clone());
            client.freeze(self.frozen.lock().get(&upstream.id).copied());
            Arc::new(client)
        });
        client.clone()
    }

    /// The client for an upstream of this configuration, if somebody has used it.
    #[must_use]
    pub fn used(&self, upstream: &Upstream, config: &Config) -> Option<Arc<Client>> {
        self.clients.lock().get(&key(upstream, &config.instance.allowed_cidrs)).cloned()
    }

    /// From now on these upstreams are not asked before their times, and all others are.
    pub fn freeze(&self, frozen: HashMap<ObjectId, Timestamp>) {
        // Clients are made under this lock, too: none is missed.
        let clients = self.clients.lock();
        for client in clients.values() {
            client.freeze(frozen.get(&client.upstream().id).copied());
        }
        *self.frozen.lock() = frozen;
    }

    /// What is known of each upstream of this configuration; asks nobody.
    #[must_use]
    pub fn known(&self, config: &Config) -> Vec<Known> {
        let allowed = &config.instance.allowed_cidrs;
        let clients = self.clients.lock();
        let known = |upstream: &Arc<Upstream>| match clients.get(&key(upstream, allowed)) {
            Some(client) => client.known(),
            None => Known {
                id: upstream.id.to_string(),
                reachable: None,
                reason: "NotAsked",
                message: format!("Nobody has asked {} yet.", upstream.id.name),
                credentials_valid: None,
                rate_limit: None,
                account: upstream.credentials.as_ref().map(|credentials| credentials.username.clone()),
                rests_for_seconds: None,
                frozen_until: None,
                oldest_stale_seconds: 0,
            },
        };
        config.upstreams().into_values().map(known).collect()
    }

    /// Shows what changes with time alone.
    pub fn refresh_metrics(&self) {
        for client in self.clients.lock().values() {
            client.show_staleness();
        }
    }

    /// Asks each upstream that nobody has pulled from yet whether it works, and those that failed a while ago; a few at a
    /// time, and none that somebody pulls from.
    pub async fn probe(&self, config: &Config) {
        let clients = config.upstreams().into_values().map(|upstream| self.client(upstream, config));
        let due = clients.filter(|client| client.is_probe_due()).collect::<Vec<_>>();
        let probes = due.into_iter().map(|client| async move { client.probe_upstream().await });
        futures_util::stream::iter(probes).buffer_unordered(PROBES_AT_ONCE).for_each(|()| async {}).await;
    }

    /// Forgets the clients that no document of this configuration needs; running requests keep theirs.
    pub fn retain(&self, config: &Config) {
        let allowed = &config.instance.allowed_cidrs;
        let needed: HashSet<_> =
            config.upstreams().into_values().map(|upstream| key(upstream, allowed)).collect();
        self.clients.lock().retain(|key, _| needed.contains(key));
    }
}

/// Under which name its record is kept: what is known of an upstream is known of it with these credentials.
#[must_use]
pub fn record_name(upstream: &Upstream) -> String {
    let credentials = upstream.credentials.as_ref().map(|credentials| credentials.fingerprint.as_str());
    config::fingerprint(&[upstream.origin.as_bytes(), credentials.unwrap_or_default().as_bytes()])
}

fn key(upstream: &Upstream, allowed: &[IpNet]) -> ClientKey {
    let RateLimit { reserve_pulls, max_concurrent_requests, max_checks_per_minute } = upstream.rate_limit;
    ClientKey {
        id: upstream.id.clone(),
        origin: upstream.origin.clone(),
        fingerprint: upstream.credentials.as_ref().map(|credentials| credentials.fingerprint.clone()),
        insecure: upstream.insecure,
        token_hosts: upstream.token_hosts.clone(),
        rate_limit: (reserve_pulls, max_concurrent_requests, max_checks_per_minute),
        allowed: allowed.to_vec(),
    }
}
