//! What is wrong with a document, where, and what to do.

use std::fmt;

use crate::{ObjectId, Reason};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The document serves; someone should look.
    Warning,
    /// The document, or the named part of it, does not serve.
    Error,
}

/// One thing that is wrong. Never carries a secret or a credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    pub severity: Severity,
    pub reason: Reason,
    /// `None` where no document is at fault, such as an instance that is not there.
    pub file: Option<String>,
    /// From 1: the field's line where it was found, else the first line of the document.
    pub line: Option<usize>,
    /// The kind as written, or `Document` where there is none.
    pub kind: String,
    pub object: Option<ObjectId>,
    /// Such as `spec.rules[2].repository`; empty where the document as a whole is meant.
    pub field: String,
    /// What to do.
    pub message: String,
}

impl Problem {
    /// The same for another reason.
    pub(crate) fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }
}

/// `file:line Kind namespace/name field: what to do`, without the parts that are not known.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line} ")?,
            (Some(file), None) => write!(f, "{file} ")?,
            _ => {}
        }
        f.write_str(&self.kind)?;
        match &self.object {
            Some(object) if object.namespace.is_empty() => write!(f, " {}", object.name)?,
            Some(object) => write!(f, " {object}")?,
            None => {}
        }
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}
