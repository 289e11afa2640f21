//! The project's own files and crates, to look at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A text file of the project, by its path from the root.
pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The paths of all files that belong to the project, from the root.
pub(crate) fn files() -> Vec<String> {
    let listed = output(Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]));
    let files = listed.lines().filter(|path| root().join(path).is_file()).map(str::to_owned);
    let files = files.collect::<Vec<_>>();
    assert!(files.len() > 100, "git lists {} files only", files.len());
    files
}

/// The Rust files below one of these folders, as path and text without comments and tests.
pub(crate) fn code(folders: &[&str]) -> Vec<(String, String)> {
    let below =
        |path: &String| path.ends_with(".rs") && folders.iter().any(|folder| path.starts_with(folder));
    let found = files().into_iter().filter(below).map(|path| (path.clone(), product(&text(&path))));
    let found = found.collect::<Vec<_>>();
    assert!(!found.is_empty(), "no Rust file below {folders:?}: the rule looks at nothing");
    found
}

/// A source without comments and without the tests at its end.
pub(crate) fn product(source: &str) -> String {
    let before_tests = source.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    let lines = before_tests.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// The names of all crates that a crate is built of, with these more arguments to `cargo tree`.
pub(crate) fn crates(arguments: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--locked", "--offline", "--target", "all", "--prefix", "none", "--format", "{p}"]);
    let listed = output(command.args(arguments));
    listed.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn output(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
