//! The newest bytes of a download, shared by all its readers.
//!
//! Who keeps up reads from here and waits for no disk. Of what is in the spool file little is held; what the folder
//! had no room for is held until every reader has it: then the download waits for the slowest reader, and for none
//! longer than [`STALLED`]. Memory stays bounded, and one client that has gone to sleep does not hold up the others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes held that are in no file.
const WINDOW: usize = 4 * 1024 * 1024;
/// Bytes held that are in the file too.
const RECENT: usize = 1024 * 1024;
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
    /// Bytes from the blob's beginning on that are in the file.
    spooled: u64,
    /// Whether bytes before `start` are gone that are not in the file.
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
    /// Adds bytes that are on their way into the file.
    pub(super) fn add(&self, chunk: Bytes) {
        self.held.lock().add(chunk);
    }

    /// So many bytes are in the file: the older ones of them need not be held.
    pub(super) fn spooled(&self, bytes: u64) {
        let mut held = self.held.lock();
        held.spooled = bytes;
        while held.bytes > RECENT && held.first_end().is_some_and(|end| end <= bytes) {
            held.drop_first();
        }
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

    /// Adds bytes that are kept nowhere else, as soon as there is room.
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
                    held.add(chunk);
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
        while let Some(end) = self.first_end().filter(|end| *end <= slowest || *end <= self.spooled) {
            self.has_lost |= end > self.spooled;
            self.drop_first();
        }
    }

    fn add(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    fn first_end(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| self.start + chunk.len() as u64)
    }

    fn drop_first(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.start += chunk.len() as u64;
            self.bytes -= chunk.len();
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

    /// The bytes at `at`, up to `end` at most; `None` if they are not held.
    pub(super) fn read(&self, at: u64, end: u64) -> Option<Bytes> {
        let held = self.window.held.lock();
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
    async fn of_what_is_in_the_file_little_is_held_and_nothing_is_lost() {
        let window = Arc::new(Window::default());
        for _ in 0..8 {
            window.add(Bytes::from(vec![0; CHUNK]));
        }
        window.spooled(8 * CHUNK as u64);
        let reader = window.enter().unwrap();
        assert_eq!(reader.read(0, 99), None);
        assert!(reader.read(8 * CHUNK as u64 - 1, u64::MAX).is_some());
    }

    #[tokio::test]
    async fn a_reader_gets_the_bytes_at_its_offset() {
        let window = Arc::new(Window::default());
        let reader = window.enter().unwrap();
        for chunk in [&b"abc"[..], b"def"] {
            assert!(window.push(Bytes::from_static(chunk)).await.is_ok());
        }
        assert_eq!(reader.read(0, 99).unwrap(), "abc");
        assert_eq!(reader.read(2, 4).unwrap(), "c");
        assert_eq!(reader.read(3, 5).unwrap(), "de");
        assert_eq!(reader.read(6, 99), None);
    }
}
