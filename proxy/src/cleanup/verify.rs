//! The scrub: stored bytes still have their digest.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;

use super::Pace;
use super::report::{Report, Verified};
use crate::store::{Error, Store};

/// After so many bytes it is written down how far it came: a run that is ended loses no more.
const NOTED: u64 = 1 << 30;

/// Reads blobs at the given pace, from where the last run stopped, and deletes those that do not have their digest:
/// they are fetched again by who pulls them next. A dry run reads from the first blob, and leaves no mark.
pub(super) async fn verify(
    store: &Store,
    pace: Pace,
    dry_run: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let begin = if dry_run { None } else { store.verified_to().await? };
    let (mut verified, mut noted) = (Verified::default(), 0);
    let mut reading = Reading { began: Instant::now(), bytes: 0, per_second: pace.bytes_per_second.max(1) };
    let mut last = begin;
    for stretch in store.stretches() {
        let mut blobs = store.blobs(stretch, begin.as_ref());
        while let Some(digest) = blobs.try_next().await? {
            if pace.length.is_some_and(|length| reading.began.elapsed() >= length) {
                verified.unfinished = true;
                break;
            }
            last = Some(digest);
            let whole = match store.is_whole(&digest, async |bytes| reading.read(bytes).await).await {
                Ok(Some(whole)) => whole,
                Ok(None) => continue,
                Err(error) => {
                    // Where the store answers, it is this blob alone, such as one that was archived: it must not keep
                    // this run and the next ones from those after it.
                    store.store_time().await?;
                    tracing::warn!(%digest, %error, "a stored blob cannot be read");
                    verified.unreadable += 1;
                    continue;
                }
            };
            verified.blobs += 1;
            verified.bytes = reading.bytes;
            if !whole {
                verified.note_damaged(digest);
            }
            if !whole && !dry_run {
                store.delete_damaged(&digest).await?;
            }
            if reading.bytes - noted >= NOTED && !dry_run {
                store.note_verified(Some(&digest)).await?;
                noted = reading.bytes;
            }
        }
    }
    if !dry_run {
        store.note_verified(last.as_ref().filter(|_| verified.unfinished)).await?;
    }
    report.verified = Some(verified);
    Ok(())
}

/// Waits so long after each piece that the mean rate since the beginning holds.
struct Reading {
    began: Instant,
    bytes: u64,
    per_second: u64,
}

impl Reading {
    async fn read(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.per_second as f64);
        tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
    }
}
