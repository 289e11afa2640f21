//! Real clients that pull from all replicas while something goes wrong, and every byte of what they got compared. A crowd
//! pulls another image each round, cold at first.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::client::{Crane, Login, Output, Skopeo};
use harness::hostile::{Image, Upstream, noise};
use harness::replicas::Instance;
use harness::tool;
use http::Method;
use oci::{Algorithm, Digest};
use tokio::task::JoinHandle;

/// Between two pulls of a client: two processors run all of this.
const PAUSE: Duration = Duration::from_millis(300);

/// crane and skopeo on each of the addresses.
pub(crate) struct Crowd {
    upstream: Upstream,
    stop: Arc<AtomicBool>,
    /// With the number of the address.
    loops: Vec<(usize, JoinHandle<Tally>)>,
}

/// What came of pulls.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) pulls: usize,
    pub(crate) failures: Vec<String>,
    /// Of the failures: a client was content, and what it wrote is not what upstream has.
    pub(crate) wrong: usize,
}

/// A container client of its own, with alice's password for one replica.
pub(crate) enum Client {
    Crane(Crane),
    Skopeo(Skopeo),
}

impl Crowd {
    /// Begins to pull from all replicas.
    pub(crate) async fn begin(it: &Instance) -> Self {
        let hosts: Vec<_> = it.replicas.iter().map(|replica| replica.proxy.host()).collect();
        Self::at(&it.upstream, &hosts).await
    }

    /// Begins to pull from these, each a `host:port`.
    pub(crate) async fn at(upstream: &Upstream, hosts: &[String]) -> Self {
        let (stop, mut loops) = (Arc::<AtomicBool>::default(), Vec::new());
        for (number, host) in hosts.iter().enumerate() {
            for client in Client::pair(host).await {
                let pulls = pulls(client, upstream.clone(), host.clone(), stop.clone());
                loops.push((number, tokio::spawn(pulls)));
            }
        }
        Self { upstream: upstream.clone(), stop, loops }
    }

    /// Lets them end their pulls; what came of those that did not go to `lost`.
    pub(crate) async fn end(self, lost: Option<usize>) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let (mut all, mut most) = (Tally::default(), 0);
        for (number, pulls) in self.loops {
            let tally = pulls.await.unwrap();
            most = most.max(tally.pulls);
            if Some(number) != lost {
                all.add(tally);
            }
        }
        let gets = self.upstream.count(Method::GET, "/library/crowd-");
        harness::say!("crane and skopeo beside it: {all}; {gets} GETs upstream for {most} images of 3 parts");
        all
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let failed = self.failures.len();
        write!(f, "{failed} of {} pulls failed, {} with wrong bytes (asked 0)", self.pulls, self.wrong)
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.pulls += other.pulls;
        self.failures.extend(other.failures);
        self.wrong += other.wrong;
    }

    /// Counts a pull.
    pub(crate) fn count(&mut self, pull: Result<(), Failure>) {
        self.pulls += 1;
        match pull {
            Ok(()) => {}
            Err(Failure::Refused(what)) => self.failures.push(what),
            Err(Failure::Wrong(what)) => {
                self.failures.push(what);
                self.wrong += 1;
            }
        }
    }

    /// # Panics
    /// If one failed, or there was none.
    #[track_caller]
    pub(crate) fn all_well(&self) {
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
        assert!(self.pulls > 0, "nobody pulled");
    }
}

fn login() -> Login {
    Login::new("alice", "alice-password")
}

async fn pulls(client: Client, upstream: Upstream, host: String, stop: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let name = format!("library/crowd-{}", tally.pulls);
        let layer = noise(90_000 + tally.pulls as u64, 200_000);
        let image = upstream.image(&name, "1", &[layer]);
        tally.count(client.pull(&host, &name, &image).await);
        tokio::time::sleep(PAUSE).await;
    }
    tally
}

/// Why a pull is none.
pub(crate) enum Failure {
    /// The client said so.
    Refused(String),
    /// It did not.
    Wrong(String),
}

impl Client {
    /// Two that pull from this `host:port`.
    pub(crate) async fn pair(host: &str) -> [Self; 2] {
        let crane = Crane::new();
        crane.login(host, &login()).await.succeeds();
        [Self::Crane(crane), Self::Skopeo(Skopeo::new())]
    }

    /// Pulls the tag `1` of `name`, and compares what came with upstream's image, byte for byte.
    pub(crate) async fn pull(&self, host: &str, name: &str, image: &Image) -> Result<(), Failure> {
        let reference = format!("{host}/team-a/dependency_proxy/containers/{name}:1");
        let (output, folder) = match self {
            Self::Crane(crane) => crane.pull(&reference).await,
            Self::Skopeo(skopeo) => skopeo.copy(&reference, Some(&login())).await,
        };
        let pulled = is_whole(&output, &folder, image);
        let _ = std::fs::remove_dir_all(folder);
        pulled
    }
}

/// The client was content, and what it wrote is upstream's.
fn is_whole(output: &Output, folder: &Path, image: &Image) -> Result<(), Failure> {
    if !output.success {
        return Err(Failure::Refused(format!("{}: {}", output.command, output.text)));
    }
    let files: Vec<_> =
        tool::files(folder).iter().map(|file| std::fs::read(folder.join(file)).unwrap()).collect();
    let digests: Vec<_> = files.iter().map(|bytes| Digest::of(Algorithm::Sha256, bytes)).collect();
    let parts = image.layers.iter().chain([&image.digest, &image.config]);
    match parts.into_iter().find(|part| !digests.contains(part)) {
        Some(missing) => Err(Failure::Wrong(format!("{} did not write {missing}", output.command))),
        None => Ok(()),
    }
}
