//! `purge` against a running proxy.

use harness::hostile::{Upstream, noise};
use harness::proxy::ProxyProcess;
use http::Method;

use crate::ground::{client, printed, proxy_of, run, settled};

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
