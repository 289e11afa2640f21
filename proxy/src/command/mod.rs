//! What the command line can be told to do. The only place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to standard output")]

mod check;
mod cleanup;
mod explain;
mod freeze;
mod probe;
mod quota;
mod serve;
mod status;

use std::process::ExitCode;

use crate::args::{Arguments, Command};

/// Does what was asked for.
pub async fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Serve(serve) => serve::run(serve).await,
        Command::Check(documents) => check::run(documents),
        Command::Cleanup(cleanup) => cleanup::run(cleanup).await,
        Command::Explain(explain) => explain::run(explain).await,
        Command::Quota(documents) => quota::run(documents).await,
        Command::Probe(probe) => probe::run(probe).await,
        Command::Status(status) => status::run(status).await,
        Command::Freeze(freeze) => freeze::run(freeze).await,
    }
}

/// What was wrong, without the layers around it.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
