//! The command line tells what it takes.

use crate::ground::{printed, run};

const COMMANDS: [&str; 5] = ["serve", "check", "cleanup", "explain", "quota"];

#[test]
fn help_lists_every_command() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    for command in COMMANDS {
        assert!(printed(&output).contains(command), "{command}");
    }
    assert!(printed(&run(&["--version"])).starts_with("dependency-proxy "));
}

#[test]
fn every_flag_of_every_command_has_a_help_line_and_an_environment_variable() {
    for command in COMMANDS {
        let output = run(&[command, "--help"]);
        assert!(output.status.success());
        let text = printed(&output);
        let flags = flags(&text);
        assert!(flags.len() >= 3, "{command}: {text}");
        for flag in flags.iter().filter(|flag| !flag.contains("--help")) {
            assert!(flag.contains("[env: DEPENDENCY_PROXY_"), "{command}: no variable: {flag}");
            let words = flag.split("  ").filter(|part| part.trim().len() > 10).count();
            assert!(words > 0, "{command}: no help: {flag}");
        }
    }
}

/// The text of each flag: its own line, and those indented below it.
fn flags(help: &str) -> Vec<String> {
    let mut flags: Vec<String> = Vec::new();
    for line in help.lines().skip_while(|line| *line != "Options:").skip(1) {
        match flags.last_mut() {
            _ if line.trim_start().starts_with('-') => flags.push(line.to_owned()),
            Some(flag) => flag.push_str(line),
            None => {}
        }
    }
    flags
}

#[test]
fn an_unknown_flag_is_refused() {
    let output = run(&["serve", "--listne", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--listen"), "it says what was meant");
}

#[test]
fn the_environment_stands_for_flags() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(format!("{name}.yaml"));
        let text = format!(
            "{{apiVersion: dependencyproxy.dev/v1alpha1, kind: DependencyProxyGroup, metadata: {{name: {name}, \
             namespace: dp}}, spec: {{proxyRef: {{name: main}}, path: {name}}}}}"
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut command = std::process::Command::new(harness::tool::own("dependency-proxy"));
    let files = [file("one"), file("two")].join(",");
    let output = command.arg("check").env("DEPENDENCY_PROXY_FILE", files).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("2 groups and 0 virtual registries can be served."), "{said}");
}
