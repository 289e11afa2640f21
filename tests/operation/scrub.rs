//! `cleanup --verify` of a bucket that does not give one of its blobs.

use http::Method;
use serde_json::{Value, json};

use crate::cleanup::Instance;
use crate::refusing::Refusing;

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_the_store_does_not_give_keeps_nobody_from_checking_the_others() {
    let instance = Instance::start(|_| {}).await;
    let image = instance.pull("library/a").await;
    let reads = |head: &http::request::Parts, _: &[u8], hex: &str| {
        head.method == Method::GET && head.uri.path().ends_with(hex)
    };
    let archive = Refusing::start(instance.s3.endpoint(), reads, &image.layers[0].hex()).await;
    instance.document(|d| {
        d.spec("DependencyProxy", "main")["storage"]["s3"]["endpoint"] = json!(archive.endpoint);
    });
    let report = tokio::task::block_in_place(|| instance.cleanup(&["--verify"]));
    let verified = &report["verified"];
    assert_eq!((&verified["blobs"], &verified["unreadable"]), (&json!(2), &json!(1)), "{report}");
    assert_eq!((&verified["damaged"], &verified["unfinished"]), (&json!(0), &json!(false)), "{report}");
    assert!(instance.blob(&image.layers[0]).exists(), "it may only have been archived");
    let noted = std::fs::read(instance.root.join("_cleanup")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&noted).unwrap(), report);
}
