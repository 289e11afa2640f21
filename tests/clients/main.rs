//! Real clients pull real images through the proxy: through a group, and through a virtual registry.
//!
//! Each does the same journey: the first pull fills the cache, the second asks upstream for no blob, the third works
//! with the upstream registry stopped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

mod ground;
mod journeys;
mod sentences;
