//! What good documents become.

use std::time::Duration;

use crate::GOOD;
use config::{
    Config, Document, Judgement, ObjectId, Options, Origin, Route, Storage, TokenHash, judge, parse,
};

fn documents(text: &str) -> Vec<Document> {
    let (documents, problems) = parse(text, "f.yaml", Origin::File);
    assert!(problems.is_empty(), "{problems:#?}");
    documents
}

fn accepted(text: &str, options: &Options) -> Config {
    let Judgement { config, problems } = judge(&documents(text), options);
    assert!(problems.is_empty(), "{problems:#?}");
    config.expect("a config")
}

#[test]
fn the_documents_of_the_design_are_accepted_without_a_problem() {
    let config = accepted(GOOD, &Options::default());
    assert_eq!(config.groups.keys().collect::<Vec<_>>(), ["team-a", "team-a/child"]);
    let registry = &config.registries["team-a.hub"];
    let names = registry.upstreams.iter().map(|u| u.id.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["docker-hub", "quay"]);
    assert!(matches!(&config.mirrors["hub.example.com"], Route::Group(group) if group.path == "team-a"));
    let prefixes = config.aliases.iter().map(|a| a.prefix.as_str()).collect::<Vec<_>>();
    assert_eq!(prefixes, ["virtual_registries/container/1", "harbor/dockerhub"]);
    let Storage::S3(s3) = &config.instance.storage else { panic!("{:?}", config.instance.storage) };
    assert_eq!((s3.bucket.as_str(), s3.prefix.as_deref(), s3.path_style), ("blobs", Some("a/b"), true));
    assert_eq!(s3.credentials.as_ref().unwrap().secret_access_key.expose(), "key");
    assert!(config.instance.users.hashes["alice"].expose().starts_with("$2y$05$"));
    assert_eq!(config.instance.keys.current.as_deref(), Some("k2"));
    assert_eq!(config.instance.keys.signing.len(), 2);
}

#[test]
fn a_group_has_the_instances_default_upstream_where_it_names_none() {
    let config = accepted(GOOD, &Options::default());
    let upstream = &config.groups["team-a/child"].upstream;
    assert_eq!(upstream.id, ObjectId { namespace: "team-a".into(), name: "docker-hub".into() });
    assert!(upstream.docker_hub);
    assert_eq!(upstream.host, "docker.io");
    assert_eq!(upstream.credentials.as_ref().unwrap().password.expose(), "secret");
}

#[test]
fn an_upstreams_url_loses_what_the_protocol_adds() {
    let config = accepted(GOOD, &Options::default());
    let quay = &config.registries["team-a.hub"].upstreams[1];
    assert_eq!(quay.url.as_str(), "https://quay.example.com:8443/mirror");
    assert_eq!(quay.host, "quay.example.com:8443");
    assert_eq!(quay.cache_validity, None);
    assert!(quay.ca.as_ref().unwrap().contains("BEGIN CERTIFICATE"));
}

#[test]
fn a_deploy_token_is_kept_as_a_hash_under_the_instance_key() {
    let config = accepted(GOOD, &Options::default());
    let token = config.credentials.named("ci").next().unwrap();
    assert_eq!((token.username.as_str(), token.reads), ("ci", true));
    assert_eq!(token.hash, TokenHash::of(&config.instance.keys.instance, "dp_secret"));
    assert_eq!(token.expires_at.unwrap().to_string(), "2030-01-31T00:00:00Z");
    assert!(!format!("{config:?}").contains("dp_secret"));
}

#[test]
fn the_token_that_an_operator_renders_is_the_same_token() {
    let config = accepted(GOOD, &Options::default());
    let token = config.credentials.named("ci").next().unwrap();
    let rendered = GOOD.replace(
        "name: ci-token, namespace: team-a}\n  type: kubernetes.io/basic-auth\n  stringData: {username: ci, password: dp_secret}",
        &format!("name: ci-token, namespace: team-a}}\n  type: dependencyproxy.dev/token\n  stringData: {{username: ci, hash: {}}}", token.hash.to_hex()),
    );
    assert_ne!(rendered, GOOD);
    let rendered = accepted(&rendered, &Options::default());
    let again = rendered.credentials.named("ci").next().unwrap();
    assert_eq!((&again.hash, &again.fingerprint), (&token.hash, &token.fingerprint));
}

#[test]
fn without_a_dependency_proxy_the_defaults_hold() {
    let group = "apiVersion: dependencyproxy.dev/v1alpha1\nkind: DependencyProxyGroup\nmetadata: {name: a}\nspec: {proxyRef: {name: any}, path: a}\n";
    let config = accepted(group, &Options::default());
    assert_eq!(config.instance.id.to_string(), "default/default");
    assert_eq!(config.instance.storage, Storage::Folder);
    assert_eq!(config.instance.local_size_limit, 10 << 30);
    assert_eq!(config.instance.token_ttl, Duration::from_secs(900));
    assert_eq!(config.instance.drain, Duration::from_secs(120));
    let upstream = &config.groups["a"].upstream;
    assert_eq!(upstream.id.to_string(), "default/docker-hub");
    assert_eq!(upstream.url.as_str(), "https://registry-1.docker.io/");
    assert!(upstream.docker_hub && upstream.credentials.is_none());
    assert_eq!(upstream.cache_validity, Some(Duration::from_secs(24 * 3600)));
}

