//! Malformed input: a 4xx in OCI JSON, nothing else, and the proxy goes on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::hostile::{Image, Upstream, noise};
use harness::pull::raw;
use harness::server::Proxy;
use http::Method;

async fn proxy() -> (Upstream, Image, Proxy) {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(1, 1000)]);
    let proxy = Proxy::of(&upstream).await;
    proxy.client().pull("library/a", "1").await;
    upstream.forget();
    (upstream, image, proxy)
}

const PREFIX: &str = "/v2/team-a/dependency_proxy/containers/";

/// Sends this target as it is, signed in; asserts a 4xx in OCI JSON, and returns the status.
async fn is_refused(proxy: &Proxy, method: &str, target: &[u8], headers: &str) -> u16 {
    let basic = STANDARD.encode("alice:alice-password");
    let mut request = format!("{method} ").into_bytes();
    request.extend_from_slice(target);
    let head =
        format!(" HTTP/1.1\r\nhost: x\r\nauthorization: Basic {basic}\r\n{headers}connection: close\r\n\r\n");
    request.extend_from_slice(head.as_bytes());
    let (status, answer) = raw(proxy.address(), &request).await;
    let is_uri = http::Uri::try_from(target).is_ok() && target.is_ascii();
    let target = String::from_utf8_lossy(&target[..target.len().min(200)]).into_owned();
    assert!((400..500).contains(&status), "{method} {target}: {status} {answer}");
    let body = answer.split_once("\r\n\r\n").unwrap_or_default().1;
    let document = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
    // What is no HTTP is answered below the application, without a body.
    let is_http = is_uri && status != 431 && status != 414;
    assert!(!is_http || document["errors"][0]["code"].is_string(), "{method} {target}: {status} {body:?}");
    status
}

/// The same for a GET of a path below the group's prefix.
async fn is_refused_in_group(proxy: &Proxy, path: &str) {
    is_refused(proxy, "GET", format!("{PREFIX}{path}").as_bytes(), "").await;
}

