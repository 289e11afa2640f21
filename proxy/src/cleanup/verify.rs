//! The scrub: stored bytes still have their digest.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;

use super::report::{Report, Verified};
use crate::store::{Error, Key, Store};

/// Reads all blobs, no more than that many bytes per second, and deletes those that do not have their digest: they are
/// fetched again by who pulls them next.
pub(super) async fn verify(
    store: &Store,
    bytes_per_second: u64,
    dry_run: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let mut verified = Verified::default();
    let mut pace = Pace { began: Instant::now(), bytes: 0, per_second: bytes_per_second.max(1) };
    for stretch in store.stretches() {
        let mut blobs = store.blobs(stretch);
        while let Some(digest) = blobs.try_next().await? {
            let Some(whole) = store.is_whole(&digest, async |bytes| pace.read(bytes).await).await? else {
                continue;
            };
            verified.blobs += 1;
            verified.bytes = pace.bytes;
            if whole {
                continue;
            }
            tracing::warn!(%digest, "a stored blob is damaged; it is fetched again when it is pulled");
            verified.note_damaged(digest);
            if !dry_run {
                store.delete(&[Key::Blob(&digest)]).await?;
            }
        }
    }
    report.verified = Some(verified);
    Ok(())
}

/// Waits so long after each piece that the mean rate since the beginning holds.
struct Pace {
    began: Instant,
    bytes: u64,
    per_second: u64,
}

impl Pace {
    async fn read(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.per_second as f64);
        tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
    }
}
