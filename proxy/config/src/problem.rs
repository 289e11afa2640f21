//! What is wrong with a document, where, and what to do.

use std::fmt;

use crate::{Kind, ObjectId};

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
    /// The same in a word, for machines.
    pub reason: Reason,
}

/// Why a document, or a part of it, does not serve. The names are the reasons of Kubernetes conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    InvalidSpec,
    InvalidSecret,
    InvalidConfigMap,
    Unsupported,
    /// Another document has the name.
    NameConflict,
    /// An older group has the path, or another namespace the path's first segment.
    PathConflict,
    TooManyRegistries,
    NotAllowedByProxy,
    NotAllowedByGroup,
    NotAllowedByUpstream,
    ProxyNotFound,
    GroupNotFound,
    RegistryNotFound,
    UpstreamNotFound,
    SecretNotFound,
    ConfigMapNotFound,
    /// It refers to a document that is refused itself.
    DependencyNotReady,
}

impl Reason {
    /// Whether something that the document refers to is at fault, and not the document.
    #[must_use]
    pub fn concerns_references(self) -> bool {
        matches!(
            self,
            Self::GroupNotFound
                | Self::RegistryNotFound
                | Self::UpstreamNotFound
                | Self::SecretNotFound
                | Self::ConfigMapNotFound
                | Self::DependencyNotReady
                | Self::NotAllowedByUpstream
        )
    }

    /// What is usually wrong with a document of a kind.
    pub(crate) fn usual(kind: &str) -> Self {
        match kind {
            "Secret" => Self::InvalidSecret,
            "ConfigMap" => Self::InvalidConfigMap,
            _ => Self::InvalidSpec,
        }
    }

    /// There is no document of a kind under a name.
    pub(crate) fn missing(kind: Kind) -> Self {
        match kind {
            Kind::DependencyProxy => Self::ProxyNotFound,
            Kind::DependencyProxyGroup => Self::GroupNotFound,
            Kind::VirtualRegistry => Self::RegistryNotFound,
            Kind::RegistryUpstream => Self::UpstreamNotFound,
            Kind::ConfigMap => Self::ConfigMapNotFound,
            Kind::Secret | Kind::PullBinding | Kind::Namespace => Self::SecretNotFound,
        }
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
