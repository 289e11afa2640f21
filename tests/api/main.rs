//! What a real API server makes of the definitions, and the operator of objects: no nodes, so no pod runs.
//!
//! One API server is started for all tests; each test has a namespace of its own. With `KUBECONFIG` set, it is the
//! user's cluster, in which no operator may run: it would write the statuses that these tests write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

mod bindings;
mod cases;
mod chart;
mod cleanup;
mod conditions;
mod crds;
mod exposure;
mod ground;
mod instance;
mod last_good;
mod leader;
mod pod;
mod purge;
mod relay;
mod rights;
mod rules;
mod scale;
mod stage;
mod starting;
mod switches;
mod trouble;
