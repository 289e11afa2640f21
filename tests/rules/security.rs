//! Advisories of other registries about what a client can do (tests/advisories.md), where no other test has them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::hostile::{Upstream, noise};
use harness::server::Proxy;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proxy::auth::OwnKey;
use proxy::documents::standalone;
use serde_json::{Value, json};

async fn proxy() -> (Upstream, Proxy) {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[noise(1, 100)]);
    let proxy = Proxy::of(&upstream).await;
    (upstream, proxy)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_brings_a_key_along_is_refused_even_with_a_right_signature() {
    let (_upstream, proxy) = proxy().await;
    let client = proxy.client();
    let service = format!("{}jwt/auth", proxy.url());
    let good = client.token(&service, &[&client.scope("library/a")]).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let claims = good.split('.').nth(1).unwrap();
    let claims = serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let own = OwnKey::load(&proxy.data_dir()).unwrap();
    let key = EncodingKey::from_secret(own.secret.expose().as_bytes());
    let status = async |header: &Header| {
        let token = jsonwebtoken::encode(header, &claims, &key).unwrap();
        let path = client.path("library/a/manifests/1");
        client.plain(Method::GET, &path, &[("authorization", &format!("Bearer {token}"))], "").await.status
    };
    let mut plain = Header::new(Algorithm::HS256);
    plain.kid = Some(own.kid.clone());
    assert_eq!(status(&plain).await, 200, "the test signs as the proxy does");
    let url = "http://127.0.0.1/keys".to_owned();
    let jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode("mine")});
    for header in [
        Header { jwk: Some(serde_json::from_value(jwk).unwrap()), ..plain.clone() },
        Header { jku: Some(url.clone()), ..plain.clone() },
        Header { x5u: Some(url.clone()), ..plain.clone() },
        Header { x5c: Some(vec!["MIIB".to_owned()]), ..plain.clone() },
        Header { alg: Algorithm::HS512, ..plain.clone() },
        Header { kid: None, ..plain.clone() },
        Header { kid: Some("../../dev/null".to_owned()), ..plain.clone() },
    ] {
        assert_eq!(status(&header).await, 401, "{header:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_named_like_a_deploy_token_has_none_of_its_rights() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let users = format!("ci:{}\n", bcrypt::hash("user-password", 4).unwrap());
    let builder = Proxy::builder().upstream("upstream", &upstream).group("team-a");
    let proxy =
        builder.edit(|d| d.get("Secret", "users")["stringData"] = json!({"users": users})).start().await;
    let client = proxy.client();
    let path = client.path("library/a/manifests/1");
    let status = async |password: &str| {
        client.plain(Method::GET, &path, &[("authorization", &basic("ci", password))], "").await.status
    };
    assert_eq!(status("ci-password").await, 200, "the deploy token");
    assert_eq!(status("user-password").await, 403, "the user of the same name");
    assert_eq!(proxy.client().user("ci", "user-password").manifest("library/a", "1").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_listed_to_who_has_not_signed_in() {
    let (upstream, proxy) = proxy().await;
    let digest = oci::Digest::of(oci::Algorithm::Sha256, b"");
    let client = proxy.client().anonymous();
    for path in [
        client.path("library/a/tags/list"),
        client.path(&format!("library/a/referrers/{digest}")),
        client.path("library/nobody/tags/list"),
        "/v2/no-such-group/dependency_proxy/containers/a/tags/list".to_owned(),
        "/api/v4/groups/team-a/dependency_proxy/quota".to_owned(),
        "/api/v4/groups/no-such-group/dependency_proxy/quota".to_owned(),
    ] {
        let answer = client.plain(Method::GET, &path, &[], "").await;
        answer.refused(401, "UNAUTHORIZED", "Anonymous pulls are not allowed.");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_holds_for_every_way_to_ask_and_for_what_is_cached_already() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(1, 100)]);
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    client.pull("library/a", "1").await;
    let rules = json!([{"name": "quarantine", "action": "Deny", "repository": "library/a"}]);
    proxy.reload(|d| d.spec("RegistryUpstream", "upstream")["rules"] = rules).await;
    let (digest, layer) = (image.digest.to_string(), image.layers[0]);
    for answer in [
        client.manifest("library/a", "1").await,
        client.manifest("library/a", &digest).await,
        client.head("library/a", "1").await,
        client.head("library/a", &digest).await,
        client.blob("library/a", layer).await,
        client.head_blob("library/a", layer).await,
        client.range("library/a", layer, "bytes=0-9").await,
        client.send(Method::GET, "library/a/tags/list", &[]).await,
        client.send(Method::GET, &format!("library/a/referrers/{digest}"), &[]).await,
    ] {
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
}

#[test]
fn two_first_starts_make_different_keys_and_tokens() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = folders.each_ref().map(|folder| {
        let token = standalone(folder.path()).unwrap().token.unwrap();
        (token, OwnKey::load(folder.path()).unwrap())
    });
    assert_ne!(one.0, other.0);
    assert!(one.0.len() >= 40, "{} characters", one.0.len());
    assert_ne!(one.1.kid, other.1.kid);
    assert_ne!(one.1.secret, other.1.secret);
    assert_eq!(OwnKey::load(folders[0].path()).unwrap().secret, one.1.secret, "a restart keeps the key");
}
