//! The bounded local folder: downloads in progress (the spool) and kept blobs, least recently used out first.
//!
//! A blob appears under its name by one rename, after its bytes were proven and synced: a crash at any instant
//! leaves either the whole blob or a spool file that the next start wipes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use oci::Digest;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{Timespec, Timestamps, XattrFlags};
use tempfile::NamedTempFile;

use crate::metrics::Metrics;

/// Room is taken in steps of this: a blob that is announced large and never comes pushes nothing out.
const STEP: u64 = 16 * 1024 * 1024;
/// The time of last use is written to the disk at most this often: after a restart it orders what to remove.
const TOUCH: Duration = Duration::from_secs(3600);

/// The attribute of a kept file that says how many bytes were proven: what was cut while nobody ran is not believed.
const PROVEN_SIZE: &str = "user.dependency-proxy.size";

const USED_NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
    last_modification: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
};

/// The folder of one replica.
pub(super) struct Folder {
    blobs: PathBuf,
    spool: PathBuf,
    /// Bound in bytes of blobs and spool together.
    limit: u64,
    state: Mutex<State>,
    metrics: Metrics,
}

struct State {
    kept: LruCache<Digest, Kept>,
    kept_bytes: u64,
    spooled_bytes: u64,
}

/// A blob that is there.
struct Kept {
    size: u64,
    /// When its time of last use was last written to the disk.
    touched: Instant,
}

impl Kept {
    fn new(size: u64) -> Self {
        Self { size, touched: Instant::now() }
    }

    /// Whether it is time to write down that it is in use.
    fn touch(&mut self) -> bool {
        let due = self.touched.elapsed() >= TOUCH;
        if due {
            self.touched = Instant::now();
        }
        due
    }
}

/// No room: everything in the folder is a download in progress, or the blob is larger than the bound.
#[derive(Debug, thiserror::Error)]
#[error("the local folder is full")]
pub struct Full;

impl Folder {
    /// Opens a folder, wipes what an earlier run was downloading, and finds the blobs that it kept.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub(super) fn open(blobs: PathBuf, spool: PathBuf, limit: u64, metrics: Metrics) -> io::Result<Self> {
        fs::create_dir_all(&blobs)?;
        match fs::remove_dir_all(&spool) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&spool)?,
        }
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            find_blobs(&blobs.join(algorithm), algorithm, &mut found)?;
        }
        found.sort_by_key(|(_, _, used)| *used);
        let mut state = State { kept: LruCache::unbounded(), kept_bytes: 0, spooled_bytes: 0 };
        for (digest, size, _) in found {
            state.kept.put(digest, Kept::new(size));
            state.kept_bytes += size;
        }
        let folder = Self { blobs, spool, limit, state: Mutex::new(state), metrics };
        drop(folder.evict_until_fits(0));
        folder.publish(&folder.state.lock());
        Ok(folder)
    }

    /// Opens a kept blob and counts it as used. A file that has another size than the blob had is removed.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub(super) fn blob(&self, digest: &Digest) -> io::Result<Option<(Arc<File>, u64)>> {
        let kept = self.state.lock().kept.get_mut(digest).map(|kept| (kept.touch(), kept.size));
        let Some((due, size)) = kept else { return Ok(None) };
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => {
                let found = file.metadata()?.len();
                if found != size {
                    tracing::warn!(%digest, size, found, "the kept blob is damaged; it is fetched again");
                    fs::remove_file(path).ok();
                    self.forget(digest);
                    return Ok(None);
                }
                if due {
                    rustix::fs::futimens(&file, &USED_NOW).ok();
                }
                Ok(Some((Arc::new(file), size)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(digest);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a download: an empty file, for which room is taken as it grows.
    ///
    /// # Errors
    /// When there is no room for the first bytes, or never will be for as many as are stated.
    pub(super) fn spool(self: &Arc<Self>, stated: Option<u64>) -> Result<Spool, Full> {
        if stated.is_some_and(|stated| stated > self.limit) {
            return Err(Full);
        }
        let bytes = stated.unwrap_or(STEP).min(STEP);
        self.reserve(bytes)?;
        let room = Room { folder: self.clone(), bytes };
        let made = NamedTempFile::new_in(&self.spool).and_then(|file| Ok((Arc::new(file.reopen()?), file)));
        let (reader, file) = made.map_err(|error| {
            tracing::warn!(%error, "cannot write to the local folder");
            Full
        })?;
        Ok(Spool { file, reader, room, stated })
    }

    /// Whether so many bytes would fit beside the downloads in progress.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.state.lock().spooled_bytes.saturating_add(bytes) <= self.limit
    }

    fn reserve(&self, bytes: u64) -> Result<(), Full> {
        let mut state = self.evict_until_fits(bytes)?;
        state.spooled_bytes += bytes;
        self.publish(&state);
        Ok(())
    }

    /// Removes what was not used for the longest time until there is room, and holds the lock on it.
    fn evict_until_fits(&self, bytes: u64) -> Result<MutexGuard<'_, State>, Full> {
        let mut state = self.state.lock();
        loop {
            if state.spooled_bytes.saturating_add(bytes) > self.limit {
                return Err(Full);
            }
            if state.kept_bytes + state.spooled_bytes + bytes <= self.limit {
                return Ok(state);
            }
            let Some((digest, kept)) = state.kept.pop_lru() else { return Err(Full) };
            state.kept_bytes -= kept.size;
            self.metrics.evictions.inc();
            // Whoever reads it now keeps reading: an open file outlives its name. Under the lock, so that a blob which
            // is kept again at this moment is not the one that is removed.
            fs::remove_file(self.path(&digest)).ok();
        }
    }

    /// Somebody else removed a file.
    fn forget(&self, digest: &Digest) {
        let mut state = self.state.lock();
        // Unless it was kept again meanwhile.
        if !self.path(digest).exists()
            && let Some(kept) = state.kept.pop(digest)
        {
            state.kept_bytes -= kept.size;
        }
        self.publish(&state);
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs.join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }

    fn publish(&self, state: &State) {
        self.metrics.cached_bytes.set(state.kept_bytes);
        self.metrics.local_bytes.set(state.kept_bytes + state.spooled_bytes);
    }
}

