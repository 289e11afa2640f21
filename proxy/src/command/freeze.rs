//! `freeze`: nothing is asked of an upstream for a while.

use std::process::ExitCode;

use super::put;
use crate::args::Freeze;

pub(super) async fn run(freeze: Freeze) -> ExitCode {
    let seconds = freeze.length.as_secs().to_string();
    let pairs = [("upstream", freeze.upstream.as_str()), ("seconds", seconds.as_str())];
    put(&freeze.admin, "/freeze", pairs.into_iter()).await
}
