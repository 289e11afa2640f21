//! `cleanup`: brings the store within the bounds that the documents set, and tells what was freed.

use std::path::Path;
use std::process::ExitCode;

use config::{Config, Severity};
use jiff::SignedDuration;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::empty_folder;
use crate::args::Cleanup;
use crate::cleanup::{self, Options, Pace, Report};
use crate::clock::Clock;
use crate::documents::{Settled, read, settle};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::telemetry;

pub(super) async fn run(cleanup: Cleanup) -> ExitCode {
    if let Err(error) = telemetry::begin(&cleanup.log, cleanup.log_format) {
        eprintln!("--log {}: {error}", cleanup.log);
        return ExitCode::from(64);
    }
    let result = done(&cleanup).await;
    if let Some(file) = &cleanup.termination_log {
        let message = match &result {
            Ok(report) => report.message(),
            Err(error) => json!({"error": error}).to_string(),
        };
        if let Err(error) = std::fs::write(file, message) {
            eprintln!("--termination-log {}: {error}", file.display());
        }
    }
    match result {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn done(cleanup: &Cleanup) -> Result<Report, String> {
    let mut paths = cleanup.documents.file.clone();
    if paths.is_empty() {
        paths.push(cleanup.data_dir.join("default.yaml"));
    }
    let options = crate::run::options(cleanup.documents.instance.clone());
    let settled = settle(read(&paths), &Settled::nothing(), &options);
    for problem in &settled.problems {
        eprintln!("{problem}");
    }
    let config = settled.config.as_ref().ok_or("No document can be served: nothing is cleaned up.")?;
    let errors = settled.problems.iter().any(|problem| problem.severity == Severity::Error);
    let options = Options {
        dry_run: cleanup.dry_run,
        complete: !errors,
        verify: cleanup.verify.then(|| Pace {
            bytes_per_second: cleanup.verify_bytes_per_second,
            length: cleanup.verify_for.map(SignedDuration::unsigned_abs),
        }),
    };
    let folder = empty_folder(&cleanup.data_dir)?;
    let store = open(config, &cleanup.data_dir, folder.path()).map_err(|error| error.to_string())?;
    let report = cleanup::run(&store, config, options, &Clock::system()).await;
    report.map_err(|error| format!("{error}; what was done until then is done, and the next run goes on."))
}

/// The store itself, beside the proxies that use it; of a replica's local folder nothing is touched.
fn open(config: &Config, data_dir: &Path, empty: &Path) -> Result<Store, crate::store::Error> {
    let metrics = Metrics::new(&mut Registry::default());
    Store::look_into(&config.instance, data_dir, empty, metrics, Clock::system())
}
