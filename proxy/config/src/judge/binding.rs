//! PullBindings: the proxy does not serve them; they are judged so that a mistake shows before an operator acts.

use crds::{DependencyProxyGroup, PullBinding, PullBindingSpec};

use super::reference::{Rulings, allows, follow, namespaced};
use super::report::Report;
use super::set::{Found, Set};
use crate::{Document, Group, Kind, Problem, Reason};

pub(super) fn judge(set: &Set<'_>, groups: &Rulings<Group>, problems: &mut Vec<Problem>) {
    for (document, object) in set.all::<PullBinding>() {
        let Some(object) = object else { continue };
        let mut report = Report::of(document);
        check(&mut report, document, &object.spec, set, groups);
        report.close(None::<()>, problems);
    }
}

fn check(
    report: &mut Report<'_>,
    document: &Document,
    spec: &PullBindingSpec,
    set: &Set<'_>,
    groups: &Rulings<Group>,
) {
    report.within("spec.tokenTTLSeconds", spec.token_ttl_seconds, 3600..=2_592_000);
    report.count("spec.serviceAccounts", spec.service_accounts.len(), 0..=20);
    report.unique("spec.serviceAccounts", "", spec.service_accounts.iter().map(String::as_str));
    let asks = spec.pull_secret_name.is_some() || spec.ci_variables.is_some();
    report.check(asks, "spec", "must have at least one of pullSecretName and ciVariables; add one");
    if let Some(name) = &spec.pull_secret_name {
        report.length("spec.pullSecretName", name, 1..=253);
    }
    let namespace = &document.id.namespace;
    let wanted = namespaced(&spec.group_ref, namespace);
    if let Found::Usable(_, group) = set.find::<DependencyProxyGroup>(&wanted)
        && !allows(&group.spec.allowed_consumers, &wanted.namespace, namespace, set)
    {
        let message = format!(
            "group {wanted} is not for namespace {namespace}; ask its owner to widen spec.allowedConsumers"
        );
        report.error_as(Reason::NotAllowedByGroup, "spec.groupRef", message);
        return;
    }
    follow(report, "spec.groupRef", groups, Kind::DependencyProxyGroup, &wanted);
}
