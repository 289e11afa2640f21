//! What passes through: the newest bytes of a download that the folder has no room for, shared by all its readers.
//!
//! The download waits for the slowest reader, and for none longer than [`STALLED`]: memory stays bounded, and one
//! client that has gone to sleep does not hold up the others for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes held for readers.
const WINDOW: usize = 4 * 1024 * 1024;
/// A reader that takes nothing for so long loses its place.
const STALLED: Duration = Duration::from_secs(30);

/// The bytes between the slowest reader and the download.
#[derive(Default)]
pub(super) struct Window {
    held: Mutex<Held>,
    /// A reader took something, or left.
    taken: Notify,
}

#[derive(Default)]
struct Held {
    /// Offset in the blob of the first chunk.
    start: u64,
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// Whether bytes before `start` are gone, and not in the file.
    has_lost: bool,
    readers: HashMap<u64, Position>,
    next_reader: u64,
}

struct Position {
    at: u64,
    since: Instant,
}

/// Nobody reads any more.
pub(super) struct Abandoned;

impl Window {
    /// Begins to pass through from that offset on; what is before it is in the file.
    pub(super) fn begin(&self, start: u64) {
        self.held.lock().start = start;
    }

    /// A reader's place at the blob's beginning; `None` if that is gone.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Cursor> {
        let mut held = self.held.lock();
        if held.has_lost {
            return None;
        }
        let reader = held.next_reader;
        held.next_reader += 1;
        held.readers.insert(reader, Position { at: 0, since: Instant::now() });
        Some(Cursor { window: self.clone(), reader })
    }

    /// Adds bytes as soon as there is room.
    pub(super) async fn push(&self, chunk: Bytes) -> Result<(), Abandoned> {
        let begun = Instant::now();
        loop {
            let taken = self.taken.notified();
            {
                let mut held = self.held.lock();
                if held.bytes + chunk.len() > WINDOW {
                    held.make_room();
                }
                if held.bytes + chunk.len() <= WINDOW || held.chunks.is_empty() {
                    held.bytes += chunk.len();
                    held.chunks.push_back(chunk);
                    return Ok(());
                }
                if held.readers.is_empty() && begun.elapsed() > STALLED {
                    return Err(Abandoned);
                }
            }
            tokio::time::timeout(Duration::from_secs(1), taken).await.ok();
        }
    }
}

impl Held {
    /// Drops what every reader has; a reader that takes nothing of what is here loses its place.
    fn make_room(&mut self) {
        let end = self.start + self.bytes as u64;
        self.readers.retain(|_, position| position.at >= end || position.since.elapsed() < STALLED);
        let Some(slowest) = self.readers.values().map(|position| position.at).min() else { return };
        while let Some(chunk) = self.chunks.front() {
            let end = self.start + chunk.len() as u64;
            if end > slowest {
                return;
            }
            self.start = end;
            self.bytes -= chunk.len();
            self.has_lost = true;
            self.chunks.pop_front();
        }
    }
}

/// One reader's place; leaving gives it up.
pub(super) struct Cursor {
    window: Arc<Window>,
    reader: u64,
}

impl Cursor {
    /// Everything before `at` is read.
    pub(super) fn moved(&self, at: u64) {
        if let Some(position) = self.window.held.lock().readers.get_mut(&self.reader) {
            *position = Position { at, since: Instant::now() };
        }
        self.window.taken.notify_one();
    }

    /// The bytes at `at`, up to `end` at most; `None` if this reader lost its place.
    pub(super) fn read(&self, at: u64, end: u64) -> Option<Bytes> {
        let held = self.window.held.lock();
        held.readers.get(&self.reader)?;
        let mut start = held.start;
        for chunk in &held.chunks {
            let next = start + chunk.len() as u64;
            if start <= at && at < next {
                let from = usize::try_from(at - start).ok()?;
                let to = usize::try_from(end.min(next) - start).ok()?;
                return Some(chunk.slice(from..to));
            }
            start = next;
        }
        None
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.window.held.lock().readers.remove(&self.reader);
        self.window.taken.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const CHUNK: usize = 1024 * 1024;

    async fn fits(window: &Window) -> bool {
        let push = window.push(Bytes::from(vec![0; CHUNK]));
        matches!(tokio::time::timeout(Duration::from_millis(20), push).await, Ok(Ok(())))
    }

    #[tokio::test]
    async fn the_download_waits_for_the_slowest_reader() {
        let window = Arc::new(Window::default());
        let (slow, fast) = (window.enter().unwrap(), window.enter().unwrap());
        for _ in 0..4 {
            assert!(fits(&window).await);
        }
        fast.moved(4 * CHUNK as u64);
        assert!(!fits(&window).await);
        slow.moved(CHUNK as u64);
        assert!(fits(&window).await);
    }

    #[tokio::test]
    async fn who_comes_when_the_beginning_is_gone_gets_no_place() {
        let window = Arc::new(Window::default());
        let reader = window.enter().unwrap();
        for at in 0..8 {
            assert!(fits(&window).await);
            reader.moved((at + 1) * CHUNK as u64);
        }
        assert!(window.enter().is_none());
    }

    #[tokio::test]
    async fn a_reader_gets_the_bytes_at_its_offset() {
        let window = Arc::new(Window::default());
        window.begin(10);
        let reader = window.enter().unwrap();
        for chunk in [&b"abc"[..], b"def"] {
            assert!(window.push(Bytes::from_static(chunk)).await.is_ok());
        }
        assert_eq!(reader.read(10, 99).unwrap(), "abc");
        assert_eq!(reader.read(12, 14).unwrap(), "c");
        assert_eq!(reader.read(13, 15).unwrap(), "de");
        assert_eq!(reader.read(9, 99), None);
    }
}
