//! The harness's own parts do what the other tests build on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground is missing"
)]

use harness::blob::Blob;
use harness::image::Image;
use harness::registry::Registry;
use harness::s3::S3;
use harness::tool;
use http::{Method, StatusCode};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, path::Path};
use oci::media;

#[tokio::test]
async fn a_registry_gives_back_what_was_pushed_and_counts_what_it_answered() {
    let registry = Registry::start().await;
    let repository = registry.repository("team/app");
    let image = Image::oci();
    repository.push(&image, "1").await;

    let (bytes, media_type) = repository.manifest("1").await;
    assert_eq!((bytes, media_type.as_str()), (image.top.bytes.clone(), media::OCI_INDEX));
    assert_eq!(repository.blob(&image.blobs[0].digest).await, image.blobs[0].bytes);
    assert_eq!(registry.gets("/blobs/").await, 1);
    assert_eq!(registry.gets("/manifests/1").await, 1);
    assert_eq!(registry.heads("/manifests/").await, 0);
}

#[tokio::test]
async fn a_restarted_registry_has_its_address_its_content_and_its_counts() {
    let mut registry = Registry::start().await;
    let repository = registry.repository("app");
    let image = Image::docker();
    repository.push(&image, "1").await;
    repository.manifest("1").await;

    registry.stop();
    assert!(repository.request(Method::GET, "manifests/1").send().await.is_err());
    registry.restart().await;
    let (bytes, media_type) = repository.manifest("1").await;
    assert_eq!((bytes, media_type.as_str()), (image.top.bytes.clone(), media::DOCKER_LIST));
    assert_eq!(registry.gets("/manifests/1").await, 2);
}

#[tokio::test]
async fn a_registry_with_an_account_refuses_everyone_else() {
    let registry = Registry::new().with_htpasswd("ci", "secret").started().await;
    let digest = registry.repository("app").push(&Image::oci(), "1").await;
    let anonymous = harness::repository::Repository::new(&registry.url(), "app", None);
    let refused = anonymous.request(Method::GET, &format!("manifests/{digest}")).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_registry_as_proxy_fetches_a_blob_once() {
    let origin = Registry::start().await;
    let image = Image::oci();
    origin.repository("app").push(&image, "1").await;
    let proxy = Registry::new().as_proxy_of(&origin.url()).started().await;
    let blob = &image.blobs[1];
    for _ in 0..2 {
        assert_eq!(proxy.repository("app").blob(&blob.digest).await, blob.bytes);
    }
    assert_eq!(origin.gets("/blobs/").await, 1);
}

#[tokio::test]
async fn debians_registry_takes_both_families_of_images() {
    if tool::left_out(&["docker-registry"], false) {
        return;
    }
    let registry = Registry::debian().await;
    let repository = registry.repository("app");
    for image in [Image::oci(), Image::docker()] {
        let digest = repository.push(&image, "1").await;
        assert_eq!(repository.manifest("1").await.0, image.top.bytes);
        assert_eq!(repository.manifest(&digest.to_string()).await.0, image.top.bytes);
    }
    assert_eq!(registry.gets("/manifests/").await, 4);
}

#[tokio::test]
async fn charts_artifacts_and_referrers_are_pushed() {
    let registry = Registry::start().await;
    let repository = registry.repository("charts/web");
    let chart = Image::helm_chart("web");
    repository.push(&chart, "0.1.0").await;
    let signature = Image::referrer("application/vnd.example.signature", Blob::random(100), &chart.top);
    let digest = repository.push_referrer(&signature, &chart.top).await;

    let fallback = chart.digest().to_string().replace(':', "-");
    let (list, media_type) = repository.manifest(&fallback).await;
    assert_eq!(media_type, media::OCI_INDEX);
    assert!(String::from_utf8_lossy(&list).contains(&digest.to_string()));
}

#[tokio::test]
async fn the_s3_server_keeps_objects_over_a_restart() {
    let mut s3 = S3::start().await;
    let folder = s3.bucket("blobs");
    let store = AmazonS3Builder::new()
        .with_endpoint(s3.endpoint())
        .with_allow_http(true)
        .with_bucket_name("blobs")
        .with_region(S3::REGION)
        .with_access_key_id(S3::ACCESS_KEY)
        .with_secret_access_key(S3::SECRET_KEY)
        .build()
        .unwrap();
    let key = Path::from("a/b");
    store.put(&key, "content".into()).await.unwrap();
    s3.restart().await;
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "content");
    assert_eq!(std::fs::read(folder.join("a/b")).unwrap(), b"content");
}
