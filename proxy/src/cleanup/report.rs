//! What a cleanup did, for people, for the operator (the Job's termination message) and for the store's record.

use std::fmt;

use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Serialize};

/// Groups that are listed: those with the most bytes.
const GROUPS: usize = 20;
/// Damaged blobs that are listed.
const DAMAGED: usize = 20;
/// What Kubernetes keeps of a termination message.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// What was done, or, of a dry run, what would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub dry_run: bool,
    pub blobs: Blobs,
    pub links: Records,
    pub tags: Records,
    /// Bytes that groups have a right to, the most first, at most 20 groups. A blob counts in each of its groups.
    pub groups: Vec<GroupBytes>,
    /// Of `--verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blobs {
    pub examined: u64,
    pub deleted: u64,
    /// What deleting them freed, in bytes.
    pub bytes: u64,
    /// Blobs that have lost their last right; a later run deletes them.
    pub condemned: u64,
    pub condemned_bytes: u64,
    /// What is in the store afterwards.
    pub kept_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Records {
    pub examined: u64,
    pub deleted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupBytes {
    /// `namespace/name`.
    pub group: String,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verified {
    pub blobs: u64,
    pub bytes: u64,
    /// Whether it ended before the last blob: the next run goes on from there.
    pub unfinished: bool,
    /// How many did not have their digest; they were deleted, and are fetched again when they are pulled.
    pub damaged: u64,
    /// How many the store does not give, such as archived ones; the log has their digests.
    pub unreadable: u64,
    /// At most 20 of them.
    pub digests: Vec<Digest>,
}

impl Report {
    /// Lists the groups with the most bytes.
    pub(super) fn list(&mut self, groups: impl Iterator<Item = (String, u64)>) {
        let mut groups: Vec<_> = groups.map(|(group, bytes)| GroupBytes { group, bytes }).collect();
        groups.sort_by(|one, other| (other.bytes, &one.group).cmp(&(one.bytes, &other.group)));
        groups.truncate(GROUPS);
        self.groups = groups;
    }

    /// As JSON that fits into a termination message: of lists that are too long the end is left out.
    #[must_use]
    pub fn message(&self) -> String {
        let mut short = self.clone();
        loop {
            let text = serde_json::to_string(&short).unwrap_or_default();
            let digests = short.verified.as_mut().map(|verified| &mut verified.digests);
            let shortened = text.len() > MAX_MESSAGE_BYTES
                && (short.groups.pop().is_some() || digests.is_some_and(|digests| digests.pop().is_some()));
            if !shortened {
                return text;
            }
        }
    }
}

impl Verified {
    pub(super) fn note_damaged(&mut self, digest: Digest) {
        self.damaged += 1;
        if self.digests.len() < DAMAGED {
            self.digests.push(digest);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blobs, links, tags, .. } = self;
        let would = if self.dry_run { "would be " } else { "" };
        writeln!(
            f,
            "examined   {} blobs, {} rights to them, {} tags",
            blobs.examined, links.examined, tags.examined
        )?;
        writeln!(f, "{would}forgotten  {} rights, {} tags", links.deleted, tags.deleted)?;
        writeln!(f, "{would}deleted    {} blobs, {} bytes", blobs.deleted, blobs.bytes)?;
        writeln!(
            f,
            "{would}left to a later run  {} blobs, {} bytes, to which nobody has a right any more",
            blobs.condemned, blobs.condemned_bytes
        )?;
        writeln!(f, "kept       {} bytes", blobs.kept_bytes)?;
        for GroupBytes { group, bytes } in &self.groups {
            writeln!(f, "group      {group}: {bytes} bytes")?;
        }
        if let Some(verified) = &self.verified {
            let rest = if verified.unfinished { "; the next run goes on from there" } else { "" };
            writeln!(
                f,
                "verified   {} blobs, {} bytes; {} damaged, {} not readable{rest}",
                verified.blobs, verified.bytes, verified.damaged, verified.unreadable
            )?;
            for digest in &verified.digests {
                writeln!(f, "damaged    {digest}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_fits_whatever_groups_are_called() {
        let mut report = Report::default();
        let name = "n".repeat(300);
        report.list((0..50).map(|number| (format!("{name}/{number}"), number)));
        assert_eq!(report.groups.first().map(|group| group.bytes), Some(49), "the most first");
        assert_eq!(report.groups.len(), GROUPS);
        let message = report.message();
        assert!(message.len() <= MAX_MESSAGE_BYTES, "{}", message.len());
        let back = serde_json::from_str::<Report>(&message);
        assert!(back.is_ok_and(|back| back.groups.len() > 5 && back.blobs == report.blobs));
    }
}
