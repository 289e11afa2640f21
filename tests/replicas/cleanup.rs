//! Two cleanups at once, over and over, while three replicas download, and while what was about to go is pulled again.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use harness::hostile::{Fault, noise};
use harness::replicas::{Instance, Plan};
use harness::tool;
use http::Method;
use serde_json::json;

use crate::crowd::Crowd;

const HOUR: Duration = Duration::from_secs(3600);
const OLD: u64 = 16;

/// Makes everything of a kind that much older than it is.
fn age(it: &Instance, kind: &str, by: Duration) {
    for key in it.s3_keys(kind) {
        // A replica may have let go of it meanwhile.
        let _ = tool::age(&it.s3_file(&key), by);
    }
}

/// What a cleanup with these documents printed.
fn cleanup(documents: &str) -> String {
    let mut command = Command::new(tool::own("dependency-proxy"));
    let output = command.args(["cleanup", "-f", documents]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cleanups_at_once_take_nothing_from_downloads_and_from_who_comes_back() {
    let mut plan = Plan::new().await;
    plan.documents.spec("DependencyProxyGroup", "team-a")["cleanup"] =
        json!({"dependencyProxy": {"enabled": true, "ttlDays": 1}});
    let mut it = plan.start().await;
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    it.documents.write(file.path());
    let documents = file.path().display().to_string();
    let old: Vec<_> = (0..OLD).map(|number| format!("library/old-{number}")).collect();
    for (name, number) in old.iter().zip(0..) {
        it.upstream.image(name, "1", &[noise(number, 50_000)]);
        it.client(0).pull(name, "1").await;
    }
    it.settled().await;
    // All rights are older than a day: the first run buries the blobs, the next ones delete them.
    for kind in ["_links", "_tags", "blobs"] {
        age(&it, kind, 50 * HOUR);
    }
    // With empty folders: what they kept would hide what is lost.
    for replica in &mut it.replicas {
        replica.proxy.kill9();
        std::fs::remove_dir_all(replica.proxy.data()).unwrap();
        replica.proxy.restart().await;
    }
    let buried = cleanup(&documents);
    assert!(buried.contains("forgotten  48 rights, 16 tags"), "{buried}");
    age(&it, "_tombs", 2 * HOUR);

    it.upstream.forget();
    it.upstream.on("/blobs/").method(Method::GET).fault(Fault::Throttle(100_000));
    let crowd = Crowd::begin(&it).await;
    let stop = Arc::<AtomicBool>::default();
    let sweeping = [0, 1].map(|_| {
        let (documents, stop) = (documents.clone(), stop.clone());
        tokio::task::spawn_blocking(move || {
            let mut runs = 0;
            while !stop.load(Ordering::Relaxed) {
                cleanup(&documents);
                runs += 1;
            }
            runs
        })
    });
    let clients = it.clients();
    for name in &old {
        join_all(clients.iter().map(|client| client.pull(name, "1"))).await;
    }
    it.settled().await;
    stop.store(true, Ordering::Relaxed);
    let mut runs = 0;
    for task in sweeping {
        runs += task.await.unwrap();
    }
    crowd.end(None).await.all_well();
    let gets = it.upstream.count(Method::GET, "/library/old-");
    harness::say!(
        "{runs} cleanups, two at a time, while images that were to go were pulled again: 0 of 48 pulls failed, {gets} GETs upstream for 16 images of 3 parts"
    );

    // What was pulled has its rights, and is there whole, whoever asks for it.
    let report = cleanup(&documents);
    assert!(report.contains("forgotten  0 rights, 0 tags"), "{report}");
    it.settled().await;
    for key in it.s3_keys("blobs/sha256") {
        let bytes = std::fs::read(it.s3_file(&key)).unwrap();
        assert!(key.ends_with(&oci::Digest::of(oci::Algorithm::Sha256, &bytes).hex()), "{key}");
    }
    for replica in &mut it.replicas {
        replica.proxy.restart().await;
    }
    for client in it.clients() {
        for name in &old {
            client.pull(name, "1").await;
        }
    }
}
