//! One client's reading of a download in progress.

use std::io;

use bytes::Bytes;
use tokio::sync::watch;

use super::{Phase, Place, Progress};
use crate::store::read_file;

/// What a reader takes from the file at a time: two hundred slow ones then hold 13 MB.
const PIECE: u64 = 64 * 1024;

/// Reads a range of a blob as its bytes come in.
pub struct Reader {
    place: Place,
    progress: watch::Receiver<Progress>,
    at: u64,
    end: Option<u64>,
}

impl Reader {
    pub(super) fn new(place: Place, start: u64, end: Option<u64>) -> Self {
        place.cursor.moved(start);
        Self { progress: place.fill.progress.subscribe(), place, at: start, end }
    }

    /// The next piece; `None` at the end. An error must cut the client's connection.
    ///
    /// # Errors
    /// When the download failed, or the disk cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.end.is_some_and(|end| self.at >= end) {
            return Ok(None);
        }
        let end = self.end.unwrap_or(u64::MAX).min(self.readable().await?);
        if self.at >= end {
            return Ok(None);
        }
        // A chunk that is in memory is shared by all who read it: taking the rest of it costs nothing.
        let recent = self.place.cursor.read(self.at, end);
        let bytes = match recent {
            Some(bytes) => bytes,
            None => self.read_spooled(end).await?,
        };
        self.at += bytes.len() as u64;
        self.place.cursor.moved(self.at);
        Ok(Some(bytes))
    }

    /// Waits for a byte at the cursor, or for the end; how far it may read.
    async fn readable(&mut self) -> io::Result<u64> {
        let at = self.at;
        let ready = |p: &Progress| p.readable > at || matches!(p.phase, Phase::Proven | Phase::Failed(..));
        let progress = self.progress.wait_for(ready).await;
        let progress = progress.map_err(|_| io::Error::other("the download was aborted"))?;
        match &progress.phase {
            Phase::Failed(_, reason) if progress.readable <= at => Err(io::Error::other(reason.to_string())),
            _ => Ok(progress.readable),
        }
    }

    async fn read_spooled(&self, end: u64) -> io::Result<Bytes> {
        // What left the window without being in the file is lost for this reader.
        let slow = || {
            io::Error::new(io::ErrorKind::TimedOut, "the client is too slow for a download that is not kept")
        };
        let end = end.min(self.progress.borrow().spooled);
        let length = end.checked_sub(self.at).filter(|length| *length > 0).ok_or_else(slow)?;
        let file = self.place.fill.file.get().ok_or(io::ErrorKind::NotFound)?;
        let length = usize::try_from(length.min(PIECE)).map_err(io::Error::other)?;
        let bytes = read_file(file.clone(), self.at, length).await?;
        if bytes.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }
}
