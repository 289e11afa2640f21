//! What the command line can be told to do. The only place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to standard output")]

mod check;
mod cleanup;
mod explain;
mod freeze;
mod probe;
mod purge;
mod quota;
mod serve;
mod status;

use std::path::Path;
use std::process::ExitCode;

use tempfile::TempDir;

use crate::args::{Admin, Arguments, Command};

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
        Command::Purge(purge) => purge::run(purge).await,
    }
}

/// Tells a running proxy to do something, and prints what it answers.
async fn put<'p>(admin: &Admin, path: &str, pairs: impl Iterator<Item = (&'p str, &'p str)>) -> ExitCode {
    let told = async {
        let mut url = admin.url.join(path).map_err(|error| error.to_string())?;
        url.query_pairs_mut().extend_pairs(pairs);
        let response = status::client()?.put(url).send().await.map_err(|error| innermost(&error))?;
        let is_done = response.status().is_success();
        let text = response.text().await.map_err(|error| innermost(&error))?;
        if is_done { Ok(text) } else { Err(text) }
    };
    match told.await {
        Ok(answer) => {
            print!("{answer}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{}: {}", admin.url, why.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// A folder for a command that looks into the store and keeps no blobs; it goes when this is dropped. A pod has no other
/// place to write to than the proxy's own folder.
fn empty_folder(data_dir: &Path) -> Result<TempDir, String> {
    let made = if data_dir.is_dir() { tempfile::tempdir_in(data_dir) } else { tempfile::tempdir() };
    made.map_err(|error| format!("no place for an empty folder: {error}"))
}

/// What was wrong, without the layers around it.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
