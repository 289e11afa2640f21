//! Signing in: the token flow of the Docker registry specification, and what a token opens.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::documents::{Documents, NAMESPACE};
use harness::hostile::Upstream;
use harness::pull::{Answer, Client, realm};
use harness::server::Proxy;
use http::Method;
use serde_json::{Value, json};

/// A proxy with the groups `team-a` and `team-b`, and a user bob who has a role in neither.
async fn proxy() -> (Upstream, Proxy) {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[vec![1]]);
    let builder = Proxy::builder().upstream("upstream", &upstream).group("team-a").group("team-b");
    let proxy = builder.manual_clock().start().await;
    (upstream, proxy)
}

fn bob(proxy: &Proxy) -> Client {
    proxy.client().user("bob", "bob-password")
}

fn service(proxy: &Proxy) -> String {
    format!("{}jwt/auth", proxy.url())
}

/// A token for library/a of `team-a`.
async fn token(proxy: &Proxy, client: &Client) -> String {
    let answer = client.token(&service(proxy), &[&client.scope("library/a")]).await;
    answer.json()["token"].as_str().unwrap().to_owned()
}

/// library/a of `team-a` with this `Authorization`.
async fn with(proxy: &Proxy, authorization: &str) -> Answer {
    let client = proxy.client().group("team-a");
    let path = client.path("library/a/manifests/1");
    client.plain(Method::GET, &path, &[("authorization", authorization)], "").await
}

