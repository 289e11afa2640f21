//! The kinds that users write: API group `dependencyproxy.dev`, version `v1alpha1`.
//!
//! The same types are the custom resources of a cluster and the documents that `serve -f` reads. Bounds and
//! rules stand on the fields for the API server; the crate `config` checks the same ones where there is none.
//! Every string and list is bounded, because the API server refuses rules whose cost it cannot bound.

#![allow(unreachable_pub, reason = "KubeSchema repeats each struct, `pub` included, inside a function")]
#![allow(
    clippy::duplicated_attributes,
    reason = "columns are listed by one attribute, each with the same keys"
)]

mod definition;
mod dependency_proxy;
mod group;
mod pull_binding;
mod reference;
mod registry_upstream;
mod status;
mod virtual_registry;

pub use definition::definitions;
pub use dependency_proxy::*;
pub use group::{
    Cleanup, DependencyProxyCleanup, DependencyProxyGroup, DependencyProxyGroupSpec,
    DependencyProxyGroupStatus, DeployToken, Member, Quota, Role, Scope, Subject, SubjectKind,
    VirtualRegistryCleanup,
};
pub use pull_binding::{CiVariables, PullBinding, PullBindingSpec, PullBindingStatus};
pub use reference::{AllowedNamespaces, FromNamespaces, LocalReference, NamespacedReference};
pub use registry_upstream::{
    Action, RateLimit, RegistryUpstream, RegistryUpstreamSpec, RegistryUpstreamStatus, RepositoryRule,
    WhenRefused,
};
pub use status::Purged;
pub use virtual_registry::{VirtualRegistry, VirtualRegistrySpec, VirtualRegistryStatus};

/// The API group and version of every kind here.
pub const API_VERSION: &str = "dependencyproxy.dev/v1alpha1";
