//! Response bodies that stop, stand still or crawl.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::fault::{Fault, Gate};
use super::record::InFlight;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How much is handed to the connection at once.
const PIECE: u64 = 16 * 1024;

/// The content, as the faults have it arrive.
pub(super) fn body(content: Bytes, faults: &[Fault], in_flight: InFlight) -> Body {
    let mut writer = Writer {
        content,
        sent: 0,
        cut: None,
        pause: None,
        rate: None,
        endless: false,
        _in_flight: in_flight,
    };
    for fault in faults {
        match fault {
            Fault::Cut(at) => writer.cut = Some(*at),
            // The same as leaving it to the connection, but what there is arrives first.
            Fault::ContentLength(1..) => writer.cut = Some(writer.content.len() as u64),
            Fault::Pause(at, gate) => writer.pause = Some((*at, gate.clone())),
            Fault::Throttle(rate) => writer.rate = Some((*rate).max(1)),
            Fault::Endless => writer.endless = true,
            _ => {}
        }
    }
    let pieces = stream::unfold(Some(writer), |writer| async move {
        let mut writer = writer?;
        match writer.next().await {
            Some(Ok(bytes)) => Some((Ok(Frame::data(bytes)), Some(writer))),
            // The connection ends with the error; nothing comes after it.
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

struct Writer {
    content: Bytes,
    sent: u64,
    cut: Option<u64>,
    pause: Option<(u64, Gate)>,
    rate: Option<u64>,
    endless: bool,
    _in_flight: InFlight,
}

impl Writer {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some((at, gate)) = &self.pause
            && self.sent >= *at
        {
            gate.passed().await;
            self.pause = None;
        }
        if self.cut.is_some_and(|at| self.sent >= at) {
            // An error discards what the connection has not written yet; the bytes before the cut shall arrive.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Some(Err(io::Error::other("cut on request")));
        }
        if self.content.is_empty() && self.endless {
            self.content = Bytes::from_static(&[b'x'; PIECE as usize]);
        }
        if self.content.is_empty() {
            return None;
        }
        let piece = self.content.split_to(self.piece_length());
        if let Some(rate) = self.rate {
            tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
        }
        self.sent += piece.len() as u64;
        Some(Ok(piece))
    }

    /// Up to the next place where something happens.
    fn piece_length(&self) -> usize {
        let stops = [self.cut, self.pause.as_ref().map(|(at, _)| *at)];
        let until = stops.into_iter().flatten().filter(|at| *at > self.sent).map(|at| at - self.sent).min();
        let slice = self.rate.map_or(PIECE, |rate| (rate / 50).clamp(1, PIECE));
        let length = slice.min(until.unwrap_or(PIECE)).min(self.content.len() as u64);
        usize::try_from(length).unwrap_or(usize::MAX)
    }
}
