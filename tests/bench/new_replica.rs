//! The first pull that comes to a replica which has just started: its memory and its folder are empty, the bucket has all.

use std::time::Duration;

use harness::hostile::{Fault, noise};
use harness::pull::Client;
use harness::replicas::{Instance, Plan};
use harness::tool;
use harness::way::Trouble;
use oci::media;
use serde_json::json;

use crate::figure::{Figure, milliseconds, percentile};

const STARTS: usize = 20;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How far away bucket and upstream are in the second figure: so much later comes each request.
const FAR: Duration = Duration::from_millis(10);
/// The one that is started again and again.
const NEW: usize = 1;
const REPOSITORY: &str = "library/app";

/// Beside the second pull, with everything on this machine and with everything far away.
pub(crate) async fn first_pull() -> Vec<Figure> {
    let near = Plan::new().await.start().await;
    let near = measure(near).await;
    let (plan, way) = Plan::new().await.by_way().await;
    plan.upstream.require_bearer();
    let far = plan.start().await;
    far.upstream.on("/").fault(Fault::Delay(FAR));
    way.trouble(Trouble::Slow(FAR));
    let far = measure(far).await;
    vec![
        near.figure("first pull at a replica that has just started, all in the bucket: p50 and max"),
        far.figure("the same with bucket, upstream and its token service 10 ms away"),
    ]
}

/// What pulls took, by their parts.
#[derive(Default)]
struct Measured {
    first: Vec<Parts>,
    second: Vec<Parts>,
    store_requests: f64,
    upstream_requests: usize,
}

/// Tag, manifest of the platform, and its layers one after the other.
struct Parts {
    tag: Duration,
    manifest: Duration,
    blobs: Duration,
}

impl Parts {
    fn sum(&self) -> Duration {
        self.tag + self.manifest + self.blobs
    }
}

async fn measure(mut it: Instance) -> Measured {
    let image = it.upstream.image(REPOSITORY, "amd64", &[noise(1, 1000), noise(2, 300_000)]);
    let platform = json!({"architecture": "amd64", "os": "linux"});
    let manifest = json!({"mediaType": media::OCI_MANIFEST, "digest": image.digest, "size": image.manifest.len(),
        "platform": platform});
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [manifest]});
    it.upstream.manifest(REPOSITORY, "1", index.to_string(), media::OCI_INDEX);
    it.client(0).pull(REPOSITORY, "1").await;
    it.settled().await;
    let mut measured = Measured::default();
    for _ in 0..STARTS {
        let proxy = &mut it.replicas[NEW].proxy;
        proxy.kill9();
        std::fs::remove_dir_all(proxy.data()).unwrap();
        // What is used again after an hour is written again.
        for prefix in ["_links", "_tags"] {
            it.s3_keys(prefix).iter().for_each(|key| tool::age(&it.s3_file(key), DAY).unwrap());
        }
        it.replicas[NEW].proxy.restart().await;
        // A deploy token: a user's password would be compared by bcrypt.
        let client = it.client(NEW).user("ci", "ci-password");
        it.upstream.forget();
        let before = operations(&it).await;
        measured.first.push(pull(&client).await);
        measured.upstream_requests += it.upstream.requests().len();
        it.settled().await;
        measured.store_requests += operations(&it).await - before;
        measured.second.push(pull(&client.fresh()).await);
    }
    measured
}

async fn pull(client: &Client) -> Parts {
    let index = client.manifest(REPOSITORY, "1").await;
    let digest = index.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let manifest = client.manifest(REPOSITORY, &digest).await;
    let mut blobs = Duration::ZERO;
    for layer in manifest.json()["layers"].as_array().unwrap() {
        let blob = client.blob(REPOSITORY, layer["digest"].as_str().unwrap()).await;
        blob.bytes();
        blobs += blob.took;
    }
    Parts { tag: index.took, manifest: manifest.took, blobs }
}

/// Requests of the new one to the bucket so far.
async fn operations(it: &Instance) -> f64 {
    it.replicas[NEW].proxy.metric("store_operations_total").await
}

impl Measured {
    fn figure(&self, name: &'static str) -> Figure {
        let (first, second) = (times(&self.first, Parts::sum), times(&self.second, Parts::sum));
        let p50 = |times: &[Duration]| milliseconds(percentile(times, 50));
        let parts = |parts: &[Parts]| {
            let part = |of: fn(&Parts) -> Duration| p50(&times(parts, of));
            format!("{}, {}, {}", part(|p| p.tag), part(|p| p.manifest), part(|p| p.blobs))
        };
        let starts = STARTS as f64;
        Figure {
            name,
            asked: "5 times the second",
            measured: format!(
                "{} and {} (the second: {} and {})",
                p50(&first),
                milliseconds(percentile(&first, 100)),
                p50(&second),
                milliseconds(percentile(&second, 100)),
            ),
            ok: percentile(&first, 50) <= percentile(&second, 50) * 5,
            how: format!(
                "{STARTS} starts; tag, manifest, two layers {}, the second {}; {:.1} requests to the bucket, {:.1} upstream",
                parts(&self.first),
                parts(&self.second),
                self.store_requests / starts,
                self.upstream_requests as f64 / starts,
            ),
        }
    }
}

fn times(parts: &[Parts], of: impl Fn(&Parts) -> Duration) -> Vec<Duration> {
    parts.iter().map(of).collect()
}
