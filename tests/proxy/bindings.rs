//! What PullBindings pull with.

use harness::documents::Documents;
use harness::hostile::Upstream;
use harness::pull::Client;
use harness::server::Proxy;
use http::Method;
use serde_json::json;

/// A binding of namespace ci to `team-a`, with these keys in its Secret beside the user name.
fn bind(d: &mut Documents, mut keys: serde_json::Value) {
    let ci = json!("ci");
    d.spec("DependencyProxyGroup", "team-a")["allowedConsumers"] = json!({"from": "All"});
    let reference = json!({"name": "team-a", "namespace": "dp"});
    d.add(
        "PullBinding",
        "runner",
        json!({"groupRef": reference, "credentialsSecretRef": {"name": "runner"}}),
    );
    d.get("PullBinding", "runner")["metadata"]["namespace"] = ci.clone();
    keys["username"] = json!("ci-runner");
    d.secret("runner", keys);
    let secret = d.get("Secret", "runner");
    secret["metadata"]["namespace"] = ci;
    secret["type"] = json!("dependencyproxy.dev/credentials");
}

async fn proxy(keys: serde_json::Value) -> (Upstream, Proxy) {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[vec![1]]);
    let builder = Proxy::builder().upstream("upstream", &upstream).group("team-a").group("team-b");
    (upstream, builder.edit(|d| bind(d, keys)).start().await)
}

fn runner(proxy: &Proxy, password: &str) -> Client {
    proxy.client().user("ci-runner", password)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_pulls_in_its_group_and_in_no_other() {
    let (_upstream, proxy) = proxy(json!({"password.a": "dp_a"})).await;
    runner(&proxy, "dp_a").pull("library/a", "1").await;
    let answer = runner(&proxy, "dp_a").group("team-b").manifest("library/a", "1").await;
    answer.refused(403, "DENIED", "No group \"team-b\", or binding ci/runner has no role in it.");
    assert_eq!(runner(&proxy, "dp_b").manifest("library/a", "1").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_credential_works_until_it_expires() {
    let keys =
        |expires: &str| json!({"password.old": "dp_old", "expires.old": expires, "password.new": "dp_new"});
    let (_upstream, proxy) = proxy(keys("2100-01-01T00:00:00Z")).await;
    for password in ["dp_old", "dp_new"] {
        runner(&proxy, password).pull("library/a", "1").await;
    }
    let expired = |d: &mut Documents| {
        d.get("Secret", "runner")["stringData"]["expires.old"] = json!("2020-01-01T00:00:00Z")
    };
    proxy.reload(expired).await;
    assert_eq!(runner(&proxy, "dp_old").manifest("library/a", "1").await.status, 401);
    runner(&proxy, "dp_new").pull("library/a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_group_no_longer_allows_ends_at_once_with_its_tokens() {
    let (_upstream, proxy) = proxy(json!({"password.a": "dp_a"})).await;
    let client = runner(&proxy, "dp_a");
    let realm = format!("{}jwt/auth", proxy.url());
    let token = client.token(&realm, &[&client.scope("library/a")]).await.json();
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    let path = client.path("library/a/manifests/1");
    let ask = async || client.plain(Method::GET, &path, &[("authorization", &bearer)], "").await;
    ask().await.bytes();
    proxy
        .reload(|d| d.spec("DependencyProxyGroup", "team-a")["allowedConsumers"] = json!({"from": "Same"}))
        .await;
    assert_eq!(ask().await.status, 401);
    assert_eq!(client.manifest("library/a", "1").await.status, 401);
    proxy.client().pull("library/a", "1").await;
}
