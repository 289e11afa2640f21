//! What is in the cache already.

use std::process::Command;

use harness::blob::Blob;
use harness::image::Image;
use harness::registry::Registry;
use harness::tool;

use crate::MIB;
use crate::connection::{Target, fetch};
use crate::figure::Figure;
use crate::ground::{Ours, REPOSITORY, open_target};

/// How one server is asked, and the other in the same way.
struct Load {
    threads: u32,
    connections: u32,
    seconds: u32,
}

const MANIFESTS: Load = Load { threads: 1, connections: 16, seconds: 2 };
const BLOBS: Load = Load { threads: 1, connections: 4, seconds: 3 };
/// They take turns: what else runs on the machine meets both.
const ROUNDS: usize = 5;

/// Requests per second against the competing proxy, which checks no token.
pub(crate) async fn warm() -> Vec<Figure> {
    let blob = Blob::random(64 * MIB);
    let origin = Registry::start().await;
    origin.repository(REPOSITORY).push_blob(&blob).await;
    origin.repository(REPOSITORY).push(&Image::oci(), "1").await;
    let ours = Ours::before(&origin.host()).await;
    let theirs = Registry::new().as_proxy_of(&origin.url()).started().await;
    let mut figures = Vec::new();
    for (rest, load) in [("manifests/1", &MANIFESTS), (&format!("blobs/{}", blob.digest), &BLOBS)] {
        let target = ours.target(&ours.registry(), rest).await;
        let their_target = open_target(&theirs.host(), rest);
        for target in [&target, &their_target] {
            fetch(target).await;
        }
        let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            our_rates.push(wrk(&target, load).await);
            their_rates.push(wrk(&their_target, load).await);
        }
        figures.push(figure(rest.starts_with("manifests"), our_rates, their_rates, load));
    }
    figures
}

fn figure(manifest: bool, mut our_rates: Vec<f64>, mut their_rates: Vec<f64>, load: &Load) -> Figure {
    let (our_rate, their_rate) = (middle(&mut our_rates), middle(&mut their_rates));
    let ratio = our_rate / their_rate;
    let range = |rates: &[f64]| format!("{:.0} to {:.0}", rates[0], rates[rates.len() - 1]);
    let (least, digits) = if manifest { (50.0, 0) } else { (1.2, 2) };
    Figure {
        name: if manifest {
            "warm, token checked, manifest within validity: requests per second against distribution v3 as proxy"
        } else {
            "the same, 64 MiB blob"
        },
        asked: if manifest { "at least 50" } else { "at least 1.2" },
        measured: format!("{ratio:.digits$} ({our_rate:.digits$} to {their_rate:.digits$} per second)"),
        ok: ratio >= least,
        how: format!(
            "wrk, {} connections, medians of {ROUNDS} times {} s in turns: ours {}, theirs {}; theirs checks no token",
            load.connections,
            load.seconds,
            range(&our_rates),
            range(&their_rates)
        ),
    }
}

/// Puts them in order.
fn middle(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Requests per second that are answered with 200.
async fn wrk(target: &Target, load: &Load) -> f64 {
    let program = tool::installed("wrk").expect("wrk is installed: make tools does it as root");
    let mut command = Command::new(program);
    command.arg(format!("-t{}", load.threads)).arg(format!("-c{}", load.connections));
    command.arg(format!("-d{}", load.seconds)).args(["--timeout", "30s"]);
    for header in target.headers() {
        command.args(["-H", &header]);
    }
    command.arg(format!("http://{}{}", target.address, target.path));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("wrk starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Non-2xx"), "not all were answered with 200:\n{text}");
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).unwrap_or_else(|| panic!("wrk printed no rate:\n{text}"))
}
