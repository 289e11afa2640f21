//! Upstreams that break off, are gone, or say nothing.

use std::time::Duration;

use futures_util::future::join_all;
use harness::blob::Blob;
use harness::hostile::{Fault, Upstream};
use harness::image::Image;
use harness::registry::Registry;
use http::Method;

use crate::MIB;
use crate::connection::{Connection, Target, fetch};
use crate::figure::{Figure, milliseconds, percentile};
use crate::ground::{Ours, REPOSITORY};

const TAGS: usize = 20;
const CONNECTIONS: usize = 4;

/// Five cuts in one blob, and what upstream had to send twice.
pub(crate) async fn cut() -> Figure {
    let (size, cut_at, cuts) = (16 * MIB as u64, 3 * MIB as u64 - 1000, 5);
    let blob = Blob::random(16 * MIB);
    let upstream = Upstream::start().await;
    upstream.blob(REPOSITORY, blob.bytes.clone());
    upstream.on("/blobs/").method(Method::GET).times(cuts).fault(Fault::Cut(cut_at));
    let ours = Ours::before(&upstream.address().to_string()).await;
    let answer = ours.group().blob(REPOSITORY, blob.digest).await;
    let whole = !answer.broken && answer.body == blob.bytes;

    let gets =
        upstream.requests().into_iter().filter(|r| r.method == Method::GET && r.path.contains("/blobs/"));
    let starts: Vec<_> = gets.map(|r| r.header("range").map_or(0, start)).collect();
    // Each answer but the last was cut after `cut_at` bytes; together they need not be more than the blob.
    let sent: u64 = starts
        .iter()
        .enumerate()
        .map(|(n, start)| {
            let rest = size - start;
            if (n as u64) < cuts { rest.min(cut_at) } else { rest }
        })
        .sum();
    let again = sent - size;
    Figure {
        name: "upstream cut five times during one blob",
        asked: "pull succeeds, only missing bytes asked again",
        measured: format!("{}, {again} bytes asked again", if whole { "succeeds" } else { "FAILS" }),
        ok: whole && again == 0 && starts.len() == 6,
        how: format!("16 MiB, {} GETs; digest and every Range compared", starts.len()),
    }
}

/// Of `bytes=<start>-...`.
fn start(range: &str) -> u64 {
    range
        .trim_start_matches("bytes=")
        .split('-')
        .next()
        .and_then(|start| start.parse().ok())
        .expect("a range")
}

/// A proxy that has pulled `TAGS` tags through the group, their targets, and the upstream.
async fn cached() -> (Registry, Ours, Vec<Target>) {
    let origin = Registry::start().await;
    let ours = Ours::before(&origin.host()).await;
    let mut targets = Vec::new();
    for tag in 0..TAGS {
        origin.repository(REPOSITORY).push(&Image::oci(), &tag.to_string()).await;
        let target = ours.target(&ours.group(), &format!("manifests/{tag}")).await;
        fetch(&target).await;
        targets.push(target);
    }
    (origin, ours, targets)
}

/// Asks for `count` tags in turn on one connection: how long each took, and how many were answered with 200.
async fn pulls(targets: &[Target], count: usize, pause: Duration) -> (Vec<Duration>, usize) {
    let mut connection = Connection::open(targets[0].address).await;
    let (mut times, mut good) = (Vec::new(), 0);
    for target in targets.iter().cycle().take(count) {
        let got = connection.get(target).await;
        good += usize::from(got.status == 200);
        times.push(got.took);
        tokio::time::sleep(pause).await;
    }
    (times, good)
}

/// 1,000 pulls while nobody listens on upstream's port.
pub(crate) async fn stopped() -> Figure {
    let (mut origin, _ours, targets) = cached().await;
    origin.stop();
    let each = 1000 / CONNECTIONS;
    let results = join_all((0..CONNECTIONS).map(|_| pulls(&targets, each, Duration::ZERO))).await;
    let good: usize = results.iter().map(|(_, good)| good).sum();
    let times: Vec<_> = results.into_iter().flat_map(|(times, _)| times).collect();
    let p99 = percentile(&times, 99);
    let slowest = times.iter().max().copied().unwrap_or_default();
    Figure {
        name: "upstream stopped, 1,000 pulls of cached tags",
        asked: "1,000 succeed, p99 at most 10 ms",
        measured: format!("{good} succeed, p99 {} (slowest {})", milliseconds(p99), milliseconds(slowest)),
        ok: good == 1000 && p99 <= Duration::from_millis(10),
        how: format!("manifests of {TAGS} tags on {CONNECTIONS} connections, token at hand"),
    }
}

/// An upstream that is stopped in the sense of SIGSTOP: the system accepts connections for it, and nobody answers.
pub(crate) async fn hanging() -> Figure {
    let (origin, _ours, targets) = cached().await;
    origin.pause();
    let one = &targets[..1];
    let (first, first_good) = pulls(one, 1, Duration::ZERO).await;
    // Spread over some seconds: upstream is tried again in between, and no pull shall wait for that.
    let (after, after_good) = pulls(one, 100, Duration::from_millis(100)).await;
    origin.resume();
    let slowest = after.iter().max().copied().unwrap_or_default();
    let median = percentile(&after, 50);
    Figure {
        name: "upstream accepts and never answers: a cached tag",
        asked: "at most 1.1 s the first time, 10 ms after",
        measured: format!(
            "{:.2} s, then at most {} (median {})",
            first[0].as_secs_f64(),
            milliseconds(slowest),
            milliseconds(median)
        ),
        ok: first_good + after_good == 101
            && first[0] <= Duration::from_millis(1100)
            && slowest <= Duration::from_millis(10),
        how: "one pull, then 100 more over ten seconds".to_owned(),
    }
}
