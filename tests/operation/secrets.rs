//! No password, token or key is in a log line, a metric, the status, or an error, however much is logged.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use harness::hostile::{Fault, Upstream, noise};
use harness::pull::Client;
use harness::s3::S3;
use http::Method;
use serde_json::json;
use url::Url;

use crate::ground::{admin, client, prepared, settled};

const ROBOT: &str = "Xrobot-passwordX";
const DEPLOY: &str = "Xdeploy-passwordX";
const WRONG: &str = "Xwrong-passwordX";
const SIGNATURE: &str = "Xsignature-of-a-redirectX";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_shown_anywhere_even_when_everything_is_logged() {
    let (upstream, elsewhere, s3) =
        tokio::join!(Upstream::start(), Upstream::start_on([127, 0, 0, 9].into()), S3::start());
    let _folder = s3.bucket("blobs");
    upstream.require_bearer_for("robot", ROBOT);
    let image = upstream.image("library/a", "1", &[noise(1, 10_000)]);
    elsewhere.blob("library/a", noise(1, 10_000));
    let layer = format!("/blobs/{}", image.layers[0]);
    let signed = format!("{}v2/library/a{layer}?X-Signature={SIGNATURE}", elsewhere.url());
    upstream.on(&layer).times(1).fault(Fault::Redirect(signed));
    let proxy = prepared(&upstream, |d| {
        crate::s3::store(d, &s3, S3::SECRET_KEY);
        d.credentials("upstream", "robot", ROBOT);
        d.remove("Secret", "ci");
        d.secret("ci", json!({"username": "ci", "password": DEPLOY}));
    });
    let proxy = proxy.arg("--log=trace").start().await;

    let mut shown = Vec::new();
    let alice = client(&proxy);
    let deploy = alice.user("ci", DEPLOY);
    alice.pull("library/a", "1").await;
    deploy.pull("library/a", "1").await;
    settled(&proxy).await;
    let token = alice.token(&format!("{}/jwt/auth", proxy.url()), &[&alice.scope("library/a")]).await;
    let token = token.json()["token"].as_str().unwrap().to_owned();
    shown.push(alice.user("alice", WRONG).manifest("library/a", "1").await.text());
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("ci:{DEPLOY}")));
    let bearer = format!("Bearer {token}");
    let plain = Client::new(Url::parse(&proxy.url()).unwrap());
    for authorization in [basic.as_str(), bearer.as_str(), &format!("{bearer}x")] {
        let headers = [("authorization", authorization)];
        let answer = plain.plain(Method::GET, &alice.path("library/a/manifests/1"), &headers, "").await;
        shown.push(answer.text());
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("grant_type=password&service=dependency_proxy&username=ci&password={WRONG}");
    shown.push(plain.plain(Method::POST, "/jwt/auth", &form, &body).await.text());
    // Upstream changes its mind about the account, and stops.
    upstream.require_bearer_for("robot", "another");
    upstream.revoke_tokens();
    shown.push(alice.manifest("library/b", "1").await.text());
    upstream.stop().await;
    shown.push(alice.manifest("library/c", "1").await.text());
    // Documents with a mistake are quoted in problems.
    let mut wrong = crate::ground::documents(&proxy.url(), &upstream);
    wrong.credentials("upstream", "robot:colon", ROBOT);
    proxy.change_documents(&wrong.yaml());
    proxy.metric_until("config_problems", |problems| problems > 0.0).await;

    shown.push(proxy.metrics().await);
    shown.push(admin(&proxy, Method::GET, "/status", "").await.1);
    shown.push(proxy.log());
    let shown = shown.join("\n");
    assert!(shown.len() > 10_000, "much was logged");
    let token_parts: Vec<_> = token.split('.').collect();
    let encoded = [ROBOT, DEPLOY, WRONG].map(|secret| BASE64_STANDARD.encode(format!("ci:{secret}")));
    let mut secrets = vec![ROBOT, DEPLOY, WRONG, SIGNATURE, "alice-password", S3::SECRET_KEY, token_parts[2]];
    secrets.extend(encoded.iter().map(String::as_str));
    for secret in secrets {
        if let Some(line) = shown.lines().find(|line| line.contains(secret)) {
            panic!("{secret} is shown: {line}");
        }
    }
    for request in upstream.requests() {
        let Some(token) = request.header("authorization").and_then(|value| value.split(' ').nth(1)) else {
            continue;
        };
        assert!(!shown.contains(token), "what was sent upstream is shown: {token}");
    }
}
