//! The project's files, helm, and what it renders.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::tool;
use serde_json::Value;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder of the chart.
pub(crate) fn chart() -> PathBuf {
    root().join("charts/dependency-proxy")
}

/// A text file of the project, by its path from the root.
pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The paths of the `ci/*-values.yaml`.
pub(crate) fn value_files() -> Vec<PathBuf> {
    let files = std::fs::read_dir(chart().join("ci")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.collect::<Vec<_>>();
    assert!(files.len() >= 3, "{files:?}");
    files
}

/// Runs a program and returns its output, whether it failed or not.
pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a program that has to succeed, and returns what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command:?}: {said}\n{printed}");
    printed
}

/// `helm template` of the chart as release `dependency-proxy`, with these arguments more.
///
/// A helm that was built from source thinks of Kubernetes 1.20, so the version is said.
pub(crate) fn template(arguments: &[&str]) -> Command {
    let mut command = Command::new(tool::built("helm"));
    command.args(["template", "dependency-proxy"]).arg(chart());
    command.args(["--namespace", "dependency-proxy", "--kube-version", "1.34.0"]).args(arguments);
    command
}

/// The API versions that a cluster with everything has, as arguments of [`template`].
pub(crate) const EVERYTHING: [&str; 4] =
    ["--api-versions", "monitoring.coreos.com/v1", "--api-versions", "dependencyproxy.dev/v1alpha1"];

/// The objects of a YAML stream.
pub(crate) fn objects(stream: &str) -> Vec<Value> {
    let documents = format!("\n{stream}");
    let documents = documents.split("\n---").map(|text| serde_yaml::from_str::<Value>(text).unwrap());
    documents.filter(|object| !object.is_null()).collect()
}

/// What tells an object from all others.
pub(crate) fn identity(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let metadata = &object["metadata"];
    format!("{} {}/{}", word(&object["kind"]), word(&metadata["namespace"]), word(&metadata["name"]))
}
