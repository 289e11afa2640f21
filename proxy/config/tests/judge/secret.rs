//! Secrets that are refused.

use crate::{instance_told, told, upstream};

#[test]
fn a_bad_secret_is_named_with_whoever_needs_it_and_never_shown() {
    let hub = |fields: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: b}}\n{fields}---\n{}",
            upstream("url: https://a.example.com\ncredentialsSecretRef: {name: s}")
        )
    };
    let refused = |line: usize| {
        format!(
            "bad.yaml:{line} RegistryUpstream b/u spec.credentialsSecretRef: Secret b/s is refused; mend it first"
        )
    };
    told(
        &hub("stringData:\n  username: a\n  password: hunter2\n"),
        &["bad.yaml:1 Secret b/s type: must be kubernetes.io/basic-auth", &refused(13)],
    );
    told(
        &hub("type: kubernetes.io/basic-auth\nstringData:\n  username: a\n"),
        &["bad.yaml:5 Secret b/s stringData.password: is required; add it", &refused(13)],
    );
    told(
        &hub(
            "type: kubernetes.io/basic-auth\nstringData:\n  username: a\n  password: hunter2\n  token: hunter2\n",
        ),
        &[
            "bad.yaml:8 Secret b/s stringData.token: does not belong here; the keys are username and password",
            &refused(15),
        ],
    );
    told(
        &hub("type: kubernetes.io/basic-auth\ndata:\n  username: YQ==\n  password: aHVudGVyMgo=\n"),
        &[
            "bad.yaml:7 Secret b/s data.password: must have no line end and no control character; write it without one",
            &refused(14),
        ],
    );
}

#[test]
fn a_bad_line_of_static_users_is_named_by_its_number_and_the_other_users_hold() {
    let bcrypt = "$2y$05$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";
    let line = format!("alice:{bcrypt}");
    let indented = "\n      ";
    let lines = [
        &line,
        "bob:$apr1$x$hunter2",
        "carol",
        ":x",
        &format!("dave:{}", bcrypt.replace("$05$", "$31$")),
        &line,
    ]
    .join(indented);
    let at = "good.yaml:85 Secret dependency-proxy/users stringData.users: line";
    instance_told(
        &line,
        &lines,
        true,
        &[
            &format!(
                "{at} 3 must be a bcrypt hash, other kinds are not accepted; make it with htpasswd -nB NAME"
            ),
            &format!("{at} 4 must be name:hash; make it with htpasswd -nB NAME"),
            &format!("{at} 5 must begin with a user name; make it with htpasswd -nB NAME"),
            &format!("{at} 6 must be a bcrypt hash of cost 4 to 17; make it with htpasswd -nB NAME"),
            &format!("{at} 7 names a user of an earlier line; take one out"),
        ],
    );
}

#[test]
fn bad_keys_refuse_the_instance() {
    let refused = "good.yaml:12 DependencyProxy dependency-proxy/main spec.auth.keysSecretRef: Secret dependency-proxy/keys is refused; mend it first";
    for (from, to, problem) in [
        (
            "current: k2",
            "current: k3",
            "94 Secret dependency-proxy/keys stringData.current: must be the id of a key that is there as signing.<id>",
        ),
        (
            "instance: 0123456789abcdef0123456789abcdef",
            "instance: short",
            "93 Secret dependency-proxy/keys stringData.instance: must have at least 32 bytes",
        ),
        (
            "signing.k1: 0123456789abcdef0123456789abcdef",
            "signing.k1: short",
            "95 Secret dependency-proxy/keys stringData.signing.k1: must have at least 32 bytes",
        ),
    ] {
        instance_told(from, to, false, &[refused, &format!("good.yaml:{problem}")]);
    }
}
