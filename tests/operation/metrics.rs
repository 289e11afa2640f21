//! The second port's metrics, with the names and labels that are promised to users.

use std::collections::{BTreeMap, BTreeSet};

use harness::hostile::{Fault, Upstream, noise};
use harness::proxy::ProxyProcess;
use http::Method;

use crate::ground::{client, proxy_of, settled};

const PREFIX: &str = "dependency_proxy_";

/// Every family: its type, and the labels of its samples.
const FAMILIES: &[(&str, &str, &[&str])] = &[
    ("requests", "counter", &["group", "kind", "result"]),
    ("request_duration_seconds", "histogram", &["kind", "result"]),
    ("first_byte_seconds", "histogram", &["kind", "result"]),
    ("served_bytes", "counter", &["group", "kind", "source"]),
    ("upstream_requests", "counter", &["upstream", "method", "code"]),
    ("upstream_request_duration_seconds", "histogram", &["upstream"]),
    ("upstream_up", "gauge", &["upstream"]),
    ("oldest_stale_seconds", "gauge", &["upstream"]),
    ("upstream_credentials_valid", "gauge", &["upstream"]),
    ("upstream_ratelimit_limit", "gauge", &["upstream", "source"]),
    ("upstream_ratelimit_remaining", "gauge", &["upstream", "source"]),
    ("upstream_ratelimit_window_seconds", "gauge", &["upstream", "source"]),
    ("fills_in_flight", "gauge", &[]),
    ("replicas_known", "gauge", &[]),
    ("fill_waiters", "gauge", &[]),
    ("fill_idle_seconds", "gauge", &[]),
    ("store_operations", "counter", &["operation", "result"]),
    ("store_operation_duration_seconds", "histogram", &["operation"]),
    ("cached_bytes", "gauge", &[]),
    ("local_bytes", "gauge", &[]),
    ("evictions", "counter", &[]),
    ("cleanup_last_run_timestamp_seconds", "gauge", &[]),
    ("cleanup_freed_bytes", "gauge", &[]),
    ("cleanup_kept_bytes", "gauge", &[]),
    ("config_reload_success", "gauge", &[]),
    ("config_problems", "gauge", &[]),
    ("config_info", "gauge", &["hash"]),
    ("tokens_issued", "counter", &["result"]),
    ("build_info", "gauge", &["version"]),
];

