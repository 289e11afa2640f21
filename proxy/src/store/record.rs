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
}
