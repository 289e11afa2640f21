//! Real nodes: what kubelet and containerd make of it.
//!
//! One cluster is started for all tests (`harness::cluster`); it takes root. With `KUBECONFIG` set, it is the user's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

/// Prints a figure. Not eprintln: the output of a test that passes is hidden, and figures must be seen.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

mod continuity;
mod examples;
mod faults;
mod ground;
mod installation;
mod kubelet;
mod lifecycle;
mod load;