/// Bytes of the folder's bound that a download holds until it ends.
struct Room {
    folder: Arc<Folder>,
    bytes: u64,
}

impl Room {
    /// Turns into a kept blob in one step: nobody takes the room in between, and nobody removes the new file for the
    /// old one.
    fn becomes(mut self, file: NamedTempFile, path: &Path, digest: &Digest, size: u64) -> io::Result<()> {
        let mut state = self.folder.state.lock();
        file.persist(path).map_err(|error| error.error)?;
        if state.kept.put(*digest, Kept::new(size)).is_none() {
            state.kept_bytes += size;
        }
        state.spooled_bytes = state.spooled_bytes.saturating_sub(self.bytes);
        self.bytes = 0;
        self.folder.publish(&state);
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.folder.state.lock();
        state.spooled_bytes = state.spooled_bytes.saturating_sub(self.bytes);
        self.folder.publish(&state);
    }
}

/// A download in progress: written at its end, read anywhere before it.
pub struct Spool {
    file: NamedTempFile,
    reader: Arc<File>,
    room: Room,
    stated: Option<u64>,
}

impl Spool {
    /// The file, for readers that know how far it was written.
    #[must_use]
    pub fn reader(&self) -> Arc<File> {
        self.reader.clone()
    }

    /// Appends bytes after the `written` ones; blocks on the disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when the folder's bound is reached, or what the disk says.
    pub fn append(&mut self, written: u64, bytes: &[u8]) -> io::Result<()> {
        let needed = written + bytes.len() as u64;
        if needed > self.room.bytes {
            let goal = self.stated.map_or(needed + STEP, |stated| stated.min(needed + STEP)).max(needed);
            let full = |full| io::Error::new(io::ErrorKind::StorageFull, full);
            self.room.folder.reserve(goal - self.room.bytes).map_err(full)?;
            self.room.bytes = goal;
        }
        io::Write::write_all(self.file.as_file_mut(), bytes)
    }

    /// Keeps the bytes under their digest, which the caller has proven; blocks on the disk.
    ///
    /// # Errors
    /// What the disk says; then nothing is kept.
    pub fn keep(self, digest: &Digest) -> io::Result<()> {
        let Self { file, room, .. } = self;
        let size = file.as_file().metadata()?.len();
        // A file system without attributes has to be believed.
        rustix::fs::fsetxattr(file.as_file(), PROVEN_SIZE, &size.to_le_bytes(), XattrFlags::empty()).ok();
        file.as_file().sync_data()?;
        let path = room.folder.path(digest);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        room.becomes(file, &path, digest, size)
    }
}

/// Collects `<algorithm>/ab/<hex>` with size and time of last use.
fn find_blobs(folder: &Path, algorithm: &str, found: &mut Vec<(Digest, u64, SystemTime)>) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for shard in fs::read_dir(folder)? {
        let shard = shard?.path();
        if !shard.is_dir() {
            continue;
        }
        for entry in fs::read_dir(shard)? {
            let entry = entry?;
            let name = entry.file_name();
            // What has no digest for a name is not ours.
            let Some(Ok(digest)) = name.to_str().map(|hex| Digest::parse(&format!("{algorithm}:{hex}")))
            else {
                continue;
            };
            let metadata = entry.metadata()?;
            let size = proven_size(&entry.path()).unwrap_or(metadata.len());
            found.push((digest, size, metadata.modified()?));
        }
    }
    Ok(())
}

fn proven_size(path: &Path) -> Option<u64> {
    let mut size = [0; 8];
    let length = rustix::fs::getxattr(path, PROVEN_SIZE, &mut size).ok()?;
    (length == size.len()).then(|| u64::from_le_bytes(size))
}
