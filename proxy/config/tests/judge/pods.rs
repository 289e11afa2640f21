//! What of a DependencyProxy concerns its pods.

use crate::instance_told;

#[test]
fn pods_that_cannot_be_are_refused() {
    for (to, problem) in [
        (
            "replicas: 3\n  autoscaling: {minReplicas: 1, maxReplicas: 2}",
            "9 spec.replicas: does not go together with autoscaling; take one out",
        ),
        (
            "autoscaling: {minReplicas: 3, maxReplicas: 2}",
            "9 spec.autoscaling.minReplicas: must be at most maxReplicas",
        ),
        (
            "autoscaling: {minReplicas: 1, maxReplicas: 101}",
            "9 spec.autoscaling.maxReplicas: must be 1 to 100",
        ),
        ("maxRegistriesPerGroup: 0", "9 spec.maxRegistriesPerGroup: must be 1 to 1000"),
        ("image: {tag: v1}", "9 spec.image.repository: is required with tag or digest; add it"),
        ("tls: {}", "9 spec.tls: must have exactly one of secretRef and issuerRef"),
        (
            "tls: {secretRef: {name: a}, issuerRef: {name: b}}",
            "9 spec.tls: must have exactly one of secretRef and issuerRef",
        ),
        (
            "expose: {service: {nodePort: 30000}}",
            "9 spec.expose.service.nodePort: needs type NodePort or LoadBalancer; set that, or take it out",
        ),
        ("expose: {gateway: {parentRefs: []}}", "9 spec.expose.gateway.parentRefs: must have 1 to 8 entries"),
        (
            "egress: {httpsProxy: 'http://me:secret@proxy:3128'}",
            "9 spec.egress.httpsProxy: must have no user name or password; take them out",
        ),
        (
            "podDisruptionBudget: {maxUnavailable: 0}",
            "9 spec.podDisruptionBudget.maxUnavailable: must be 1 to 100",
        ),
    ] {
        let (line, problem) = problem.split_once(' ').unwrap();
        let expected = format!("good.yaml:{line} DependencyProxy dependency-proxy/main {problem}");
        instance_told("replicas: 3", to, false, &[&expected]);
    }
}

#[test]
fn a_key_stays_as_long_as_its_tokens() {
    for (keys, problem) in [
        (
            "overlapSeconds: 600",
            "must be at least tokenTTLSeconds: tokens of the key before are still in use",
        ),
        ("rotationPeriodSeconds: 7200, overlapSeconds: 7200", "must be less than rotationPeriodSeconds"),
    ] {
        let expected = format!(
            "good.yaml:12 DependencyProxy dependency-proxy/main spec.auth.signingKeys.overlapSeconds: {problem}"
        );
        let to = format!("tokenTTLSeconds: 900, signingKeys: {{{keys}}}");
        instance_told("tokenTTLSeconds: 900", &to, false, &[&expected]);
    }
}

#[test]
fn pods_that_can_be_are_accepted() {
    let to = "autoscaling: {minReplicas: 2, maxReplicas: 5}
  image: {repository: registry.example.com/proxy, tag: v1}
  tls: {secretRef: {name: tls}}
  expose: {service: {type: NodePort, nodePort: 30000}}
  egress: {httpsProxy: 'http://proxy:3128', noProxy: [10.0.0.0/8]}
  maxRegistriesPerGroup: 6";
    instance_told("replicas: 3", to, true, &[]);
}
