//! Blobs in a bucket: where they are, and that a replica without a disk of its own finds them.

use harness::blob::Blob;
use harness::documents::Documents;
use harness::hostile::{Ca, Upstream, noise};
use harness::image::Image;
use harness::proxy::ProxyProcess;
use harness::registry::Registry;
use harness::s3::S3;
use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStoreExt, path::Path};
use oci::Digest;
use serde_json::json;

use crate::MIB;
use crate::ground::{client, files, prepared, proxy_of, settled};

/// Keeps blobs in the bucket `blobs` of this server.
pub(crate) fn store(documents: &mut Documents, s3: &S3, secret_key: &str) {
    documents.secret("s3", json!({"accessKeyID": S3::ACCESS_KEY, "secretAccessKey": secret_key}));
    documents.spec("DependencyProxy", "main")["storage"] = json!({"s3": {
        "bucket": "blobs", "region": S3::REGION, "endpoint": s3.endpoint(), "pathStyle": true,
        "credentialsSecretRef": {"name": "s3"},
    }});
}

fn bucket(s3: &S3) -> AmazonS3 {
    let builder = AmazonS3Builder::new().with_endpoint(s3.endpoint()).with_allow_http(true);
    let builder = builder.with_bucket_name("blobs").with_region(S3::REGION);
    builder.with_access_key_id(S3::ACCESS_KEY).with_secret_access_key(S3::SECRET_KEY).build().unwrap()
}

