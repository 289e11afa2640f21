//! What is written down of a tag.

use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Serialize};

/// A tag as it was when upstream was last asked. Unknown fields of a newer version are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagRecord {
    pub digest: Digest,
    pub media_type: String,
    /// Bytes of the manifest.
    pub size: u64,
    /// When upstream last said that the tag is this.
    pub checked_at: Timestamp,
    /// The `checked_at` that is in the store: that in memory may be newer.
    #[serde(skip)]
    pub written_at: Timestamp,
}

impl TagRecord {
    /// What a tag is, as it was said just now.
    #[must_use]
    pub fn new(digest: Digest, media_type: String, size: u64, checked_at: Timestamp) -> Self {
        Self { digest, media_type, size, checked_at, written_at: checked_at }
    }
}
