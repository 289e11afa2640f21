//! What a tag that is pulled all day costs of upstream's quota.

use std::time::Duration;

use harness::hostile::Upstream;
use harness::server::Proxy;
use http::Method;
use serde_json::Value;

use crate::figure::Figure;

const IMAGE: &str = "library/node";

/// The proxy runs in this process, where its clock can be moved.
pub(crate) async fn node_latest() -> Figure {
    let upstream = Upstream::start().await;
    upstream.index(IMAGE, "latest");
    let builder = Proxy::builder().upstream("upstream", &upstream).group("team-a");
    let proxy = builder.manual_clock().start().await;
    let mut gets = Vec::new();
    for _ in 0..2 {
        upstream.forget();
        // Six hours, the last pull at their end.
        for _ in 0..=72 {
            pull(&proxy).await;
            proxy.advance(Duration::from_secs(300));
        }
        gets.push(upstream.count(Method::GET, "/manifests/"));
        let changed = upstream.index(IMAGE, "next");
        upstream.retag(IMAGE, "latest", changed.digest);
    }
    Figure {
        name: "node:latest every five minutes for six hours (fake clock): manifest GETs upstream",
        asked: "2, and after one change 2 more",
        measured: format!("{}, and {} more", gets[0], gets[1]),
        ok: gets == [2, 2],
        how: "index and child, 73 pulls and 73 more; the proxy in this process".to_owned(),
    }
}

/// The index and the manifest of one platform, as a client fetches them.
async fn pull(proxy: &Proxy) {
    let client = proxy.client();
    let index: Value = client.manifest(IMAGE, "latest").await.json();
    let child = index["manifests"][0]["digest"].as_str().expect("a digest");
    client.manifest(IMAGE, child).await.bytes();
}