#[test]
fn who_delivers_is_url_ca_egress_proxy_and_account_but_not_the_password() {
    let origin = |text: &str, proxy: Option<&str>| {
        let options = Options { https_proxy: proxy.map(str::to_owned), ..Options::default() };
        accepted(text, &options).groups["team-a"].upstream.origin.clone()
    };
    let first = origin(GOOD, None);
    assert_eq!(first, origin(&GOOD.replace("c2VjcmV0", "b3RoZXI="), None));
    assert_ne!(first, origin(&GOOD.replace("aHVi", "b3RoZXI="), None));
    assert_ne!(first, origin(&GOOD.replace("https://registry-1.docker.io", "https://hub.example.com"), None));
    let through_proxy = origin(GOOD, Some("http://proxy.example.com:3128"));
    assert_ne!(first, through_proxy);
    // The proxy's account is rotated like any password.
    assert_eq!(through_proxy, origin(GOOD, Some("http://me:p@ss@proxy.example.com:3128/")));
    assert_eq!(through_proxy, origin(GOOD, Some("proxy.example.com:3128")));
}

#[test]
fn plain_http_goes_through_a_proxy_of_its_own() {
    let text = GOOD
        .replace("url: https://registry-1.docker.io", "insecure: true\n  url: http://registry-1.docker.io");
    let origin = |options: &Options| accepted(&text, options).groups["team-a"].upstream.origin.clone();
    let proxy = Some("http://proxy.example.com:3128".to_owned());
    let none = origin(&Options::default());
    assert_eq!(none, origin(&Options { https_proxy: proxy.clone(), ..Options::default() }));
    assert_ne!(none, origin(&Options { http_proxy: proxy, ..Options::default() }));
}

#[test]
fn the_hash_changes_with_the_documents_and_not_with_their_order() {
    let hash = |documents: &[Document]| judge(documents, &Options::default()).config.unwrap().hash;
    let mut all = documents(GOOD);
    let first = hash(&all);
    all.reverse();
    assert_eq!(hash(&all), first);
    assert_ne!(hash(&documents(&GOOD.replace("ttlDays: 90", "ttlDays: 91"))), first);
}

#[test]
fn a_copy_of_docker_hub_is_known_by_its_name() {
    let text = GOOD.replace("cacheValidityHours: 0,", "dockerHub: true,");
    let config = accepted(&text, &Options::default());
    let upstream = &config.registries["team-a.hub"].upstreams[1];
    assert!(upstream.docker_hub);
    assert_eq!(upstream.host, "docker.io");
}

#[test]
fn json_is_read_with_its_own_escapes() {
    let text = "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\",\n\t\"metadata\": {\"name\": \"a\", \"annotations\": {\"x\": \"\\ud83d\\ude00\\/\"}}}";
    assert_eq!(documents(text).len(), 1);
}

#[test]
fn without_keys_a_deploy_token_is_hashed_under_the_empty_key() {
    let text = "apiVersion: dependencyproxy.dev/v1alpha1\nkind: DependencyProxyGroup\nmetadata: {name: a}\nspec: {proxyRef: {name: any}, path: a, deployTokens: [{name: t, secretRef: {name: s}, scopes: [write_registry]}]}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/basic-auth\nstringData: {username: u, password: dp_x}\n";
    let config = accepted(text, &Options::default());
    let token = config.credentials.named("u").next().unwrap();
    assert_eq!(token.hash, TokenHash::of(b"", "dp_x"));
    assert!(!token.reads);
}

#[test]
fn what_a_cluster_prints_is_taken_back() {
    let text = "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n- apiVersion: dependencyproxy.dev/v1alpha1\n  kind: RegistryUpstream\n  metadata:\n    name: u\n    uid: x\n    generation: 2\n    creationTimestamp: '2026-01-01T00:00:00Z'\n    managedFields: [{manager: m, fieldsType: FieldsV1, fieldsV1: {'f:spec': {}}}]\n  spec: {url: 'https://a.example.com'}\n  status: {ready: 'True', later: field}\n";
    let (first, second) = (documents(text), documents(&text.replace("2026", "2027")));
    assert_eq!(first[0].id.to_string(), "default/u");
    assert!(first[0].created < second[0].created);
}

#[test]
fn no_secret_shows_in_debug_output() {
    let all = documents(GOOD);
    let judgement = judge(&all, &Options::default());
    let shown = format!("{all:?} {judgement:?}");
    for secret in ["dp_secret", "0123456789abcdef", "fedcba98", "secretAccessKey: key", "$2y$", "48, 49, 50"]
    {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn cleanup_and_quotas_become_times_and_bytes_and_what_is_off_is_none() {
    let config = accepted(GOOD, &Options::default());
    assert_eq!(config.instance.storage_limit, None);
    assert_eq!(config.groups["team-a"].cleanup.dependency_proxy, None, "off unless it is said");
    let group = "
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxyGroup
metadata: {name: g, namespace: g}
spec:
  proxyRef: {name: main}
  path: g
  quota: {storageBytes: 500Gi}
  cleanup:
    dependencyProxy: {enabled: true, ttlDays: 10}
    virtualRegistries: {enabled: true}
";
    let config = accepted(group, &Options::default());
    let group = &config.groups["g"];
    let day = Duration::from_secs(24 * 3600);
    assert_eq!((group.cleanup.dependency_proxy, group.storage_limit), (Some(10 * day), Some(500 << 30)));
    let registries = group.cleanup.virtual_registries.unwrap();
    assert_eq!((registries.keep, registries.cadence), (30 * day, 7 * day));
}
