//! The operator: documents of a cluster -> proxy pods that serve them.
//!
//! [`watch`] sees, [`world`] understands (pure but for reading Secrets), one controller per kind acts and says in the
//! object's status what is true.

pub mod admin;
pub mod apply;
pub mod args;
pub mod binding;
pub mod condition;
pub mod context;
pub mod drive;
pub mod event;
pub mod group;
pub mod instance;
pub mod lease;
pub mod metrics;
pub mod optional;
pub mod pods;
pub mod purge;
pub mod registry;
pub mod run;
pub mod upstream;
pub mod verdict;
pub mod watch;
pub mod world;

pub use args::{Arguments, Format};
pub use run::{StartError, run};
