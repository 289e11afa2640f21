//! The chart with everything in it, before a real API server: it takes each object, and knows each field.

use std::process::Command;

use harness::tool;

use crate::exposure::apply_optional_kinds;
use crate::ground::own_server;

/// What helm makes of the chart for this namespace.
pub(crate) fn template(namespace: &str, arguments: &[&str]) -> String {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/dependency-proxy");
    let mut helm = Command::new(tool::built("helm"));
    helm.args(["template", "dependency-proxy", chart, "--namespace", namespace]);
    let output = helm.args(["--kube-version", "1.34.0"]).args(arguments).output().expect("helm runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_api_server_takes_the_chart_with_everything_that_is_off_by_default() {
    // Other kinds than the tests beside this one may have, in a namespace that must be called so.
    let Some(server) = own_server().await else { return };
    let kubectl = server.kubectl();
    apply_optional_kinds(&kubectl).await;
    let release = server.namespace().await;
    for namespace in [release.as_str(), "team-a", "team-b"] {
        if namespace != release {
            kubectl.run(&["create", "namespace", namespace]).await.succeeds();
        }
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        kubectl.run(&["label", "namespace", namespace, restricted]).await.succeeds();
        kubectl.wait(namespace, "serviceaccount/default", "create").await;
    }
    let values = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/dependency-proxy/ci");
    for file in ["all", "default", "narrow"] {
        let values = format!("{values}/{file}-values.yaml");
        let versions = ["monitoring.coreos.com/v1", "dependencyproxy.dev/v1alpha1"];
        let versions = versions.iter().flat_map(|version| ["--api-versions", version]);
        let arguments = ["--values", &values].into_iter().chain(versions).collect::<Vec<_>>();
        let rendered = template(&release, &arguments);
        let number = rendered.lines().filter(|line| line.starts_with("kind: ")).count();
        assert!(number >= 10, "{file}: {number} objects");
        let apply =
            ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-"];
        let taken = kubectl.run_with(&apply, &rendered).await.succeeds().text;
        assert_eq!(taken.lines().filter(|line| line.contains('/')).count(), number, "{file}:\n{taken}");
    }
}
