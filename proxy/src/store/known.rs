//! What the store was last seen to be: for people and for an operator's conditions.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::Error;

/// An operation that says something of the store as a whole, and when.
#[derive(Clone)]
pub(super) struct Seen {
    at: Instant,
    result: Result<(), Error>,
}

impl Seen {
    pub(super) fn now(result: Result<(), Error>) -> Self {
        Self { at: Instant::now(), result }
    }

    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

/// What is known of the store. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// `None`: nobody has asked it yet.
    pub reachable: Option<bool>,
    /// A word that a condition takes as its reason.
    pub reason: &'static str,
    pub message: String,
}

impl From<Option<Seen>> for Known {
    fn from(seen: Option<Seen>) -> Self {
        let (reachable, reason, message) = match seen.map(|seen| seen.result) {
            None => (None, "NotAsked", "Nobody has asked the store yet.".to_owned()),
            Some(Ok(())) => (Some(true), "Reachable", "The store answers.".to_owned()),
            Some(Err(error)) => (Some(false), word(&error), format!("{error}.")),
        };
        Self { reachable, reason, message }
    }
}

fn word(error: &Error) -> &'static str {
    match error {
        Error::Objects(super::error::NOT_FOUND) => "BucketNotFound",
        Error::Objects(super::error::DENIED | super::error::UNAUTHENTICATED) => "AccessDenied",
        Error::Objects(_) => "Unreachable",
        Error::Slow(_) => "Timeout",
        Error::Resting | Error::Folder(_) | Error::Unordered => "Failed",
    }
}
