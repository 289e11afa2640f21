//! Thousands of documents. The time is printed by `cargo test --release -p dependency-proxy-config size -- --nocapture`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use config::{Options, Origin, judge, parse};

use crate::GOOD;

const GROUPS: usize = 2000;
const UPSTREAMS: usize = 1000;
const BINDINGS: usize = 5000;

/// Upstreams, groups on them, and bindings with a Secret each.
fn many() -> String {
    let mut text = GOOD.to_owned();
    let head = "---\napiVersion: dependencyproxy.dev/v1alpha1\nkind:";
    for n in 0..UPSTREAMS {
        write!(text, "{head} RegistryUpstream\nmetadata: {{name: u{n}, namespace: ns}}\nspec: {{url: 'https://r{n}.example.com'}}\n").unwrap();
    }
    for n in 0..GROUPS {
        let upstream = n % UPSTREAMS;
        write!(text, "{head} DependencyProxyGroup\nmetadata: {{name: g{n}, namespace: ns}}\nspec: {{proxyRef: {{name: main, namespace: dependency-proxy}}, path: p{n}, upstreamRef: {{name: u{upstream}}}, allowedConsumers: {{from: All}}}}\n").unwrap();
    }
    for n in 0..BINDINGS {
        let group = n % GROUPS;
        write!(text, "{head} PullBinding\nmetadata: {{name: b{n}, namespace: c{n}}}\nspec: {{groupRef: {{name: g{group}, namespace: ns}}, pullSecretName: dp-pull, credentialsSecretRef: {{name: s}}}}\n").unwrap();
        write!(text, "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: c{n}}}\ntype: dependencyproxy.dev/credentials\nstringData: {{username: robot-{n}, hash.a: '{n:064x}'}}\n").unwrap();
    }
    text
}

#[test]
fn thousands_of_documents_are_judged_and_their_credentials_found() {
    let (documents, problems) = parse(&many(), "many.yaml", Origin::Rendered);
    assert_eq!(problems, []);
    let copies = documents.clone();
    let started = Instant::now();
    let judgement = judge(&copies, &Options::default());
    let took = started.elapsed().as_millis();
    writeln!(std::io::stdout(), "{} documents judged in {took} ms", copies.len()).unwrap();
    assert_eq!(judgement.problems, []);
    let config = judgement.config.unwrap();
    assert_eq!(config.groups.len(), GROUPS + 2);
    let last = BINDINGS - 1;
    let found = config.credentials.named(&format!("robot-{last}")).next().unwrap();
    assert_eq!(found.owner.to_string(), format!("binding c{last}/b{last}"));
    assert_eq!(config.credentials.with_fingerprint(&found.fingerprint).count(), 1);
}
