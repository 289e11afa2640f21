//! What documents become and what bad ones are told, word for word.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod accepted;
mod any_text;
mod binding;
mod documents;
mod group;
mod instance;
mod pods;
mod reason;
mod reference;
mod registry;
mod secret;
mod size;
mod upstream;

use config::{Judgement, Options, Origin, Problem, judge, parse};

/// Every kind with every settled field of the design.
pub(crate) const GOOD: &str = include_str!("good.yaml");

/// Judges texts of two files; gives all problems as they are printed.
pub(crate) fn judged(good: &str, bad: &str, origin: Origin, options: &Options) -> (Judgement, Vec<String>) {
    let (mut documents, mut problems) = parse(good, "good.yaml", origin);
    let (more, others) = parse(bad, "bad.yaml", origin);
    documents.extend(more);
    problems.extend(others);
    let judgement = judge(&documents, options);
    problems.extend(judgement.problems.clone());
    let printed = problems.iter().map(Problem::to_string).collect();
    (judgement, printed)
}

/// Bad documents beside the good ones: exactly these problems, and the good ones serve.
#[track_caller]
pub(crate) fn told(bad: &str, expected: &[&str]) {
    let (judgement, printed) = judged(GOOD, bad, Origin::File, &Options::default());
    assert_eq!(printed, expected, "\n{bad}");
    let config = judgement.config.expect("the good documents serve");
    assert!(
        config.groups.contains_key("team-a/child") && config.registries.contains_key("team-a.hub"),
        "{bad}"
    );
}

pub(crate) fn ours(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: dependencyproxy.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: b}}\nspec:\n  {}\n",
        spec.replace('\n', "\n  ")
    )
}

pub(crate) fn upstream(spec: &str) -> String {
    ours("RegistryUpstream", "u", spec)
}

pub(crate) fn group(name: &str, spec: &str) -> String {
    ours(
        "DependencyProxyGroup",
        name,
        &format!("proxyRef: {{name: main, namespace: dependency-proxy}}\n{spec}"),
    )
}

/// A change to the good DependencyProxy: exactly these problems; whether anything is still served.
#[track_caller]
pub(crate) fn instance_told(from: &str, to: &str, served: bool, expected: &[&str]) {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD, "{from}");
    let (judgement, printed) = judged(&text, "", Origin::File, &Options::default());
    assert_eq!(printed, expected, "{to}");
    assert_eq!(judgement.config.is_some(), served, "{to}");
}
