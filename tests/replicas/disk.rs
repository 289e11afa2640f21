//! The disk of every replica is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::future::join_all;
use harness::hostile::noise;
use harness::replicas::Plan;
use harness::tool;
use http::Method;

use crate::MIB;
use crate::crowd::Crowd;

/// A small file system of its own at a folder, until this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn at(folder: &Path, size: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={size}");
        let mount = ["-t", "tmpfs", "-o", &options, "none"];
        assert!(Command::new("mount").args(mount).arg(folder).status().unwrap().success());
        Self(folder.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazy: whoever has files open there ends soon.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_whose_disks_are_full_pass_on_what_does_not_fit_and_still_download_it_once() {
    if tool::left_out(&["mount", "umount"], true) {
        return;
    }
    let plan = Plan::new().await;
    let disks: Vec<_> = plan.data().iter().map(|folder| Disk::at(folder, "3m")).collect();
    let it = plan.start().await;
    let crowd = Crowd::begin(&it).await;
    let clients = it.clients();
    for round in 0..4 {
        let bytes = noise(round, 8 * MIB);
        let digest = it.upstream.blob("library/large", bytes.clone());
        for answer in join_all(clients.iter().map(|client| client.blob("library/large", digest))).await {
            assert!(answer.bytes() == &bytes, "{}", it.logs());
        }
    }
    let gets = it.upstream.count(Method::GET, "library/large/blobs/");
    harness::say!(
        "disks full: 0 of 12 pulls of 8 MiB through 3 MiB failed, {gets} GETs upstream for 4 blobs"
    );
    // 12 where each downloaded for itself; who comes when the beginning has passed through waits for the next one.
    assert!(gets <= 9, "{gets}: {}", it.logs());
    crowd.end(None).await.all_well();
    drop(it);
    drop(disks);
}
