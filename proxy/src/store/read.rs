//! Reading files by offset, without a thread where the page cache has the bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Reads up to `length` bytes at `offset`; fewer only at the file's end.
///
/// The first try asks the page cache alone (`RWF_NOWAIT`), which takes microseconds and blocks nobody; what is not
/// there is read on a thread that may wait for the disk.
///
/// # Errors
/// What the disk says.
pub async fn read_file(file: Arc<File>, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; length];
    let have = read_cached(&file, offset, &mut buffer);
    if have == length {
        return Ok(buffer.into());
    }
    tokio::task::spawn_blocking(move || {
        let more = read_to_end(&file, offset + have as u64, &mut buffer[have..])?;
        buffer.truncate(have + more);
        Ok(buffer.into())
    })
    .await
    .map_err(io::Error::other)?
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
