//! Three replicas on one bucket.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::hostile::{Fault, noise};
use harness::pull::Client;
use harness::replicas::{Instance, Plan};
use http::Method;
use oci::Digest;
use tokio::task::JoinSet;

use crate::MIB;
use crate::figure::{Figure, milliseconds, percentile, seconds};
use crate::rendezvous::Fronts;

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
        tokio::pin!(pulls);
        // Where they end before anybody could be killed, nothing was measured.
        tokio::select! {
            _ = &mut pulls => CLIENTS * 2 / 3,
            () = kill => pulls.await,
        }
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
    let it = Plan::new().await.clocks(["0s"; REPLICAS]).start().await;
    it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    it.client(0).pull("library/a", "1").await;
    it.upstream.forget();
    let step = Duration::from_secs(24 * 3600) / PULLS;
    let clients = it.clients();
    let mut failed = 0;
    for pull in 0..PULLS {
        let answer = clients[pull as usize % REPLICAS].manifest("library/a", "1").await;
        failed += usize::from(answer.status != 200);
        it.advance(step).await;
    }
    let gets = it.upstream.count(Method::GET, "/manifests/");
    let heads = it.upstream.count(Method::HEAD, "/manifests/");
    Figure {
        name: "counted GETs for an unchanged tag pulled 10,000 times over 24 fake hours on 3 replicas, after the first pull",
        asked: "0",
        measured: gets.to_string(),
        ok: gets == 0 && failed == 0,
        how: format!(
            "{heads} HEADs, {failed} pulls failed; processes, their clocks moved 8.64 s after each pull"
        ),
    }
}

const ROUNDS: usize = 100;

/// How soon the first byte of a cold blob is there, and what finding out who downloads it costs: with claims in the
/// bucket, as it is done, and with an owner for each digest.
pub(crate) async fn first_byte() -> Vec<Figure> {
    let mut it = Instance::start().await;
    let three = cold_blobs(&it, &[0, 1, 2], |it, replica, _| it.client(replica)).await;
    it.replicas[2].proxy.kill9();
    let lost = cold_blobs(&it, &[0, 1], |it, replica, _| it.client(replica)).await;

    let mut it = Plan::new().await.apart().start().await;
    let all = vec![0, 1, 2];
    let owned = owned_blobs(&it, &[(0, all.clone()), (1, all.clone()), (2, all.clone())]).await;
    // The third has just started, and the others have not heard of it.
    let joined = owned_blobs(&it, &[(0, vec![0, 1]), (1, vec![0, 1]), (2, all.clone())]).await;
    it.replicas[2].proxy.kill9();
    let owner_lost = owned_blobs(&it, &[(0, all.clone()), (1, all)]).await;

    let figure = |name, cold: &Cold, other: &Cold| Figure {
        name,
        asked: "the better is kept",
        measured: format!("{cold} (an owner by hash: {other})"),
        ok: cold.extra_gets == 0.0,
        how: format!("{ROUNDS} blobs of 1 MiB, two clients on each replica at once; S3 server beside"),
    };
    vec![
        figure(
            "cold blob, 3 replicas: first byte p50 and p99; extra upstream GETs and store requests per fill",
            &three,
            &owned,
        ),
        figure("the same with one of three lost", &lost, &owner_lost),
        figure("the same with one of three that the others do not know yet", &three, &joined),
    ]
}

/// Cold blobs, each asked for at its owner, as far as the replicas know each other.
async fn owned_blobs(it: &Instance, known: &[(usize, Vec<usize>)]) -> Cold {
    let fronts = Fronts::before(it, known).await;
    let replicas: Vec<_> = known.iter().map(|(replica, _)| *replica).collect();
    cold_blobs(it, &replicas, |it, replica, path| {
        let client = it.client(replica);
        fronts.client(replica, &it.replicas[replica].proxy.url(), path, &client)
    })
    .await
}

struct Cold {
    first: Vec<Duration>,
    extra_gets: f64,
    store_requests: f64,
}

impl fmt::Display for Cold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99] = [50, 99].map(|percent| milliseconds(percentile(&self.first, percent)));
        write!(f, "{p50} and {p99}; {:.2}; {:.1}", self.extra_gets, self.store_requests)
    }
}

/// Two clients on each of the replicas ask for the same cold blob at once, and again for the next.
async fn cold_blobs(
    it: &Instance,
    replicas: &[usize],
    client: impl Fn(&Instance, usize, &str) -> Client,
) -> Cold {
    static SEED: AtomicU64 = AtomicU64::new(1000);
    let seeds = || SEED.fetch_add(1, Ordering::Relaxed);
    let askers: Vec<_> = replicas.iter().flat_map(|replica| [*replica; 2]).collect();
    let blob = |bytes| format!("library/a/blobs/{}", it.upstream.blob("library/a", noise(seeds(), bytes)));
    // What every connection and every token needs once.
    for _ in 0..10 {
        let path = blob(10);
        let clients: Vec<_> = askers.iter().map(|replica| client(it, *replica, &path)).collect();
        join_all(clients.iter().map(|client| client.send(Method::GET, &path, &[]))).await;
    }
    settled(it, replicas).await;
    it.upstream.forget();
    let before = operations(it, replicas).await;
    let mut first = Vec::new();
    for _ in 0..ROUNDS {
        let path = blob(MIB);
        let clients: Vec<_> = askers.iter().map(|replica| client(it, *replica, &path)).collect();
        let times = join_all(clients.iter().map(|client| async {
            let began = Instant::now();
            let mut response = client.open(Method::GET, &path, &[]).await.error_for_status().unwrap();
            response.chunk().await.unwrap();
            let first = began.elapsed();
            while response.chunk().await.unwrap().is_some() {}
            first
        }));
        first.extend(times.await);
    }
    settled(it, replicas).await;
    let rounds = ROUNDS as f64;
    Cold {
        first,
        extra_gets: (it.upstream.count(Method::GET, "/blobs/") as f64 - rounds) / rounds,
        store_requests: (operations(it, replicas).await - before) / rounds,
    }
}

async fn settled(it: &Instance, replicas: &[usize]) {
    for replica in replicas {
        it.replicas[*replica].proxy.metric_until("fills_in_flight", |fills| fills == 0.0).await;
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
