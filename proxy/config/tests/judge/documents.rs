//! Texts and documents that cannot be read.

use config::{Options, Origin, parse};

use crate::{GOOD, group, judged, told, upstream};

#[test]
fn text_that_is_no_document_is_named_and_its_neighbours_are_read() {
    told(
        "a: b: c\n---\n- 1\n---\nkind: X\n",
        &[
            "bad.yaml:1 Document: is not well-formed YAML: mapping values are not allowed in this context",
            "bad.yaml:3 Document: must be a mapping with apiVersion and kind",
            "bad.yaml:5 Document: must be a mapping with apiVersion and kind",
        ],
    );
    let (documents, problems) =
        parse(&format!("x: [\n---\n{}", upstream("url: https://a.example.com")), "f", Origin::File);
    assert_eq!((documents.len(), problems.len()), (1, 1));
}

#[test]
fn names_that_kubernetes_would_not_take_are_refused() {
    told(
        "apiVersion: v1\nkind: Secret\nmetadata: {}\n",
        &["bad.yaml:3 Secret metadata.name: is required; add it"],
    );
    told(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  namespace: a\n  name: ../x\n",
        &[
            "bad.yaml:5 Secret metadata.name: must be lower-case letters, digits, - and . as Kubernetes names are",
        ],
    );
    told(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n  namespace: a.b\n",
        &[
            "bad.yaml:5 Secret metadata.namespace: must be lower-case letters, digits and - as Kubernetes namespaces are",
        ],
    );
}

#[test]
fn an_unknown_kind_is_an_error_in_a_file_and_a_warning_where_an_operator_wrote() {
    let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";
    told(bad, &["bad.yaml:2 Pod kind: is no kind of v1 that is known here; take the document out"]);
    let (judgement, printed) = judged(GOOD, bad, Origin::Rendered, &Options::default());
    assert_eq!(printed, ["bad.yaml:2 Pod kind: is no kind of v1 that is known here; it is ignored"]);
    assert!(judgement.config.is_some());
}

#[test]
fn an_unknown_field_refuses_the_document_in_a_file_but_not_where_an_operator_wrote() {
    let bad = group(
        "g",
        "path: b\nenabeld: true\nmembers:\n- name: m\n  role: Guest\n  subject: {kind: User, name: m}\n  x: 1",
    );
    told(
        &bad,
        &[
            "bad.yaml:7 DependencyProxyGroup b/g spec.enabeld: is no field of this kind; correct its name or take it out",
            "bad.yaml:12 DependencyProxyGroup b/g spec.members[0].x: is no field of this kind; correct its name or take it out",
        ],
    );
    let (judgement, printed) = judged(GOOD, &bad, Origin::Rendered, &Options::default());
    assert_eq!(
        printed[0],
        "bad.yaml:7 DependencyProxyGroup b/g spec.enabeld: is no field of this kind; it is ignored"
    );
    assert!(judgement.config.unwrap().groups.contains_key("b"));
}

#[test]
fn values_of_another_type_are_all_named_and_never_repeated() {
    let bad = upstream(
        "url: [hunter2]\ncacheValidityHours: hunter2\ncredentialsSecretRef: hunter2\nwhenRefused: hunter2\ninsecure: hunter2\nrules: hunter2",
    );
    told(
        &bad,
        &[
            "bad.yaml:5 RegistryUpstream b/u spec.url: must be text; put it in quotes",
            "bad.yaml:6 RegistryUpstream b/u spec.cacheValidityHours: must be a whole number",
            "bad.yaml:7 RegistryUpstream b/u spec.credentialsSecretRef: must be a mapping",
            "bad.yaml:8 RegistryUpstream b/u spec.whenRefused: must be `ServeCached` or `Refuse`",
            "bad.yaml:9 RegistryUpstream b/u spec.insecure: must be true or false",
            "bad.yaml:10 RegistryUpstream b/u spec.rules: must be a list",
        ],
    );
    told(&upstream("insecure: true"), &["bad.yaml:4 RegistryUpstream b/u spec.url: is required; add it"]);
    told(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  password: hunter2!\n",
        &["bad.yaml:5 Secret default/a data.password: must be base64; plain text goes into stringData"],
    );
}

#[test]
fn two_documents_of_one_name_are_a_problem_and_the_first_holds() {
    let again = "apiVersion: dependencyproxy.dev/v1alpha1\nkind: DependencyProxyGroup\nmetadata: {name: child, namespace: team-a}\nspec: {proxyRef: {name: main, namespace: dependency-proxy}, path: other}\n";
    told(
        again,
        &[
            "bad.yaml:3 DependencyProxyGroup team-a/child metadata.name: is the name of an earlier document of the same kind; choose another or take one out",
        ],
    );
}

#[test]
fn several_mistakes_at_several_places_are_all_named() {
    told(
        &group(
            "g",
            "path: b\ncleanup:\n  dependencyProxy: {enabled: 1}\nmembers:\n- name: m\n  role: Boss\n  subject:\n    kind: User\nquota: {}",
        ),
        &[
            "bad.yaml:8 DependencyProxyGroup b/g spec.cleanup.dependencyProxy.enabled: must be true or false",
            "bad.yaml:11 DependencyProxyGroup b/g spec.members[0].role: must be one of `Guest`, `Reporter`, `Developer`, `Maintainer`, `Owner`",
            "bad.yaml:12 DependencyProxyGroup b/g spec.members[0].subject.name: is required; add it",
            "bad.yaml:14 DependencyProxyGroup b/g spec.quota.storageBytes: is required; add it",
        ],
    );
}
