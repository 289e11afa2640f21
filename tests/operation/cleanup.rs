//! `cleanup` beside proxies on a real S3 server: what goes, what stays, and that nothing in use is lost.
//!
//! The S3 server keeps objects as files, and a file's time is the object's LastModified: a test makes things old.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use harness::documents::Documents;
use harness::hostile::{Image, Upstream, noise};
use harness::proxy::ProxyProcess;
use harness::s3::S3;
use harness::tool;
use http::Method;
use oci::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ground::{client, documents, files, printed, proxy_of, run, settled};
use crate::s3::store;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A proxy with a bucket, and the documents that cleanups are run with.
pub(crate) struct Instance {
    upstream: Upstream,
    pub(crate) s3: S3,
    pub(crate) root: PathBuf,
    proxy: ProxyProcess,
    folder: TempDir,
}

impl Instance {
    pub(crate) async fn start(edit: impl Fn(&mut Documents)) -> Self {
        let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
        let root = s3.bucket("blobs").join("dp.main/v1");
        let folder = tempfile::tempdir().unwrap();
        let with_store = |d: &mut Documents| {
            store(d, &s3, S3::SECRET_KEY);
            edit(d);
        };
        let proxy = proxy_of(&upstream, with_store).await;
        let instance = Self { upstream, s3, root, proxy, folder };
        instance.document(edit);
        instance
    }

    /// What cleanups read from now on.
    pub(crate) fn document(&self, edit: impl Fn(&mut Documents)) {
        let mut documents = documents(&self.proxy.url(), &self.upstream);
        store(&mut documents, &self.s3, S3::SECRET_KEY);
        edit(&mut documents);
        documents.write(&self.folder.path().join("documents.yaml"));
    }

    /// Another replica, with an empty folder.
    pub(crate) async fn replica(&self) -> ProxyProcess {
        proxy_of(&self.upstream, |d| store(d, &self.s3, S3::SECRET_KEY)).await
    }

    pub(crate) async fn pull(&self, name: &str) -> Image {
        let image = self.upstream.image(name, "1", &[noise(name.bytes().map(u64::from).sum(), 100_000)]);
        client(&self.proxy).pull(name, "1").await;
        settled(&self.proxy).await;
        image
    }

    /// Runs a cleanup; what it wrote for the operator.
    pub(crate) fn cleanup(&self, more: &[&str]) -> Value {
        let documents = self.folder.path().join("documents.yaml").display().to_string();
        let log = tempfile::NamedTempFile::new().unwrap();
        let log = log.path().to_str().unwrap();
        let mut arguments = vec!["cleanup", "-f", &documents, "--termination-log", log];
        arguments.extend(more);
        let output = run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}{said}", printed(&output));
        serde_json::from_slice(&std::fs::read(log).unwrap()).unwrap()
    }

    /// Makes everything of a kind that much older than it is.
    fn age(&self, kind: &str, by: Duration) {
        let folder = self.root.join(kind);
        for file in files(&folder) {
            tool::age(&folder.join(file), by).unwrap();
        }
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join(format!("blobs/sha256/{}/{}", &digest.hex()[..2], digest.hex()))
    }

    fn count(&self, kind: &str) -> usize {
        files(&self.root.join(kind)).len()
    }

    /// Forgets every right and ages the blobs: as after a time without pulls.
    fn abandon(&self) {
        std::fs::remove_dir_all(self.root.join("_links")).unwrap();
        self.age("blobs", 9 * HOUR);
    }
}

