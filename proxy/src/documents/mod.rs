//! Documents on disk: reading them, judging them, and taking changes while requests run.

mod folder;
mod settle;
mod standalone;
mod watch;

pub use folder::{Read, read};
pub use settle::{Settled, settle};
pub use standalone::{Standalone, standalone};
pub(crate) use watch::report;
pub use watch::watch;
