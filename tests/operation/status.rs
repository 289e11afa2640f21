//! `/status`: what an operator's conditions are made of.

use std::time::{Duration, Instant};

use harness::hostile::{Fault, Upstream};
use harness::proxy::ProxyProcess;
use harness::s3::S3;
use http::Method;
use serde_json::{Value, json};

use crate::cleanup::Instance;
use crate::ground::{admin, client, prepared, printed, proxy_of, run};
use crate::s3::store;

async fn status(proxy: &ProxyProcess) -> Value {
    serde_json::from_str(&admin(proxy, Method::GET, "/status", "").await.1).unwrap()
}

/// Waits until the status is so.
async fn until(proxy: &ProxyProcess, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1000 {
        let status = status(proxy).await;
        if is_so(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: {}\n{}", status(proxy).await, proxy.log());
}

fn reason(status: &Value) -> &str {
    status["upstreams"][0]["reason"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_known_before_the_first_pull_and_asked_no_more() {
    let upstream = Upstream::start().await;
    upstream.require_bearer_for("robot", "pw");
    let proxy = proxy_of(&upstream, |d| d.credentials("upstream", "robot", "pw")).await;
    let status = until(&proxy, "it was asked", |s| reason(s) == "Reachable").await;
    let known = &status["upstreams"][0];
    assert_eq!(
        (&known["id"], &known["reachable"], &known["credentialsValid"], &known["account"]),
        (&json!("dp/upstream"), &json!(true), &json!(true), &json!("robot"))
    );
    assert!(!status.to_string().contains("\"pw\""));
    let asked = upstream.requests().len();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(upstream.requests().len(), asked, "once is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_known_when_the_first_pull_can_come() {
    let upstream = Upstream::start().await;
    upstream.on("/v2/").fault(Fault::Delay(Duration::from_millis(100)));
    let proxy = proxy_of(&upstream, |_| {}).await;
    assert_eq!(reason(&status(&proxy).await), "Reachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_hangs_holds_up_no_start() {
    let upstream = Upstream::start().await;
    upstream.on("/v2/").fault(Fault::Hang);
    let began = Instant::now();
    let proxy = proxy_of(&upstream, |_| {}).await;
    assert_eq!(admin(&proxy, Method::GET, "/readyz", "").await.0, 200);
    // It would be waited for for ten.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_shown_and_not_tried_again_until_they_change() {
    let upstream = Upstream::start().await;
    upstream.require_bearer_for("robot", "pw");
    let ground = |password: &'static str| {
        move |d: &mut harness::documents::Documents| d.credentials("upstream", "robot", password)
    };
    let proxy = proxy_of(&upstream, ground("wrong")).await;
    let status = until(&proxy, "it was asked", |s| reason(s) == "Unauthorized").await;
    assert_eq!(status["upstreams"][0]["credentialsValid"], json!(false));
    let asked = upstream.requests().len();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(upstream.requests().len(), asked);
    let mut mended = crate::ground::documents(&proxy.url(), &upstream);
    ground("pw")(&mut mended);
    proxy.change_documents(&mended.yaml());
    let status = until(&proxy, "it was asked again", |s| reason(s) == "Reachable").await;
    assert_eq!(status["upstreams"][0]["credentialsValid"], json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_away_and_a_quota_are_shown() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    upstream.quota(100, 50, 21600);
    let proxy = proxy_of(&upstream, |_| {}).await;
    client(&proxy).pull("library/a", "1").await;
    let known = &status(&proxy).await["upstreams"][0];
    assert_eq!(
        (&known["rateLimit"]["limit"], &known["rateLimit"]["windowSeconds"]),
        (&json!(100), &json!(21600))
    );
    assert_eq!(known["credentialsValid"], Value::Null);
    upstream.stop().await;
    client(&proxy).pull("library/a", "1").await;
    let status = until(&proxy, "it is away", |s| reason(s) == "ConnectionFailed").await;
    assert_eq!(status["upstreams"][0]["reachable"], json!(false));
    assert!(
        proxy.metrics().await.contains("dependency_proxy_oldest_stale_seconds{upstream=\"dp/upstream\"}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_works_and_one_that_cannot_be_reached_are_shown() {
    let upstream = Upstream::start().await;
    let proxy = proxy_of(&upstream, |_| {}).await;
    let status = until(&proxy, "the folder was asked", |s| s["store"]["reachable"] == json!(true)).await;
    assert_eq!(status["store"]["reason"], json!("Reachable"));
    let nobody = format!("http://127.0.0.1:{}", harness::tool::free_port());
    let proxy = prepared(&upstream, |d| {
        d.secret("s3", json!({"accessKeyID": "id", "secretAccessKey": "key"}));
        d.spec("DependencyProxy", "main")["storage"] = json!({"s3": {
            "bucket": "blobs", "endpoint": nobody, "pathStyle": true, "credentialsSecretRef": {"name": "s3"},
        }});
    });
    let proxy = proxy.start().await;
    let status = until(&proxy, "the bucket was asked", |s| s["store"]["reachable"] == json!(false)).await;
    assert!(["Unreachable", "Timeout"].contains(&status["store"]["reason"].as_str().unwrap()), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_and_one_that_refuses_are_told_apart() {
    let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
    let shown = async |secret_key: &'static str| {
        let proxy = proxy_of(&upstream, |d| store(d, &s3, secret_key)).await;
        let status = until(&proxy, "the bucket was asked", |s| !s["store"]["reachable"].is_null()).await;
        assert!(!status.to_string().contains(secret_key), "{status}");
        let text = |field: &str| status["store"][field].as_str().unwrap().to_owned();
        (text("reason"), text("message"))
    };
    let (reason, message) = shown(S3::SECRET_KEY).await;
    assert_eq!(reason, "BucketNotFound", "{message}");
    let _folder = s3.bucket("blobs");
    let (reason, message) = shown("not-that-secret-key").await;
    assert_eq!(reason, "AccessDenied", "{message}");
    let (reason, message) = shown(S3::SECRET_KEY).await;
    assert_eq!(reason, "Reachable", "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_had_after_its_last_cleanup_is_told() {
    let instance = Instance::start(|_| {}).await;
    instance.pull("library/a").await;
    let report = tokio::task::block_in_place(|| instance.cleanup(&[]));
    let kept = &report["blobs"]["keptBytes"];
    assert!(kept.as_u64() > Some(100_000), "{report}");
    // One that starts looks at once.
    let replica = instance.replica().await;
    let status = until(&replica, "it has read the report", |s| !s["lastCleanup"].is_null()).await;
    assert_eq!(&status["lastCleanup"]["keptBytes"], kept);
    let arguments = ["status", "--admin", replica.admin_url()].map(str::to_owned);
    let ask = move || printed(&run(&arguments.each_ref().map(String::as_str)));
    let table = tokio::task::spawn_blocking(ask).await.unwrap();
    assert!(table.contains("s3://blobs: 9") && table.contains(" KiB at the last cleanup, 20"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_tells_a_registry_from_what_is_none() {
    let upstream = Upstream::start().await;
    let proxy = proxy_of(&upstream, |_| {}).await;
    let (registry, other) = (proxy.url(), proxy.admin_url().to_owned());
    let ready = format!("{other}/readyz");
    let ask = move || [&registry, &other, &ready].map(|url| run(&["probe", url]));
    let [registry, other, ready] = tokio::task::spawn_blocking(ask).await.unwrap();
    assert!(ready.status.success(), "{ready:?}");
    assert!(registry.status.success(), "{registry:?}");
    assert!(String::from_utf8_lossy(&registry.stdout).contains("it asks for a token"));
    assert_eq!(other.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("does not answer as it should: 404"),
        "{other:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_is_moved_only_where_the_start_said_that_it_would_be() {
    let movable = ProxyProcess::new().arg("--clock-offset=0s").start().await;
    let (code, first) = admin(&movable, Method::POST, "/clock", "0s").await;
    assert_eq!(code, 200, "{first}");
    let (_, second) = admin(&movable, Method::POST, "/clock", "1h").await;
    let [first, second] = [first, second].map(|time| time.trim().parse::<jiff::Timestamp>().unwrap());
    assert!(second.duration_since(first).as_hours() == 1, "{first} {second}");
    for wrong in ["", "soon", "-1h"] {
        assert_eq!(admin(&movable, Method::POST, "/clock", wrong).await.0, 400, "{wrong}");
    }
    let usual = ProxyProcess::new().start().await;
    assert_eq!(admin(&usual, Method::POST, "/clock", "1h").await.0, 404);
}
