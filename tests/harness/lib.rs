//! What tests need beside the product: real registries, stores and clients, the product as a process and in this one.
//!
//! Everything starts on free ports in temporary folders and ends with its owner, so tests run side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

pub mod api_server;
pub mod balancer;
pub mod blob;
pub mod client;
pub mod cluster;
pub mod documents;
pub mod egress;
pub mod hostile;
pub mod image;
pub mod kubectl;
pub mod operator;
pub mod process;
pub mod proxy;
pub mod pull;
mod reaper;
pub mod registry;
pub mod replicas;
pub mod repository;
pub mod s3;
pub mod server;
pub mod tool;
pub mod way;

/// Prints a figure. Not `eprintln`: the output of a test that passes is hidden, and figures must be seen.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}
