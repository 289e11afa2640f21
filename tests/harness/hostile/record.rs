//! What was asked, in order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use tokio::sync::Notify;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub at: Instant,
}

impl Recorded {
    /// A header's text, if it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

#[derive(Default)]
pub(super) struct Log {
    requests: Mutex<Vec<Recorded>>,
    in_flight: AtomicUsize,
    changed: Notify,
}

impl Log {
    pub(super) fn add(&self, request: &http::request::Parts) {
        self.requests.lock().unwrap().push(Recorded {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            query: request.uri.query().map(str::to_owned),
            headers: request.headers.clone(),
            at: Instant::now(),
        });
        self.changed.notify_waiters();
    }

    pub(super) fn all(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn count(&self, predicate: impl Fn(&Recorded) -> bool) -> usize {
        self.requests.lock().unwrap().iter().filter(|r| predicate(r)).count()
    }

    pub(super) async fn wait_for(&self, n: usize, predicate: impl Fn(&Recorded) -> bool) {
        let enough = async {
            loop {
                let changed = self.changed.notified();
                if self.count(&predicate) >= n {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), enough).await.is_err() {
            let seen = self.all().iter().map(|r| format!("{} {}", r.method, r.path)).collect::<Vec<_>>();
            panic!("waited 10 s for {n} requests; upstream saw {seen:#?}");
        }
    }

    pub(super) fn clear(&self) {
        self.requests.lock().unwrap().clear();
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }
}

/// Counts a response from the request until its body has left or was given up.
pub(super) struct InFlight(std::sync::Arc<super::Registry>);

impl InFlight {
    pub(super) fn begin(registry: &std::sync::Arc<super::Registry>) -> Self {
        registry.log.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(registry.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.log.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