async fn bearer(proxy: &Proxy, token: &str) -> Answer {
    with(proxy, &format!("Bearer {token}")).await
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn challenge(proxy: &Proxy) -> String {
    format!(r#"Bearer realm="{}",service="dependency_proxy""#, service(proxy))
}

const SIGN_IN: &str = "Anonymous pulls are not allowed.";
const WRONG: &str = "HTTP Basic: Access denied. The user name, password or token is wrong or has expired. Sign in again: docker login";
const EXPIRED: &str =
    "This token has expired; the client should fetch a new one. If this repeats, check the machine's clock.";

#[tokio::test(flavor = "multi_thread")]
async fn the_challenge_names_the_token_service_and_the_scope() {
    let (_upstream, proxy) = proxy().await;
    let client = proxy.client().anonymous();
    let root = client.plain(Method::GET, "/v2/", &[], "").await;
    root.refused(401, "UNAUTHORIZED", SIGN_IN);
    assert_eq!(root.header("www-authenticate"), challenge(&proxy));
    assert_eq!(root.header("docker-distribution-api-version"), "registry/2.0");
    let manifest = client.manifest("library/a", "1").await;
    manifest.refused(401, "UNAUTHORIZED", &format!("Sign in first: docker login {}.", proxy.address()));
    let scope = client.scope("library/a");
    assert_eq!(manifest.header("www-authenticate"), format!(r#"{},scope="{scope}""#, challenge(&proxy)));
    assert_eq!(realm(manifest.header("www-authenticate")), service(&proxy));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_under_both_names_with_its_times() {
    let (_upstream, proxy) = proxy().await;
    let client = proxy.client();
    let document = client.token(&service(&proxy), &[&client.scope("library/a")]).await.json();
    assert!(!document["token"].as_str().unwrap().is_empty());
    assert_eq!(document["access_token"], document["token"]);
    assert_eq!(document["expires_in"], 900);
    document["issued_at"].as_str().unwrap().parse::<jiff::Timestamp>().expect("RFC 3339");
    assert!(proxy.sum("dependency_proxy_tokens_issued_total", &[]).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lifetime_of_tokens_is_the_documents() {
    let (_upstream, proxy) = proxy().await;
    proxy.reload(|d| d.spec("DependencyProxy", "main")["auth"]["tokenTTLSeconds"] = json!(60)).await;
    let client = proxy.client();
    let answer = client.token(&service(&proxy), &[&client.scope("library/a")]).await;
    assert_eq!(answer.json()["expires_in"], 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_be_asked_for_by_post() {
    let (_upstream, proxy) = proxy().await;
    let scope = proxy.client().scope("library/a");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!(
        "grant_type=password&service=dependency_proxy&client_id=containerd-client&scope={scope}&username=alice&password=alice-password"
    );
    let answer = proxy.client().plain(Method::POST, "/jwt/auth", &form, &body).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    bearer(&proxy, &token).await.bytes();
    let wrong = body.replace("alice-password", "wrong");
    proxy.client().plain(Method::POST, "/jwt/auth", &form, &wrong).await.refused(401, "UNAUTHORIZED", WRONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_may_open_several_repositories() {
    let (upstream, proxy) = proxy().await;
    upstream.image("library/b", "1", &[]);
    let client = proxy.client();
    let (a, b) = (client.scope("library/a"), client.scope("library/b"));
    for scopes in [vec![a.clone(), b.clone()], vec![format!("{a} {b}")]] {
        let scopes = scopes.iter().map(String::as_str).collect::<Vec<_>>();
        let document = client.token(&service(&proxy), &scopes).await.json();
        let authorization = format!("Bearer {}", document["token"].as_str().unwrap());
        for name in ["library/a", "library/b"] {
            let path = client.path(&format!("{name}/manifests/1"));
            client.plain(Method::GET, &path, &[("authorization", &authorization)], "").await.bytes();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_of_other_kinds_are_left_out() {
    let (_upstream, proxy) = proxy().await;
    let client = proxy.client();
    let pull = client.scope("library/a");
    let push = pull.replace(":pull", ":push,pull");
    for other in ["registry:catalog:*", "repository(plugin):x:pull", "nonsense", push.as_str()] {
        let answer = client.token(&service(&proxy), &[other, &pull]).await;
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        bearer(&proxy, &token).await.bytes();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_scope_opens_the_root_only() {
    let (_upstream, proxy) = proxy().await;
    let client = proxy.client();
    let document = client.token(&service(&proxy), &[]).await.json();
    let authorization = format!("Bearer {}", document["token"].as_str().unwrap());
    client.plain(Method::GET, "/v2/", &[("authorization", &authorization)], "").await.bytes();
    let answer = with(&proxy, &authorization).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.header("www-authenticate").contains("scope="));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_and_missing_credentials_get_no_token() {
    let (_upstream, proxy) = proxy().await;
    let client = proxy.client();
    let scope = client.scope("library/a");
    for (user, password) in
        [("alice", "wrong"), ("nobody", "alice-password"), ("ci", "wrong"), ("", ""), ("alice", "")]
    {
        let answer = client.user(user, password).token(&service(&proxy), &[&scope]).await;
        answer.refused(401, "UNAUTHORIZED", WRONG);
    }
    client.anonymous().token(&service(&proxy), &[&scope]).await.refused(401, "UNAUTHORIZED", SIGN_IN);
    // Very long passwords cost no more than others and break nothing.
    let long = "x".repeat(5000);
    assert_eq!(client.user("alice", &long).token(&service(&proxy), &[&scope]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_credentials_work_on_the_registry_itself() {
    let (_upstream, proxy) = proxy().await;
    for _ in 0..2 {
        with(&proxy, &basic("alice", "alice-password")).await.bytes();
        with(&proxy, &basic("ci", "ci-password")).await.bytes();
    }
    let answer = with(&proxy, &basic("alice", "wrong")).await;
    answer.refused(401, "UNAUTHORIZED", WRONG);
    assert!(answer.header("www-authenticate").starts_with("Bearer realm="));
    let root = [("authorization", &*basic("alice", "alice-password"))];
    proxy.client().plain(Method::GET, "/v2/", &root, "").await.bytes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_expired_says_so() {
    let (_upstream, proxy) = proxy().await;
    let token = token(&proxy, &proxy.client()).await;
    proxy.advance(Duration::from_secs(890));
    bearer(&proxy, &token).await.bytes();
    // A minute of leeway for clocks is common; after two there is none.
    proxy.advance(Duration::from_secs(130));
    let answer = bearer(&proxy, &token).await;
    answer.refused(401, "UNAUTHORIZED", EXPIRED);
    assert!(answer.header("www-authenticate").contains("scope="));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_somebody_else_made_opens_nothing() {
    let (_upstream, it) = proxy().await;
    let (_other_upstream, other) = proxy().await;
    let good = token(&it, &it.client()).await;
    let foreign = token(&other, &other.client()).await;
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("no JWT: {good}")
    };
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let decoded = serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let mut with_key = decoded.clone();
    with_key["jwk"] = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode("my own key")});
    let own = jsonwebtoken::EncodingKey::from_secret(b"my own key");
    let claims_value = serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let mut own_header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    own_header.kid = decoded["kid"].as_str().map(str::to_owned);
    let forged = [
        foreign,
        format!("{}.{claims}.", encode(json!({"alg": "none", "typ": "JWT"}))),
        format!(
            "{}.{claims}.{signature}",
            encode(json!({"alg": "none", "typ": "JWT", "kid": decoded["kid"]}))
        ),
        format!("{}.{claims}.{signature}", encode(with_key)),
        format!("{header}.{claims}."),
        format!("{header}.{claims}.{}", signature.chars().rev().collect::<String>()),
        format!("{header}.{}.{signature}", encode(json!({"sub": "alice", "exp": 9_999_999_999_u64}))),
        jsonwebtoken::encode(&own_header, &claims_value, &own).unwrap(),
        "x".to_owned(),
        "..".to_owned(),
        String::new(),
    ];
    for token in forged {
        let answer = bearer(&it, &token).await;
        assert_eq!(answer.status, 401, "{token}: {}", answer.text());
        answer.error();
        assert!(answer.header("www-authenticate").starts_with("Bearer realm="), "{token}");
    }
    bearer(&it, &good).await.bytes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_its_scope_says_and_nothing_else() {
    let (upstream, proxy) = proxy().await;
    upstream.image("library/b", "1", &[]);
    let client = proxy.client();
    let authorization = format!("Bearer {}", token(&proxy, &client).await);
    let headers = [("authorization", &*authorization)];
    for (client, name) in [(&client, "library/b"), (&client.group("team-b"), "library/a")] {
        let answer =
            client.plain(Method::GET, &client.path(&format!("{name}/manifests/1")), &headers, "").await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert!(answer.header("www-authenticate").contains(&client.scope(name)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_and_no_such_group_are_one_answer() {
    let (upstream, proxy) = proxy().await;
    let sentence = |group: &str| {
        format!(
            "No group \"{group}\", or bob has no role in it. Check the path, or ask its owner for the Guest role."
        )
    };
    let real = bob(&proxy).manifest("library/a", "1").await;
    real.refused(403, "DENIED", &sentence("team-a"));
    let invented = bob(&proxy).group("team-x").manifest("library/a", "1").await;
    invented.refused(403, "DENIED", &sentence("team-x"));
    bob(&proxy)
        .group("team-x")
        .blob("library/a", oci::Digest::of(oci::Algorithm::Sha256, b""))
        .await
        .refused(403, "DENIED", &sentence("team-x"));
    assert!(upstream.requests().is_empty());
}

/// What is told of a path, without the request's id.
async fn told(proxy: &Proxy, path: &str) -> (u16, String, String) {
    let bob = [("authorization", &*basic("bob", "bob-password"))];
    let answer = proxy.client().plain(Method::GET, path, &bob, "").await;
    let (code, message) = answer.error();
    (answer.status.as_u16(), code, message.replace(answer.header("x-request-id"), "ID"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_a_role_learns_what_exists() {
    let (_upstream, proxy) = proxy().await;
    let paths = [
        ("team-a/dependency_proxy/containers", "team-a"),
        ("virtual_registries/container/dp.hub", "dp.hub"),
        ("virtual_registries/container/1", "1"),
        ("harbor/dockerhub", "harbor/dockerhub/library/a"),
    ];
    let absent = json!([]);
    let aliases = json!([
        {"prefix": "virtual_registries/container/1", "virtualRegistryRef": {"name": "hub", "namespace": NAMESPACE}},
        {"prefix": "harbor/dockerhub", "groupRef": {"name": "team-a", "namespace": NAMESPACE}},
    ]);
    let ask = async || {
        let mut all = Vec::new();
        for (prefix, _) in paths {
            all.push(told(&proxy, &format!("/v2/{prefix}/library/a/manifests/1")).await);
            all.push(told(&proxy, &format!("/v2/{prefix}/library/a/tags/list")).await);
        }
        all.push(told(&proxy, "/api/v4/groups/team-a/dependency_proxy/quota").await);
        all
    };
    proxy
        .reload(|d| {
            d.registry("hub", "team-a", &["upstream"]);
            d.spec("DependencyProxy", "main")["aliases"] = aliases;
        })
        .await;
    let existing = ask().await;
    for ((status, code, message), (_, written)) in existing.iter().step_by(2).zip(paths) {
        assert_eq!((*status, code.as_str()), (403, "DENIED"), "{message}");
        assert!(
            message.starts_with(&format!("No group \"{written}\", or bob has no role in it.")),
            "{message}"
        );
    }
    proxy
        .reload(|d| {
            d.spec("DependencyProxy", "main")["aliases"] = absent;
            d.remove("VirtualRegistry", "hub");
            d.remove("DependencyProxyGroup", "team-a");
        })
        .await;
    assert_eq!(ask().await, existing);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_service_asks_for_what_it_takes() {
    let (_upstream, proxy) = proxy().await;
    let client = proxy.client();
    let wrong = client.user("alice", "wrong").token(&service(&proxy), &[&client.scope("library/a")]).await;
    assert_eq!(wrong.header("www-authenticate"), r#"Basic realm="dependency_proxy""#);
    let put = client.plain(Method::PUT, "/jwt/auth", &[], "").await;
    put.refused(405, "UNSUPPORTED", "Tokens are asked for with GET or POST.");
    assert_eq!(put.header("allow"), "GET, POST");
}

#[tokio::test(flavor = "multi_thread")]
async fn membership_is_decided_again_at_each_request() {
    let (_upstream, proxy) = proxy().await;
    let client = proxy.client();
    client.manifest("library/a", "1").await.bytes();
    proxy.reload(|d| d.spec("DependencyProxyGroup", "team-a")["members"] = json!([])).await;
    // The same token as before.
    client.manifest("library/a", "1").await.refused(
        403,
        "DENIED",
        "No group \"team-a\", or alice has no role in it.",
    );
    with(&proxy, &basic("alice", "alice-password")).await.refused(403, "DENIED", "No group \"team-a\"");
    let bob_is = json!([{"name": "bob", "role": "Guest", "subject": {"kind": "User", "name": "bob"}}]);
    proxy.reload(|d| d.spec("DependencyProxyGroup", "team-a")["members"] = bob_is).await;
    bob(&proxy).manifest("library/a", "1").await.bytes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_credential_ends_its_tokens() {
    let (_upstream, proxy) = proxy().await;
    let ci = proxy.client().user("ci", "ci-password");
    let old = token(&proxy, &ci).await;
    bearer(&proxy, &old).await.bytes();
    let rotate =
        |d: &mut Documents| d.get("Secret", "ci")["stringData"]["password"] = json!("another-password");
    proxy.reload(rotate).await;
    let answer = bearer(&proxy, &old).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(with(&proxy, &basic("ci", "ci-password")).await.status, 401, "nor is it remembered");
    with(&proxy, &basic("ci", "another-password")).await.bytes();

    let old = token(&proxy, &proxy.client()).await;
    let password = bcrypt::hash("another-password", 4).unwrap();
    proxy
        .reload(|d| d.get("Secret", "users")["stringData"]["users"] = json!(format!("alice:{password}\n")))
        .await;
    let answer = bearer(&proxy, &old).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_token_pulls_in_its_own_group_with_the_right_scope_until_it_expires() {
    let (_upstream, proxy) = proxy().await;
    proxy.reload(|d| d.spec("DependencyProxyGroup", "team-b")["deployTokens"] = json!([])).await;
    let ci = proxy.client().user("ci", "ci-password");
    ci.manifest("library/a", "1").await.bytes();
    let other = ci.group("team-b").manifest("library/a", "1").await;
    other.refused(403, "DENIED", "No group \"team-b\", or ci has no role in it.");

    let scopes = |d: &mut Documents| {
        d.spec("DependencyProxyGroup", "team-a")["deployTokens"][0]["scopes"] = json!(["write_registry"])
    };
    proxy.reload(scopes).await;
    ci.manifest("library/a", "1").await.refused(
        403,
        "DENIED",
        "Deploy token \"ci\" has no scope read_registry.",
    );

    let expired = |d: &mut Documents| {
        let token = &mut d.spec("DependencyProxyGroup", "team-a")["deployTokens"][0];
        token["scopes"] = json!(["read_registry"]);
        token["expiresAt"] = json!("2020-01-01T00:00:00Z");
    };
    proxy.reload(expired).await;
    with(&proxy, &basic("ci", "ci-password")).await.refused(401, "UNAUTHORIZED", WRONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_token_that_has_expired_in_one_group_opens_it_no_more_though_it_is_good_in_another() {
    let (_upstream, proxy) = proxy().await;
    proxy
        .reload(|d| {
            d.spec("DependencyProxyGroup", "team-b")["deployTokens"][0]["expiresAt"] =
                json!("2020-01-01T00:00:00Z")
        })
        .await;
    let ci = Client::new(proxy.url()).user("ci", "ci-password");
    ci.group("team-a").manifest("library/a", "1").await.bytes();
    assert_eq!(ci.group("team-b").manifest("library/a", "1").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_off_says_so_to_members_only() {
    let (_upstream, proxy) = proxy().await;
    proxy.client().manifest("library/a", "1").await.bytes();
    proxy.reload(|d| d.spec("DependencyProxyGroup", "team-a")["enabled"] = json!(false)).await;
    let answer = proxy.client().manifest("library/a", "1").await;
    assert_eq!(answer.status, 404);
    let sentence = "Group \"team-a\" is switched off. Its owner can set spec.enabled to true.";
    assert!(answer.error().1.contains(sentence), "{}", answer.text());
    assert_eq!(bob(&proxy).manifest("library/a", "1").await.status, 403);
    proxy.reload(|d| d.spec("DependencyProxy", "main")["enabled"] = json!(false)).await;
    let answer = proxy.client().group("team-b").manifest("library/a", "1").await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    answer.error();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subgroups_path_is_its_own_and_a_parents_member_is_its_member() {
    let (_upstream, proxy) = proxy().await;
    proxy
        .reload(|d| {
            d.group("team-a/child", "upstream");
            d.spec("DependencyProxyGroup", "team-a-child")["members"] = json!([]);
        })
        .await;
    proxy.client().group("team-a/child").manifest("library/a", "1").await.bytes();
    assert_eq!(bob(&proxy).group("team-a/child").manifest("library/a", "1").await.status, 403);
}
