//! The chart renders with all that its values can say.

use std::process::Command;

use harness::tool;
use serde_json::Value;

use crate::ground::{EVERYTHING, chart, identity, objects, succeed, template, text, value_files};

#[test]
fn helm_finds_nothing_to_complain_about() {
    for values in value_files() {
        let mut lint = Command::new(tool::built("helm"));
        let printed = succeed(lint.args(["lint", "--strict"]).arg(chart()).arg("--values").arg(&values));
        assert!(printed.contains("1 chart(s) linted, 0 chart(s) failed"), "{printed}");
    }
}

#[test]
fn the_charts_unit_tests_pass() {
    let printed = succeed(Command::new(tool::built("helm-unittest")).arg("--strict").arg(chart()));
    let tests = printed.lines().find(|line| line.starts_with("Tests:")).unwrap();
    let number = tests.split_whitespace().find_map(|word| word.parse::<usize>().ok()).unwrap();
    assert!(number > 30, "{tests}");
}

#[test]
fn each_set_of_values_renders_objects_that_are_told_apart() {
    for values in value_files() {
        let mut command = template(&EVERYTHING);
        let rendered = objects(&succeed(command.arg("--values").arg(&values)));
        assert!(rendered.len() >= 10, "{values:?}: {}", rendered.len());
        let mut identities = rendered.iter().map(identity).collect::<Vec<_>>();
        identities.sort();
        let all = identities.len();
        identities.dedup();
        assert_eq!(identities.len(), all, "{values:?}: an object is there twice: {identities:?}");
        for object in &rendered {
            assert!(object["apiVersion"].is_string(), "{values:?}: {object}");
        }
    }
}

#[test]
fn no_role_names_a_wildcard() {
    for values in value_files() {
        let rendered = objects(&succeed(template(&EVERYTHING).arg("--values").arg(&values)));
        let roles = rendered.iter().filter(|o| o["kind"] == "Role" || o["kind"] == "ClusterRole");
        let roles = roles.collect::<Vec<_>>();
        assert!(roles.len() >= 2, "{values:?}");
        for role in roles {
            assert!(!role["rules"].to_string().contains("\"*\""), "{}", identity(role));
        }
    }
}

#[test]
fn every_container_says_what_restricted_pod_security_asks_for() {
    let values = chart().join("ci/all-values.yaml");
    let rendered = objects(&succeed(template(&EVERYTHING).arg("--values").arg(values)));
    let deployments =
        rendered.iter().filter(|o| o["kind"] == "Deployment").map(|o| &o["spec"]["template"]["spec"]);
    let pods = deployments.chain(rendered.iter().filter(|o| o["kind"] == "Pod").map(|o| &o["spec"]));
    let mut containers = 0;
    for pod in pods {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for container in pod["containers"].as_array().unwrap() {
            containers += 1;
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"][0], "ALL");
            assert!(container["resources"]["requests"]["memory"].is_string(), "{container}");
        }
    }
    assert_eq!(containers, 3, "the operator, and two of helm test");
}

#[test]
fn the_chart_names_every_image_that_it_pulls() {
    let about = serde_yaml::from_str::<Value>(&text("charts/dependency-proxy/Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((about["version"].as_str(), about["appVersion"].as_str()), (Some(version), Some(version)));
    let listed = about["annotations"]["artifacthub.io/images"].as_str().unwrap();
    let listed = serde_yaml::from_str::<Vec<Value>>(listed).unwrap();
    let listed = listed.iter().map(|image| image["image"].as_str().unwrap()).collect::<Vec<_>>();
    let printed = succeed(&mut template(&[]));
    // What containers run, and what the operator is told to start.
    let after = |line: &str| {
        ["image: ", "value: "].iter().find_map(|key| Some(line.trim().strip_prefix(key)?.to_owned()))
    };
    let pulled = printed.lines().filter_map(after).filter(|value| value.contains('/'));
    let mut pulled = pulled.collect::<Vec<_>>();
    assert!(pulled.len() >= 3, "{pulled:?}");
    pulled.sort();
    pulled.dedup();
    assert_eq!(pulled, listed);
}
