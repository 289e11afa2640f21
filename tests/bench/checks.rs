//! Tags that are checked before every answer, on three replicas: what a pull waits for, and how often upstream is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::hostile::{Fault, noise};
use harness::pull::{Answer, Client};
use harness::replicas::{Instance, Plan};
use http::Method;
use serde_json::json;

use crate::figure::{Figure, milliseconds, percentile};

const TAGS: usize = 30;
const PULLS: usize = 1500;
const ROUNDS: usize = 50;
/// How long upstream takes for a HEAD.
const HEAD: Duration = Duration::from_millis(20);

struct Ready {
    it: Instance,
    clients: Vec<Client>,
}

async fn ready() -> Ready {
    let mut plan = Plan::new().await;
    // What is measured is the way of a check, not its limit.
    plan.documents.spec("RegistryUpstream", "upstream")["rateLimit"] =
        json!({"maxChecksPerMinute": 1_000_000});
    let it = plan.clocks(["0s", "0s", "0s"]).start().await;
    it.acquainted().await;
    for tag in 0..TAGS {
        it.upstream.image("library/a", &tag.to_string(), &[noise(tag as u64, 100)]);
    }
    let clients = it.clients();
    for client in &clients {
        for tag in 0..TAGS {
            client.manifest("library/a", &tag.to_string()).await.bytes();
        }
    }
    it.upstream.on("/manifests/").fault(Fault::Delay(HEAD));
    Ready { it, clients }
}

pub(crate) async fn checks() -> Vec<Figure> {
    let ready = ready().await;
    vec![together(&ready).await, one_by_one(&ready).await, lost(true).await, lost(false).await]
}

fn figure(name: &'static str, answers: &[Answer], heads: usize, how: &str) -> Figure {
    let failed = answers.iter().filter(|answer| answer.status != 200 || answer.broken).count();
    let measured = format!("{failed}; {}; {heads} HEADs for {} pulls", times(answers), answers.len());
    Figure { name, asked: "0", measured, ok: failed == 0, how: format!("a HEAD takes {HEAD:?}, {how}") }
}

fn times(answers: &[Answer]) -> String {
    let took: Vec<_> = answers.iter().map(|answer| answer.took).collect();
    let [p50, p99, max] = [50, 99, 100].map(|percent| milliseconds(percentile(&took, percent)));
    let stale = answers.iter().filter(|answer| answer.header("x-cache") == "stale").count();
    format!("p50 {p50}, p99 {p99}, max {max}, {stale} stale")
}

async fn one_by_one(ready: &Ready) -> Figure {
    ready.it.upstream.forget();
    let mut answers = Vec::new();
    for number in 0..PULLS {
        let tag = (number / 3 % TAGS).to_string();
        answers.push(ready.clients[number % 3].manifest("library/a", &tag).await);
    }
    let heads = ready.it.upstream.count(Method::HEAD, "/manifests/");
    figure("pulls one after the other: failed", &answers, heads, "in turns on 3 replicas")
}

async fn together(ready: &Ready) -> Figure {
    let clients: Vec<_> = ready.clients.iter().flat_map(|client| vec![client.clone(); 10]).collect();
    join_all(clients.iter().map(|client| client.manifest("library/a", "0"))).await;
    ready.it.upstream.forget();
    let mut answers = Vec::new();
    for round in 0..ROUNDS {
        let tag = (round % TAGS).to_string();
        answers.extend(join_all(clients.iter().map(|client| client.manifest("library/a", &tag))).await);
    }
    let heads = ready.it.upstream.count(Method::HEAD, "/manifests/") as f64 / ROUNDS as f64;
    Figure {
        name: "30 pulls together on 3 replicas: HEADs",
        asked: "1",
        measured: format!("{heads:.2}; {}", times(&answers)),
        // Of thirty one may come when the HEAD has ended.
        ok: heads < 1.1,
        how: format!("a HEAD takes {HEAD:?}, {ROUNDS} rounds"),
    }
}

/// One client on each of two replicas pulls on, while the third is lost.
async fn lost(killed: bool) -> Figure {
    let mut ready = ready().await;
    let (is_lost, ends) = (Arc::new(AtomicBool::new(false)), Instant::now() + Duration::from_secs(20));
    let pulls: Vec<_> = (0..2)
        .map(|replica| {
            let (client, is_lost) = (ready.clients[replica].clone(), is_lost.clone());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                let mut number = replica * 7;
                while Instant::now() < ends {
                    let tag = (number % TAGS).to_string();
                    number += 1;
                    let answer = client.manifest("library/a", &tag).await;
                    if is_lost.load(Ordering::SeqCst) {
                        answers.push(answer);
                    }
                }
                answers
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    is_lost.store(true, Ordering::SeqCst);
    ready.it.upstream.forget();
    if killed {
        ready.it.replicas[2].proxy.kill9();
    } else {
        ready.it.replicas[2].proxy.pause();
    }
    let answers: Vec<_> = join_all(pulls).await.into_iter().flat_map(Result::unwrap).collect();
    let heads = ready.it.upstream.count(Method::HEAD, "/manifests/");
    if !killed {
        ready.it.replicas[2].proxy.resume();
    }
    let name = if killed { "one of three killed: failed" } else { "one of three stands still: failed" };
    figure(name, &answers, heads, "one client on each of the others, 17 s")
}
