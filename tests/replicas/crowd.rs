//! Real clients that pull from all replicas while something goes wrong: each round another image, cold at first, and
//! every byte of it compared.

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
}

enum Client {
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
            let crane = Crane::new();
            crane.login(host, &login()).await.succeeds();
            for client in [Client::Crane(crane), Client::Skopeo(Skopeo::new())] {
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
                all.pulls += tally.pulls;
                all.failures.extend(tally.failures);
            }
        }
        let gets = self.upstream.count(Method::GET, "/library/crowd-");
        harness::say!(
            "crane and skopeo beside it: {} of {} pulls failed; {gets} GETs upstream for {most} images of 3 parts",
            all.failures.len(),
            all.pulls
        );
        all
    }
}

impl Tally {
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
        let (output, folder) =
            client.pull(&format!("{host}/team-a/dependency_proxy/containers/{name}:1")).await;
        tally.pulls += 1;
        if let Err(what) = is_whole(&output, &folder, &image) {
            tally.failures.push(what);
        }
        let _ = std::fs::remove_dir_all(folder);
        tokio::time::sleep(PAUSE).await;
    }
    tally
}

impl Client {
    async fn pull(&self, image: &str) -> (Output, std::path::PathBuf) {
        match self {
            Self::Crane(crane) => crane.pull(image).await,
            Self::Skopeo(skopeo) => skopeo.copy(image, Some(&login())).await,
        }
    }
}

/// The client was content, and what it wrote is upstream's, byte for byte.
fn is_whole(output: &Output, folder: &Path, image: &Image) -> Result<(), String> {
    if !output.success {
        return Err(format!("{}: {}", output.command, output.text));
    }
    let files: Vec<_> =
        tool::files(folder).iter().map(|file| std::fs::read(folder.join(file)).unwrap()).collect();
    let digests: Vec<_> = files.iter().map(|bytes| Digest::of(Algorithm::Sha256, bytes)).collect();
    let parts = image.layers.iter().chain([&image.digest, &image.config]);
    match parts.into_iter().find(|part| !digests.contains(part)) {
        Some(missing) => Err(format!("{} did not write {missing}", output.command)),
        None => Ok(()),
    }
}
