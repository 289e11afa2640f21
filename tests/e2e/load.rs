//! A loop that pulls without retries, each time over new connections, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::installation::Instance;

/// One pull: when, how long, and what went wrong.
struct Pull {
    at: Instant,
    took: Duration,
    failure: Option<String>,
}

/// Pulls until it is told to stop.
pub(crate) struct Load {
    pulls: Arc<Mutex<Vec<Pull>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// One loop at each node's port.
    pub(crate) fn begin(instance: &Instance<'_>) -> Self {
        let (pulls, stop) = (Arc::<Mutex<Vec<Pull>>>::default(), Arc::<AtomicBool>::default());
        let tasks = [1, 2].map(|node| {
            let client = instance.ci(node);
            let (pulls, stop) = (pulls.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let at = Instant::now();
                    let failure = pull(&client.fresh()).await.err();
                    pulls.lock().await.push(Pull { at, took: at.elapsed(), failure });
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
        });
        Self { pulls, stop, tasks: tasks.into() }
    }

    /// What came of the pulls since then: their number, and the 99th percentile.
    pub(crate) async fn since(&self, since: Instant) -> (usize, Duration) {
        let pulls = self.pulls.lock().await;
        let mut times =
            pulls.iter().filter(|pull| pull.at >= since).map(|pull| pull.took).collect::<Vec<_>>();
        times.sort();
        let p99 = times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
        (times.len(), p99)
    }

    /// Stops; every failure in words.
    pub(crate) async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let pulls = self.pulls.lock().await;
        pulls.iter().filter_map(|pull| pull.failure.clone()).collect()
    }
}

/// Tag, manifest of a platform, and its blobs, as an engine pulls.
async fn pull(client: &harness::pull::Client) -> Result<(), String> {
    let index = client.manifest("app", "1").await;
    if index.status != 200 || index.broken {
        return Err(format!("tag: {index:?}"));
    }
    let child = index.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let manifest = client.manifest("app", &child).await;
    if manifest.status != 200 || manifest.broken {
        return Err(format!("manifest: {manifest:?}"));
    }
    for layer in manifest.json()["layers"].as_array().unwrap() {
        let blob = client.blob("app", layer["digest"].as_str().unwrap()).await;
        if blob.status != 200 || blob.broken {
            return Err(format!("blob: {} broken {}", blob.status, blob.broken));
        }
    }
    Ok(())
}
