//! What a store could not do.

use std::sync::Arc;
use std::time::Duration;

/// Failures of an object store by which people are told what to mend. An object that is not there is no failure: this is
/// the bucket.
pub(super) const NOT_FOUND: &str = "not found";
pub(super) const DENIED: &str = "permission denied";
pub(super) const UNAUTHENTICATED: &str = "the credentials were refused";
const UNUSABLE: &str = "no usable answer";

/// The store could not do it. Never "not there": that is `None`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Only the kind of failure: an object store repeats parts of our signed request in its errors.
    #[error("the object store failed: {0}")]
    Objects(&'static str),
    #[error("the object store gave no answer in {} s", .0.as_secs_f64())]
    Slow(Duration),
    #[error("the object store failed a moment ago")]
    Resting,
    #[error("the local folder failed: {0}")]
    Folder(Arc<std::io::Error>),
    /// A cleanup merges listings.
    #[error("the object store does not list keys in order, which a cleanup relies on")]
    Unordered,
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Folder(Arc::new(error))
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        Self::Objects(match error {
            E::NotFound { .. } => NOT_FOUND,
            E::PermissionDenied { .. } => DENIED,
            E::Unauthenticated { .. } => UNAUTHENTICATED,
            E::Precondition { .. } | E::AlreadyExists { .. } => "somebody else was first",
            E::InvalidPath { .. } => "the path is refused",
            // A listing that S3 refuses comes without a kind.
            E::Generic { source, .. } => by_code(&format!("{source:?}")),
            _ => UNUSABLE,
        })
    }
}

/// The kind of a failure by S3's code in the answer (Amazon S3 API reference, "Error responses").
fn by_code(answer: &str) -> &'static str {
    let any = |codes: &[&str]| codes.iter().any(|code| answer.contains(code));
    if any(&["NoSuchBucket"]) {
        NOT_FOUND
    } else if any(&["AccessDenied", "AllAccessDisabled"]) {
        DENIED
    } else if any(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"]) {
        UNAUTHENTICATED
    } else {
        UNUSABLE
    }
}
