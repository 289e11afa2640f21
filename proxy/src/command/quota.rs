//! `quota`: each upstream's limit and what remains.

use std::process::ExitCode;
use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::args::Documents;
use crate::clock::Clock;
use crate::documents::{Settled, read, settle};
use crate::metrics::Metrics;
use crate::quota::{Left, of_all};
use crate::upstream::Upstreams;

/// Docker Hub without an account, for who has no documents.
const DOCKER_HUB: &str = "{apiVersion: dependencyproxy.dev/v1alpha1, kind: DependencyProxyGroup, \
metadata: {name: default}, spec: {proxyRef: {name: default}, path: default}}";

pub(super) async fn run(documents: Documents) -> ExitCode {
    let found = if documents.file.is_empty() {
        let (documents, problems) = config::parse(DOCKER_HUB, "default", config::Origin::File);
        crate::documents::Read { documents, problems, fingerprint: String::new() }
    } else {
        read(&documents.file)
    };
    let settled = settle(found, &Settled::nothing(), &crate::run::options(documents.instance));
    for problem in &settled.problems {
        eprintln!("{problem}");
    }
    let Some(config) = settled.config else { return ExitCode::FAILURE };
    let metrics = Metrics::new(&mut Registry::default());
    let upstreams = Upstreams::new(metrics, Clock::system());
    let left = of_all(&Arc::clone(&config), &upstreams).await;
    println!("{:<40} {:>8} {:>10} {:>10}  SOURCE", "UPSTREAM", "LIMIT", "REMAINING", "WINDOW");
    for line in &left {
        println!("{}", row(line));
    }
    if left.iter().all(|line| line.observed_at.is_none() && line.note.is_some()) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn row(left: &Left) -> String {
    let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let window = left.window_seconds.map_or_else(|| "-".to_owned(), |s| format!("{s} s"));
    let source = left.source.as_deref().unwrap_or("-");
    let note = left.note.as_ref().map(|note| format!("  ({note})")).unwrap_or_default();
    format!(
        "{:<40} {:>8} {:>10} {:>10}  {source}{note}",
        left.upstream,
        number(left.limit),
        number(left.remaining),
        window
    )
}
