//! What the bucket alone has, on its way into a replica's folder.

use futures_util::future::join_all;
use harness::documents::Documents;
use harness::hostile::{Upstream, noise};
use harness::proxy::ProxyProcess;
use harness::pull::Client;
use harness::s3::S3;
use harness::way::{Trouble, Way};
use http::Method;
use oci::Digest;
use serde_json::json;

use crate::MIB;
use crate::ground::{client, files, proxy_of, settled};
use crate::s3::store;

const BYTES: usize = 8 * MIB;

/// A bucket with one blob of `library/a`, and a replica with an empty folder that reaches it by a way.
struct Ground {
    upstream: Upstream,
    s3: S3,
    way: Way,
    bytes: Vec<u8>,
    digest: Digest,
    replica: ProxyProcess,
}

impl Ground {
    async fn new(edit: impl Fn(&mut Documents)) -> Self {
        let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
        let _ = s3.bucket("blobs");
        let bytes = noise(1, BYTES);
        let digest = upstream.blob("library/a", bytes.clone());
        let first = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
        client(&first).blob("library/a", digest).await.bytes();
        settled(&first).await;
        upstream.forget();
        let way = Way::to(s3.endpoint().trim_start_matches("http://")).await;
        let replica = proxy_of(&upstream, |d| {
            store(d, &s3, S3::SECRET_KEY);
            d.spec("DependencyProxy", "main")["storage"]["s3"]["endpoint"] = json!(way.url());
            edit(d);
        });
        let replica = replica.await;
        Self { upstream, s3, way, bytes, digest, replica }
    }

    /// The file of the blob in the bucket.
    fn object(&self) -> std::path::PathBuf {
        let hex = self.digest.hex();
        self.s3.bucket("blobs").join(format!("dp.main/v1/blobs/sha256/{}/{hex}", &hex[..2]))
    }

    /// How many blobs are in the replica's folder.
    fn copies(&self) -> usize {
        files(&self.replica.data().join("dp.main/v1/blobs")).len()
    }

    fn asked_upstream(&self) -> usize {
        self.upstream.requests().iter().filter(|request| request.path.contains("/library/")).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_the_bucket_has_is_read_there_once_for_all_who_ask_and_then_from_the_folder() {
    let it = Ground::new(|_| {}).await;
    let pulls = (0..8).map(|_| {
        let client = client(&it.replica);
        async move { client.blob("library/a", it.digest).await }
    });
    for answer in join_all(pulls).await {
        assert!(answer.bytes() == &it.bytes);
        assert_eq!(answer.header("x-cache"), "hit");
    }
    settled(&it.replica).await;
    // The right, and the bytes, of which nothing is asked before; a client that comes between that and the copy's beginning
    // asks for both again.
    for (operation, times) in [("get", 2.0..=4.0), ("head", 0.0..=0.0)] {
        let sample = format!("store_operations_total{{operation=\"{operation}\"}}");
        let counted = it.replica.metric(&sample).await;
        assert!(times.contains(&counted), "{operation}: {counted}");
    }
    assert_eq!(it.copies(), 1);
    it.way.trouble(Trouble::Away);
    assert!(client(&it.replica).blob("library/a", it.digest).await.bytes() == &it.bytes);
    assert_eq!(it.asked_upstream(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_bucket_breaks_off_the_rest_comes_from_upstream() {
    let it = Ground::new(|_| {}).await;
    it.way.trouble(Trouble::CutAnswersAfter(MIB));
    let answer = client(&it.replica).blob("library/a", it.digest).await;
    assert!(answer.bytes() == &it.bytes, "{}", it.replica.log());
    let requests = it.upstream.requests();
    let range = requests.iter().find_map(|request| request.header("range").map(str::to_owned));
    let from =
        range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    assert!(from.is_some_and(|from: usize| from > MIB / 2), "only what is missing is asked for: {range:?}");
}

/// A bit of the blob in the bucket is turned: whoever pulls it all notices, and after that it is right.
async fn is_noticed_and_mended(it: &Ground, client: &Client) {
    let mut damaged = it.bytes.clone();
    damaged[BYTES / 2] ^= 1;
    std::fs::write(it.object(), &damaged).unwrap();
    let first = client.blob("library/a", it.digest).await;
    assert!(first.broken && first.body.len() < BYTES, "it ended as if it were right");
    settled(&it.replica).await;
    assert!(!it.object().exists(), "it is taken out of the bucket");
    assert!(client.blob("library/a", it.digest).await.bytes() == &it.bytes);
    settled(&it.replica).await;
    assert_eq!(it.upstream.count(Method::GET, "/blobs/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_damaged_in_the_bucket_never_ends_cleanly_and_is_fetched_again() {
    let it = Ground::new(|_| {}).await;
    is_noticed_and_mended(&it, &client(&it.replica)).await;
    assert!(std::fs::read(it.object()).unwrap() == it.bytes, "it is put there again");
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_for_who_has_just_shown_a_right_of_its_own() {
    let it = Ground::new(|d| d.group("team-b", "upstream")).await;
    is_noticed_and_mended(&it, &client(&it.replica).group("team-b")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_where_the_folder_has_no_room_for_it() {
    let it =
        Ground::new(|d| d.spec("DependencyProxy", "main")["localCache"] = json!({"sizeLimit": "1Mi"})).await;
    is_noticed_and_mended(&it, &client(&it.replica)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_blob_that_was_damaged_in_the_bucket_is_fetched_in_the_same_pull() {
    let it = Ground::new(|_| {}).await;
    std::fs::write(it.object(), b"damaged").unwrap();
    let answer = client(&it.replica).blob("library/a", it.digest).await;
    assert!(answer.bytes() == &it.bytes, "{}", it.replica.log());
    assert_eq!(it.upstream.count(Method::GET, "/blobs/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_and_what_the_folder_cannot_hold_are_read_in_the_bucket() {
    let it = Ground::new(|_| {}).await;
    let part = client(&it.replica).range("library/a", it.digest, "bytes=5000000-5000099").await;
    assert_eq!(part.bytes(), &it.bytes[5_000_000..5_000_100]);
    settled(&it.replica).await;
    assert_eq!(it.copies(), 0, "all of it was fetched for a part");

    let it =
        Ground::new(|d| d.spec("DependencyProxy", "main")["localCache"] = json!({"sizeLimit": "1Mi"})).await;
    assert!(client(&it.replica).blob("library/a", it.digest).await.bytes() == &it.bytes);
    assert_eq!((it.copies(), it.asked_upstream()), (0, 0));
}
