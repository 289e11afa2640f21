//! Install, upgrade, uninstall, and the first steps of README.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::installation::{Installation, NAMESPACE, RELEASE, chart};

#[tokio::test(flavor = "multi_thread")]
async fn the_quickstart_ends_with_a_pod_whose_image_came_through_the_proxy() {
    let Some(installation) = Installation::alone().await else { return };
    let quickstart = fs::read_to_string(chart().join("../../deploy/examples/quickstart.yaml")).unwrap();
    // The one line that `make cluster` names where Docker Hub cannot be reached.
    let line = r#"spec: {url: "https://registry-1.docker.io", dockerHub: true}"#;
    assert!(quickstart.contains(line));
    let here = r#"spec: {url: "http://registry.upstream.svc:5000", insecure: true, dockerHub: true}"#;
    let kubectl = &installation.kubectl;
    kubectl.apply(&quickstart.replace(line, here)).await;
    kubectl.wait("default", "deployment/quickstart", "condition=Available").await;
    kubectl.wait("default", "registryupstream/docker-hub", "condition=Ready").await;
    let table = kubectl.run(&["get", "dp,dpg,ups,vreg,pb", "--all-namespaces"]).await.succeeds().text;
    harness::say!("{table}");
    let ready = table.lines().filter(|line| line.split_whitespace().nth(2) == Some("True")).count();
    assert!(ready >= 4, "{table}");
    kubectl
        .run_with(&["delete", "-f", "-", "--ignore-not-found", "--wait=false"], &only_ours(&quickstart))
        .await
        .succeeds();
}

/// The documents but for the namespace, in which the operator is.
fn only_ours(documents: &str) -> String {
    let documents = documents.split("---\n").filter(|document| !document.contains("kind: Namespace"));
    documents.collect::<Vec<_>>().join("---\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_brings_newer_definitions_and_an_uninstall_leaves_them_and_nothing_else() {
    let Some(installation) = Installation::alone().await else { return };
    let kubectl = &installation.kubectl;
    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"];
    installation.helm(&uninstall).await.succeeds();
    let pods = ["wait", "-n", NAMESPACE, "pod", "-l", "app.kubernetes.io/component=operator", "--for=delete"];
    kubectl.run(&pods).await.succeeds();
    let left = kubectl
        .run(&[
            "get",
            "all,cm,secret,sa,role,rolebinding,pdb,networkpolicy",
            "-n",
            NAMESPACE,
            "-l",
            &format!("app.kubernetes.io/instance={RELEASE}"),
            "-o",
            "name",
        ])
        .await
        .succeeds()
        .text;
    assert!(left.trim().is_empty() || left.contains("No resources found"), "stray: {left}");
    // By name: what an operator makes for itself has no labels.
    let lease =
        ["get", "lease", "dependency-proxy-operator", "-n", NAMESPACE, "--ignore-not-found", "-o", "name"];
    let lease = kubectl.run(&lease).await.succeeds().text;
    assert!(lease.trim().is_empty(), "stray: {lease}");
    let roles = kubectl
        .run(&[
            "get",
            "clusterrole,clusterrolebinding",
            "-l",
            "app.kubernetes.io/part-of=dependency-proxy",
            "-o",
            "name",
        ])
        .await
        .succeeds()
        .text;
    assert!(!roles.contains("dependency-proxy"), "stray: {roles}");
    let definition = "customresourcedefinition/dependencyproxies.dependencyproxy.dev";
    kubectl.run(&["get", definition]).await.succeeds();

    let older = older_chart();
    installation.install(older.path()).await.succeeds();
    let has = async |field: &str| {
        let definition = kubectl.json(&["get", definition]).await;
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        !spec["properties"][field].is_null()
    };
    assert!(has("formerName").await && !has("maxRegistriesPerGroup").await);
    installation.install(&chart()).await.succeeds();
    assert!(has("maxRegistriesPerGroup").await && !has("formerName").await);
    installation.helm(&["test", RELEASE, "--namespace", NAMESPACE]).await.succeeds();
}

/// A chart of a release before this one: its definition does not know a field yet, and its operator is another one.
pub(crate) fn older_chart() -> TempDir {
    let older = tempfile::tempdir().unwrap();
    copy(&chart(), older.path());
    let changes = [
        ("files/crds.yaml", "maxRegistriesPerGroup:", "formerName:"),
        ("values.yaml", "podAnnotations: {}", "podAnnotations: {release: before}"),
    ];
    for (file, now, before) in changes {
        let file = older.path().join(file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(now), "{now}");
        fs::write(&file, text.replace(now, before)).unwrap();
    }
    older
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
