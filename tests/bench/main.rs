//! `make bench`: every figure that the project promises, measured in one run on this machine, beside the one asked for.
//!
//! The proxy is the release binary as a process of its own, unless time has to be moved by hand; upstream is
//! distribution v3, and so is the proxy it is compared with. A figure that is missed does not fail the run: on a busy
//! machine that says nothing, and the table shows it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement ends where its ground is missing"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]

mod checks;
mod cold;
mod connection;
mod figure;
mod freshness;
mod ground;
mod limited;
mod memory;
mod new_replica;
mod outage;
mod rendezvous;
mod replicas;
mod sweep;
mod warm;

use std::time::Instant;

use figure::Figure;

const MIB: usize = 1024 * 1024;

/// What `make bench ARGS=name` may name, in the order of the table.
const NAMES: [&str; 16] = [
    "single-flight",
    "limited",
    "unlimited",
    "memory",
    "freshness",
    "warm",
    "cut",
    "stopped",
    "hanging",
    "shared",
    "killed",
    "day",
    "first-byte",
    "new-replica",
    "sweep",
    "checks",
];

#[tokio::main]
async fn main() {
    // `cargo bench` passes `--bench`.
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = wanted.iter().find(|name| !NAMES.contains(&name.as_str())) {
        eprintln!("There is no figure {unknown}. There are: {}", NAMES.join(", "));
        std::process::exit(64);
    }
    let mut figures = Vec::new();
    for name in NAMES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let began = Instant::now();
            figures.extend(measure(name).await);
            eprintln!("{name}: measured in {:.0} s", began.elapsed().as_secs_f64());
        }
    }
    print!("{}", figure::table(&figures));
}

async fn measure(name: &str) -> Vec<Figure> {
    match name {
        "single-flight" => vec![cold::single_flight().await],
        "limited" => cold::limited().await,
        "unlimited" => vec![cold::unlimited().await],
        "memory" => vec![memory::memory().await],
        "freshness" => vec![freshness::node_latest().await],
        "warm" => warm::warm().await,
        "cut" => vec![outage::cut().await],
        "stopped" => vec![outage::stopped().await],
        "hanging" => vec![outage::hanging().await],
        "shared" => vec![replicas::shared().await],
        "killed" => vec![replicas::killed().await],
        "day" => vec![replicas::a_day().await],
        "first-byte" => replicas::first_byte().await,
        "new-replica" => new_replica::first_pull().await,
        "sweep" => vec![sweep::sweep().await],
        "checks" => checks::checks().await,
        _ => Vec::new(),
    }
}
