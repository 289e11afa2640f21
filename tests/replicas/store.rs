//! The bucket is away, slow, answers 503 or breaks off: pulls go on, and nothing wrong is served.

use std::time::Duration;

use futures_util::future::join_all;
use harness::hostile::noise;
use harness::replicas::{Instance, Plan};
use harness::way::Trouble;
use http::Method;

use crate::MIB;
use crate::crowd::Crowd;

/// Pulls old and new images on all replicas while this is wrong with the bucket.
async fn pulls_go_on(what: &str, trouble: Trouble) -> Instance {
    let (plan, way) = Plan::new().await.by_way().await;
    let it = plan.start().await;
    it.upstream.image("library/old", "1", &[noise(1, MIB), noise(2, 1000)]);
    join_all(it.clients().iter().map(|client| client.pull("library/old", "1"))).await;
    it.settled().await;
    it.upstream.forget();
    let crowd = Crowd::begin(&it).await;
    way.trouble(trouble);
    let mut pulls = 0;
    for round in 0..4 {
        let new = format!("library/new-{round}");
        let layer = noise(10 + round, MIB);
        let image = it.upstream.image(&new, "1", std::slice::from_ref(&layer));
        let digest = image.layers[0];
        join_all(it.clients().iter().map(|client| async {
            client.pull("library/old", "1").await;
            client.manifest(&new, "1").await.bytes();
            assert!(client.blob(&new, digest).await.bytes() == &layer, "the bytes are upstream's");
        }))
        .await;
        pulls += 6;
    }
    let gets = it.upstream.count(Method::GET, "/library/new-");
    harness::say!(
        "bucket {what}: 0 of {pulls} pulls failed, {gets} GETs upstream for 4 new images of 2 parts on 3 replicas"
    );
    // A replica that cannot ask the bucket asks upstream, each for itself and once.
    assert!(gets <= 4 * 2 * 3, "{}", it.logs());
    crowd.end(None).await.all_well();
    way.trouble(Trouble::None);
    it
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_fails_no_pull() {
    pulls_go_on("away", Trouble::Away).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_slow_fails_no_pull() {
    pulls_go_on("slow (500 ms)", Trouble::Slow(Duration::from_millis(500))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_answers_503_fails_no_pull() {
    pulls_go_on("answers 503", Trouble::Unavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_the_bucket_that_is_lost_in_the_middle_of_a_put_leaves_nothing_wrong() {
    let it = pulls_go_on("loses connections mid-put", Trouble::CutAfter(200_000)).await;
    it.settled().await;
    // What lies under a digest has it.
    for key in it.s3_keys("blobs/sha256") {
        let bytes = std::fs::read(it.s3_file(&key)).unwrap();
        let digest = oci::Digest::of(oci::Algorithm::Sha256, &bytes);
        assert!(key.ends_with(&digest.hex()), "{key} has {digest}");
    }
}
