//! PullBindings: what they pull with, and what they are told.

use config::{Config, Options, Origin, PullCredential, TokenHash};

use crate::{GOOD, judged, ours, told};

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A binding of namespace b to the good group.
fn binding(name: &str, spec: &str) -> String {
    ours("PullBinding", name, &format!("groupRef: {{name: team-a, namespace: team-a}}\n{spec}"))
}

fn secret(data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: b}}\ntype: dependencyproxy.dev/credentials\nstringData:\n  {}\n",
        data.replace('\n', "\n  ")
    )
}

fn with_secret(data: &str) -> String {
    format!("{}---\n{}", binding("p", "credentialsSecretRef: {name: s}"), secret(data))
}

fn served(good: &str, bad: &str) -> Config {
    judged(good, bad, Origin::File, &Options::default()).0.config.unwrap()
}

fn found(config: &Config) -> Vec<&PullCredential> {
    config.credentials.named("robot").collect()
}

#[test]
fn a_binding_gives_its_group_each_of_its_credentials() {
    let text = with_secret(&format!(
        "username: robot\nhash.old: {HASH}\nexpires.old: 2030-01-31T00:00:00Z\npassword.new: dp_new"
    ));
    told(&text, &[]);
    let config = served(GOOD, &text);
    let mut found = found(&config);
    found.sort_by_key(|credential| credential.expires_at);
    let [new, old] = found[..] else { panic!("{found:?}") };
    assert_eq!(
        (old.hash.to_hex().as_str(), old.expires_at.unwrap().to_string().as_str()),
        (HASH, "2030-01-31T00:00:00Z")
    );
    assert_eq!(new.hash, TokenHash::of(&config.instance.keys.instance, "dp_new"));
    assert_ne!(new.fingerprint, old.fingerprint);
    for credential in [old, new] {
        assert_eq!((credential.owner.to_string().as_str(), credential.reads), ("binding b/p", true));
        assert!(credential.counts_in("team-a") && credential.counts_in("team-a/child"));
        assert!(!credential.counts_in("team-ab") && !credential.counts_in("team"));
    }
    assert!(!format!("{config:?}").contains("dp_new"));
}

#[test]
fn what_the_group_no_longer_allows_gives_nothing() {
    let text = with_secret("username: robot\npassword.a: dp_a");
    assert_eq!(found(&served(GOOD, &text)).len(), 1);
    let narrowed = GOOD.replace("allowedConsumers: {from: All}", "allowedConsumers: {from: Same}");
    assert_eq!(found(&served(&narrowed, &text)).len(), 0);
}

#[test]
fn credentials_that_cannot_be_used_give_nothing() {
    for (data, problem) in [
        ("username: robot", "12 Secret b/s stringData.hash.<id>: is required; add at least one"),
        ("password.a: dp_a", "12 Secret b/s stringData.username: is required; add it"),
        ("username: robot\nhash.a: abc", "14 Secret b/s stringData.hash.a: must be 64 hex digits"),
        (
            "username: robot\npassword.a: dp_a\nexpires.a: soon",
            "15 Secret b/s stringData.expires.a: must be a time such as 2030-01-31T00:00:00Z",
        ),
        (
            "username: robot\npassword.a: dp_a\nexpires.b: 2030-01-31T00:00:00Z",
            "15 Secret b/s stringData.expires.b: does not belong here; the keys are username, and hash.<id> with expires.<id>",
        ),
        (
            &format!("username: robot\nhash.a: {HASH}\npassword.a: dp_a"),
            "15 Secret b/s stringData.password.a: is there as hash and as password; take one out",
        ),
    ] {
        let text = with_secret(data);
        told(
            &text,
            &[
                "bad.yaml:6 PullBinding b/p spec.credentialsSecretRef: Secret b/s is refused; mend it first",
                &format!("bad.yaml:{problem}"),
            ],
        );
        assert_eq!(found(&served(GOOD, &text)).len(), 0, "{data}");
    }
    told(
        &with_secret("username: robot\npassword.a: dp_a")
            .replace("dependencyproxy.dev/credentials", "Opaque"),
        &[
            "bad.yaml:6 PullBinding b/p spec.credentialsSecretRef: Secret b/s is refused; mend it first",
            "bad.yaml:11 Secret b/s type: must be dependencyproxy.dev/credentials",
        ],
    );
}

#[test]
fn fields_that_cannot_be_are_named() {
    told(
        &binding(
            "p",
            "serviceAccounts: [Nor This]\noverlapSeconds: -1\nciVariables: {configMapName: c/d, secretName: ''}",
        ),
        &[
            "bad.yaml:6 PullBinding b/p spec.serviceAccounts[0]: must be a name: 1 to 253 lower-case letters, digits, '-' and '.'",
            "bad.yaml:6 PullBinding b/p spec.serviceAccounts: need pullSecretName: that is the Secret that they get; add it",
            "bad.yaml:7 PullBinding b/p spec.overlapSeconds: must be 0 to 2592000",
            "bad.yaml:8 PullBinding b/p spec.ciVariables.configMapName: must be a name: 1 to 253 lower-case letters, digits, '-' and '.'",
            "bad.yaml:8 PullBinding b/p spec.ciVariables.secretName: must be a name: 1 to 253 lower-case letters, digits, '-' and '.'",
        ],
    );
}

#[test]
fn what_is_written_belongs_to_the_older_binding() {
    let first = binding("p1", "pullSecretName: x\nciVariables: {configMapName: x, secretName: y}");
    let second = binding("p2", "pullSecretName: y\nciVariables: {configMapName: x, secretName: z}");
    told(
        &format!("{second}---\n{first}"),
        &[
            "bad.yaml:6 PullBinding b/p2 spec.pullSecretName: is written by the older PullBinding b/p1; choose another",
            "bad.yaml:7 PullBinding b/p2 spec.ciVariables.configMapName: is written by the older PullBinding b/p1; choose another",
        ],
    );
    told(
        &binding("p", "pullSecretName: x\nciVariables: {configMapName: x, secretName: x}"),
        &[
            "bad.yaml:7 PullBinding b/p spec.ciVariables.secretName: is the pull secret's name; choose another",
        ],
    );
    told(&format!("{first}---\n{}", second.replace("namespace: b}", "namespace: c}")), &[]);
}
