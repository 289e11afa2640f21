//! Several replicas on one bucket behave as one cache, also when one of them, the bucket or the upstream fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

mod checks;
mod cleanup;
mod crowd;
mod disk;
mod each_answer;
mod faults;
mod knowledge;
mod new_replica;
mod roll;
mod sharing;
mod store;
mod time;

const MIB: usize = 1024 * 1024;
