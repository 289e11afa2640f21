//! Three replicas on one bucket.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::hostile::{Fault, Upstream, noise};
use harness::replicas::Instance;
use harness::s3::S3;
use harness::server::Proxy;
use http::Method;
use oci::Digest;
use tokio::task::JoinSet;

use crate::MIB;
use crate::figure::{Figure, milliseconds, percentile, seconds};

const REPLICAS: usize = 3;
const CLIENTS: usize = 96;
const BLOB: usize = 64 * MIB;
/// Bytes per second.
const RATE: u64 = 10_000_000;

/// 96 clients on all replicas against one on one, of a cold blob through a slow upstream.
pub(crate) async fn shared() -> Figure {
    let it = Instance::start().await;
    it.upstream.on("/blobs/").method(Method::GET).fault(Fault::Throttle(RATE));
    let alone = it.upstream.blob("library/a", noise(1, BLOB));
    let began = Instant::now();
    it.client(0).blob("library/a", alone).await.bytes();
    let alone = began.elapsed();
    it.upstream.forget();
    let bytes = noise(2, BLOB);
    let digest = it.upstream.blob("library/a", bytes.clone());
    let began = Instant::now();
    let crowd = pull(&it, digest, &bytes, None).await;
    let together = began.elapsed();
    let gets = it.upstream.count(Method::GET, "/blobs/");
    let ratio = together.as_secs_f64() / alone.as_secs_f64();
    Figure {
        name: "3 replicas, 96 clients, cold 64 MiB blob, upstream limited to 10 MB/s: upstream GETs; time against one client",
        asked: "1; at most 1.1",
        measured: format!("{gets}; {ratio:.2}"),
        ok: gets == 1 && ratio <= 1.1 && crowd == 0,
        how: format!(
            "{} against {}, {crowd} pulls failed, every byte compared",
            seconds(together),
            seconds(alone)
        ),
    }
}

/// The same, and the replica that downloads is killed halfway.
pub(crate) async fn killed() -> Figure {
    let mut it = Instance::start().await;
    it.upstream.on("/blobs/").method(Method::GET).fault(Fault::Throttle(RATE));
    let bytes = noise(3, BLOB);
    let digest = it.upstream.blob("library/a", bytes.clone());
    let victim = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(REPLICAS));
    let failed = {
        let pulls = pull(&it, digest, &bytes, Some(victim.clone()));
        let kill = async {
            loop {
                for (number, replica) in it.replicas.iter().enumerate() {
                    let status = replica.status().await;
                    let download = &status["downloads"][0];
                    if download["source"] == "upstream" && download["bytes"].as_u64() > Some(BLOB as u64 / 2)
                    {
                        victim.store(number, std::sync::atomic::Ordering::SeqCst);
                        replica.proxy.signal_kill();
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::join!(pulls, kill).0
    };
    let gets = it.upstream.count(Method::GET, "/blobs/");
    it.replicas.clear();
    Figure {
        name: "the same with the filling replica killed halfway",
        asked: "2 GETs at most; others notice nothing",
        measured: format!("{gets} GETs, {failed} of 64 pulls at the others failed"),
        ok: gets <= 2 && failed == 0,
        how: "SIGKILL at half of the blob; every byte of every client compared".to_owned(),
    }
}

/// All clients at once; how many did not get every byte, those of a killed replica left out.
async fn pull(
    it: &Instance,
    digest: Digest,
    bytes: &[u8],
    killed: Option<std::sync::Arc<std::sync::atomic::AtomicUsize>>,
) -> usize {
    let mut pulls = JoinSet::new();
    for number in 0..CLIENTS {
        let replica = number % REPLICAS;
        let client = it.client(replica);
        pulls.spawn(async move { (replica, check(client, digest).await) });
    }
    let expected = *Digest::of(oci::Algorithm::Sha256, bytes).hex().as_bytes().first_chunk::<64>().unwrap();
    let mut failed = 0;
    while let Some(pulled) = pulls.join_next().await {
        let (replica, got) = pulled.unwrap();
        let is_lost = killed.as_ref().is_some_and(|k| k.load(std::sync::atomic::Ordering::SeqCst) == replica);
        failed += usize::from(!is_lost && got.as_deref() != Some(&expected[..]));
    }
    failed
}

/// The digest of what one client got to its end; nothing is kept, so that 96 of them fit.
async fn check(client: harness::pull::Client, digest: Digest) -> Option<Vec<u8>> {
    let mut response = client.open(Method::GET, &format!("library/a/blobs/{digest}"), &[]).await;
    let mut hasher = oci::Hasher::new(oci::Algorithm::Sha256);
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => hasher.update(&chunk),
            Ok(None) => return Some(hasher.finish().hex().into_bytes()),
            Err(_) => return None,
        }
    }
}

/// What an unchanged tag costs of the quota in a day.
pub(crate) async fn a_day() -> Figure {
    const PULLS: u32 = 10_000;
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let _ = s3.bucket("blobs");
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        let builder = Proxy::builder().upstream("upstream", &upstream).group("team-a");
        replicas.push(builder.replica(&s3).manual_clock().start().await);
    }
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    replicas[0].client().pull("library/a", "1").await;
    upstream.forget();
    let step = Duration::from_secs(24 * 3600) / PULLS;
    let clients: Vec<_> = replicas.iter().map(Proxy::client).collect();
    let mut failed = 0;
    for pull in 0..PULLS {
        let answer = clients[pull as usize % REPLICAS].manifest("library/a", "1").await;
        failed += usize::from(answer.status != 200);
        replicas.iter().for_each(|replica| replica.advance(step));
    }
    let gets = upstream.count(Method::GET, "/manifests/");
    let heads = upstream.count(Method::HEAD, "/manifests/");
    Figure {
        name: "counted GETs for an unchanged tag pulled 10,000 times over 24 fake hours on 3 replicas, after the first pull",
        asked: "0",
        measured: gets.to_string(),
        ok: gets == 0 && failed == 0,
        how: format!("{heads} HEADs, {failed} pulls failed; replicas in this process, their clocks moved"),
    }
}

