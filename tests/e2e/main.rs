//! Real nodes: what kubelet and containerd make of it.
//!
//! One cluster is started for all tests (`harness::cluster`); it takes root. With `KUBECONFIG` set, it is the user's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

mod continuity;
mod examples;
mod faults;
mod gitlab;
mod ground;
mod installation;
mod kubelet;
mod lifecycle;
mod load;
mod roles;
mod runner;
mod store;
mod tls;
