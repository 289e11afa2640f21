//! DependencyProxyGroups that are refused, and whose a path is.

use config::{Options, Origin};

use crate::{GOOD, group, judged, told};

/// The good documents with an age, and so with a right to their paths against younger ones.
fn aged() -> String {
    GOOD.replace(
        ", namespace: team-a}\nspec:",
        ", namespace: team-a, creationTimestamp: '2026-01-01T00:00:00Z'}\nspec:",
    )
}

#[test]
fn groups_out_of_bounds_are_refused() {
    let member = "path: b\nmembers:\n- name: m\n  role: Guest\n  subject:";
    for (spec, problem) in [
        (
            "path: Team-A",
            "spec.path: must be lower-case segments such as team-a or team-a/child: a repository name is lower case; write the group and the image in lower case",
        ),
        (
            "path: b//c",
            "spec.path: must be lower-case segments such as team-a or team-a/child: a repository name consists of lower-case letters, digits, and single separators . _ __ - between them",
        ),
        (
            "path: b/dependency_proxy",
            "spec.path: must not have the segment dependency_proxy, which is part of other paths; choose another",
        ),
        (
            "path: virtual_registries",
            "spec.path: must not have the segment virtual_registries, which is part of other paths; choose another",
        ),
        ("path: a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u", "spec.path: must have at most 20 segments"),
    ] {
        told(&group("g", spec), &[&format!("bad.yaml:6 DependencyProxyGroup b/g {problem}")]);
    }
    for (spec, line, problem) in [
        ("path: b\nrecheckAfterSeconds: -1", 7, "spec.recheckAfterSeconds: must be 0 to 31536000"),
        (
            &format!("{member} {{kind: ServiceAccount, name: m}}"),
            10,
            "spec.members[0].subject.namespace: is required for a ServiceAccount; add it",
        ),
        (
            &format!("{member}\n    kind: User\n    name: m\n    namespace: n"),
            13,
            "spec.members[0].subject.namespace: belongs to a ServiceAccount only; take it out",
        ),
        (
            "path: b\ncleanup:\n  dependencyProxy: {ttlDays: 0}",
            8,
            "spec.cleanup.dependencyProxy.ttlDays: must be 1 to 365",
        ),
        (
            "path: b\ncleanup: {virtualRegistries: {cadenceDays: 2}}",
            7,
            "spec.cleanup.virtualRegistries.cadenceDays: must be one of 1, 7, 14, 30 and 90",
        ),
        (
            "path: b\nquota: {storageBytes: much}",
            7,
            "spec.quota.storageBytes: must be a quantity of bytes above zero, such as 10Gi",
        ),
        (
            "path: b\ndeployTokens: [{name: t, secretRef: {name: t}, scopes: [admin]}]",
            7,
            "spec.deployTokens[0].scopes[0]: must be one of `read_registry`, `write_registry`, `read_virtual_registry`, `write_virtual_registry`",
        ),
        (
            "path: b\ndeployTokens: [{name: t, secretRef: {name: t}, scopes: [read_registry], expiresAt: soon}]",
            7,
            "spec.deployTokens[0].expiresAt: must be a time such as 2030-01-31T00:00:00Z",
        ),
    ] {
        told(&group("g", spec), &[&format!("bad.yaml:{line} DependencyProxyGroup b/g {problem}")]);
    }
}

#[test]
fn a_path_belongs_to_the_older_group() {
    let bad = group("young", "path: team-a/child").replace("namespace: b", "namespace: team-a");
    let expected = [
        "bad.yaml:6 DependencyProxyGroup team-a/young spec.path: is the path of the older group team-a/child; choose another",
    ];
    let (judgement, printed) = judged(&aged(), &bad, Origin::File, &Options::default());
    assert_eq!(printed, expected);
    assert_eq!(judgement.config.unwrap().groups["team-a/child"].id.name, "child");
    let younger =
        bad.replace("namespace: team-a}", "namespace: team-a, creationTimestamp: '2026-02-01T00:00:00Z'}");
    assert_ne!(younger, bad);
    assert_eq!(judged(&aged(), &younger, Origin::File, &Options::default()).1, expected);
    let older =
        bad.replace("namespace: team-a}", "namespace: team-a, creationTimestamp: '2025-01-01T00:00:00Z'}");
    let (judgement, printed) = judged(&aged(), &older, Origin::File, &Options::default());
    assert_eq!(judgement.config.unwrap().groups["team-a/child"].id.name, "young");
    assert!(printed[0].ends_with("DependencyProxyGroup team-a/child spec.path: is the path of the older group team-a/young; choose another"), "{printed:?}");
}

#[test]
fn a_top_level_segment_belongs_to_the_namespace_of_the_oldest_group() {
    let (judgement, printed) =
        judged(&aged(), &group("g", "path: team-a/new"), Origin::File, &Options::default());
    assert_eq!(
        printed,
        [
            "bad.yaml:6 DependencyProxyGroup b/g spec.path: team-a belongs to namespace team-a since group team-a/child; choose a path that begins otherwise",
        ]
    );
    assert_eq!(judgement.config.unwrap().groups.len(), 2);
}

#[test]
fn a_group_keeps_its_path_while_its_upstream_is_missing() {
    let waiting = aged().replace("{name: docker-hub}", "{name: nothing}");
    let (_, printed) = judged(&waiting, &group("g", "path: team-a"), Origin::File, &Options::default());
    assert!(printed[0].contains("team-a belongs to namespace team-a"), "{printed:#?}");
}

#[test]
fn a_default_upstream_that_cannot_be_used_hurts_only_groups_that_need_it() {
    let text = GOOD.replace("defaultUpstreamRef: {name: docker-hub,", "defaultUpstreamRef: {name: nothing,");
    let (judgement, printed) = judged(&text, "", Origin::File, &Options::default());
    assert_eq!(
        printed,
        [
            "good.yaml:14 DependencyProxy dependency-proxy/main spec.defaultUpstreamRef: there is no RegistryUpstream team-a/nothing; create it or correct the name",
            "good.yaml:58 DependencyProxyGroup team-a/child spec.upstreamRef: DependencyProxy dependency-proxy/main names a default that cannot be used: there is no RegistryUpstream team-a/nothing; create it or correct the name",
        ]
    );
    assert_eq!(judgement.config.unwrap().groups.keys().collect::<Vec<_>>(), ["team-a"]);
}

#[test]
fn a_deploy_token_without_its_secret_is_left_out_and_its_group_serves() {
    let bad =
        group("g", "path: b\ndeployTokens:\n- name: t\n  secretRef: {name: s}\n  scopes: [read_registry]");
    let (judgement, printed) = judged(GOOD, &bad, Origin::File, &Options::default());
    assert_eq!(
        printed,
        [
            "bad.yaml:9 DependencyProxyGroup b/g spec.deployTokens[0].secretRef: there is no Secret b/s; create it or correct the name"
        ]
    );
    let config = judgement.config.unwrap();
    assert!(config.groups.contains_key("b"));
    assert!(config.credentials.named("u").next().is_none());
    let hash = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: b}\ntype: dependencyproxy.dev/token\nstringData:\n  username: u\n  hash: abc\n---\n";
    let (_, printed) = judged(GOOD, &format!("{hash}{bad}"), Origin::File, &Options::default());
    assert_eq!(printed[0], "bad.yaml:7 Secret b/s stringData.hash: must be 64 hex digits");
}
