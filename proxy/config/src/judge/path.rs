//! Paths of groups: who has them.

use std::collections::HashMap;

use oci::Name;

use super::report::Report;
use crate::{Document, ObjectId};

/// Segments that are part of other paths: `<group>/dependency_proxy/…` and `virtual_registries/…`.
const RESERVED: [&str; 2] = ["dependency_proxy", "virtual_registries"];
const MAX_SEGMENTS: usize = 20;

/// Whether a path can stand in image names; otherwise a problem says what is wrong.
pub(super) fn check(report: &mut Report<'_>, path: &str) -> bool {
    let message = if let Err(error) = Name::parse(path) {
        format!("must be lower-case segments such as team-a or team-a/child: {error}")
    } else if path.split('/').count() > MAX_SEGMENTS {
        "must have at most 20 segments".to_owned()
    } else if let Some(word) = path.split('/').find(|s| RESERVED.contains(s)) {
        format!("must not have the segment {word}, which is part of other paths; choose another")
    } else {
        return true;
    };
    report.error("spec.path", message);
    false
}

/// Why a group does not get its path; by group.
pub(super) fn conflicts<'a>(mut claims: Vec<(&'a Document, &'a str)>) -> HashMap<&'a ObjectId, String> {
    claims.sort_by_key(|(document, _)| document.age());
    let (mut owners, mut holders) = (HashMap::new(), HashMap::new());
    let mut conflicts = HashMap::new();
    for (document, path) in claims {
        let top = path.split('/').next().unwrap_or(path);
        let owner: &Document = owners.entry(top).or_insert(document);
        if owner.id.namespace != document.id.namespace {
            let message = format!(
                "{top} belongs to namespace {} since group {}; choose a path that begins otherwise",
                owner.id.namespace, owner.id
            );
            conflicts.insert(&document.id, message);
            continue;
        }
        let holder: &Document = holders.entry(path).or_insert(document);
        if holder.id != document.id {
            conflicts.insert(
                &document.id,
                format!("is the path of the older group {}; choose another", holder.id),
            );
        }
    }
    conflicts
}
