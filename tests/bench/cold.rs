//! Blobs that are not there yet.

use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::join_all;
use harness::blob::Blob;
use harness::registry::Registry;

use crate::MIB;
use crate::connection::{Target, fetch};
use crate::figure::{Figure, list, median, milliseconds, seconds};
use crate::ground::{Ours, REPOSITORY, open_target, processor_time};
use crate::limited::Limited;

const CLIENTS: usize = 32;
/// Bytes per second: a gigabit line.
const LINE: u64 = 125_000_000;

/// 32 clients at once, and how often upstream was asked.
pub(crate) async fn single_flight() -> Figure {
    let blob = Blob::random(64 * MIB);
    let rest = format!("blobs/{}", blob.digest);
    let origin = Registry::start().await;
    origin.repository(REPOSITORY).push_blob(&blob).await;
    let ours = Ours::before(&origin.host()).await;
    let theirs = Registry::new().as_proxy_of(&origin.url()).started().await;

    let target = ours.target(&ours.group(), &rest).await;
    let asked_by_ours = crowd(&origin, &target).await;
    let asked_by_theirs = crowd(&origin, &open_target(&theirs.host(), &rest)).await;
    Figure {
        name: "32 clients at once on a cold 64 MiB blob: upstream GETs",
        asked: "1",
        measured: format!("{asked_by_ours} (distribution v3: {asked_by_theirs})"),
        ok: asked_by_ours == 1,
        how: "counted in the upstream's access log".to_owned(),
    }
}

async fn crowd(origin: &Registry, target: &Target) -> usize {
    let before = origin.gets("/blobs/").await;
    for got in join_all((0..CLIENTS).map(|_| fetch(target))).await {
        assert_eq!(got.bytes, 64 * MIB as u64);
    }
    origin.gets("/blobs/").await - before
}

/// How much slower than upstream itself, and how much later the first byte.
pub(crate) async fn limited() -> Vec<Figure> {
    let upstream = Limited::start(Some(LINE)).await;
    let ours = Ours::before(&upstream.host).await;
    let (mut direct, mut through, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let blob = Blob::random(256 * MIB);
        let rest = format!("blobs/{}", blob.digest);
        upstream.replace(&blob);
        direct.push(fetch(&open_target(&upstream.host, &rest)).await.took);
        let got = fetch(&ours.target(&ours.group(), &rest).await).await;
        through.push(got.took);
        first.push(got.first.saturating_duration_since(upstream.first()));
    }
    let ratio = median(&through).as_secs_f64() / median(&direct).as_secs_f64();
    let delay = median(&first);
    let worst = first.iter().max().copied().unwrap_or_default();
    vec![
        Figure {
            name: "cold 256 MiB blob through an upstream limited to 125 MB/s: time against direct",
            asked: "at most 1.03",
            measured: format!("{ratio:.3}"),
            ok: ratio <= 1.03,
            how: format!("s, median of three: through {}, direct {}", list(&through), list(&direct)),
        },
        Figure {
            name: "the same: first byte after upstream's first byte",
            asked: "at most 5 ms",
            measured: format!("{} (worst {})", milliseconds(delay), milliseconds(worst)),
            ok: delay <= Duration::from_millis(5),
            how: "median of three; upstream and client in one process".to_owned(),
        },
    ]
}

/// Against the competing proxy, as fast as it goes.
pub(crate) async fn unlimited() -> Figure {
    // Not counted: memory that a virtual machine touches for the first time is several times slower, and after this
    // round all files are written to memory that another one has left.
    race(true).await;
    let mut races = Vec::new();
    for round in 0..9 {
        // They take turns in being first: the second finds upstream's file in the processor's cache.
        races.push(race(round % 2 == 0).await);
    }
    let all = |one: fn(&Race) -> Duration| races.iter().map(one).collect::<Vec<_>>();
    let (our_times, their_times) = (all(|race| race.ours.took), all(|race| race.theirs.took));
    let (our_work, their_work) = (median(&all(|race| race.ours.work)), median(&all(|race| race.theirs.work)));
    let ratio = median(&our_times).as_secs_f64() / median(&their_times).as_secs_f64();
    Figure {
        name: "cold 256 MiB unlimited: time against distribution v3 as proxy",
        asked: "at most 0.7",
        measured: format!("{ratio:.2} (hashing alone {})", seconds(median(&all(|race| race.hashing)))),
        ok: ratio <= 0.7,
        how: format!(
            "s, medians of nine in turns: ours {}, theirs {}; of the processors {} and {}",
            list(&our_times),
            list(&their_times),
            seconds(our_work),
            seconds(their_work)
        ),
    }
}

/// One blob through each of the two.
struct Race {
    ours: Cost,
    theirs: Cost,
    /// Of the blob, alone.
    hashing: Duration,
}

/// What a pull cost.
struct Cost {
    took: Duration,
    /// Time of processors in the proxy.
    work: Duration,
}

/// On new servers whose files are gone afterwards.
async fn race(ours_first: bool) -> Race {
    let blob = Blob::random(256 * MIB);
    let rest = format!("blobs/{}", blob.digest);
    let origin = Registry::start().await;
    origin.repository(REPOSITORY).push_blob(&blob).await;
    let ours = Ours::before(&origin.host()).await;
    let theirs = Registry::new().as_proxy_of(&origin.url()).started().await;
    let our_target = ours.target(&ours.group(), &rest).await;
    let their_target = open_target(&theirs.host(), &rest);
    let (ours, theirs) = if ours_first {
        let cost = settled(&our_target, ours.process.pid()).await;
        (cost, settled(&their_target, theirs.pid()).await)
    } else {
        let cost = settled(&their_target, theirs.pid()).await;
        (settled(&our_target, ours.process.pid()).await, cost)
    };
    let began = Instant::now();
    std::hint::black_box(digest(&SHA256, &blob.bytes));
    Race { ours, theirs, hashing: began.elapsed() }
}

/// Fetches with an idle disk: what the one before has left to be written is not this one's burden.
async fn settled(target: &Target, proxy: Option<u32>) -> Cost {
    rustix::fs::sync();
    let before = processor_time(proxy);
    let took = fetch(target).await.took;
    Cost { took, work: processor_time(proxy).saturating_sub(before) }
}
