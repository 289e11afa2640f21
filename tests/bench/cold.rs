//! Blobs that are not there yet.

use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::join_all;
use harness::blob::Blob;
use harness::registry::Registry;

use crate::MIB;
use crate::connection::{Target, fetch};
use crate::figure::{Figure, list, median, milliseconds, seconds};
use crate::ground::{Ours, REPOSITORY, open_target};
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
    let (mut our_times, mut their_times, mut hashing) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..7 {
        // They take turns in being first: the second finds upstream's file in the processor's cache.
        let (ours, theirs, hash) = race(round % 2 == 0).await;
        our_times.push(ours);
        their_times.push(theirs);
        hashing.push(hash);
    }
    let ratio = median(&our_times).as_secs_f64() / median(&their_times).as_secs_f64();
    Figure {
        name: "cold 256 MiB unlimited: time against distribution v3 as proxy",
        asked: "at most 0.7",
        measured: format!("{ratio:.2} (hashing alone {})", seconds(median(&hashing))),
        ok: ratio <= 0.7,
        how: format!(
            "s, medians of seven in turns: ours {}, theirs {}",
            list(&our_times),
            list(&their_times)
        ),
    }
}

/// One blob through each of the two, on new servers whose files are gone afterwards: how long ours took, theirs, and
/// hashing the blob.
async fn race(ours_first: bool) -> (Duration, Duration, Duration) {
    let blob = Blob::random(256 * MIB);
    let rest = format!("blobs/{}", blob.digest);
    let origin = Registry::start().await;
    origin.repository(REPOSITORY).push_blob(&blob).await;
    let ours = Ours::before(&origin.host()).await;
    let theirs = Registry::new().as_proxy_of(&origin.url()).started().await;
    let targets = (ours.target(&ours.group(), &rest).await, open_target(&theirs.host(), &rest));
    let (our_time, their_time) = if ours_first {
        let our_time = settled(&targets.0).await;
        (our_time, settled(&targets.1).await)
    } else {
        let their_time = settled(&targets.1).await;
        (settled(&targets.0).await, their_time)
    };
    let began = Instant::now();
    std::hint::black_box(digest(&SHA256, &blob.bytes));
    (our_time, their_time, began.elapsed())
}

/// Fetches with an idle disk: what the one before has left to be written is not this one's burden.
async fn settled(target: &Target) -> Duration {
    rustix::fs::sync();
    fetch(target).await.took
}