fn ttl(documents: &mut Documents, days: u32) {
    documents.spec("DependencyProxyGroup", "team-a")["cleanup"] =
        json!({"dependencyProxy": {"enabled": true, "ttlDays": days}});
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_a_right_to_goes_in_the_second_run_and_no_sooner_than_an_hour_later() {
    let instance = Instance::start(|_| {}).await;
    instance.pull("library/a").await;
    std::fs::remove_dir_all(instance.root.join("_links")).unwrap();
    let young = instance.cleanup(&[]);
    assert_eq!(young["blobs"]["condemned"], 0, "what was just written may get its right yet: {young}");
    instance.age("blobs", 9 * HOUR);
    let first = instance.cleanup(&[]);
    assert_eq!(first["blobs"]["condemned"], 3, "{first}");
    assert_eq!((instance.count("blobs"), instance.count("_tombs")), (3, 3));
    let soon = instance.cleanup(&[]);
    assert_eq!((&soon["blobs"]["condemned"], &soon["blobs"]["deleted"]), (&json!(0), &json!(0)), "{soon}");
    instance.age("_tombs", 2 * HOUR);
    let second = instance.cleanup(&[]);
    assert_eq!(second["blobs"]["deleted"], 3, "{second}");
    assert!(second["blobs"]["bytes"].as_u64().unwrap() > 100_000, "{second}");
    assert_eq!((instance.count("blobs"), instance.count("_tombs")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_to_which_somebody_comes_back_is_spared() {
    let instance = Instance::start(|_| {}).await;
    let image = instance.pull("library/a").await;
    instance.abandon();
    instance.cleanup(&[]);
    instance.age("_tombs", 2 * HOUR);
    // The rights are gone: it is fetched again, and written again.
    let replica = instance.replica().await;
    client(&replica).pull("library/a", "1").await;
    settled(&replica).await;
    let report = instance.cleanup(&[]);
    assert_eq!(
        (&report["blobs"]["deleted"], &report["links"]["deleted"]),
        (&json!(0), &json!(0)),
        "{report}"
    );
    assert_eq!(instance.count("_tombs"), 0, "their tombstones are taken away");
    assert!(instance.blob(&image.layers[0]).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_uploaded_again_and_has_no_right_yet_is_spared() {
    let instance = Instance::start(|_| {}).await;
    let image = instance.pull("library/a").await;
    instance.abandon();
    instance.cleanup(&[]);
    instance.age("_tombs", 2 * HOUR);
    let layer = instance.blob(&image.layers[0]);
    File::options().write(true).open(&layer).unwrap().set_modified(SystemTime::now()).unwrap();
    let report = instance.cleanup(&[]);
    assert_eq!(report["blobs"]["deleted"], 2, "the others: {report}");
    assert!(layer.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_forgotten_when_nobody_pulled_it_for_ttl_days() {
    let instance = Instance::start(|d| ttl(d, 10)).await;
    instance.pull("library/old").await;
    for kind in ["_links", "_tags", "blobs"] {
        instance.age(kind, 10 * DAY + 2 * HOUR);
    }
    instance.pull("library/young").await;
    let report = instance.cleanup(&[]);
    assert_eq!((&report["links"]["deleted"], &report["tags"]["deleted"]), (&json!(3), &json!(1)), "{report}");
    assert_eq!(report["blobs"]["condemned"], 3, "{report}");
    let kept = report["groups"][0].clone();
    assert_eq!(kept["group"], "dp/team-a", "{report}");
    assert!((100_000..110_000).contains(&kept["bytes"].as_u64().unwrap()), "one image: {report}");
    assert!(files(&instance.root.join("_tags")).iter().all(|tag| tag.contains("library:young")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pulled_stays_though_it_was_stored_long_ago() {
    let hours_and_days = [(10, 9 * DAY, 2 * DAY), (1, 20 * HOUR, 10 * HOUR)];
    for (days, old, later) in hours_and_days {
        let edit = |d: &mut Documents| {
            ttl(d, days);
            d.spec("DependencyProxyGroup", "team-a")["recheckAfterSeconds"] = json!(31_536_000);
        };
        let instance = Instance::start(edit).await;
        instance.pull("library/a").await;
        let age_all = |by| ["_links", "_tags", "blobs"].iter().for_each(|kind| instance.age(kind, by));
        age_all(old);
        let with_store = |d: &mut Documents| {
            store(d, &instance.s3, S3::SECRET_KEY);
            edit(d);
        };
        let replica = proxy_of(&instance.upstream, with_store).await;
        client(&replica).pull("library/a", "1").await;
        let checks = instance.upstream.count(Method::HEAD, "/manifests/");
        assert_eq!(checks, 1, "the tag is fresh: nobody checks it");
        age_all(later);
        let report = instance.cleanup(&[]);
        let forgotten = (&report["links"]["deleted"], &report["tags"]["deleted"]);
        assert_eq!(forgotten, (&json!(0), &json!(0)), "{days}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_the_same_and_touches_nothing() {
    let instance = Instance::start(|d| ttl(d, 10)).await;
    instance.pull("library/a").await;
    for kind in ["_links", "_tags", "blobs"] {
        instance.age(kind, 11 * DAY);
    }
    let before = files(&instance.root);
    let rehearsed = instance.cleanup(&["--dry-run"]);
    let after: Vec<_> = files(&instance.root).into_iter().filter(|file| file != "_now").collect();
    assert_eq!(after, before);
    let done = instance.cleanup(&[]);
    assert_eq!((&rehearsed["dryRun"], &done["dryRun"]), (&json!(true), &json!(false)));
    for part in ["links", "tags", "blobs"] {
        assert_eq!(rehearsed[part], done[part], "{part}");
    }
    assert_eq!(done["links"]["deleted"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_above_its_quota_loses_what_was_not_pulled_for_the_longest_time() {
    let quota = |d: &mut Documents| {
        d.spec("DependencyProxyGroup", "team-a")["quota"] = json!({"storageBytes": "250k"});
    };
    let instance = Instance::start(quota).await;
    for (name, hours) in [("library/oldest", 30), ("library/older", 10), ("library/newest", 5)] {
        instance.pull(name).await;
        let links = instance.root.join("_links");
        let its = files(&links).into_iter().filter(|file| file.ends_with(&name.replace('/', ":")));
        its.for_each(|file| tool::age(&links.join(file), HOUR * hours).unwrap());
    }
    instance.age("blobs", 40 * HOUR);
    let rehearsed = instance.cleanup(&["--dry-run"]);
    let report = instance.cleanup(&[]);
    assert_eq!(rehearsed["blobs"], report["blobs"]);
    let kept = report["groups"][0]["bytes"].as_u64().unwrap();
    assert!((150_000..=250_000).contains(&kept), "{report}");
    let left = files(&instance.root.join("_links"));
    let of = |name: &str| left.iter().filter(|file| file.ends_with(name)).count();
    assert_eq!((of(":oldest") < 3, of(":older"), of(":newest")), (true, 3, 3), "{left:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_above_its_quota_loses_what_no_group_pulled_for_the_longest_time() {
    let edit = |d: &mut Documents| {
        d.group("team-b", "upstream");
        d.spec("DependencyProxy", "main")["quota"] = json!({"storageBytes": "150k"});
    };
    let instance = Instance::start(edit).await;
    instance.pull("library/shared").await;
    instance.pull("library/lonely").await;
    instance.age("_links", 20 * HOUR);
    instance.age("blobs", 40 * HOUR);
    client(&instance.proxy).group("team-b").pull("library/shared", "1").await;
    settled(&instance.proxy).await;
    let rehearsed = instance.cleanup(&["--dry-run"]);
    let report = instance.cleanup(&[]);
    for part in ["links", "blobs"] {
        assert_eq!(rehearsed[part], report[part], "{part}");
    }
    let left = files(&instance.root.join("_links"));
    let of = |name: &str| left.iter().filter(|file| file.contains(name)).count();
    assert_eq!(of(":shared"), 6, "team-b pulled it a moment ago, so nobody loses it: {left:#?}");
    assert!(of(":lonely") < 3, "{left:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_told_to_the_byte_though_a_run_deletes_and_has_a_bound_besides() {
    let edit = |d: &mut Documents| {
        d.spec("DependencyProxy", "main")["quota"] = json!({"storageBytes": "150k"});
    };
    let instance = Instance::start(edit).await;
    instance.pull("library/abandoned").await;
    instance.abandon();
    instance.cleanup(&[]);
    instance.age("_tombs", 2 * HOUR);
    for name in ["library/a", "library/b"] {
        instance.pull(name).await;
    }
    instance.age("_links", 20 * HOUR);
    let rehearsed = instance.cleanup(&["--dry-run"]);
    let report = instance.cleanup(&[]);
    assert_eq!(report["blobs"]["deleted"], 3, "{report}");
    assert!(report["links"]["deleted"].as_u64().unwrap() > 0, "and it is above its bound: {report}");
    let blobs = instance.root.join("blobs");
    let left: u64 = files(&blobs).iter().map(|file| blobs.join(file).metadata().unwrap().len()).sum();
    assert_eq!(report["blobs"]["keptBytes"], left, "{report}");
    assert_eq!(rehearsed["blobs"], report["blobs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_no_document_names_is_kept_for_a_week_and_while_a_document_is_bad() {
    let instance = Instance::start(|d| d.group("team-b", "upstream")).await;
    instance.upstream.image("library/a", "1", &[noise(1, 1000)]);
    client(&instance.proxy).group("team-b").pull("library/a", "1").await;
    settled(&instance.proxy).await;
    instance.age("_links", 30 * DAY);

    instance.document(|d| d.spec("DependencyProxyGroup", "team-a")["recheckAfterSeconds"] = json!(-1));
    instance.cleanup(&[]);
    assert_eq!(instance.count("_orphans"), 0, "a bad document says nothing of what is not there");
    instance.document(|_| {});
    assert_eq!(instance.cleanup(&[])["links"]["deleted"], 0);
    assert_eq!(instance.count("_orphans"), 1);
    instance.document(|d| d.group("team-b", "upstream"));
    instance.cleanup(&[]);
    assert_eq!(instance.count("_orphans"), 0, "it has come back");
    instance.document(|_| {});
    instance.cleanup(&[]);
    instance.age("_orphans", 8 * DAY);
    let report = instance.cleanup(&[]);
    assert_eq!((&report["links"]["deleted"], &report["tags"]["deleted"]), (&json!(3), &json!(0)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_found_and_fetched_again() {
    let instance = Instance::start(|_| {}).await;
    let image = instance.pull("library/a").await;
    let layer = instance.blob(&image.layers[0]);
    let mut bytes = std::fs::read(&layer).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&layer, &bytes).unwrap();
    let found = instance.cleanup(&["--verify", "--dry-run"]);
    assert_eq!((&found["verified"]["damaged"], layer.exists()), (&json!(1), true), "{found}");
    let report = instance.cleanup(&["--verify", "--verify-bytes-per-second", "10000000"]);
    assert_eq!(report["verified"]["blobs"], 3, "{report}");
    assert_eq!(report["verified"]["digests"], json!([image.layers[0].to_string()]), "{report}");
    assert!(!layer.exists());
    let replica = instance.replica().await;
    instance.upstream.forget();
    client(&replica).pull("library/a", "1").await;
    settled(&replica).await;
    assert_eq!(instance.upstream.count(Method::GET, "/blobs/"), 1, "that one alone");
    assert_eq!(instance.cleanup(&["--verify"])["verified"]["damaged"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_ends_before_the_last_blob_goes_on_there_with_the_next_run() {
    let instance = Instance::start(|_| {}).await;
    instance.pull("library/a").await;
    instance.pull("library/b").await;
    // At this rate a layer takes a second, and is more than a run may take.
    let some = ["--verify", "--verify-bytes-per-second", "100000", "--verify-for", "500ms"];
    let (mut runs, mut blobs) = (0, 0);
    loop {
        let report = instance.cleanup(&some);
        runs += 1;
        blobs += report["verified"]["blobs"].as_u64().unwrap();
        if report["verified"]["unfinished"] == json!(false) {
            break;
        }
        assert!(runs < 10, "{report}");
    }
    assert!(runs > 1, "one run checked everything");
    assert_eq!(blobs, 6, "each once");
    assert_eq!(instance.cleanup(&["--verify"])["verified"]["blobs"], 6, "and then from the first again");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_for_damage_keeps_to_its_rate() {
    let instance = Instance::start(|_| {}).await;
    instance.pull("library/a").await;
    let began = std::time::Instant::now();
    instance.cleanup(&["--verify", "--verify-bytes-per-second", "50000"]);
    assert!(began.elapsed() > Duration::from_secs(2), "100 kB at 50 kB/s: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cleanups_at_once_lose_nothing_that_is_pulled_meanwhile() {
    let instance = Instance::start(|d| ttl(d, 1)).await;
    let names: Vec<_> = (0..20).map(|number| format!("library/image-{number}")).collect();
    let images: Vec<_> = names
        .iter()
        .zip(1..)
        .map(|(name, seed)| instance.upstream.image(name, "1", &[noise(seed, 50_000)]))
        .collect();
    let old = client(&instance.proxy);
    for name in &names {
        old.pull(name, "1").await;
    }
    settled(&instance.proxy).await;
    // Half of them are about to be deleted, all of them have lost their rights.
    instance.abandon();
    instance.cleanup(&[]);
    instance.age("_tombs", 2 * HOUR);

    // Everything is pulled again through a replica while two cleanups run, over and over.
    let replica = instance.replica().await;
    let again = client(&replica);
    let pulls = async {
        for name in &names {
            again.pull(name, "1").await;
        }
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let sweeping = [0, 1].map(|_| scope.spawn(|| (0..5).for_each(|_| drop(instance.cleanup(&[])))));
            tokio::runtime::Handle::current().block_on(pulls);
            sweeping.into_iter().for_each(|thread| thread.join().unwrap());
        })
    });
    settled(&replica).await;
    // What was pulled is served, right and whole, by yet another replica; at the worst it asks upstream once more.
    let third = instance.replica().await;
    let third = client(&third);
    for (name, image) in names.iter().zip(&images) {
        third.pull(name, "1").await;
        let layer = third.blob(name, image.layers[0]).await;
        assert_eq!(Digest::of(oci::Algorithm::Sha256, layer.bytes()), image.layers[0]);
    }
    let report = instance.cleanup(&[]);
    assert_eq!(
        (&report["blobs"]["deleted"], &report["links"]["deleted"]),
        (&json!(0), &json!(0)),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_folder_it_works_beside_the_proxy() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(1, 100_000)]);
    let proxy = proxy_of(&upstream, |d| ttl(d, 1)).await;
    client(&proxy).pull("library/a", "1").await;
    settled(&proxy).await;
    let root = proxy.data().join("dp.main/v1");
    let make_old = |kind: &str, by| {
        files(&root.join(kind)).iter().for_each(|f| tool::age(&root.join(kind).join(f), by).unwrap())
    };
    for kind in ["_links", "_tags", "blobs"] {
        make_old(kind, 3 * DAY);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.yaml");
    let mut documents = documents(&proxy.url(), &upstream);
    ttl(&mut documents, 1);
    documents.write(&file);
    let cleanup = || {
        let data = proxy.data().display().to_string();
        let output = run(&["cleanup", "-f", file.to_str().unwrap(), "--data-dir", &data]);
        assert!(output.status.success(), "{output:?}");
        printed(&output)
    };
    let first = cleanup();
    assert!(first.contains("forgotten  3 rights, 1 tags"), "{first}");
    assert!(!root.join("_tags").exists(), "an empty folder is not kept");
    make_old("_tombs", 2 * HOUR);
    let second = cleanup();
    assert!(second.contains("deleted    3 blobs"), "{second}");
    client(&proxy).pull("library/a", "1").await;
    settled(&proxy).await;
    // The manifest and the right to it are in its memory for a minute more.
    let again = files(&root.join("blobs"));
    assert!(
        again.iter().any(|file| file.ends_with(&image.layers[0].hex())),
        "it is fetched again: {again:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_an_error_that_the_operator_is_told() {
    let mut instance = Instance::start(|_| {}).await;
    instance.s3.stop();
    let path = |name: &str| instance.folder.path().join(name).display().to_string();
    let (documents, log) = (path("documents.yaml"), path("termination-log"));
    let output = run(&["cleanup", "-f", &documents, "--termination-log", &log]);
    assert_eq!(output.status.code(), Some(1));
    let message: Value = serde_json::from_slice(&std::fs::read(&log).unwrap()).unwrap();
    assert!(message["error"].as_str().unwrap().contains("the object store failed"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_are_not_renewed_expire_after_an_hour() {
    let it = Instance::start(|_| {}).await;
    let claims = ["_fills/sha256:00/0f", "_checks/0f/dp.team-a/library:a/1", "_replicas/10.0.0.1:5001"];
    for claim in claims {
        let file = it.root.join(claim);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "{}").unwrap();
    }
    let left = || claims.iter().filter(|claim| it.root.join(claim).exists()).count();
    let age_all = |by| claims.iter().for_each(|claim| tool::age(&it.root.join(claim), by).unwrap());
    age_all(Duration::from_secs(59 * 60));
    it.cleanup(&[]);
    assert_eq!(left(), 3, "they may be of work in progress");
    age_all(Duration::from_secs(2 * 60));
    it.cleanup(&["--dry-run"]);
    assert_eq!(left(), 3);
    it.cleanup(&[]);
    assert_eq!(left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_of_upstreams_long_ago_goes_and_a_freeze_when_it_has_ended() {
    let it = Instance::start(|_| {}).await;
    let records = [
        ("dp.upstream/0f", "{}", 8),
        ("dp.upstream/1f", "{}", 6),
        ("dp.gone/frozen", "2020-01-01T00:00:00Z", 0),
        ("dp.upstream/frozen", "2999-01-01T00:00:00Z", 30),
    ];
    for (record, text, days) in records {
        let file = it.root.join("_upstreams").join(record);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        tool::age(&file, DAY * days).unwrap();
    }
    it.cleanup(&[]);
    let left = records.map(|(record, ..)| it.root.join("_upstreams").join(record).exists());
    assert_eq!(left, [false, true, false, true]);
}
