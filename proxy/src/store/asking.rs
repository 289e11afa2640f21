//! Asking the object store: every operation is bounded in time, counted, and left out for a moment after an outage.
//!
//! A pull asks the store several times. Where the store is away or hangs, it would wait for each of them; so the first
//! failure silences a shared store for a while, and pulls go on with what memory, folder and upstream have.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::Error;
use crate::clock::{Clock, later};
use crate::metrics::Metrics;

/// For the answer to one operation.
const ANSWER: Duration = Duration::from_secs(3);
/// The slowest upload that is waited for: a mebibyte in each second beyond the answer.
const SLOWEST: u64 = 1024 * 1024;
/// How long a store that failed is left alone.
const REST: Duration = Duration::from_secs(5);

/// What is known of the store's health.
pub(super) struct Asking {
    /// A local folder is not left alone: nothing else has what is in it.
    shared: bool,
    rests_until: Mutex<Option<Timestamp>>,
    metrics: Metrics,
    clock: Clock,
}

impl Asking {
    pub(super) fn new(shared: bool, metrics: Metrics, clock: Clock) -> Self {
        Self { shared, rests_until: Mutex::new(None), metrics, clock }
    }

    /// Asks, with a limit for the answer.
    pub(super) async fn ask<T>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.ask_within(ANSWER, operation, asked).await
    }

    /// Sends so many bytes.
    pub(super) async fn send<T>(
        &self,
        bytes: u64,
        operation: &'static str,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.ask_within(ANSWER + Duration::from_secs(bytes / SLOWEST), operation, asked).await
    }

    async fn ask_within<T>(
        &self,
        limit: Duration,
        operation: &'static str,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if self.rests() {
            return Err(Error::Resting);
        }
        let started = Instant::now();
        let answer = tokio::time::timeout(limit, asked).await.unwrap_or(Err(Error::Timeout(limit)));
        self.metrics.store_operation(operation, answer.is_err(), started.elapsed());
        if self.shared && answer.as_ref().is_err_and(is_outage) {
            *self.rests_until.lock() = Some(later(self.clock.now(), REST));
        }
        answer
    }

    fn rests(&self) -> bool {
        self.rests_until.lock().is_some_and(|until| self.clock.now() < until)
    }
}

/// Whether the store as a whole is in trouble: a refusal concerns one operation, and comes at once.
fn is_outage(error: &Error) -> bool {
    match error {
        Error::Timeout(_) => true,
        Error::Objects(error) => matches!(**error, object_store::Error::Generic { .. }),
        Error::Folder(_) | Error::Resting => false,
    }
}
