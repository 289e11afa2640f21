//! Why a document does not serve, in a word that a Kubernetes condition takes as its reason.

use std::fmt;

use crate::Kind;

/// Why a document, or a part of it, does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A field is missing, out of bounds, or contradicts another.
    InvalidSpec,
    /// An older group has the path, or its top-level segment.
    PathConflict,
    /// An older object has the name, or writes the object of that name.
    NameConflict,
    /// `spec.allowedGroups` of the DependencyProxy leaves the namespace out.
    NotAllowedByProxy,
    /// `spec.allowedConsumers` of the group leaves the namespace out.
    NotAllowedByGroup,
    /// `spec.allowedGroups` of the RegistryUpstream leaves the namespace out.
    NotAllowedByUpstream,
    /// There is no such DependencyProxy.
    ProxyNotFound,
    /// There is no such DependencyProxyGroup.
    GroupNotFound,
    /// There is no such VirtualRegistry.
    RegistryNotFound,
    /// There is no such RegistryUpstream.
    UpstreamNotFound,
    /// There is no such Secret.
    SecretNotFound,
    /// The Secret has not what it should have.
    InvalidSecret,
    /// There is no such ConfigMap.
    ConfigMapNotFound,
    /// The ConfigMap has not what it should have.
    InvalidConfigMap,
    /// What it refers to is there, and refused.
    DependencyNotReady,
    /// The top-level group has as many registries as it may have.
    TooManyRegistries,
    /// It comes later, or belongs to a newer version.
    Unsupported,
}

impl Reason {
    /// The name, which is a condition's reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSpec => "InvalidSpec",
            Self::PathConflict => "PathConflict",
            Self::NameConflict => "NameConflict",
            Self::NotAllowedByProxy => "NotAllowedByProxy",
            Self::NotAllowedByGroup => "NotAllowedByGroup",
            Self::NotAllowedByUpstream => "NotAllowedByUpstream",
            Self::ProxyNotFound => "ProxyNotFound",
            Self::GroupNotFound => "GroupNotFound",
            Self::RegistryNotFound => "RegistryNotFound",
            Self::UpstreamNotFound => "UpstreamNotFound",
            Self::SecretNotFound => "SecretNotFound",
            Self::InvalidSecret => "InvalidSecret",
            Self::ConfigMapNotFound => "ConfigMapNotFound",
            Self::InvalidConfigMap => "InvalidConfigMap",
            Self::DependencyNotReady => "DependencyNotReady",
            Self::TooManyRegistries => "TooManyRegistries",
            Self::Unsupported => "Unsupported",
        }
    }

    /// Whether somebody else's object no longer allows it: that holds at once, whatever was served before.
    #[must_use]
    pub const fn is_withdrawal(self) -> bool {
        matches!(self, Self::NotAllowedByProxy | Self::NotAllowedByGroup | Self::NotAllowedByUpstream)
    }

    /// That there is no object of that kind.
    pub(crate) const fn not_found(kind: Kind) -> Self {
        match kind {
            Kind::DependencyProxy => Self::ProxyNotFound,
            Kind::DependencyProxyGroup => Self::GroupNotFound,
            Kind::VirtualRegistry => Self::RegistryNotFound,
            Kind::RegistryUpstream => Self::UpstreamNotFound,
            Kind::Secret => Self::SecretNotFound,
            Kind::ConfigMap => Self::ConfigMapNotFound,
            // Nothing refers to them by name.
            Kind::PullBinding | Kind::Namespace => Self::DependencyNotReady,
        }
    }

    /// That an object of that kind says what it must not.
    pub(crate) const fn invalid(kind: Kind) -> Self {
        match kind {
            Kind::Secret => Self::InvalidSecret,
            Kind::ConfigMap => Self::InvalidConfigMap,
            _ => Self::InvalidSpec,
        }
    }

    /// Whether something that the object refers to is at fault (condition ResolvedRefs), rather than the object itself
    /// or what it is attached to (condition Accepted).
    #[must_use]
    pub const fn concerns_references(self) -> bool {
        match self {
            Self::InvalidSpec
            | Self::PathConflict
            | Self::NameConflict
            | Self::NotAllowedByProxy
            | Self::NotAllowedByGroup
            | Self::TooManyRegistries
            | Self::Unsupported => false,
            Self::NotAllowedByUpstream
            | Self::ProxyNotFound
            | Self::GroupNotFound
            | Self::RegistryNotFound
            | Self::UpstreamNotFound
            | Self::SecretNotFound
            | Self::InvalidSecret
            | Self::ConfigMapNotFound
            | Self::InvalidConfigMap
            | Self::DependencyNotReady => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