/// A sample of an OpenMetrics text.
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads an OpenMetrics text strictly, as far as our metrics use the format: families with their types, and samples.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Sample>) {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut types, mut samples, mut family) = (BTreeMap::new(), Vec::new(), String::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (keyword, name, text) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match keyword {
                "HELP" => family = name.to_owned(),
                "TYPE" => {
                    family = name.to_owned();
                    assert!(types.insert(family.clone(), text.to_owned()).is_none(), "{family} comes twice");
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let sample = sample(line);
        let suffix = sample.name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is no {family}"));
        let allowed: &[&str] = match types[&family].as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{line} in a {}", types[&family]);
        samples.push(sample);
    }
    (types, samples)
}

/// `name{label="value",...} number`
fn sample(line: &str) -> Sample {
    let (front, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let (name, labels) = match front.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("a closing brace")),
        None => (front, ""),
    };
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    let labels = pairs.map(|pair| {
        let (key, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        (key.to_owned(), value.trim_end_matches('"').to_owned())
    });
    let value = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
    Sample { name: name.to_owned(), labels: labels.collect(), value }
}

/// A proxy that has done some of everything.
async fn busy(upstream: &Upstream) -> ProxyProcess {
    upstream.require_bearer_for("robot", "robot-password");
    upstream.image("library/shownnowhere", "tagnowhere", &[noise(1, 10_000)]);
    upstream.on("/manifests/").faults([
        Fault::Header("ratelimit-limit", "100;w=21600".to_owned()),
        Fault::Header("ratelimit-remaining", "-3;w=21600".to_owned()),
        Fault::Header("docker-ratelimit-source", "192.0.2.7".to_owned()),
    ]);
    let proxy = proxy_of(upstream, |d| d.credentials("upstream", "robot", "robot-password")).await;
    let alice = client(&proxy);
    for _ in 0..2 {
        alice.pull("library/shownnowhere", "tagnowhere").await;
        settled(&proxy).await;
    }
    assert_eq!(alice.manifest("library/shownnowhere", "othertagnowhere").await.status, 404);
    assert_eq!(alice.user("bob", "bob-password").manifest("library/shownnowhere", "1").await.status, 403);
    assert_eq!(alice.user("mallory", "wrong").manifest("library/shownnowhere", "1").await.status, 401);
    proxy
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_there_with_its_type_and_labels() {
    let upstream = Upstream::start().await;
    let proxy = busy(&upstream).await;
    let (types, samples) = parse(&proxy.metrics().await);
    for (name, kind, labels) in FAMILIES {
        let name = format!("{PREFIX}{name}");
        assert_eq!(types.get(&name).map(String::as_str), Some(*kind), "{name}");
        let wanted: BTreeSet<_> = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut seen = 0;
        for sample in samples.iter().filter(|sample| family(&sample.name, &types) == name) {
            let mut found: BTreeSet<_> = sample.labels.keys().cloned().collect();
            found.remove("le");
            assert_eq!(found, wanted, "{}", sample.name);
            seen += 1;
        }
        assert!(seen > 0, "{name} has no sample");
    }
    let known: BTreeSet<_> = FAMILIES.iter().map(|(name, ..)| format!("{PREFIX}{name}")).collect();
    assert_eq!(types.keys().cloned().collect::<BTreeSet<_>>(), known, "no others");
}

fn family(sample: &str, types: &BTreeMap<String, String>) -> String {
    let cut = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix));
    cut.filter(|name| types.contains_key(*name)).unwrap_or(sample).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn label_values_are_those_that_are_promised_and_name_no_image_tag_or_user() {
    let upstream = Upstream::start().await;
    let proxy = busy(&upstream).await;
    let text = proxy.metrics().await;
    for secret in ["shownnowhere", "nowhere", "sha256:", "alice", "bob", "mallory", "robot"] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
    let (_, samples) = parse(&text);
    let values = |label: &str| -> BTreeSet<&str> {
        samples.iter().filter_map(|sample| sample.labels.get(label)).map(String::as_str).collect()
    };
    assert_eq!(values("group"), BTreeSet::from(["team-a"]));
    assert_eq!(values("upstream"), BTreeSet::from(["dp/upstream"]));
    assert_eq!(values("kind"), BTreeSet::from(["blob", "manifest"]));
    assert_eq!(values("method"), BTreeSet::from(["GET", "HEAD"]));
    assert!(values("source").is_subset(&BTreeSet::from(["cache", "upstream", "192.0.2.7"])));
    let results = [
        "hit",
        "miss",
        "stale",
        "revalidated",
        "denied",
        "client_error",
        "upstream_error",
        "store_error",
        "internal_error",
        "ok",
        "error",
    ];
    assert!(values("result").is_subset(&BTreeSet::from(results)), "{:?}", values("result"));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_those_of_what_happened() {
    let upstream = Upstream::start().await;
    let proxy = busy(&upstream).await;
    let metric = async |sample: &str| proxy.metric(sample).await;
    // Config and layer: once downloaded, once from the cache.
    assert_eq!(metric("requests_total{kind=\"blob\",result=\"miss\"}").await, 2.0);
    assert_eq!(metric("requests_total{kind=\"blob\",result=\"hit\"}").await, 2.0);
    assert_eq!(metric("requests_total{kind=\"manifest\",result=\"miss\"}").await, 1.0);
    assert_eq!(metric("requests_total{kind=\"manifest\",result=\"revalidated\"}").await, 1.0);
    assert_eq!(metric("requests_total{kind=\"manifest\",result=\"client_error\"}").await, 1.0);
    assert!(metric("requests_total{kind=\"manifest\",result=\"denied\"}").await >= 2.0);
    let served = metric("served_bytes_total{kind=\"blob\",source=\"upstream\"}").await;
    assert!(served > 10_000.0);
    assert_eq!(metric("served_bytes_total{kind=\"blob\",source=\"cache\"}").await, served);
    assert!(metric("tokens_issued_total{result=\"ok\"}").await >= 2.0);
    assert_eq!(metric("tokens_issued_total{result=\"denied\"}").await, 1.0);
    assert_eq!(metric("fills_in_flight").await, 0.0);
    assert_eq!(metric("fill_waiters").await, 0.0);
    assert_eq!(metric("upstream_up{upstream=\"dp/upstream\"}").await, 1.0);
    assert_eq!(metric("upstream_credentials_valid{upstream=\"dp/upstream\"}").await, 1.0);
    assert_eq!(metric("config_reload_success").await, 1.0);
    assert_eq!(metric("config_problems").await, 0.0);
    assert_eq!(metric("config_info").await, 1.0);
    assert_eq!(metric("build_info").await, 1.0);
    let gets = upstream.count(Method::GET, "/blobs/") + upstream.count(Method::GET, "/manifests/");
    assert!(metric("upstream_requests_total{method=\"GET\"}").await >= gets as f64);
    assert!(metric("upstream_requests_total{method=\"HEAD\"}").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limits_are_shown_as_they_were_sent() {
    let upstream = Upstream::start().await;
    let proxy = busy(&upstream).await;
    let labels = "{upstream=\"dp/upstream\",source=\"192.0.2.7\"}";
    let metric = async |name: &str| proxy.metric(&format!("upstream_ratelimit_{name}{labels}")).await;
    assert_eq!(metric("limit").await, 100.0);
    assert_eq!(metric("remaining").await, -3.0, "Docker Hub sends negative numbers");
    assert_eq!(metric("window_seconds").await, 21_600.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_sends_no_rate_limit_has_no_series_of_it() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let proxy = proxy_of(&upstream, |_| {}).await;
    client(&proxy).pull("library/a", "1").await;
    let (_, samples) = parse(&proxy.metrics().await);
    let found: Vec<_> = samples.iter().filter(|s| s.name.contains("ratelimit")).map(|s| s.value).collect();
    assert_eq!(found, Vec::<f64>::new(), "an absent header is not a zero");
    let credentials = samples.iter().filter(|sample| sample.name.contains("credentials_valid"));
    assert_eq!(credentials.count(), 0, "it has no credentials that could be valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hash_of_the_documents_changes_with_them_and_is_one() {
    let upstream = Upstream::start().await;
    let proxy = proxy_of(&upstream, |_| {}).await;
    let hash = |text: &str| {
        let (_, samples) = parse(text);
        let hashes: Vec<_> = samples.iter().filter_map(|sample| sample.labels.get("hash")).cloned().collect();
        let [hash] = hashes.as_slice() else { panic!("{hashes:?}") };
        hash.clone()
    };
    let before = hash(&proxy.metrics().await);
    let mut documents = crate::ground::documents(&proxy.url(), &upstream);
    documents.group("team-b", "upstream");
    proxy.change_documents(&documents.yaml());
    for _ in 0..250 {
        if hash(&proxy.metrics().await) != before {
            let status = crate::ground::admin(&proxy, Method::GET, "/status", "").await.1;
            assert!(status.contains(&hash(&proxy.metrics().await)), "/status has the same: {status}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the hash is the same after 5 s");
}
