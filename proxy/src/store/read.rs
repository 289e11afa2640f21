//! Reading files by offset, without a thread where the page cache has the bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Reads a file piece by piece, each into memory that an earlier piece has given back: fresh memory has to be zeroed
/// and mapped, which was a tenth of the cost of a hit (measured with `make bench ARGS=warm`).
#[derive(Clone)]
pub struct FileReader {
    file: Arc<File>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl FileReader {
    #[must_use]
    pub fn new(file: Arc<File>) -> Self {
        Self { file, spare: Arc::default() }
    }

    /// Reads up to `length` bytes at `offset`; fewer only at the file's end.
    ///
    /// The first try asks the page cache alone (`RWF_NOWAIT`), which takes microseconds and blocks nobody; what is
    /// not there is read on a thread that may wait for the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut memory = self.spare.lock().pop().unwrap_or_default();
        if memory.len() < length {
            memory.resize(length, 0);
        }
        let mut piece = Piece { memory, length, spare: self.spare.clone() };
        let have = read_cached(&self.file, offset, &mut piece.memory[..length]);
        if have == length {
            return Ok(Bytes::from_owner(piece));
        }
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || {
            let rest = &mut piece.memory[have..length];
            piece.length = have + read_to_end(&file, offset + have as u64, rest)?;
            Ok(Bytes::from_owner(piece))
        })
        .await
        .map_err(io::Error::other)?
    }
}

/// Memory that was read into; it goes back when the last who holds it lets go.
struct Piece {
    memory: Vec<u8>,
    length: usize,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.spare.lock().push(std::mem::take(&mut self.memory));
    }
}

/// Reads one piece of a file, as [`FileReader::read`] does.
///
/// # Errors
/// What the disk says.
pub async fn read_file(file: Arc<File>, offset: u64, length: usize) -> io::Result<Bytes> {
    FileReader::new(file).read(offset, length).await
}

/// What the page cache has of it; 0 where the file system cannot tell.
fn read_cached(file: &File, offset: u64, buffer: &mut [u8]) -> usize {
    let mut have = 0;
    while have < buffer.len() {
        let slice = io::IoSliceMut::new(&mut buffer[have..]);
        match preadv2(file, &mut [slice], offset + have as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    have
}

fn read_to_end(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}
