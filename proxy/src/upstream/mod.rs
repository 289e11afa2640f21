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
mod permits;
mod quota;
#[cfg(test)]
mod testing;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

use config::{Config, ObjectId, RateLimit, Upstream};
use ipnet::IpNet;
use parking_lot::Mutex;

pub use client::Client;
pub use error::{Class, Error, Reason};
pub use fetch::{BlobBody, List, ManifestBody, ManifestHead, Patience};
pub use quota::Quota;

use crate::clock::Clock;
use crate::metrics::Metrics;

/// The clients of all upstreams. A client lives on over changes of the configuration that do not concern it, and with
/// it its tokens, its health and what is known of its quota.
pub struct Upstreams {
    clients: Mutex<HashMap<ClientKey, Arc<Client>>>,
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
        Self { clients: Mutex::default(), metrics, clock }
    }

    /// The client for an upstream of this configuration.
    #[must_use]
    pub fn client(&self, upstream: &Arc<Upstream>, config: &Config) -> Arc<Client> {
        let allowed = &config.instance.allowed_cidrs;
        let mut clients = self.clients.lock();
        let client = clients.entry(key(upstream, allowed)).or_insert_with(|| {
            Arc::new(Client::new(upstream.clone(), allowed, self.metrics.clone(), self.clock.clone()))
        });
        client.clone()
    }

    /// Forgets the clients that no document of this configuration needs; running requests keep theirs.
    pub fn retain(&self, config: &Config) {
        let allowed = &config.instance.allowed_cidrs;
        let groups = config.groups.values().map(|group| &group.upstream);
        let registries = config.registries.values().flat_map(|registry| &registry.upstreams);
        let needed: std::collections::HashSet<_> =
            groups.chain(registries).map(|upstream| key(upstream, allowed)).collect();
        self.clients.lock().retain(|key, _| needed.contains(key));
    }
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
