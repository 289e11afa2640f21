//! What the command line can be told to do. The only place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to standard output")]

mod check;
mod cleanup;
mod explain;
mod probe;
mod quota;
mod serve;

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
    }
}
