//! `check`: the problems of documents, each with its place.

use std::process::ExitCode;

use config::Severity;

use crate::args::Documents;
use crate::documents::{Settled, read, settle};

pub(super) fn run(documents: Documents) -> ExitCode {
    if documents.file.is_empty() {
        eprintln!("Name the documents: dependency-proxy check -f FILE_OR_FOLDER");
        return ExitCode::from(64);
    }
    let settled =
        settle(read(&documents.file), &Settled::nothing(), &crate::run::options(documents.instance));
    for problem in &settled.problems {
        println!("{problem}");
    }
    if let Some(config) = &settled.config {
        eprintln!(
            "{} groups and {} virtual registries can be served.",
            config.groups.len(),
            config.registries.len()
        );
    }
    let bad = settled.config.is_none()
        || settled.problems.iter().any(|problem| problem.severity == Severity::Error);
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
