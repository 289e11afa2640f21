//! What of a DependencyProxy concerns its pods: an operator acts on it, and a mistake shows before.

use std::collections::BTreeMap;

use crds::{Autoscaling, DependencyProxySpec, Egress, Expose, Image, SigningKeys};

use super::report::Report;

/// Checks the fields that the proxy itself does not read.
pub(super) fn check(report: &mut Report<'_>, spec: &DependencyProxySpec) {
    image(report, &spec.image);
    replicas(report, spec);
    signing_keys(report, &spec.auth.signing_keys, spec.auth.token_ttl_seconds);
    expose(report, &spec.expose);
    if let Some(tls) = &spec.tls {
        let one = tls.secret_ref.is_some() != tls.issuer_ref.is_some();
        report.check(one, "spec.tls", "must have exactly one of secretRef and issuerRef");
        if let Some(issuer) = &tls.issuer_ref {
            report.length("spec.tls.issuerRef.name", &issuer.name, 1..=253);
        }
    }
    egress(report, &spec.egress);
    let unavailable = spec.pod_disruption_budget.max_unavailable.into();
    report.within("spec.podDisruptionBudget.maxUnavailable", unavailable, 1..=100);
    let pods = &spec.pod_template;
    map(report, "spec.podTemplate.labels", &pods.labels);
    map(report, "spec.podTemplate.annotations", &pods.annotations);
    map(report, "spec.podTemplate.nodeSelector", &pods.node_selector);
    report.count("spec.podTemplate.tolerations", pods.tolerations.len(), 0..=32);
}

fn image(report: &mut Report<'_>, image: &Image) {
    let named = image.repository.is_some() || image.tag.is_none() && image.digest.is_none();
    report.check(named, "spec.image.repository", "is required with tag or digest; add it");
    report.count("spec.image.pullSecrets", image.pull_secrets.len(), 0..=8);
    let names = image.pull_secrets.iter().map(|secret| secret.name.as_str());
    report.unique("spec.image.pullSecrets", "name", names);
}

fn replicas(report: &mut Report<'_>, spec: &DependencyProxySpec) {
    report.within("spec.replicas", spec.replicas.unwrap_or(1).into(), 0..=100);
    let Some(Autoscaling { min_replicas, max_replicas, target_cpu_percent }) = spec.autoscaling else {
        return;
    };
    report.check(
        spec.replicas.is_none(),
        "spec.replicas",
        "does not go together with autoscaling; take one out",
    );
    report.within("spec.autoscaling.minReplicas", min_replicas.into(), 1..=100);
    report.within("spec.autoscaling.maxReplicas", max_replicas.into(), 1..=100);
    report.within("spec.autoscaling.targetCPUPercent", target_cpu_percent.into(), 1..=1000);
    report.check(min_replicas <= max_replicas, "spec.autoscaling.minReplicas", "must be at most maxReplicas");
}

/// A token must not outlive the key that it was signed with.
fn signing_keys(report: &mut Report<'_>, keys: &SigningKeys, token_ttl_seconds: i64) {
    let SigningKeys { rotation_period_seconds, overlap_seconds } = *keys;
    report.within("spec.auth.signingKeys.rotationPeriodSeconds", rotation_period_seconds, 3600..=31_536_000);
    let field = "spec.auth.signingKeys.overlapSeconds";
    report.within(field, overlap_seconds, 60..=2_592_000);
    report.check(overlap_seconds < rotation_period_seconds, field, "must be less than rotationPeriodSeconds");
    report.check(
        overlap_seconds >= token_ttl_seconds,
        field,
        "must be at least tokenTTLSeconds: tokens of the key before are still in use",
    );
}

fn expose(report: &mut Report<'_>, expose: &Expose) {
    let service = &expose.service;
    if let Some(port) = service.node_port {
        let field = "spec.expose.service.nodePort";
        report.within(field, port.into(), 1..=65535);
        let fits = service.kind != crds::ServiceType::ClusterIP;
        report.check(fits, field, "needs type NodePort or LoadBalancer; set that, or take it out");
    }
    map(report, "spec.expose.service.annotations", &service.annotations);
    if let Some(ingress) = &expose.ingress {
        map(report, "spec.expose.ingress.annotations", &ingress.annotations);
    }
    if let Some(gateway) = &expose.gateway {
        report.count("spec.expose.gateway.parentRefs", gateway.parent_refs.len(), 1..=8);
    }
}

fn egress(report: &mut Report<'_>, egress: &Egress) {
    let urls =
        [("spec.egress.httpsProxy", &egress.https_proxy), ("spec.egress.httpProxy", &egress.http_proxy)];
    for (field, url) in urls {
        let Some(url) = url else { continue };
        report.length(field, url, 1..=2048);
        let anonymous = !url.contains('@');
        report.check(anonymous, field, "must have no user name or password; take them out");
    }
    report.count("spec.egress.noProxy", egress.no_proxy.len(), 0..=64);
}

fn map(report: &mut Report<'_>, field: &str, map: &BTreeMap<String, String>) {
    report.count(field, map.len(), 0..=64);
}
