//! The documents that the project shows to its users are good ones.

use std::process::Command;

use config::Origin;
use harness::tool;

use crate::tree::{files, root, text};

#[test]
fn every_example_is_accepted_without_a_problem() {
    let files = files();
    let examples = files.iter().filter(|path| path.starts_with("deploy/examples/")).collect::<Vec<_>>();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        let mut check = Command::new(tool::own("dependency-proxy"));
        let output = check.args(["check", "-f", example]).current_dir(root()).output().unwrap();
        // Workloads that pull are not the proxy's business.
        let said = String::from_utf8_lossy(&output.stdout);
        let said = said.lines().filter(|line| !line.ends_with("it is ignored")).collect::<Vec<_>>();
        assert!(output.status.success() && said.is_empty(), "{example}: {said:?}");
    }
}

#[test]
fn every_document_in_the_readme_can_be_read() {
    let readme = text("README.md");
    let blocks = readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut kinds = 0;
    for block in blocks.filter(|block| block.contains("apiVersion: dependencyproxy.dev")) {
        let (documents, problems) = config::parse(block, "README.md", Origin::File);
        assert!(problems.is_empty(), "{problems:?}\n{block}");
        kinds += documents.len();
    }
    assert!(kinds > 0, "README shows no document");
}
