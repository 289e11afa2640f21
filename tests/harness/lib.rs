//! What tests stand on: registries, proxies and clients, all in this process or started by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A harness fails the test that uses it.

pub mod pull;
pub mod documents;
pub mod hostile;
