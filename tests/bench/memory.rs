//! Many slow clients of one large blob.

use std::time::Duration;

use futures_util::future::join_all;
use harness::blob::Blob;

use crate::MIB;
use crate::connection::{Connection, Target};
use crate::figure::Figure;
use crate::ground::Ours;
use crate::limited::Limited;

const CLIENTS: usize = 200;
/// Bytes per second of each client.
const RATE: u64 = 1_000_000;
const SECONDS: usize = 60;

/// The most memory of its own that the proxy has during the first minute.
pub(crate) async fn memory() -> Figure {
    let blob = Blob::random(1024 * MIB);
    let upstream = Limited::start(None).await;
    upstream.replace(&blob);
    let ours = Ours::before(&upstream.host).await;
    let target = ours.target(&ours.group(), &format!("blobs/{}", blob.digest)).await;
    let pid = ours.process.pid().expect("it runs");

    let running = |pid| anonymous(pid).expect("it runs");
    let idle = running(pid);
    let clients = tokio::spawn(join_all((0..CLIENTS).map(|_| slow_client(target.clone()))));
    let mut most = 0;
    for _ in 0..SECONDS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        most = most.max(running(pid));
    }
    assert!(!clients.is_finished(), "a blob of 1 GiB at 1 MB/s takes 18 minutes");
    clients.abort();
    Figure {
        name: "200 clients reading a cold 1 GiB blob at 1 MB/s each, first 60 s: anonymous memory",
        asked: "at most 60 MB",
        measured: format!("{} MB", most / 1_000_000),
        ok: most <= 60_000_000,
        how: format!("most of RssAnon, each second; idle {} MB", idle / 1_000_000),
    }
}

async fn slow_client(target: Target) {
    Connection::open_small(target.address).await.get_at(&target, Some(RATE)).await;
}

/// `RssAnon` of a process, in bytes; `None` where it has ended.
pub(crate) fn anonymous(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024)
}
