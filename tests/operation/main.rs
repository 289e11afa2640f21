//! Running the built program: its stores, what it shows, how it stops, what its commands answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

mod access_log;
mod check;
mod cleanup;
mod connections;
mod egress;
mod explain;
mod folder;
mod ground;
mod help;
mod metrics;
mod private_ca;
mod purge;
mod quota;
mod refusing;
mod s3;
mod s3_copies;
mod s3_outage;
mod scrub;
mod secrets;
mod standalone;
mod status;
mod stop;
mod tls;

const MIB: usize = 1024 * 1024;
