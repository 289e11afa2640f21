//! Alerts and dashboard: Prometheus takes them, and they ask for metrics and labels that there are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use harness::tool;
use serde_json::Value;

use crate::ground::{root, succeed, text};

/// The alerts that there have to be.
const ALERTS: [&str; 10] = [
    "UpstreamDown",
    "QuotaEmptyWithinHour",
    "CredentialsRejected",
    "StoreFailing",
    "ServingStaleOver6h",
    "ConfigRejected",
    "FillsStuck",
    "LocalDiskFull",
    "CertificateExpiring",
    "OwnErrors",
];

#[test]
fn prometheus_takes_the_rules_and_they_do_what_their_tests_say() {
    let Some(promtool) = promtool() else { return };
    let folder = root().join("deploy/alerts");
    succeed(Command::new(&promtool).args(["check", "rules", "dependency-proxy.yaml"]).current_dir(&folder));
    let printed = succeed(Command::new(&promtool).args(["test", "rules", "tests.yaml"]).current_dir(&folder));
    assert!(printed.contains("SUCCESS"), "{printed}");
}

#[test]
fn every_alert_is_tested_and_has_its_paragraph_in_the_readme() {
    let rules = rules();
    assert_eq!(rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect::<Vec<_>>(), ALERTS);
    let tests = text("deploy/alerts/tests.yaml");
    let paragraphs = section("## Alerts");
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("critical" | "warning")), "{name}");
        let annotations = &rule["annotations"];
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{name}");
        assert_eq!(annotations["runbook"], format!("README \"Alerts\", {name}"));
        assert!(tests.contains(&format!("- name: {name}\n")), "{name} has no test");
        assert!(
            tests.contains(&format!("runbook: README \"Alerts\", {name}")),
            "no test of {name} raises it"
        );
        assert!(
            paragraphs.contains(&format!("\n**{name}**")),
            "README.md, Alerts, has no paragraph on {name}"
        );
    }
}

#[test]
fn prometheus_understands_every_query_of_the_dashboard() {
    let Some(promtool) = promtool() else { return };
    let values = [("$__rate_interval", "5m"), ("$__range", "6h"), ("$namespace", "a"), ("$job", "b")];
    let queries = queries().into_iter().enumerate().map(|(number, query)| {
        let query = values.iter().fold(query, |query, (name, value)| query.replace(name, value));
        serde_json::json!({"record": format!("query:{number}"), "expr": query})
    });
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": queries.collect::<Vec<_>>()}]});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules.to_string()).unwrap();
    succeed(Command::new(promtool).args(["check", "rules"]).arg(file.path()));
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_and_labels_that_there_are() {
    let known = known();
    assert!(known.len() > 30, "{known:?}");
    let alerts = rules().iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let mut seen = 0;
    for query in alerts.into_iter().chain(queries()) {
        for (metric, labels) in asked(&query) {
            seen += 1;
            let parts = ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
            let histogram = parts.filter(|name| known.get(*name).is_some_and(|row| row.is_histogram));
            let row = known.get(histogram.unwrap_or(metric));
            let row = row.unwrap_or_else(|| panic!("there is no metric {metric}: {query}"));
            assert!(!row.is_histogram || histogram.is_some(), "{metric} is a histogram: {query}");
            for label in labels {
                let there = ["namespace", "job"].contains(&label) || row.labels.iter().any(|l| l == label);
                assert!(there, "{metric} has no label {label}: {query}");
            }
        }
    }
    assert!(seen > 40, "{seen} metrics are asked for: the queries are not read");
}

#[test]
fn the_dashboards_panels_are_told_apart_and_say_what_they_show() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect::<Vec<_>>();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["title"].is_string() && panel["description"].is_string(), "{panel}");
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{panel}");
    }
}

/// Where promtool is; where it cannot be installed, the test is left out.
fn promtool() -> Option<PathBuf> {
    if !tool::is_root() && tool::left_out(&["promtool"], false) {
        return None;
    }
    Some(tool::installed("promtool").expect("promtool is installed by make tools"))
}

fn rules() -> Vec<Value> {
    let file = serde_yaml::from_str::<Value>(&text("deploy/alerts/dependency-proxy.yaml")).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&text("deploy/dashboards/dependency-proxy.json")).unwrap()
}

/// Every query of the dashboard's panels.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// The metrics of a query, with the labels that it selects by.
fn asked(query: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    for (start, _) in query.match_indices("dependency_proxy_") {
        let rest = &query[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let selector = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = selector.map(|(labels, _)| labels.split(", ")).into_iter().flatten();
        let labels = labels.filter_map(|label| label.split(['=', '!']).next());
        found.push((&rest[..end], labels.collect()));
    }
    found
}

/// A row of one of README's tables of metrics, which another test compares with the code.
#[derive(Debug)]
struct Row {
    labels: Vec<String>,
    is_histogram: bool,
}

fn known() -> BTreeMap<String, Row> {
    let mut known = BTreeMap::new();
    for (heading, prefix) in
        [("## Metrics", "dependency_proxy_"), ("## The operator's metrics", "dependency_proxy_operator_")]
    {
        for line in section(heading).lines().filter(|line| line.starts_with("| `")) {
            let name = line.split('`').nth(1).unwrap();
            let (name, labels) = name.trim_end_matches('}').split_once('{').unwrap_or((name, ""));
            let labels = labels.split(',').map(str::to_owned).collect();
            let is_histogram = line.split('|').nth(2).is_some_and(|kind| kind.trim() == "histogram");
            known.insert(format!("{prefix}{name}"), Row { labels, is_histogram });
        }
    }
    known
}

/// README.md from a heading to the next of the same depth.
fn section(heading: &str) -> String {
    let readme = format!("\n{}", text("README.md"));
    let (_, rest) =
        readme.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}
