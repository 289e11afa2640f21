//! Rules about the project itself: who may use whom, what its documents say of it, and the known advisories of its field.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod advisories;
mod boundaries;
mod documents;
mod readme;
mod security;
mod tree;
mod upstream_security;
