//! `purge` against a running proxy.

use harness::hostile::{Upstream, noise};
use harness::proxy::ProxyProcess;
use harness::s3::S3;
use http::Method;
use serde_json::json;

use crate::ground::{admin, client, files, printed, proxy_of, run, settled};
use crate::refusing::Refusing;
use crate::s3::store;

/// The exit code, and what it said.
fn purge(proxy: &ProxyProcess, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["purge", "--admin", proxy.admin_url()], arguments].concat());
    (output.status.code(), printed(&output) + &String::from_utf8_lossy(&output.stderr))
}

async fn proxy() -> (Upstream, ProxyProcess) {
    let upstream = Upstream::start().await;
    let proxy = proxy_of(&upstream, |d| d.registry("hub", "team-a", &["upstream"])).await;
    for (name, seed) in [("library/a", 1), ("library/b", 2)] {
        upstream.image(name, "1", &[noise(seed, 1000)]);
        client(&proxy).pull(name, "1").await;
    }
    settled(&proxy).await;
    upstream.forget();
    (upstream, proxy)
}

/// Waits until the log says that it is done, and pulls both images; how often each was asked of upstream.
async fn fetched_again(upstream: &Upstream, proxy: &ProxyProcess) -> [usize; 2] {
    while !proxy.log().contains("purged") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for name in ["library/a", "library/b"] {
        client(proxy).pull(name, "1").await;
    }
    ["library/a", "library/b"].map(|name| upstream.count(Method::GET, &format!("{name}/blobs/")))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cached_of_a_group_a_registry_or_an_upstream_is_forgotten() {
    for target in ["--group=dp/team-a", "--registry=dp.hub", "--upstream=dp/upstream"] {
        let (upstream, proxy) = proxy().await;
        let (code, said) = purge(&proxy, &[target]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("is being forgotten; the log says when it is"), "{said}");
        assert!(fetched_again(&upstream, &proxy).await.iter().all(|count| *count > 0), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_can_be_forgotten_alone() {
    let (upstream, proxy) = proxy().await;
    let (code, said) = purge(&proxy, &["--group=dp/team-a", "--image=a"]);
    assert_eq!(code, Some(0), "{said}");
    let [a, b] = fetched_again(&upstream, &proxy).await;
    assert!(a > 0 && b == 0, "{a} and {b}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_understood_is_refused_and_nothing_is_forgotten() {
    let (_upstream, proxy) = proxy().await;
    for (arguments, code, sentence) in [
        (&["--group=dp/none"][..], 1, "This instance does not serve group dp/none."),
        (&["--upstream=none"], 1, "Name one group or upstream as namespace/name"),
        (&["--group=dp/team-a", "--image=A"], 1, "a repository name is lower case"),
        (&["--group=dp/team-a", "--tag=1"], 2, "--image"),
        (&[], 2, "--group"),
    ] {
        let (got, said) = purge(&proxy, arguments);
        assert_eq!(got, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }
    assert!(!proxy.log().contains("purging"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_purged_when_the_right_to_its_manifest_is_though_the_store_refused_at_first() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let root = s3.bucket("blobs").join("dp.main/v1");
    let image = upstream.image("library/a", "1", &[noise(1, 1000)]);
    let deletes_rights = |head: &http::request::Parts, body: &[u8], kind: &str| {
        head.method == Method::POST && String::from_utf8_lossy(body).contains(kind)
    };
    let refusing = Refusing::start(s3.endpoint(), deletes_rights, "/_links/").await;
    let proxy = proxy_of(&upstream, |d| {
        store(d, &s3, S3::SECRET_KEY);
        d.spec("DependencyProxy", "main")["storage"]["s3"]["endpoint"] = json!(refusing.endpoint);
    })
    .await;
    client(&proxy).pull("library/a", "1").await;
    settled(&proxy).await;
    let rights = || {
        let rights = files(&root.join("_links"));
        rights.iter().filter(|file| file.contains(&image.digest.hex())).count()
    };
    assert_eq!(rights(), 1);
    let (code, said) = purge(&proxy, &["--group=dp/team-a", "--image=library/a", "--tag=1"]);
    assert_eq!(code, Some(0), "{said}");
    while refusing.count() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    refusing.behave();
    while !proxy.log().contains("purged") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!((rights(), files(&root.join("_tags")).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_wait_for_their_turn_and_no_more_than_a_hundred_do() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let _root = s3.bucket("blobs");
    let proxy = proxy_of(&upstream, |d| store(d, &s3, S3::SECRET_KEY)).await;
    let ask = async |image: usize| {
        let path = format!("/purge?group=dp/team-a&image=library/{image}");
        admin(&proxy, Method::PUT, &path, "").await
    };
    s3.pause();
    assert_eq!(ask(0).await.0, 202);
    let mut refused = 0;
    // One is being done, or about to be.
    for image in 1..=102 {
        let (status, said) = ask(image).await;
        if status != 202 {
            assert!(status == 429 && said.contains("Too many purges wait for their turn"), "{status} {said}");
            refused += 1;
        }
    }
    assert!((2..=3).contains(&refused), "{refused} were refused");
    assert_eq!(ask(50).await.0, 202, "the same as one that waits is done with it");
    s3.resume();
}
