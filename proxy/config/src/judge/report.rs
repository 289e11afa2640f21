//! The problems of one document while it is judged, and the checks that several kinds share.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use crate::{Document, Problem, Reason, Severity};

pub(super) struct Report<'a> {
    document: &'a Document,
    pub(super) problems: Vec<Problem>,
    refused: bool,
}

impl<'a> Report<'a> {
    pub(super) fn of(document: &'a Document) -> Self {
        Self { document, problems: Vec::new(), refused: false }
    }

    /// Something in the document's own text because of which it does not serve.
    pub(super) fn error(&mut self, field: &str, message: impl Into<String>) {
        self.error_for(Reason::InvalidSpec, field, message);
    }

    /// Something because of which the document does not serve.
    pub(super) fn error_for(&mut self, reason: Reason, field: &str, message: impl Into<String>) {
        self.fault_for(reason, field, message);
        self.refused = true;
    }

    /// Something in the document's own text because of which a part of it does not serve.
    pub(super) fn fault(&mut self, field: &str, message: impl Into<String>) {
        self.fault_for(Reason::InvalidSpec, field, message);
    }

    /// Something because of which a part of the document does not serve.
    pub(super) fn fault_for(&mut self, reason: Reason, field: &str, message: impl Into<String>) {
        self.problems.push(self.document.problem(Severity::Error, field, message).because(reason));
    }

    /// The part that a fault concerns is one without which the document cannot serve.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Hands the problems over; the value counts unless the document is refused.
    pub(super) fn close<T>(self, value: Option<T>, problems: &mut Vec<Problem>) -> Option<T> {
        problems.extend(self.problems);
        value.filter(|_| !self.refused)
    }

    pub(super) fn check(&mut self, holds: bool, field: &str, message: &str) {
        if !holds {
            self.error(field, message);
        }
    }

    /// A whole number within bounds.
    pub(super) fn within(&mut self, field: &str, value: i64, bounds: RangeInclusive<i64>) {
        if !bounds.contains(&value) {
            self.error(field, format!("must be {} to {}", bounds.start(), bounds.end()));
        }
    }

    /// A text within bounds, in characters.
    pub(super) fn length(&mut self, field: &str, text: &str, bounds: RangeInclusive<usize>) {
        if !bounds.contains(&text.chars().count()) {
            self.error(field, format!("must have {} to {} characters", bounds.start(), bounds.end()));
        }
    }

    /// The name of an object.
    pub(super) fn name(&mut self, field: &str, text: &str) {
        if !is_object_name(text) {
            self.error(field, "must be a name: 1 to 253 lower-case letters, digits, '-' and '.'");
        }
    }

    /// A list within bounds.
    pub(super) fn count(&mut self, field: &str, length: usize, bounds: RangeInclusive<usize>) {
        if !bounds.contains(&length) {
            self.error(field, format!("must have {} to {} entries", bounds.start(), bounds.end()));
        }
    }

    /// Entries that must differ in one field, such as the name.
    pub(super) fn unique<'b>(&mut self, list: &str, field: &str, keys: impl Iterator<Item = &'b str>) {
        let mut seen = HashSet::new();
        for (index, key) in keys.enumerate() {
            if !seen.insert(key) {
                let dot = if field.is_empty() { "" } else { "." };
                self.error(
                    &format!("{list}[{index}]{dot}{field}"),
                    "is in the list already; each may be there once",
                );
            }
        }
    }
}

/// Whether an object of Kubernetes may have this name; no other is ever part of a path.
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_part = |part: &str| {
        !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && part.bytes().all(is_inner)
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::is_object_name;

    #[test]
    fn a_name_is_nothing_that_leads_elsewhere_in_a_path() {
        assert!(["a", "pull-secret.team-a", "0"].iter().all(|name| is_object_name(name)));
        let others = ["", "A", "a b", "a/b", "..", "a..b", "a?dryRun=All", "-a", "a-", "%2e"];
        assert!(!others.iter().any(|name| is_object_name(name)));
    }
}
