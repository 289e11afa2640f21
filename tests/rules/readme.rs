//! README.md says what the code has: metrics, fields, flags, sentences. Nothing is missing, and nothing is made up.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use harness::hostile::Upstream;
use harness::server::Proxy;
use serde_json::Value;

use crate::tree::{code, text};

/// The text between a heading and the next one of the same depth or above.
fn section(heading: &str) -> String {
    let readme = text("README.md");
    let depth = heading.chars().take_while(|c| *c == '#').count();
    let mut lines = readme.lines().skip_while(|line| *line != heading).skip(1).peekable();
    assert!(lines.peek().is_some(), "README.md has no heading {heading:?}");
    let ends = |line: &&str| line.starts_with('#') && line.chars().take_while(|c| *c == '#').count() <= depth;
    lines.take_while(|line| !ends(line)).collect::<Vec<_>>().join("\n")
}

/// The first code of each row of the tables of a section, and the row.
fn rows(section: &str) -> Vec<(String, String)> {
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| (line.split('`').nth(1).unwrap_or_default().to_owned(), line.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_those_that_are_registered() {
    // A family is printed once it has a value: a pull through an upstream with an account and a quota gives all theirs.
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[vec![1]]);
    upstream.quota(100, 50, 21600);
    upstream.require_bearer_for("robot", "pw");
    let builder = Proxy::builder().upstream("upstream", &upstream).group("team-a");
    let proxy = builder.edit(|d| d.credentials("upstream", "robot", "pw")).start().await;
    proxy.client().pull("library/a", "1").await;
    let metrics = proxy.admin("/metrics").await + &with_tls().await;
    let typed =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE dependency_proxy_")?.split_once(' '));
    let registered =
        typed.map(|(name, kind)| format!("{name}{}", if kind == "counter" { "_total" } else { "" }));
    let registered = registered.collect::<BTreeSet<_>>();
    assert!(registered.len() > 20, "{registered:?}");
    let table = rows(&section("## Metrics"));
    let named = table.iter().map(|(name, _)| name.split('{').next().unwrap_or_default().to_owned());
    assert_eq!(named.collect::<BTreeSet<_>>(), registered);
}

/// The metrics of a proxy with a certificate: it has some more.
async fn with_tls() -> String {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = harness::hostile::Ca::generate().issue();
    let (certificate_file, key_file) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let proxy = harness::proxy::ProxyProcess::new();
    let proxy = proxy.arg("--tls-certificate").arg(&certificate_file).arg("--tls-key").arg(&key_file);
    proxy.start().await.metrics().await
}

#[test]
fn the_labels_of_metrics_are_those_of_their_types() {
    let source = text("proxy/src/metrics.rs");
    for (name, row) in rows(&section("## Metrics")) {
        let Some((_, labels)) = name.trim_end_matches('}').split_once('{') else { continue };
        for label in labels.split(',') {
            assert!(source.contains(&format!("pub {label}: ")), "no label {label}: {row}");
        }
    }
}

#[test]
fn every_field_of_every_kind_has_its_row_with_default_and_limits() {
    let definitions = text("deploy/crds.yaml");
    let definitions = definitions.split("---\n").filter(|text| !text.trim().is_empty());
    let definitions =
        definitions.map(|text| serde_yaml::from_str::<Value>(text).unwrap()).collect::<Vec<_>>();
    assert_eq!(definitions.len(), 5);
    for definition in definitions {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let rows = rows(&section(&format!("### {kind}")));
        let mut fields = Vec::new();
        collect("", spec, &mut fields);
        for (path, field) in &fields {
            let row = rows.iter().find(|(name, _)| name == path);
            let (_, row) = row.unwrap_or_else(|| panic!("README.md has no row `{path}` under {kind}"));
            for key in ["minimum", "maximum"] {
                let Some(bound) = field[key].as_f64() else { continue };
                assert!(row.contains(&bound.to_string()), "{kind} {path}: {key} {bound} is not said: {row}");
            }
            let default = match &field["default"] {
                Value::String(text) => text.clone(),
                Value::Null | Value::Object(_) | Value::Array(_) => continue,
                other => other.to_string(),
            };
            assert!(row.contains(&default), "{kind} {path}: the default {default} is not said: {row}");
        }
        for (name, _) in &rows {
            assert!(fields.iter().any(|(path, _)| path == name), "{kind} has no field {name}");
        }
    }
}

/// Every field below a schema that is written by a person: references, label selectors and Kubernetes' own types count
/// as one.
fn collect(prefix: &str, schema: &Value, fields: &mut Vec<(String, Value)>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let inner = if field["type"] == "array" { &field["items"] } else { field };
        let of_kubernetes = ["resources", "tolerations"].contains(&name.as_str());
        let is_reference =
            of_kubernetes || name.ends_with("Ref") || inner["properties"]["matchLabels"].is_object();
        let has_fields = inner["properties"].as_object().is_some_and(|fields| !fields.is_empty());
        if has_fields && !is_reference {
            let list = if field["type"] == "array" { "[]" } else { "" };
            collect(&format!("{path}{list}"), inner, fields);
        } else {
            fields.push((path, field.clone()));
        }
    }
}

#[test]
fn every_flag_of_serve_is_there_with_its_environment_variable() {
    let command = proxy::args::Arguments::command();
    let serve = command.find_subcommand("serve").unwrap();
    let section = section("## Command line");
    let flags = serve.get_arguments().filter(|a| !a.is_hide_set()).collect::<Vec<_>>();
    let table = rows(&section);
    for flag in &flags {
        let name = format!("--{}", flag.get_long().unwrap());
        let variable = flag.get_env().unwrap_or_else(|| panic!("{name} has no environment variable"));
        let row = table.iter().find(|(shown, _)| *shown == name);
        let (_, row) = row.unwrap_or_else(|| panic!("README.md has no row for {name}"));
        assert!(row.contains(&format!("`{}`", variable.to_str().unwrap())), "{row}");
    }
    assert_eq!(table.len(), flags.len(), "README.md has a row for a flag that there is not");
    for subcommand in command.get_subcommands() {
        assert!(
            section.contains(&format!("dependency-proxy {}", subcommand.get_name())),
            "{}",
            subcommand.get_name()
        );
    }
}

#[test]
fn every_sentence_of_the_errors_is_the_codes_own() {
    let sources = code(&["proxy/src/http", "proxy/src/upstream/error.rs", "proxy/src/cache/mod.rs"]);
    let source = sources.iter().map(|(_, text)| text.replace("\\\"", "\"")).collect::<String>();
    let table = section("## Errors");
    let sentences = table.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5"));
    let mut count = 0;
    for line in sentences {
        let sentence = line.split('|').nth(2).unwrap_or_default().trim().trim_matches('`');
        // What stands in angle brackets is another each time.
        for part in sentence.split(['<', '>']).step_by(2).map(str::trim).filter(|part| part.len() > 3) {
            assert!(source.contains(part), "no sentence in the code has {part:?}");
        }
        count += 1;
    }
    assert!(count >= 20, "{count} sentences");
}
