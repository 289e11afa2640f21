//! The word for each problem, which is a condition's reason, and who is told.

use config::{ObjectId, Options, Origin, Reason};

use crate::{GOOD, group, judged, ours, upstream};

/// The reasons of all problems of one object.
fn reasons(text: &str, kind: &str, object: &str, instance: Option<&str>) -> Vec<Reason> {
    let id = |text: &str| {
        let (namespace, name) = text.split_once('/').unwrap();
        ObjectId { namespace: namespace.into(), name: name.into() }
    };
    let options = Options { instance: instance.map(id), ..Options::default() };
    let (judgement, _) = judged(GOOD, text, Origin::File, &options);
    let found = judgement.by_object();
    found.get(&(kind, &id(object))).into_iter().flatten().map(|problem| problem.reason).collect()
}

#[test]
fn each_problem_has_the_word_for_it() {
    let registry = |spec: &str| {
        format!(
            "{}---\n{}---\n{}",
            upstream("url: https://a.example.com"),
            group("g", "path: b"),
            ours("VirtualRegistry", "v", spec)
        )
    };
    let binding = |spec: &str| ours("PullBinding", "p", spec);
    for (text, kind, object, reason) in [
        (group("g", "path: Team"), "DependencyProxyGroup", "b/g", Reason::InvalidSpec),
        (group("g", "path: team-a/child"), "DependencyProxyGroup", "team-a/child", Reason::PathConflict),
        (group("g", "path: b").replace("main", "none"), "DependencyProxyGroup", "b/g", Reason::ProxyNotFound),
        (
            group("g", "path: b\nupstreamRef: {name: x}"),
            "DependencyProxyGroup",
            "b/g",
            Reason::UpstreamNotFound,
        ),
        (
            group("g", "path: b\nupstreamRef: {name: docker-hub, namespace: team-a}"),
            "DependencyProxyGroup",
            "b/g",
            Reason::NotAllowedByUpstream,
        ),
        (
            upstream("url: https://a.example.com\ncredentialsSecretRef: {name: x}"),
            "RegistryUpstream",
            "b/u",
            Reason::SecretNotFound,
        ),
        (
            upstream("url: https://a.example.com\ncaConfigMapRef: {name: x}"),
            "RegistryUpstream",
            "b/u",
            Reason::ConfigMapNotFound,
        ),
        (
            registry("groupRef: {name: x}\nupstreams: [{name: u}]"),
            "VirtualRegistry",
            "b/v",
            Reason::GroupNotFound,
        ),
        (
            registry("groupRef: {name: g}\nupstreams: [{name: u}]").replace("path: b", "path: B"),
            "VirtualRegistry",
            "b/v",
            Reason::DependencyNotReady,
        ),
        (
            binding("groupRef: {name: child, namespace: team-a}\npullSecretName: s"),
            "PullBinding",
            "b/p",
            Reason::NotAllowedByGroup,
        ),
        (
            binding("groupRef: {name: team-a, namespace: team-a}\ncredentialsSecretRef: {name: x}"),
            "PullBinding",
            "b/p",
            Reason::SecretNotFound,
        ),
    ] {
        assert_eq!(reasons(&text, kind, object, None), [reason], "{text}");
    }
}

#[test]
fn references_are_told_from_acceptance() {
    for reason in
        [Reason::InvalidSpec, Reason::PathConflict, Reason::NotAllowedByProxy, Reason::TooManyRegistries]
    {
        assert!(!reason.concerns_references(), "{reason}");
    }
    for reason in [Reason::SecretNotFound, Reason::InvalidSecret, Reason::DependencyNotReady] {
        assert!(reason.concerns_references(), "{reason}");
    }
}

#[test]
fn an_instance_says_nothing_of_what_another_one_owns() {
    let other = "apiVersion: dependencyproxy.dev/v1alpha1\nkind: DependencyProxy\nmetadata: {name: two, namespace: b}\nspec: {externalURL: 'https://b.example.com', storage: {ephemeral: {}}}\n";
    let bad = format!(
        "{other}---\n{}",
        group("g", "path: Team").replace("main, namespace: dependency-proxy", "two")
    );
    assert_eq!(reasons(&bad, "DependencyProxyGroup", "b/g", Some("dependency-proxy/main")), []);
    assert_eq!(reasons(&bad, "DependencyProxyGroup", "b/g", Some("b/two")), [Reason::InvalidSpec]);
}

#[test]
fn what_belongs_to_no_instance_is_judged_the_same_by_each() {
    let other = "apiVersion: dependencyproxy.dev/v1alpha1\nkind: DependencyProxy\nmetadata: {name: two, namespace: b}\nspec: {externalURL: 'https://b.example.com', storage: {ephemeral: {}}}\n";
    let bad = format!(
        "{other}---\n{}---\n{}",
        upstream("url: ftp://a"),
        ours(
            "PullBinding",
            "p",
            "groupRef: {name: team-a, namespace: team-a}\ncredentialsSecretRef: {name: x}"
        )
    );
    for instance in ["dependency-proxy/main", "b/two", "b/absent"] {
        assert_eq!(
            reasons(&bad, "RegistryUpstream", "b/u", Some(instance)),
            [Reason::InvalidSpec],
            "{instance}"
        );
        assert_eq!(
            reasons(&bad, "PullBinding", "b/p", Some(instance)),
            [Reason::SecretNotFound],
            "{instance}"
        );
    }
}
