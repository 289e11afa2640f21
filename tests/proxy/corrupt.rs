//! Bytes are proven before they are kept: a wrong body never ends cleanly at a client and is never stored.

use futures_util::future::join_all;
use harness::hostile::{Fault, Gate, Upstream, noise};
use harness::pull::Answer;
use harness::server::Proxy;
use http::Method;
use oci::Digest;

use crate::MIB;

async fn upstream_with_blob(length: usize) -> (Upstream, Vec<u8>, Digest) {
    let upstream = Upstream::start().await;
    let bytes = noise(length as u64, length);
    let digest = upstream.blob("library/a", bytes.clone());
    (upstream, bytes, digest)
}

/// A client takes the answer for no blob: an error, or a body that breaks off.
#[track_caller]
fn useless(answer: &Answer) {
    assert!(answer.broken || !answer.status.is_success(), "{} bytes ended cleanly", answer.body.len());
}

/// Pulls once with these faults, once without: the first is useless, the second right and asked of upstream.
async fn is_refused<const N: usize>(length: usize, faults: [Fault; N]) {
    let (upstream, bytes, digest) = upstream_with_blob(length).await;
    upstream.on("/blobs/").method(Method::GET).faults(faults);
    let proxy = Proxy::of(&upstream).await;
    useless(&proxy.client().blob("library/a", digest).await);
    upstream.behave();
    upstream.forget();
    assert!(proxy.client().blob("library/a", digest).await.bytes() == &bytes);
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1, "nothing of the wrong body was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_the_right_length_are_refused() {
    for length in [1, 1000, 3 * MIB] {
        is_refused(length, [Fault::WrongByte]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_unknown_length_are_refused() {
    for length in [1, 3 * MIB] {
        is_refused(length, [Fault::WrongByte, Fault::Chunked]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_shorter_than_the_blob_is_refused() {
    is_refused(MIB, [Fault::ContentLength(-10)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_nothing_is_refused() {
    // Of no bytes the last is there at once: whether it is taken back is a matter of luck where nobody saw to it.
    for _ in 0..10 {
        is_refused(1000, [Fault::ContentLength(-1000)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_promises_too_much_leaves_nothing_wrong_behind() {
    let (upstream, bytes, digest) = upstream_with_blob(MIB).await;
    upstream.on("/blobs/").times(1).fault(Fault::ContentLength(10));
    let proxy = Proxy::of(&upstream).await;
    let first = proxy.client().blob("library/a", digest).await;
    assert!(first.broken || !first.status.is_success() || first.body == bytes);
    assert!(proxy.client().blob("library/a", digest).await.bytes() == &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_body_of_unknown_length_is_served_and_kept() {
    let (upstream, bytes, digest) = upstream_with_blob(MIB).await;
    upstream.on("/blobs/").fault(Fault::Chunked);
    let proxy = Proxy::of(&upstream).await;
    for _ in 0..2 {
        assert!(proxy.client().blob("library/a", digest).await.bytes() == &bytes);
    }
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_who_reads_a_wrong_body_is_cut_off() {
    let (upstream, _, digest) = upstream_with_blob(MIB).await;
    let gate = Gate::closed();
    upstream.on("/blobs/").faults([Fault::WrongByte, Fault::Pause(MIB as u64 - 1, gate.clone())]);
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    let path = format!("library/a/blobs/{digest}");
    let open = join_all((0..4).map(|_| client.open(Method::GET, &path, &[]))).await;
    gate.open();
    for response in open {
        assert!(response.bytes().await.is_err(), "a wrong body ended cleanly");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_the_digest_asked_for_is_refused() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[]);
    let wrong = r#"{"schemaVersion":2,"layers":[]}"#;
    // Upstream answers the digest with a manifest of another one, and says nothing of it.
    upstream.manifest("library/b", "1", wrong, oci::media::OCI_MANIFEST);
    let elsewhere = format!("{}v2/library/b/manifests/1", upstream.url());
    upstream.on(&format!("/library/a/manifests/{}", image.digest)).fault(Fault::Redirect(elsewhere));
    let proxy = Proxy::of(&upstream).await;
    let answer = proxy.client().manifest("library/a", &image.digest.to_string()).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    answer.error();
    upstream.behave();
    let answer = proxy.client().manifest("library/a", &image.digest.to_string()).await;
    assert_eq!(answer.bytes(), &image.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_what_upstream_says_it_is_is_refused() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[]);
    let wrong = Digest::of(oci::Algorithm::Sha256, b"something else").to_string();
    upstream.on("/manifests/").fault(Fault::Header("docker-content-digest", wrong));
    let proxy = Proxy::of(&upstream).await;
    let answer = proxy.client().manifest("library/a", "1").await;
    // Asked for what it says to have, upstream may find that it is not there.
    assert!(answer.status.as_u16() >= 400, "{}: {}", answer.status, answer.text());
    answer.error();
    upstream.behave();
    let answer = proxy.client().manifest("library/a", "1").await;
    assert_eq!(answer.bytes(), &image.manifest);
    assert_eq!(answer.header("docker-content-digest"), image.digest.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn sha512_is_verified_as_well() {
    let upstream = Upstream::start().await;
    let bytes = noise(5, 100_000);
    let digest = upstream.blob_sha512("library/a", bytes.clone());
    upstream.on("/blobs/").times(1).fault(Fault::WrongByte);
    let proxy = Proxy::of(&upstream).await;
    useless(&proxy.client().blob("library/a", digest).await);
    assert!(proxy.client().blob("library/a", digest).await.bytes() == &bytes);
}
