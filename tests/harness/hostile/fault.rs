//! What goes wrong, for which requests, and how often.

use std::sync::Mutex;
use std::time::Duration;

use http::Method;
use tokio::sync::watch;

/// One thing that is wrong with a response. A rule may have several, as far as they make sense together.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing of the content: this status, with a body of ours. Add headers with [`Fault::Header`].
    Status(u16),
    /// The answer's head comes this much later.
    Delay(Duration),
    /// No answer, ever; the connection stays open.
    Hang,
    /// The connection is closed in place of an answer.
    Drop,
    /// The connection is closed after this many bytes of this response's body.
    Cut(u64),
    /// The body stands still after this many bytes until the gate is opened.
    Pause(u64, Gate),
    /// The body comes at this many bytes per second.
    Throttle(u64),
    /// The first byte of the body is another one.
    WrongByte,
    /// `Content-Length` differs from the body's length by this much. Where it announces more, the connection is
    /// closed at the body's end; where less, the body ends there.
    ContentLength(i64),
    /// The body comes chunked, without `Content-Length`.
    Chunked,
    /// After the content the body goes on for ever, chunked.
    Endless,
    /// The body is gzip, and says so.
    Gzip,
    /// No `Docker-Content-Digest`.
    NoDigest,
    /// This header is set, or replaced.
    Header(&'static str, String),
    /// 307 to this URL.
    Redirect(String),
    /// 307 to the same path, with a query that grows each time.
    RedirectLoop,
    /// Range requests are answered 200, with everything.
    IgnoreRange,
    /// HEAD is answered 405, as some registries do.
    NoHead,
    /// `tags/list` names ever more tags and a next page, for ever.
    EndlessTags,
}

/// Holds a paused body until it is opened. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets the body go on, and all later ones pass.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn passed(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A rule in the making; it holds once its faults are given.
pub struct RuleBuilder<'a> {
    faults: &'a Faults,
    pattern: String,
    method: Option<Method>,
    times: Option<u64>,
}

impl RuleBuilder<'_> {
    /// Only requests with this method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Only the next `n` matching requests; without it, all.
    #[must_use]
    pub fn times(mut self, n: u64) -> Self {
        self.times = Some(n);
        self
    }

    /// Makes the rule hold from now on.
    pub fn fault(self, fault: Fault) {
        self.faults([fault]);
    }

    /// Makes the rule hold from now on.
    pub fn faults<const N: usize>(self, faults: [Fault; N]) {
        let rule =
            Rule { pattern: self.pattern, method: self.method, left: self.times, faults: faults.to_vec() };
        self.faults.0.lock().unwrap().rules.push(rule);
    }
}

#[derive(Default)]
pub(super) struct Faults(Mutex<State>);

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    quota: Option<Quota>,
}

struct Rule {
    pattern: String,
    method: Option<Method>,
    left: Option<u64>,
    faults: Vec<Fault>,
}

/// Docker Hub's pull counter.
#[derive(Clone, Copy)]
pub(super) struct Quota {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    pub(super) window: u64,
}

impl Faults {
    pub(super) fn rule(&self, pattern: &str) -> RuleBuilder<'_> {
        RuleBuilder { faults: self, pattern: pattern.to_owned(), method: None, times: None }
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap().rules.clear();
    }

    /// The faults of this request; uses up one of the rule's times.
    pub(super) fn take(&self, method: &Method, path: &str) -> Vec<Fault> {
        let mut state = self.0.lock().unwrap();
        let matches = |r: &&mut Rule| {
            path.contains(&r.pattern) && r.method.as_ref().is_none_or(|m| m == method) && r.left != Some(0)
        };
        let Some(rule) = state.rules.iter_mut().find(matches) else { return Vec::new() };
        rule.left = rule.left.map(|n| n - 1);
        rule.faults.clone()
    }

    pub(super) fn quota(&self, limit: u64, remaining: u64, window: u64) {
        self.0.lock().unwrap().quota = Some(Quota { limit, remaining, window });
    }

    pub(super) fn remaining(&self) -> u64 {
        self.0.lock().unwrap().quota.map_or(0, |q| q.remaining)
    }

    /// The quota as it is after this request, and whether the request was within it.
    pub(super) fn spend(&self, costs: bool) -> Option<(Quota, bool)> {
        let mut state = self.0.lock().unwrap();
        let quota = state.quota.as_mut()?;
        let within = !costs || quota.remaining > 0;
        if costs {
            quota.remaining = quota.remaining.saturating_sub(1);
        }
        Some((*quota, within))
    }
}
