//! Real clients pull real images through the proxy: through a group, and through a virtual registry.
//!
//! Each does the same journey: the first pull fills the cache, the second works with the upstream registry stopped, the
//! third asks it for no blob.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

mod ground;
mod journeys;
mod sentences;
