//! `status`: what a running instance does, of all its replicas.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::args::Status;

/// For the whole answer: the proxy asks all other replicas meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(status: Status) -> ExitCode {
    match ask(&status).await {
        Ok(replicas) => {
            let text = if status.json { format!("{replicas:#}\n") } else { table(&replicas) };
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{}: {why}", status.admin.url);
            ExitCode::FAILURE
        }
    }
}

/// What asks a running proxy.
pub(super) fn client() -> Result<reqwest::Client, String> {
    let client = reqwest::Client::builder().no_proxy().http1_only().timeout(PATIENCE).build();
    client.map_err(|error| super::innermost(&error))
}

async fn ask(status: &Status) -> Result<Value, String> {
    let url = status.admin.url.join("/replicas").map_err(|error| error.to_string())?;
    let response = client()?.get(url).send().await.and_then(reqwest::Response::error_for_status);
    let text = response.map_err(|error| super::innermost(&error))?.text().await;
    let text = text.map_err(|error| super::innermost(&error))?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// The answer of `/replicas` as people read it.
fn table(replicas: &Value) -> String {
    let replicas: Vec<_> = replicas.as_array().into_iter().flatten().collect();
    let mut lines = vec![format!(
        "{:<24} {:<9} {:<6} {:<9} {:>9} {:>11} {:>11}",
        "REPLICA", "VERSION", "READY", "CONFIG", "DOWNLOADS", "CACHED", "LOCAL"
    )];
    lines.extend(replicas.iter().map(|replica| row(replica)));
    lines.extend(stored(&replicas));
    let all = |field: &str| {
        replicas
            .iter()
            .flat_map(move |r| {
                r["status"][field].as_array().into_iter().flatten().map(move |item| (*r, item.clone()))
            })
            .collect::<Vec<_>>()
    };
    let downloads = all("downloads");
    if !downloads.is_empty() {
        lines.push(String::new());
        lines.push(format!("{:<19} {:>23} {:<9} {:>6}  REPLICA", "DOWNLOAD", "BYTES", "FROM", "IDLE"));
        lines.extend(downloads.iter().map(|(replica, download)| download_row(replica, download)));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<30} {:<18} {:>6} {:>11} {:>9}  REPLICA",
        "UPSTREAM", "STATE", "RESTS", "QUOTA", "STALE"
    ));
    lines.extend(all("upstreams").iter().map(|(replica, upstream)| upstream_row(replica, upstream)));
    lines.join("\n") + "\n"
}

fn row(replica: &Value) -> String {
    let status = &replica["status"];
    let address = text(&replica["address"]);
    if status.is_null() {
        return format!("{address:<24} does not answer; it was there {} s ago", replica["seenSecondsAgo"]);
    }
    let config: String = text(&status["configHash"]).chars().take(8).collect();
    let ready = if status["ready"] == true { "yes" } else { "no" };
    let downloads = status["downloads"].as_array().map_or(0, Vec::len);
    let bytes = |field: &str| size(status[field].as_u64().unwrap_or_default());
    format!(
        "{address:<24} {:<9} {ready:<6} {config:<9} {downloads:>9} {:>11} {:>11}",
        text(&status["version"]),
        bytes("cachedBytes"),
        bytes("localBytes")
    )
}

/// What the store had after its last cleanup, which each replica reads for itself, now and then.
fn stored(replicas: &[&Value]) -> Option<String> {
    let statuses = replicas.iter().map(|replica| &replica["status"]);
    let status = statuses.max_by_key(|status| status["lastCleanup"]["at"].as_str())?;
    let cleanup = &status["lastCleanup"];
    let kept = size(cleanup["keptBytes"].as_u64()?);
    Some(format!("{}: {kept} at the last cleanup, {}", text(&status["storage"]), text(&cleanup["at"])))
}

fn download_row(replica: &Value, download: &Value) -> String {
    let digest: String = text(&download["digest"]).chars().take(19).collect();
    let whole = download["size"].as_u64().map_or_else(|| "?".to_owned(), size);
    let bytes = format!("{} of {whole}", size(download["bytes"].as_u64().unwrap_or_default()));
    let idle = format!("{} s", download["idleSeconds"]);
    format!(
        "{digest:<19} {bytes:>23} {:<9} {idle:>6}  {}",
        text(&download["source"]),
        text(&replica["address"])
    )
}

fn upstream_row(replica: &Value, upstream: &Value) -> String {
    let frozen = upstream["frozenUntil"].is_string();
    let state = if frozen { "Frozen" } else { text(&upstream["reason"]) };
    let seconds = |field: &str| match upstream[field].as_u64() {
        None | Some(0) => "-".to_owned(),
        Some(seconds) => format!("{seconds} s"),
    };
    let limit = &upstream["rateLimit"];
    let quota = match limit["remaining"].as_i64() {
        None => "-".to_owned(),
        Some(left) => {
            limit["limit"].as_i64().map_or_else(|| left.to_string(), |limit| format!("{left} of {limit}"))
        }
    };
    format!(
        "{:<30} {state:<18} {:>6} {quota:>11} {:>9}  {}",
        text(&upstream["id"]),
        seconds("restsForSeconds"),
        seconds("oldestStaleSeconds"),
        text(&replica["address"])
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// `1.5 GiB`
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn replicas_that_do_not_answer_and_frozen_upstreams_are_told() {
        let upstream = json!({"id": "team-a/hub", "reason": "Reachable", "restsForSeconds": 7,
            "rateLimit": {"limit": 100, "remaining": 98}, "frozenUntil": "2026-01-01T00:00:00Z"});
        let download = json!({"digest": "sha256:abcdef0123456789", "bytes": 1_572_864, "size": 4_194_304,
            "source": "replica", "idleSeconds": 3});
        let replicas = json!([
            {"address": "10.0.0.1:5001", "seenSecondsAgo": 4, "status": {"version": "0.1.0", "ready": true,
                "configHash": "0123456789abcdef", "downloads": [download], "upstreams": [upstream],
                "cachedBytes": 0, "localBytes": 1024, "storage": "s3://blobs",
                "lastCleanup": {"at": "2026-01-02T03:04:05Z", "keptBytes": 2_097_152}}},
            {"address": "10.0.0.2:5001", "seenSecondsAgo": 40, "status": null},
        ]);
        let table = table(&replicas);
        for part in [
            "10.0.0.2:5001            does not answer; it was there 40 s ago",
            "1.5 MiB of 4.0 MiB replica",
            "Frozen",
            "98 of 100",
            "1.0 KiB",
            "\ns3://blobs: 2.0 MiB at the last cleanup, 2026-01-02T03:04:05Z\n",
        ] {
            assert!(table.contains(part), "{part:?} is not in\n{table}");
        }
    }
}
