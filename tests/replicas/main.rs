//! Several replicas on one bucket behave as one cache, also when one of them, the bucket or the upstream fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

mod faults;
mod knowledge;
mod sharing;
mod store;
mod time;

const MIB: usize = 1024 * 1024;
