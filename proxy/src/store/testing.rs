//! Stores for unit tests.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use config::{Config, Options, Origin};
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;

use super::{Folder, Store};
use crate::clock::Clock;
use crate::metrics::Metrics;

const GROUP: &str = "{apiVersion: dependencyproxy.dev/v1alpha1, kind: DependencyProxyGroup, \
    metadata: {name: team-a}, spec: {proxyRef: {name: x}, path: team-a}}";

/// An instance with the group `team-a`.
pub(crate) fn config() -> Config {
    let (documents, _) = config::parse(GROUP, "f.yaml", Origin::File);
    config::judge(&documents, &Options::default()).config.unwrap()
}

/// A store in this folder alone.
pub(crate) fn in_folder(config: &Config, data: &Path, metrics: &Metrics) -> Store {
    Store::open(&config.instance, data, metrics.clone(), Clock::system()).unwrap()
}

/// A store that other replicas may use, in memory.
pub(crate) fn shared(config: &Config, data: &Path) -> Store {
    let metrics = Metrics::new(&mut Registry::default());
    let folder = Folder::open(data.join("blobs"), data.join("spool"), u64::MAX, metrics.clone()).unwrap();
    Store::new(folder, &config.instance, Arc::new(InMemory::new()), true, metrics, Clock::system())
}
