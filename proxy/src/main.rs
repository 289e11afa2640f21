//! The binary: parse the arguments, run.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = proxy::args::Arguments::parse();
    Box::pin(proxy::command::run(arguments)).await
}
