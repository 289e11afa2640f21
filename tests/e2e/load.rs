//! A loop that pulls without retries, each time over new connections, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::installation::Instance;

/// The nodes at whose ports there is a loop each.
pub(crate) const LOOPS: [u8; 2] = [1, 2];

/// One pull: when, how long, and what went wrong.
struct Pull {
    at: Instant,
    took: Duration,
    /// How long each part took, and what it was.
    parts: Vec<(&'static str, Duration)>,
    failure: Option<String>,
}

/// When something begins, and how much time of the processors there had been and had been given to others until then.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    ticks: [u64; 2],
}

impl Moment {
    pub(crate) fn now() -> Self {
        // proc_stat(5): user, nice, system, idle, iowait, irq, softirq, and what the host of a virtual machine took.
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        let ticks =
            line.split_whitespace().skip(1).take(8).map(|ticks| ticks.parse::<u64>().unwrap_or_default());
        let ticks = ticks.collect::<Vec<_>>();
        Self { at: Instant::now(), ticks: [ticks.iter().sum(), ticks.get(7).copied().unwrap_or_default()] }
    }

    /// How much of the processors the machine's host has given to others since then, in words.
    pub(crate) fn stolen(self) -> String {
        let [all, stolen] = Self::now().ticks;
        let share = (stolen - self.ticks[1]) * 100 / (all - self.ticks[0]).max(1);
        format!("{share} % of the processors stolen")
    }
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
        let tasks = LOOPS.map(|node| {
            let client = instance.ci(node);
            let (pulls, stop) = (pulls.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // A new process would have its certificates read before it asks for anything.
                    let client = client.fresh();
                    let at = Instant::now();
                    let mut parts = Vec::new();
                    let failure = pull(&client, &mut parts).await.err();
                    pulls.lock().await.push(Pull { at, took: at.elapsed(), parts, failure });
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

    /// How many took longer than that, of those since then.
    pub(crate) async fn slower(&self, than: Duration, since: Instant) -> usize {
        let pulls = self.pulls.lock().await;
        pulls.iter().filter(|pull| pull.at >= since && pull.took > than).count()
    }

    /// The slowest pulls since then, by their parts.
    pub(crate) async fn slowest(&self, since: Instant) -> String {
        let pulls = self.pulls.lock().await;
        let mut slowest: Vec<_> = pulls.iter().filter(|pull| pull.at >= since).collect();
        slowest.sort_by_key(|pull| std::cmp::Reverse(pull.took));
        let parts = |pull: &Pull| {
            let parts = pull.parts.iter().map(|(what, took)| format!("{what} {}", took.as_millis()));
            let at = pull.at.duration_since(since).as_secs_f64();
            format!("{} ms after {at:.1} s ({})", pull.took.as_millis(), parts.collect::<Vec<_>>().join(", "))
        };
        slowest.into_iter().take(4).map(parts).collect::<Vec<_>>().join("; ")
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
async fn pull(
    client: &harness::pull::Client,
    parts: &mut Vec<(&'static str, Duration)>,
) -> Result<(), String> {
    let index = client.manifest("app", "1").await;
    parts.push(("tag", index.took));
    if index.status != 200 || index.broken {
        return Err(format!("tag: {index:?}"));
    }
    let child = index.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let manifest = client.manifest("app", &child).await;
    parts.push(("manifest", manifest.took));
    if manifest.status != 200 || manifest.broken {
        return Err(format!("manifest: {manifest:?}"));
    }
    for layer in manifest.json()["layers"].as_array().unwrap() {
        let blob = client.blob("app", layer["digest"].as_str().unwrap()).await;
        parts.push(("blob", blob.took));
        if blob.status != 200 || blob.broken {
            return Err(format!("blob: {} broken {}", blob.status, blob.broken));
        }
    }
    Ok(())
}