fn sharded(digest: &Digest) -> String {
    format!("sha256/{}/{}", &digest.hex()[..2], digest.hex())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_lies_under_the_documented_keys() {
    let (registry, s3) = tokio::join!(Registry::start(), S3::start());
    let folder = s3.bucket("blobs");
    let image = Image::oci();
    registry.repository("library/app").push(&image, "1.0").await;
    let proxy = ProxyProcess::new();
    let mut documents = Documents::new(&proxy.url());
    documents.add("RegistryUpstream", "upstream", json!({"url": registry.url(), "insecure": true}));
    documents.group("team-a", "upstream");
    store(&mut documents, &s3, S3::SECRET_KEY);
    let proxy = proxy.documents(&documents.yaml()).start().await;
    client(&proxy).pull("library/app", "1.0").await;
    settled(&proxy).await;

    let keys = files(&folder.join("dp.main/v1"));
    let mut digests: Vec<_> = image.blobs.iter().map(|blob| (blob.digest, blob.bytes.clone())).collect();
    let manifests = image.platforms.iter().chain([&image.top]);
    digests.extend(manifests.map(|manifest| (manifest.digest, manifest.bytes.clone())));
    for (digest, bytes) in &digests {
        let blob = folder.join("dp.main/v1/blobs").join(sharded(digest));
        assert!(std::fs::read(&blob).unwrap() == *bytes, "{} has other bytes", blob.display());
        let link = format!("_links/{}/", sharded(digest));
        let links: Vec<_> = keys.iter().filter_map(|key| key.strip_prefix(&link)).collect();
        let [link] = links.as_slice() else { panic!("{digest} has the links {links:?}") };
        let (origin, rest) = link.split_once('/').unwrap();
        assert!(origin.bytes().all(|b| b.is_ascii_hexdigit()), "{origin} is a fingerprint");
        assert_eq!(rest, "dp.team-a/library:app");
    }
    let tags: Vec<_> = keys.iter().filter(|key| key.starts_with("_tags/")).collect();
    let [tag] = tags.as_slice() else { panic!("one tag: {tags:?}") };
    assert!(tag.ends_with("/dp.team-a/library:app/1.0"), "{tag}");
    assert_eq!(keys.len(), digests.len() * 2 + 1, "blobs, links and a tag, and nothing else: {keys:#?}");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("dp.main/v1").join(tag)).unwrap()).unwrap();
    assert_eq!(record["digest"], image.digest().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_stands_before_every_key() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let folder = s3.bucket("blobs");
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    let proxy = proxy_of(&upstream, |d| {
        store(d, &s3, S3::SECRET_KEY);
        d.spec("DependencyProxy", "main")["storage"]["s3"]["prefix"] = json!("shared/registry");
    })
    .await;
    client(&proxy).pull("library/a", "1").await;
    settled(&proxy).await;
    let keys = files(&folder);
    let stray: Vec<_> = keys.iter().filter(|key| !key.starts_with("shared/registry/dp.main/v1/")).collect();
    assert!(stray.is_empty() && keys.len() >= 7, "{keys:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_goes_up_in_parts_and_is_one_object() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let _folder = s3.bucket("blobs");
    let bytes = noise(1, 20 * MIB + 1);
    let digest = upstream.blob("library/a", bytes.clone());
    let proxy = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    assert!(client(&proxy).blob("library/a", digest).await.bytes() == &bytes);
    settled(&proxy).await;
    let key = Path::from(format!("dp.main/v1/blobs/{}", sharded(&digest)));
    let object = bucket(&s3).get(&key).await.unwrap();
    // S3 ends the ETag of what came in parts with their number.
    let tag = object.meta.e_tag.clone().unwrap();
    assert!(tag.trim_matches('"').ends_with("-3"), "three parts of at most 8 MiB: {tag}");
    assert!(object.bytes().await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_with_an_empty_folder_serves_what_the_bucket_has() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let _folder = s3.bucket("blobs");
    let layer = noise(1, 9 * MIB);
    let image = upstream.image("library/a", "1", &[layer.clone(), noise(2, 1000)]);
    let first = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    client(&first).pull("library/a", "1").await;
    settled(&first).await;
    upstream.forget();

    let second = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    let client = client(&second);
    assert_eq!(client.pull("library/a", "1").await, 3);
    let part = client.range("library/a", image.layers[0], "bytes=8388600-8388699").await;
    assert_eq!((part.status.as_u16(), part.header("content-range")), (206, "bytes 8388600-8388699/9437184"));
    assert_eq!(part.bytes(), &layer[8_388_600..8_388_700]);
    let tail = client.range("library/a", image.layers[0], "bytes=-10").await;
    assert_eq!((tail.status.as_u16(), tail.bytes()), (206, &layer[layer.len() - 10..].to_vec().into()));
    assert_eq!(client.range("library/a", image.layers[0], "bytes=9437184-").await.status, 416);
    assert_eq!(upstream.count(Method::GET, "/library/"), 0, "everything was in the bucket");
    assert!(upstream.count(Method::HEAD, "/manifests/") >= 1, "the tag was checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_cached_is_served_by_another_while_upstream_is_away() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let _folder = s3.bucket("blobs");
    upstream.image("library/a", "1", &[noise(1, 1000)]);
    let first = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    client(&first).pull("library/a", "1").await;
    settled(&first).await;
    drop(first);
    upstream.stop().await;
    let second = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    client(&second).pull("library/a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_gives_no_rights_to_other_groups() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let _folder = s3.bucket("blobs");
    let digest = upstream.blob("private/a", noise(1, 1000));
    let proxy = proxy_of(&upstream, |d| {
        store(d, &s3, S3::SECRET_KEY);
        d.group("team-b", "upstream");
    })
    .await;
    client(&proxy).blob("private/a", digest).await.bytes();
    settled(&proxy).await;
    upstream.on("/blobs/").fault(harness::hostile::Fault::Status(403));
    let other = client(&proxy).group("team-b").blob("private/a", digest).await;
    assert_eq!(other.status, 404, "upstream says no to the other group: {}", other.text());
    assert_eq!(client(&proxy).blob("private/a", digest).await.bytes().len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_behind_a_private_ca_is_used_where_the_documents_bring_the_ca() {
    let ca = Ca::generate();
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start_tls(&ca));
    let folder = s3.bucket("blobs");
    let bytes = noise(1, 100_000);
    let digest = upstream.blob("library/a", bytes.clone());

    let distrusting = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    assert!(client(&distrusting).blob("library/a", digest).await.bytes() == &bytes);
    settled(&distrusting).await;
    assert!(distrusting.metric("store_operations_total{result=\"error\"}").await > 0.0);
    assert_eq!(files(&folder), Vec::<String>::new(), "nothing was sent to a server that nobody vouches for");

    let trusting = prepared(&upstream, |d| {
        store(d, &s3, S3::SECRET_KEY);
        d.config_map("ca", json!({"ca.crt": ca.pem}));
        d.spec("DependencyProxy", "main")["storage"]["s3"]["caConfigMapRef"] = json!({"name": "ca"});
    });
    let trusting = trusting.start().await;
    assert!(client(&trusting).blob("library/a", digest).await.bytes() == &bytes);
    settled(&trusting).await;
    assert_eq!(trusting.metric("store_operations_total{result=\"error\"}").await, 0.0, "{}", trusting.log());
    assert_eq!(std::fs::read(folder.join("dp.main/v1/blobs").join(sharded(&digest))).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clients_of_a_large_blob_share_one_upload() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let folder = s3.bucket("blobs");
    let blob = Blob::of(noise(1, 4 * MIB));
    upstream.blob("library/a", blob.bytes.clone());
    let proxy = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    let client = client(&proxy);
    let pulls = (0..16).map(|_| client.blob("library/a", blob.digest));
    for answer in futures_util::future::join_all(pulls).await {
        assert!(answer.bytes() == &blob.bytes);
    }
    settled(&proxy).await;
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
    // The blob, and the right to it.
    assert_eq!(proxy.metric("store_operations_total{operation=\"put\"}").await, 2.0);
    assert_eq!(files(&folder.join("dp.main/v1/blobs")).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_somebody_took_out_of_the_bucket_is_fetched_again() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let folder = s3.bucket("blobs");
    let bytes = noise(1, 100_000);
    let digest = upstream.blob("library/a", bytes.clone());
    let first = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    client(&first).blob("library/a", digest).await.bytes();
    settled(&first).await;
    let object = folder.join("dp.main/v1/blobs").join(sharded(&digest));
    std::fs::remove_file(&object).unwrap();
    let second = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    assert!(client(&second).blob("library/a", digest).await.bytes() == &bytes);
    settled(&second).await;
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 2);
    assert_eq!(std::fs::read(&object).unwrap(), bytes, "it is there again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_comes_out_of_the_bucket_as_one() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let _folder = s3.bucket("blobs");
    let digest = upstream.blob("library/a", Vec::new());
    for _ in 0..2 {
        let proxy = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
        let answer = client(&proxy).blob("library/a", digest).await;
        assert_eq!((answer.bytes().len(), answer.header("content-length")), (0, "0"));
        settled(&proxy).await;
    }
    assert_eq!(upstream.count(Method::GET, "/blobs/"), 1);
}
