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
    let origin = Registry::start().await;
    let ours = Ours::before(&origin.host()).await;
    let theirs = Registry::new().as_proxy_of(&origin.url()).started().await;
    let (mut our_times, mut their_times, mut hashing) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..5 {
        let blob = Blob::random(256 * MIB);
        let rest = format!("blobs/{}", blob.digest);
        origin.repository(REPOSITORY).push_blob(&blob).await;
        let target = ours.target(&ours.group(), &rest).await;
        let their_target = open_target(&theirs.host(), &rest);
        for turn in 0..2 {
            // What the one before has left to be written to the disk is not the next one's burden.
            rustix::fs::sync();
            // They take turns in being first, since the second finds upstream's file in the processor's cache.
            if (round + turn) % 2 == 0 {
                our_times.push(fetch(&target).await.took);
            } else {
                their_times.push(fetch(&their_target).await.took);
            }
        }
        let began = Instant::now();
        std::hint::black_box(digest(&SHA256, &blob.bytes));
        hashing.push(began.elapsed());
    }
    let ratio = median(&our_times).as_secs_f64() / median(&their_times).as_secs_f64();
    Figure {
        name: "cold 256 MiB unlimited: time against distribution v3 as proxy",
        asked: "at most 0.7",
        measured: format!("{ratio:.2} (hashing alone {})", seconds(median(&hashing))),
        ok: ratio <= 0.7,
        how: format!("s, medians of five in turns: ours {}, theirs {}", list(&our_times), list(&their_times)),
    }
}
