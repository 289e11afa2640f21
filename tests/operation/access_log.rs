//! One line per request, whatever the request is.

use harness::hostile::{Upstream, noise};
use harness::proxy::ProxyProcess;
use harness::pull::raw;
use http::Method;
use serde_json::Value;

use crate::ground::{admin, client, prepared, proxy_of};

/// Waits until a whole line with this text is in the log.
async fn line_with(proxy: &ProxyProcess, text: &str) -> String {
    for _ in 0..500 {
        let log = proxy.log();
        let whole = &log[..log.rfind('\n').map_or(0, |at| at + 1)];
        if let Some(line) = whole.lines().find(|line| line.contains(text)) {
            return line.to_owned();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no line has {text:?}:\n{}", proxy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_one_line_of_text() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(1, 10_000)]);
    let proxy = proxy_of(&upstream, |_| {}).await;
    let answer = client(&proxy).blob("library/a", image.layers[0]).await;
    let id = answer.header("x-request-id");
    let line = line_with(&proxy, id).await;
    for part in
        ["method=GET", "status=200", "result=\"miss\"", "bytes=10000", "alice", "team-a", "complete=true"]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(
        line.contains(&format!("/v2/team-a/dependency_proxy/containers/library/a/blobs/{}", image.layers[0]))
    );
    // The blob without a token, the token, the blob.
    let lines = proxy.log().lines().filter(|line| line.contains(" access: ")).count();
    assert_eq!(lines, 3, "{}", proxy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_one_object_of_json() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(1, 10_000)]);
    let proxy = prepared(&upstream, |_| {}).arg("--log-format=json").start().await;
    let answer = client(&proxy).blob("library/a", image.layers[0]).await;
    let line = line_with(&proxy, answer.header("x-request-id")).await;
    let object: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["target"], "access");
    assert_eq!((&object["status"], &object["bytes"]), (&200.into(), &10_000.into()));
    assert_eq!((&object["method"], &object["result"]), (&"GET".into(), &"miss".into()));
    assert_eq!((&object["caller"], &object["group"]), (&"alice".into(), &"team-a".into()));
    assert!(object["milliseconds"].is_u64() && object["complete"] == true, "{object}");
    let log = proxy.log();
    let others = log.lines().filter(|line| serde_json::from_str::<Value>(line).is_err());
    let others: Vec<_> = others.filter(|line| !is_greeting(line)).collect();
    assert_eq!(others, Vec::<&str>::new(), "every line is JSON");
}

/// What `serve` prints to standard output.
fn is_greeting(line: &str) -> bool {
    ["Serving ", "Group ", "Virtual registry "].iter().any(|begin| line.starts_with(begin))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_is_told_apart() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/a", noise(1, 64 * crate::MIB));
    let proxy = proxy_of(&upstream, |_| {}).await;
    let response = client(&proxy).open(Method::GET, &format!("library/a/blobs/{digest}"), &[]).await;
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    drop(response);
    let line = line_with(&proxy, &id).await;
    assert!(line.contains("complete=false"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sends_breaks_a_line_or_reaches_a_terminal() {
    let upstream = Upstream::start().await;
    for format in ["text", "json"] {
        let proxy = prepared(&upstream, |_| {}).arg(format!("--log-format={format}")).start().await;
        let address = proxy.host().parse().unwrap();
        let paths = [
            "/v2/a%0aFORGED/manifests/1",
            "/v2/a%0d%0aFORGED/manifests/1",
            "/v2/%1b[31mred/manifests/1",
            "/v2/\"quoted\"/manifests/1?x=%0aFORGED",
            "/v2/a/manifests/%00",
            "/v2/caf\u{e9}\u{202e}/manifests/1",
            "/api/v4/groups/%0aFORGED/dependency_proxy/quota",
        ];
        for path in paths {
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            raw(address, request.as_bytes()).await;
        }
        // A user name is the caller's to choose; and what no header may have.
        let basic = "Basic YQpGT1JHRUQbWzMxbTpiCkZPUkdFRA==";
        for header in [format!("authorization: {basic}"), "x-forwarded-for: \u{1b}[31mred".to_owned()] {
            let request =
                format!("GET /v2/ HTTP/1.1\r\nhost: \u{1b}[31m\r\n{header}\r\nconnection: close\r\n\r\n");
            raw(address, request.as_bytes()).await;
        }
        line_with(&proxy, "/v2/").await;
        client(&proxy).manifest("library/last", "1").await;
        line_with(&proxy, "library/last").await;
        let log = proxy.log();
        assert!(!log.lines().any(|line| line.starts_with("FORGED")), "{log}");
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!log.contains(control) && !log.contains('\u{202e}'), "{log:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_changes_while_it_runs() {
    let upstream = Upstream::start().await;
    let proxy = proxy_of(&upstream, |_| {}).await;
    let client = client(&proxy);
    client.manifest("library/first", "1").await;
    line_with(&proxy, "library/first").await;

    assert_eq!(admin(&proxy, Method::PUT, "/log-level", "info,access=off").await.0, 200);
    client.manifest("library/second", "1").await;
    assert_eq!(admin(&proxy, Method::PUT, "/log-level", "info\n").await.0, 200);
    client.manifest("library/third", "1").await;
    line_with(&proxy, "library/third").await;
    assert!(!proxy.log().contains("library/second"), "the access log was off");

    for wrong in ["info,=", "access=loudest", "\u{1b}[31m=info"] {
        let (status, why) = admin(&proxy, Method::PUT, "/log-level", wrong).await;
        assert_eq!(status, 400, "{wrong:?}: {why}");
        assert!(!why.is_empty());
    }
    client.manifest("library/fourth", "1").await;
    line_with(&proxy, "library/fourth").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_filter_at_the_start_is_refused() {
    let output = crate::ground::run(&["serve", "--log", "access=loudest"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--log access=loudest"));
}