/// How soon the first byte of a cold blob is there, and what finding out who downloads it costs.
pub(crate) async fn first_byte() -> Vec<Figure> {
    let mut it = Instance::start().await;
    let all = cold_blobs(&it, 0, &[0, 1, 2]).await;
    it.replicas[2].proxy.kill9();
    let lost = cold_blobs(&it, 1000, &[0, 1]).await;
    let figure = |name, asked, cold: Cold| Figure {
        name,
        asked,
        measured: format!(
            "{} and {}; {:.2}; {:.1}",
            milliseconds(percentile(&cold.first, 50)),
            milliseconds(percentile(&cold.first, 99)),
            cold.extra_gets,
            cold.store_requests
        ),
        ok: cold.extra_gets == 0.0,
        how: format!("{ROUNDS} blobs of 1 MiB, two clients on each replica at once; S3 server beside"),
    };
    vec![
        figure(
            "cold blob, 3 replicas: first byte p50 and p99; extra upstream GETs and store requests per fill",
            "0 extra GETs",
            all,
        ),
        figure("the same with one of three lost", "0 extra GETs", lost),
    ]
}

const ROUNDS: usize = 100;

struct Cold {
    first: Vec<Duration>,
    extra_gets: f64,
    store_requests: f64,
}

async fn cold_blobs(it: &Instance, seed: u64, replicas: &[usize]) -> Cold {
    let clients: Vec<_> =
        replicas.iter().flat_map(|replica| [it.client(*replica), it.client(*replica)]).collect();
    let warm = it.upstream.blob("library/a", noise(seed + 999, 10));
    join_all(clients.iter().map(|client| client.blob("library/a", warm))).await;
    it.upstream.forget();
    let before = operations(it, replicas).await;
    let mut first = Vec::new();
    for round in 0..ROUNDS {
        let digest = it.upstream.blob("library/a", noise(seed + round as u64, MIB));
        let path = format!("library/a/blobs/{digest}");
        let times = join_all(clients.iter().map(|client| async {
            let began = Instant::now();
            let mut response = client.open(Method::GET, &path, &[]).await;
            response.chunk().await.unwrap();
            let first = began.elapsed();
            while response.chunk().await.unwrap().is_some() {}
            first
        }));
        first.extend(times.await);
    }
    for replica in replicas {
        it.replicas[*replica].proxy.metric_until("fills_in_flight", |fills| fills == 0.0).await;
    }
    let rounds = ROUNDS as f64;
    Cold {
        first,
        extra_gets: (it.upstream.count(Method::GET, "/blobs/") as f64 - rounds) / rounds,
        store_requests: (operations(it, replicas).await - before) / rounds,
    }
}

/// Requests to the bucket so far.
async fn operations(it: &Instance, replicas: &[usize]) -> f64 {
    let mut sum = 0.0;
    for replica in replicas {
        for operation in ["get", "put", "head", "list", "claim", "delete"] {
            let sample = format!("store_operations_total{{operation=\"{operation}\"}}");
            sum += it.replicas[*replica].proxy.metric(&sample).await;
        }
    }
    sum
}
