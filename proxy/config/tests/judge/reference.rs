//! References that lead nowhere, or that are not allowed.

use config::{Options, Origin};

use crate::{GOOD, group, judged, ours, told, upstream};

#[test]
fn dangling_references_name_what_is_missing() {
    told(
        &group("g", "path: b\nupstreamRef: {name: nothing}"),
        &[
            "bad.yaml:7 DependencyProxyGroup b/g spec.upstreamRef: there is no RegistryUpstream b/nothing; create it or correct the name",
        ],
    );
    told(
        &ours("DependencyProxyGroup", "g", "proxyRef: {name: nothing}\npath: b"),
        &[
            "bad.yaml:5 DependencyProxyGroup b/g spec.proxyRef: there is no DependencyProxy b/nothing; create it or correct the name",
        ],
    );
    told(
        &upstream("url: https://a.example.com\ncredentialsSecretRef: {name: s}\ncaConfigMapRef: {name: c}"),
        &[
            "bad.yaml:6 RegistryUpstream b/u spec.credentialsSecretRef: there is no Secret b/s; create it or correct the name",
            "bad.yaml:7 RegistryUpstream b/u spec.caConfigMapRef: there is no ConfigMap b/c; create it or correct the name",
        ],
    );
    told(
        &ours("VirtualRegistry", "v", "groupRef: {name: g}\nupstreams:\n- name: x"),
        &[
            "bad.yaml:5 VirtualRegistry b/v spec.groupRef: there is no DependencyProxyGroup b/g; create it or correct the name",
            "bad.yaml:7 VirtualRegistry b/v spec.upstreams[0]: there is no RegistryUpstream b/x; create it or correct the name",
        ],
    );
    told(
        &ours("PullBinding", "p", "groupRef: {name: g}\npullSecretName: s"),
        &[
            "bad.yaml:5 PullBinding b/p spec.groupRef: there is no DependencyProxyGroup b/g; create it or correct the name",
        ],
    );
}

#[test]
fn who_refers_to_a_refused_document_hears_so() {
    let bad = format!("{}---\n{}", upstream("url: x"), group("g", "path: b\nupstreamRef: {name: u}"));
    told(
        &bad,
        &[
            "bad.yaml:5 RegistryUpstream b/u spec.url: must be an http or https URL with a host, such as https://registry.example.com",
            "bad.yaml:13 DependencyProxyGroup b/g spec.upstreamRef: RegistryUpstream b/u is refused; mend it first",
        ],
    );
}

#[test]
fn a_binding_that_asks_for_nothing_is_refused() {
    told(
        &ours(
            "PullBinding",
            "p",
            "groupRef: {name: team-a, namespace: team-a}\nserviceAccounts: [a, a]\ntokenTTLSeconds: 1",
        ),
        &[
            "bad.yaml:4 PullBinding b/p spec: must have at least one of pullSecretName and ciVariables; add one",
            "bad.yaml:6 PullBinding b/p spec.serviceAccounts[1]: is in the list already; each may be there once",
            "bad.yaml:6 PullBinding b/p spec.serviceAccounts: need pullSecretName: that is the Secret that they get; add it",
            "bad.yaml:7 PullBinding b/p spec.tokenTTLSeconds: must be 3600 to 2592000",
        ],
    );
}

#[test]
fn objects_of_another_namespace_must_allow_it() {
    told(
        &group("g", "path: b\nupstreamRef: {name: docker-hub, namespace: team-a}"),
        &[
            "bad.yaml:7 DependencyProxyGroup b/g spec.upstreamRef: RegistryUpstream team-a/docker-hub is not for namespace b; ask its owner to widen spec.allowedGroups",
        ],
    );
    told(
        &ours("PullBinding", "p", "groupRef: {name: child, namespace: team-a}\npullSecretName: s"),
        &[
            "bad.yaml:5 PullBinding b/p spec.groupRef: group team-a/child is not for namespace b; ask its owner to widen spec.allowedConsumers",
        ],
    );
    let good = GOOD.replace(
        "drainSeconds: 120\n  allowedGroups: {from: All}",
        "allowedGroups: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: team-a}}}",
    );
    let (judgement, printed) = judged(&good, &group("g", "path: b"), Origin::File, &Options::default());
    assert_eq!(
        printed,
        [
            "bad.yaml:5 DependencyProxyGroup b/g spec.proxyRef: DependencyProxy dependency-proxy/main takes no groups of namespace b; ask its owner to widen spec.allowedGroups",
        ]
    );
    assert_eq!(judgement.config.unwrap().groups.len(), 2);
}
