//! Taking changes: the documents are read twice a second, and judged when their bytes have changed.
//!
//! Reading and comparing, not inotify: what Kubernetes mounts is swapped by a link, which watchers of files miss.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, Options};

use super::folder::find;
use super::{Settled, settle};
use crate::metrics::{HashLabels, Metrics};

const EVERY: Duration = Duration::from_millis(500);

/// Reads, judges and publishes changes, for ever. `taken` is called with each configuration that is new.
pub async fn watch(
    paths: Vec<PathBuf>,
    options: Options,
    settled: Settled,
    mut fingerprint: String,
    metrics: Metrics,
    mut taken: impl FnMut(&Arc<Config>, &Settled),
) {
    let mut settled = Arc::new(settled);
    loop {
        tokio::time::sleep(EVERY).await;
        let paths = paths.clone();
        let Some(found) = apart(move || find(&paths)).await else { continue };
        if found.fingerprint == fingerprint {
            continue;
        }
        fingerprint.clone_from(&found.fingerprint);
        let before = settled.config.as_ref().map(|config| config.hash.clone());
        let (last, options) = (settled.clone(), options.clone());
        // Thousands of documents take a while: requests must not wait for it.
        let Some(now) = apart(move || settle(found.parse(), &last, &options)).await else {
            metrics.config_reload_success.set(0);
            continue;
        };
        settled = Arc::new(now);
        report(&settled, &metrics);
        if let Some(config) = settled.config.clone() {
            if before.as_ref() != Some(&config.hash) {
                tracing::info!(hash = %config.hash, groups = config.groups.len(), "the documents changed and are served");
            }
            taken(&config, &settled);
        }
    }
}

/// Does work that blocks. A panic in it is a fault of ours, and costs this change, not all later ones.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.inspect_err(
        |error| tracing::error!(%error, "the documents could not be taken; the last ones are served"),
    )
    .ok()
}

/// Says what is wrong, in the log and in the metrics.
pub(crate) fn report(settled: &Settled, metrics: &Metrics) {
    for problem in &settled.problems {
        tracing::warn!(target: "documents", "{problem}");
    }
    if !settled.is_taken && settled.config.is_some() {
        tracing::warn!(target: "documents", "not all documents are good; the others, and the last good ones, are served");
    }
    metrics.config_reload_success.set(i64::from(settled.is_taken));
    metrics.config_problems.set(i64::try_from(settled.problems.len()).unwrap_or(i64::MAX));
    metrics.config_info.clear();
    if let Some(config) = &settled.config {
        metrics.config_info.get_or_create(&HashLabels { hash: config.hash.clone() }).set(1);
    }
}
