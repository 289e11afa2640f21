//! The chart's values: what is no value is refused with its path, and each is in the chart's README.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::ground::{run, template, text};

/// Arguments of helm, and two pieces of what it has to say.
const REFUSED: [(&str, &str, &str); 14] = [
    ("replica=2", "'replica'", "not allowed"),
    ("image.registry=example.com", "/image", "'registry' not allowed"),
    ("image.repository=example.com/proxy:1", "/image/repository", "pattern"),
    ("image.digest=abc", "/image/digest", "pattern"),
    ("image.pullPolicy=Sometimes", "/image/pullPolicy", "must be one of"),
    ("replicas=two", "/replicas", "integer"),
    ("replicas=50", "/replicas", "maximum"),
    ("watchNamespaces={Team_A}", "/watchNamespaces/0", "pattern"),
    ("watchNamespaces={a,a}", "/watchNamespaces", "equal"),
    ("log.format=xml", "/log/format", "must be one of"),
    ("metrics.serviceMonitor.interval=often", "/metrics/serviceMonitor/interval", "pattern"),
    ("instance.enabled=true", "/instance/spec", "externalURL"),
    ("instance.groups[0].name=a", "/instance/groups/0", "'spec'"),
    ("instance.name=Main", "/instance/name", "pattern"),
];

#[test]
fn what_is_no_value_is_refused_with_its_path() {
    for (set, path, message) in REFUSED {
        let output = run(&mut template(&["--set", set]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{set} is accepted");
        assert!(said.contains(path) && said.contains(message), "{set}: {said}");
    }
}

#[test]
fn the_charts_readme_has_a_row_for_each_value_and_no_other() {
    let values = serde_yaml::from_str::<Value>(&text("charts/dependency-proxy/values.yaml")).unwrap();
    let mut leaves = BTreeSet::new();
    collect("", &values, &mut leaves);
    let readme = text("charts/dependency-proxy/README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|line| line.split('`').nth(1).unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(rows, leaves);
}

/// The paths of everything that is no map, or an empty one; `resources` and labels are one value each.
fn collect(path: &str, value: &Value, leaves: &mut BTreeSet<String>) {
    let whole = path.ends_with("resources") || path.ends_with("labels");
    match value.as_object().filter(|map| !map.is_empty() && !whole) {
        Some(map) => {
            for (name, inner) in map {
                let inner_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&inner_path, inner, leaves);
            }
        }
        None => {
            leaves.insert(path.to_owned());
        }
    }
}

#[test]
fn a_cluster_that_does_not_take_the_kinds_is_refused() {
    let of = |version: &str| run(&mut template(&["--kube-version", version]));
    assert!(of("1.31.0").status.success());
    let old = of("1.30.9");
    let said = String::from_utf8_lossy(&old.stderr);
    assert!(!old.status.success() && said.contains(">=1.31.0-0"), "{said}");
    assert!(text("README.md").contains("Kubernetes 1.31 or newer"));
    assert!(text("charts/dependency-proxy/README.md").contains("Needs Kubernetes 1.31,"));
}
