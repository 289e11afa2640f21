//! One line in the log per request, and its metrics, when the last byte is out or the client has left.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};

use super::request::Head;
use crate::metrics::{DurationLabels, Kind, Metrics, Outcome, RequestLabels, ServedLabels, Source};

/// What handlers tell of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Note {
    pub group: Option<Arc<str>>,
    pub kind: Option<Kind>,
    pub outcome: Option<Outcome>,
    pub source: Option<Source>,
    pub caller: Option<String>,
    /// A cached copy that could not be checked.
    pub warning: bool,
}

impl Note {
    pub(super) fn served(&mut self, outcome: Outcome, source: Source) {
        self.outcome = Some(outcome);
        self.source = Some(source);
    }
}

/// The line of a request in progress.
pub(super) struct Line {
    id: String,
    method: Method,
    path: String,
    peer: SocketAddr,
    started: Instant,
}

impl Line {
    pub(super) fn begin(head: &Head, path: &str, peer: SocketAddr, started: Instant) -> Self {
        // Whatever the client sent, a line is a line.
        let path = path.chars().take(1024).flat_map(char::escape_default).collect();
        Self { id: head.id.clone(), method: head.method.clone(), path, peer, started }
    }

    /// Follows the answer to its last byte.
    pub(super) fn follow(self, response: Response, note: Note, metrics: &Metrics) -> Response {
        if let (Some(kind), Some(result)) = (note.kind, note.outcome) {
            let first = self.started.elapsed().as_secs_f64();
            metrics.first_byte.get_or_create(&DurationLabels { kind, result }).observe(first);
        }
        let (parts, body) = response.into_parts();
        let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let stated = length.and_then(|length| length.parse().ok()).or_else(|| body.size_hint().exact());
        let followed = Followed {
            body,
            sent: 0,
            expected: if self.method == Method::HEAD { Some(0) } else { stated },
            ended: false,
            line: self,
            note,
            status: parts.status,
            metrics: metrics.clone(),
        };
        Response::from_parts(parts, Body::new(followed))
    }
}

/// A body that is being sent.
struct Followed {
    body: Body,
    sent: u64,
    /// Bytes that the answer announced.
    expected: Option<u64>,
    ended: bool,
    line: Line,
    note: Note,
    status: StatusCode,
    metrics: Metrics,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Err(error))) => {
                tracing::warn!(request = %self.line.id, %error, "the connection is cut: the body failed");
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let took = self.line.started.elapsed();
        let note = &self.note;
        if let (Some(kind), Some(result)) = (note.kind, note.outcome) {
            let group = note.group.clone().unwrap_or_else(|| "".into());
            self.metrics.requests.get_or_create(&RequestLabels { group: group.clone(), kind, result }).inc();
            self.metrics
                .request_duration
                .get_or_create(&DurationLabels { kind, result })
                .observe(took.as_secs_f64());
            if let Some(source) = note.source {
                self.metrics
                    .served_bytes
                    .get_or_create(&ServedLabels { group, kind, source })
                    .inc_by(self.sent);
            }
        }
        tracing::info!(
            target: "access",
            request = %self.line.id,
            method = %self.line.method,
            path = %self.line.path,
            status = self.status.as_u16(),
            result = note.outcome.map(Outcome::as_str),
            stale = note.warning.then_some(true),
            bytes = self.sent,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            caller = note.caller.as_deref().map(|c| c.escape_default().to_string()),
            group = note.group.as_deref(),
            peer = %self.line.peer.ip(),
            // hyper asks no further when it has as many bytes as it announced.
            complete = self.ended || self.expected == Some(self.sent),
        );
    }
}