async fn still_serves(upstream: &Upstream, proxy: &Proxy) {
    assert_eq!(upstream.requests().len(), 0, "nothing of it reached upstream: {:?}", upstream.requests());
    proxy.client().pull("library/a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_names_are_refused() {
    let (upstream, _, proxy) = proxy().await;
    for name in [
        "Library/a",
        "library/A",
        "../a",
        "library/../a",
        "library//a",
        "library/./a",
        ".a",
        "a.",
        "a..b",
        "a___b",
        "-a",
        "library/a%00",
        "%2e%2e/a",
        "%2E%2E%2Fa",
        "library%2F..%2Fa",
        "a%2f..%2f..%2fetc",
        "a%5c..%5cb",
        "a%0d%0ab",
        "%zz",
        "%",
        "a%",
        "a%2",
        "%c3%28",
        "%ff",
        "a%20b",
        "a+b",
        "a:b",
        "a@b",
        "é",
        "a;b",
        "a'b",
        "a\"b",
        "a<b>",
        "a|b",
        "",
    ] {
        is_refused_in_group(&proxy, &format!("{name}/manifests/1")).await;
    }
    is_refused_in_group(&proxy, &format!("{}/manifests/1", "a".repeat(256))).await;
    is_refused_in_group(&proxy, &format!("{}a/manifests/1", "a/".repeat(200))).await;
    for path in [
        "/v2/Team-A/dependency_proxy/containers/library/a/manifests/1",
        "/v2/../etc/passwd",
        "/v2//manifests/1",
    ] {
        is_refused(&proxy, "GET", path.as_bytes(), "").await;
    }
    still_serves(&upstream, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_tags_and_digests_are_refused() {
    let (upstream, _, proxy) = proxy().await;
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let digests = [
        "sha256:".to_owned(),
        "sha256:abc".to_owned(),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha512:{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("sha256:{}%2F..", &hex[..60]),
        "sha256:..%2F..%2Fetc%2Fpasswd".to_owned(),
        format!("sha256:{}%00", &hex[..63]),
        format!(":{hex}"),
        hex.to_owned(),
    ];
    for digest in &digests {
        is_refused_in_group(&proxy, &format!("library/a/blobs/{digest}")).await;
        is_refused_in_group(&proxy, &format!("library/a/referrers/{digest}")).await;
        if digest.contains(':') {
            is_refused_in_group(&proxy, &format!("library/a/manifests/{digest}")).await;
        }
    }
    let long = "a".repeat(129);
    for tag in [".a", "-a", "..", "a%2Fb", "a%00", "a%20b", "%0a", "é", "a*", "", &long] {
        is_refused_in_group(&proxy, &format!("library/a/manifests/{tag}")).await;
    }
    still_serves(&upstream, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_are_no_http_are_refused() {
    let (upstream, _, proxy) = proxy().await;
    let long = format!("{PREFIX}{}/manifests/1", "a".repeat(64 * 1024));
    is_refused(&proxy, "GET", long.as_bytes(), "").await;
    let path = |middle: &[u8]| [PREFIX.as_bytes(), middle, b"/manifests/1"].concat();
    for middle in [&b"a\0b"[..], b"a b", b"a\xffb", b"a\x7fb"] {
        is_refused(&proxy, "GET", &path(middle), "").await;
    }
    let header = format!("x-long: {}\r\n", "a".repeat(200 * 1024));
    is_refused(&proxy, "GET", &path(b"library/a"), &header).await;
    still_serves(&upstream, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_are_refused_as_unsupported() {
    let (upstream, image, proxy) = proxy().await;
    let digest = image.layers[0];
    let requests = [
        (Method::PUT, "library/a/manifests/1".to_owned()),
        (Method::DELETE, "library/a/manifests/1".to_owned()),
        (Method::DELETE, format!("library/a/manifests/{}", image.digest)),
        (Method::DELETE, format!("library/a/blobs/{digest}")),
        (Method::POST, "library/a/blobs/uploads/".to_owned()),
        (Method::POST, format!("library/a/blobs/uploads/?mount={digest}&from=library/b")),
        (Method::PATCH, "library/a/blobs/uploads/1234".to_owned()),
        (Method::PUT, format!("library/a/blobs/uploads/1234?digest={digest}")),
    ];
    let basic = format!("Basic {}", STANDARD.encode("alice:alice-password"));
    for (method, path) in requests {
        let client = proxy.client();
        let answer =
            client.plain(method.clone(), &client.path(&path), &[("authorization", &basic)], "{}").await;
        assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("allow"), "GET, HEAD");
        assert_eq!(answer.error().0, "UNSUPPORTED");
    }
    still_serves(&upstream, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_are_malformed_or_cannot_be_met_are_refused() {
    let (_upstream, image, proxy) = proxy().await;
    let client = proxy.client();
    for range in ["bytes=1000-", "bytes=1000-1001", "bytes=5000-6000", "bytes=-0"] {
        let answer = client.range("library/a", image.layers[0], range).await;
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(answer.header("content-range"), "bytes */1000", "{range}");
        answer.error();
    }
    for range in [
        "bytes=5-2",
        "bytes=a-b",
        "bytes=",
        "bytes=-",
        "bytes=1",
        "bytes=99999999999999999999-",
        "bytes=0x1-2",
    ] {
        let answer = client.range("library/a", image.layers[0], range).await;
        assert!(answer.status.is_client_error(), "{range}: {}", answer.status);
        answer.error();
    }
    let many = format!("bytes={}", (0..500).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(","));
    let answer = client.range("library/a", image.layers[0], &many).await;
    assert!(answer.status == 416 || answer.status == 400 || answer.body.len() == 1000, "{}", answer.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_no_range() {
    let (_upstream, image, proxy) = proxy().await;
    let path = format!("library/a/blobs/{}", image.layers[0]);
    for range in ["bytes=0-9", "bytes=5000-"] {
        let answer = proxy.client().send(Method::HEAD, &path, &[("range", range)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, "1000"), "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named_by_its_kind() {
    let (_upstream, _, proxy) = proxy().await;
    let digest = oci::Digest::of(oci::Algorithm::Sha256, b"nowhere");
    let client = proxy.client();
    assert_eq!(client.blob("library/a", digest).await.error().0, "BLOB_UNKNOWN");
    assert_eq!(client.manifest("library/a", &digest.to_string()).await.error().0, "MANIFEST_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_can_be_met_are() {
    let (_upstream, image, proxy) = proxy().await;
    let client = proxy.client();
    let bytes = noise(1, 1000);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-999", 0, 999),
        ("bytes=999-5000", 999, 999),
        ("bytes=-1", 999, 999),
        ("bytes=-5000", 0, 999),
    ] {
        let answer = client.range("library/a", image.layers[0], range).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-range")),
            (206, &*format!("bytes {first}-{last}/1000"))
        );
        assert_eq!(answer.bytes(), &bytes[first..=last]);
    }
    let other = client.range("library/a", image.layers[0], "lines=1-2").await;
    assert_eq!((other.status.as_u16(), other.bytes()), (200, &bytes.into()), "unknown units are ignored");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_authorization_is_no_authorization() {
    let (_upstream, _, proxy) = proxy().await;
    let client = proxy.client();
    let path = client.path("library/a/manifests/1");
    let control = STANDARD.encode("alice\n:x");
    let no_colon = STANDARD.encode("alice");
    for value in [
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YQ",
        &format!("Basic {no_colon}"),
        &format!("Basic {control}"),
        "Basic /////w==",
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Negotiate abc",
        "x",
        ",",
        "Bearer \u{e9}",
    ] {
        let answer = client.plain(Method::GET, &path, &[("authorization", value)], "").await;
        assert!(matches!(answer.status.as_u16(), 400 | 401), "{value:?}: {}", answer.status);
        answer.error();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_service_bears_any_query() {
    let (_upstream, _, proxy) = proxy().await;
    let basic = format!("Basic {}", STANDARD.encode("alice:alice-password"));
    let scopes = (0..200).map(|n| format!("&scope=repository:x/{n}:pull")).collect::<String>();
    for query in [
        "",
        "service=other",
        "scope",
        "scope=",
        "scope=repository:../..:pull",
        "scope=repository::pull",
        "scope=repository:a",
        "scope=%00",
        "scope=%zz",
        "scope=repository:a:pull:push",
        "scope=a%0d%0ab",
        "account=%ff",
        &scopes,
    ] {
        let target = format!("/jwt/auth?{query}");
        let answer = proxy.client().plain(Method::GET, &target, &[("authorization", &basic)], "").await;
        assert!(answer.status == 200 || answer.status.is_client_error(), "{query}: {}", answer.status);
    }
    let big = "a=".to_owned() + &"x".repeat(100 * 1024);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = proxy.client().plain(Method::POST, "/jwt/auth", &form, &big).await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_offered_is_not_found() {
    let (_upstream, _, proxy) = proxy().await;
    for path in [
        "/v2/_catalog",
        "/v2/library/a/manifests/1",
        "/v1/_ping",
        "/",
        "/metrics",
        "/v2/team-a/x/a/manifests/1",
    ] {
        is_refused(&proxy, "GET", path.as_bytes(), "").await;
    }
    let foreign = format!("{PREFIX}library/a/manifests/1?ns=evil.example.com");
    assert_eq!(is_refused(&proxy, "GET", foreign.as_bytes(), "").await, 404);
    for ns in ["http://10.0.0.1", "a@b", "127.0.0.1:1", "..", "%00"] {
        is_refused(&proxy, "GET", format!("{PREFIX}library/a/manifests/1?ns={ns}").as_bytes(), "").await;
    }
}
