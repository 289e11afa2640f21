//! The first pull that comes to a replica which has just started: all that it needs is in the bucket.

use std::time::{Duration, Instant};

use harness::hostile::{Fault, noise};
use harness::replicas::{Instance, Plan};
use harness::way::Trouble;

/// How far away bucket, upstream and its token service are: a processor that is busy with something else counts as nothing
/// beside it.
const FAR: Duration = Duration::from_millis(800);

/// Replica 1 has just started, with an empty folder; the bucket has everything.
async fn started_anew(it: &mut Instance) {
    it.settled().await;
    let proxy = &mut it.replicas[1].proxy;
    proxy.kill9();
    std::fs::remove_dir_all(proxy.data()).unwrap();
    proxy.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_pull_goes_to_the_bucket_and_back_twice_for_the_tag_and_once_for_each_other_part() {
    let (plan, way) = Plan::new().await.by_way().await;
    plan.upstream.require_bearer();
    let mut it = plan.start().await;
    let layer = noise(1, 100_000);
    let image = it.upstream.image("library/a", "1", std::slice::from_ref(&layer));
    // Whichever of them checks the tag for all has a token to do it with, as replicas have that have run for a while.
    it.client(0).pull("library/a", "1").await;
    it.client(2).pull("library/a", "1").await;
    started_anew(&mut it).await;
    it.upstream.forget();
    it.upstream.on("/").fault(Fault::Delay(FAR));
    way.trouble(Trouble::Slow(FAR));

    let client = it.client(1);
    let began = Instant::now();
    let mut times = Vec::new();
    // Beside the record a token is fetched, beside right and bytes upstream is asked what the tag is.
    assert_eq!(client.manifest("library/a", "1").await.bytes(), &image.manifest);
    times.push(began.elapsed());
    // The one that the tag names is known by now.
    assert!(client.blob("library/a", image.layers[0]).await.bytes() == &layer);
    times.push(began.elapsed());
    client.blob("library/a", image.config).await.bytes();
    times.push(began.elapsed());
    assert!(began.elapsed() < FAR * 5, "not four ways but {times:?}\n{}", it.logs());
    // A token and a HEAD; another one where the replica that checks does not begin its answer at once.
    assert!((2..=3).contains(&it.upstream.requests().len()), "{:?}", it.upstream.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_by_digest_is_there_after_one_way() {
    let (plan, way) = Plan::new().await.by_way().await;
    let mut it = plan.start().await;
    let image = it.upstream.image("library/a", "1", &[noise(1, 1000)]);
    it.client(0).pull("library/a", "1").await;
    started_anew(&mut it).await;
    way.trouble(Trouble::Slow(FAR));
    let answer = it.client(1).manifest("library/a", &image.digest.to_string()).await;
    assert_eq!(answer.bytes(), &image.manifest);
    assert!(answer.took < FAR * 2, "{:?}\n{}", answer.took, it.logs());
}
