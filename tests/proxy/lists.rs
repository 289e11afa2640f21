//! `tags/list` and `referrers`, as the distribution-spec has them.

use harness::hostile::{Fault, Upstream};
use harness::pull::Client;
use harness::server::Proxy;
use http::Method;
use oci::{Digest, media};
use serde_json::{Value, json};

/// All pages, each found through the `Link` of the one before.
async fn pages(client: &Client, first: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut answer = client.send(Method::GET, first, &[]).await;
    loop {
        let tags = answer.json()["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t.as_str().unwrap().to_owned())
            .collect();
        pages.push(tags);
        let link = answer.header("link").to_owned();
        let Some(next) = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\"")) else {
            return pages;
        };
        let rest = next.split_once(&client.path("")).unwrap_or_else(|| panic!("{next} leads elsewhere")).1;
        answer = client.send(Method::GET, rest, &[]).await;
        assert!(pages.len() < 20, "pages without end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_in_pages_that_lead_back_to_us() {
    let upstream = Upstream::start().await;
    let digest = upstream.image("library/a", "t1", &[]).digest;
    for tag in ["t2", "t3", "t4", "t5"] {
        upstream.retag("library/a", tag, digest);
    }
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    assert_eq!(pages(&client, "library/a/tags/list").await.concat(), ["t1", "t2", "t3", "t4", "t5"]);
    let found = pages(&client, "library/a/tags/list?n=2").await;
    assert_eq!(found, [vec!["t1", "t2"], vec!["t3", "t4"], vec!["t5"]]);
    let name = client.send(Method::GET, "library/a/tags/list", &[]).await.json()["name"].clone();
    assert_eq!(name, "team-a/dependency_proxy/containers/library/a", "the name as the client knows it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_upstream_does_not_know_has_no_tags() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::of(&upstream).await;
    let answer = proxy.client().send(Method::GET, "library/a/tags/list", &[]).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    answer.error();
    for query in ["n=-1", "n=abc", "last=.."] {
        let answer = proxy.client().send(Method::GET, &format!("library/a/tags/list?{query}"), &[]).await;
        assert!(answer.status.is_client_error(), "{query}: {}", answer.status);
    }
}

/// library/a:1 with a signature that refers to it; returns the digests of both.
fn signed(upstream: &Upstream) -> (Digest, Digest) {
    let subject = upstream.image("library/a", "1", &[]);
    let signature = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": "application/vnd.example.signature",
        "config": {}, "layers": [],
        "subject": {"mediaType": media::OCI_MANIFEST, "digest": subject.digest.to_string(), "size": subject.manifest.len()},
    });
    let digest = upstream.manifest("library/a", "signature", signature.to_string(), media::OCI_MANIFEST);
    (subject.digest, digest)
}

async fn referrers(proxy: &Proxy, subject: Digest) -> Vec<Value> {
    let answer = proxy.client().send(Method::GET, &format!("library/a/referrers/{subject}"), &[]).await;
    assert_eq!(answer.header("content-type"), media::OCI_INDEX);
    answer.json()["manifests"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_of_an_image_are_upstreams() {
    let upstream = Upstream::start().await;
    let (subject, signature) = signed(&upstream);
    let proxy = Proxy::of(&upstream).await;
    let found = referrers(&proxy, subject).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["digest"], signature.to_string());
    assert_eq!(proxy.client().manifest("library/a", &signature.to_string()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_the_referrers_api_is_asked_by_tag() {
    let upstream = Upstream::start().await;
    let (subject, signature) = signed(&upstream);
    upstream.on("/referrers/").fault(Fault::Status(404));
    let proxy = Proxy::of(&upstream).await;
    assert!(referrers(&proxy, subject).await.is_empty(), "no such tag either: an empty index, never 404");
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX,
        "manifests": [{"mediaType": media::OCI_MANIFEST, "digest": signature.to_string(), "size": 1}]});
    let tag = subject.to_string().replace(':', "-");
    upstream.manifest("library/a", &tag, index.to_string(), media::OCI_INDEX);
    // Another proxy: this one may remember that there was none.
    let proxy = Proxy::of(&upstream).await;
    assert_eq!(referrers(&proxy, subject).await[0]["digest"], signature.to_string());
}
