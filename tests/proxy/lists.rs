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
    assert_eq!(answer.error().0, "NAME_UNKNOWN");
    for query in ["n=-1".to_owned(), "n=abc".to_owned(), format!("last={}", "x".repeat(4000))] {
        let answer = proxy.client().send(Method::GET, &format!("library/a/tags/list?{query}"), &[]).await;
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_away_does_not_make_a_name_unknown() {
    let upstream = Upstream::start().await;
    upstream.on("/tags/").fault(Fault::Status(503));
    let proxy = Proxy::of(&upstream).await;
    let answer = proxy.client().send(Method::GET, "library/a/tags/list", &[]).await;
    answer.refused(503, "UNAVAILABLE", "upstream is not available (503)");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_passed_on_whatever_their_parameters() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "t1", &[]);
    let link = "<https://elsewhere.example/v2/x/tags/list?next_page=gA%3D%3D&last=%22%3E%0d%0aX-Evil:1>; rel=\"next\"";
    upstream.on("/tags/").times(1).fault(Fault::Header("link", link.to_owned()));
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    let path = "library/a/tags/list?ns=127.0.0.1&n=99999999999999999999";
    let host = upstream.address().to_string();
    let answer = client.send(Method::GET, &path.replace("127.0.0.1", &host), &[]).await;
    assert_eq!(upstream.requests().last().unwrap().query.as_deref(), Some("n=1000"));
    assert_eq!(answer.header("oci-namespace"), host);
    let ours = "library/a/tags/list?next_page=gA%3D%3D&last=%22%3E%0D%0AX-Evil%3A1&ns=";
    let expected = format!("<{}{}>; rel=\"next\"", client.path(ours), host.replace(':', "%3A"));
    assert_eq!(answer.header("link"), expected);
    assert!(answer.headers.get("x-evil").is_none());
    client.send(Method::GET, &format!("{ours}{host}"), &[]).await;
    let passed_on = "next_page=gA%3D%3D&last=%22%3E%0D%0AX-Evil%3A1";
    assert_eq!(upstream.requests().last().unwrap().query.as_deref(), Some(passed_on));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_page_comes_from_the_upstream_of_the_first() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    for tag in ["t1", "t2", "t3"] {
        second.image("app/a", tag, &[]);
    }
    let builder = Proxy::builder().upstream("first", &first).upstream("second", &second).group("team-a");
    let proxy = builder.registry("hub", "team-a", &["first", "second"]).start().await;
    let client = proxy.client().registry("dp.hub");
    let page = client.send(Method::GET, "app/a/tags/list?n=1", &[]).await;
    assert_eq!(page.json()["tags"], json!(["t1"]));
    // Now the first has one, too: other tags, which would never fit together.
    first.image("app/a", "t0", &[]);
    assert_eq!(pages(&client, "app/a/tags/list?n=2").await, [["t0"]]);
    let link = page.header("link").split(['<', '>']).nth(1).unwrap().to_owned();
    let rest = link.split_once(&client.path("")).unwrap().1.to_owned();
    assert_eq!(pages(&client, &rest).await, [["t2"], ["t3"]]);
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
    for status in [400, 404, 405, 501] {
        upstream.on("/referrers/").times(1).fault(Fault::Status(status));
        let proxy = Proxy::of(&upstream).await;
        assert!(referrers(&proxy, subject).await.is_empty(), "{status}");
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn referrers_come_from_all_pages() {
    let upstream = Upstream::start().await;
    let (subject, _) = signed(&upstream);
    let next = |page: usize| Fault::Header("link", format!("</v2/x?page={page}>; rel=\"next\""));
    upstream.on("/referrers/").times(1).fault(next(2));
    upstream.on("/referrers/").times(1).fault(next(3));
    let proxy = Proxy::of(&upstream).await;
    assert_eq!(referrers(&proxy, subject).await.len(), 3, "the same one on each page");
    let asked: Vec<_> = upstream.requests().into_iter().filter(|r| r.path.contains("/referrers/")).collect();
    assert_eq!(
        asked.iter().map(|r| r.query.as_deref()).collect::<Vec<_>>(),
        [None, Some("page=2"), Some("page=3")]
    );

    // What is more than ten pages is for the client to follow; one that leads to itself is followed once.
    for page in 2..30 {
        upstream.on("/referrers/").times(1).fault(next(page));
    }
    let path = format!("library/a/referrers/{subject}");
    let answer = proxy.client().send(Method::GET, &path, &[]).await;
    assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 10);
    let link = format!("<{}?page=11>; rel=\"next\"", proxy.client().path(&path));
    assert_eq!(answer.header("link"), link);
    upstream.behave();
    upstream.on("/referrers/").fault(next(2));
    assert_eq!(referrers(&proxy, subject).await.len(), 2);
}
