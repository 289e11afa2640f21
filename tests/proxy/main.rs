//! The proxy at the wire: what must always hold (ARCHITECTURE.md), one behaviour per file, against a registry that
//! misbehaves on request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod auth;
mod bad_input;
mod bindings;
mod chaos;
mod corrupt;
mod documents;
mod fallback;
mod freshness;
mod hostile_upstream;
mod limits;
mod lists;
mod names;
mod purge;
mod resume;
mod rights;
mod second_port;
mod secrets;
mod single_flight;
mod stale;
mod unaltered;

const MIB: usize = 1024 * 1024;
