//! Nothing is altered: manifests byte for byte, all platforms, media types as upstream has them.

use std::time::Duration;

use harness::hostile::{Upstream, noise};
use harness::server::Proxy;
use http::Method;
use oci::{Algorithm, Digest, media};

/// Valid JSON that no serializer would write.
const ODD: &str = "{\n   \"schemaVersion\" :2,\t\"layers\":[ ],\"x\":\"\\u00e9 é\", \"x-unknown\":{\"b\":1,\"a\":1.50}}\r\n ";

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_passes_byte_for_byte_with_its_type_and_digest() {
    let upstream = Upstream::start().await;
    let types = [
        media::OCI_MANIFEST,
        media::DOCKER_MANIFEST,
        media::OCI_ARTIFACT,
        "application/vnd.acme.manifest.v9+json",
    ];
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    for (n, media_type) in types.into_iter().enumerate() {
        let bytes = format!("{ODD}{}", " ".repeat(n));
        let digest = upstream.manifest("library/a", "1", bytes.clone(), media_type);
        for reference in ["1", "1", &digest.to_string()] {
            let answer = client.manifest("library/a", reference).await;
            assert_eq!(answer.bytes(), bytes.as_bytes());
            assert_eq!(answer.header("content-type"), media_type);
            assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            let head = client.head("library/a", reference).await;
            assert_eq!(head.header("content-length"), bytes.len().to_string());
            assert_eq!(head.header("content-type"), media_type);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_passed_on_whatever_the_client_accepts() {
    let upstream = Upstream::start().await;
    let index = upstream.index("library/a", "1");
    let proxy = Proxy::of(&upstream).await;
    for accept in [media::OCI_INDEX, media::DOCKER_MANIFEST, "*/*", "text/html"] {
        let answer = proxy.client().send(Method::GET, "library/a/manifests/1", &[("accept", accept)]).await;
        assert_eq!(answer.bytes(), &index.manifest, "{accept}");
        assert_eq!(answer.header("content-type"), media::OCI_INDEX);
    }
    let asked = upstream.requests();
    let all = [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_LIST, media::DOCKER_MANIFEST];
    for request in asked.iter().filter(|r| r.path.contains("/manifests/")) {
        let accept = request.header("accept").unwrap_or_default();
        assert!(
            all.iter().all(|media_type| accept.contains(media_type)),
            "upstream is told to choose: {accept}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_compressed_answers_gets_none() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[vec![0; 100_000]]);
    let proxy = Proxy::of(&upstream).await;
    for path in ["library/a/manifests/1".to_owned(), format!("library/a/blobs/{}", image.layers[0])] {
        for _ in 0..2 {
            let answer =
                proxy.client().send(Method::GET, &path, &[("accept-encoding", "gzip, zstd, br")]).await;
            assert_eq!(answer.header("content-encoding"), "");
            let length = if path.contains("/blobs/") { 100_000 } else { image.manifest.len() };
            assert_eq!(answer.bytes().len(), length);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_may_be_asked_for_by_sha512() {
    let upstream = Upstream::start().await;
    let bytes = noise(1, 5000);
    let blob = upstream.blob_sha512("library/a", bytes.clone());
    let proxy = Proxy::of(&upstream).await;
    for _ in 0..2 {
        let answer = proxy.client().blob("library/a", blob).await;
        assert!(answer.bytes() == &bytes);
        assert_eq!(answer.header("docker-content-digest"), blob.to_string());
    }
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
    assert_eq!(blob, Digest::of(Algorithm::Sha512, &bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_says_where_it_came_from() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(1, 1000)]);
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    let tag = || client.manifest("library/a", "1");
    let blob = || client.blob("library/a", image.layers[0]);
    assert_eq!(tag().await.header("x-cache"), "miss");
    assert_eq!(tag().await.header("x-cache"), "revalidated");
    assert_eq!(blob().await.header("x-cache"), "miss");
    // Who comes while the download is being put away still reads from it.
    while proxy.sum("dependency_proxy_fills_in_flight", &[]).await > 0.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(blob().await.header("x-cache"), "hit");
    upstream.stop().await;
    assert_eq!(tag().await.header("x-cache"), "stale");
    for (kind, result, n) in
        [("manifest", "miss", 1.0), ("manifest", "stale", 1.0), ("blob", "hit", 1.0), ("blob", "miss", 1.0)]
    {
        let (kind, result) = (format!("kind=\"{kind}\""), format!("result=\"{result}\""));
        let labels = ["group=\"team-a\"", kind.as_str(), result.as_str()];
        assert_eq!(proxy.sum("dependency_proxy_requests_total", &labels).await, n, "{kind} {result}");
    }
    let served = |source: &'static str| async {
        proxy.sum("dependency_proxy_served_bytes_total", &["kind=\"blob\"", source]).await
    };
    assert_eq!((served("source=\"upstream\"").await, served("source=\"cache\"").await), (1000.0, 1000.0));
}
