//! PullBindings: credentials of a group in the namespace where its images are pulled.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crds::{DependencyProxyGroup, PullBinding, PullBindingSpec};

use super::reference::{Rulings, allows, follow, local, namespaced};
use super::report::Report;
use super::secret::{self, Held};
use super::set::{Found, Set};
use crate::{Document, Group, Kind, ObjectId, Owner, Problem, PullCredential, Reason};

/// Judges all bindings; gives what may be pulled with. What is wrong with a binding itself is said whichever instance is
/// asked; that its group is refused is said by the group's own.
pub(super) fn judge(
    set: &Set<'_>,
    groups: &Rulings<Group>,
    instance_key: &[u8],
    problems: &mut Vec<Problem>,
) -> Vec<PullCredential> {
    let bindings = set.all::<PullBinding>().filter_map(|(document, object)| Some((document, &object?.spec)));
    let bindings = bindings.collect::<Vec<_>>();
    let conflicts = conflicts(&bindings);
    let mut credentials = Vec::new();
    for (document, spec) in bindings {
        let mut report = Report::of(document);
        check(&mut report, spec);
        for (field, message) in conflicts.get(&document.id).into_iter().flatten() {
            report.error_for(Reason::NameConflict, field, message);
        }
        let group = group(&mut report, document, spec, set, groups);
        let held = spec.credentials_secret_ref.as_ref().and_then(|reference| {
            let id = local(reference, &document.id.namespace);
            secret::credentials(&mut report, "spec.credentialsSecretRef", set, &id, instance_key)
        });
        let own = group.zip(held).map(|(group, held)| of_binding(&document.id, &group, held));
        credentials.extend(report.close(own, problems).into_iter().flatten());
    }
    credentials
}

fn check(report: &mut Report<'_>, spec: &PullBindingSpec) {
    report.within("spec.tokenTTLSeconds", spec.token_ttl_seconds, 3600..=2_592_000);
    report.within("spec.overlapSeconds", spec.overlap_seconds, 0..=2_592_000);
    report.count("spec.serviceAccounts", spec.service_accounts.len(), 0..=20);
    for (index, account) in spec.service_accounts.iter().enumerate() {
        report.name(&format!("spec.serviceAccounts[{index}]"), account);
    }
    report.unique("spec.serviceAccounts", "", spec.service_accounts.iter().map(String::as_str));
    report.check(
        spec.service_accounts.is_empty() || spec.pull_secret_name.is_some(),
        "spec.serviceAccounts",
        "need pullSecretName: that is the Secret that they get; add it",
    );
    let asks = spec.pull_secret_name.is_some()
        || spec.ci_variables.is_some()
        || spec.credentials_secret_ref.is_some();
    report.check(asks, "spec", "must have at least one of pullSecretName and ciVariables; add one");
    if let Some(name) = &spec.pull_secret_name {
        report.name("spec.pullSecretName", name);
    }
    if let Some(variables) = &spec.ci_variables {
        report.name("spec.ciVariables.configMapName", &variables.config_map_name);
        report.name("spec.ciVariables.secretName", &variables.secret_name);
    }
}

/// What a binding must not write because an older binding of its namespace writes it; by binding.
fn conflicts<'a>(
    bindings: &[(&'a Document, &'a PullBindingSpec)],
) -> HashMap<&'a ObjectId, Vec<(&'static str, String)>> {
    let mut bindings = bindings.to_vec();
    bindings.sort_by_key(|(document, _)| document.age());
    let mut writers = HashMap::<_, &ObjectId>::new();
    let mut conflicts = HashMap::<_, Vec<_>>::new();
    for (document, spec) in bindings {
        let id = &document.id;
        let variables = spec.ci_variables.as_ref();
        let written = [
            (Kind::Secret, "spec.pullSecretName", spec.pull_secret_name.as_deref()),
            (Kind::Secret, "spec.ciVariables.secretName", variables.map(|v| v.secret_name.as_str())),
            (
                Kind::ConfigMap,
                "spec.ciVariables.configMapName",
                variables.map(|v| v.config_map_name.as_str()),
            ),
        ];
        for (kind, field, name) in written {
            let Some(name) = name else { continue };
            let message = match writers.entry((kind, id.namespace.as_str(), name)) {
                Entry::Vacant(place) => {
                    place.insert(id);
                    continue;
                }
                Entry::Occupied(writer) if *writer.get() == id => {
                    "is the pull secret's name; choose another".to_owned()
                }
                Entry::Occupied(writer) => {
                    format!("is written by the older PullBinding {}; choose another", writer.get())
                }
            };
            conflicts.entry(id).or_default().push((field, message));
        }
    }
    conflicts
}

/// The path of the binding's group, if that takes it.
fn group(
    report: &mut Report<'_>,
    document: &Document,
    spec: &PullBindingSpec,
    set: &Set<'_>,
    groups: &Rulings<Group>,
) -> Option<String> {
    let namespace = &document.id.namespace;
    let wanted = namespaced(&spec.group_ref, namespace);
    if let Found::Usable(_, group) = set.find::<DependencyProxyGroup>(&wanted)
        && !allows(&group.spec.allowed_consumers, &wanted.namespace, namespace, set)
    {
        let message = format!(
            "group {wanted} is not for namespace {namespace}; ask its owner to widen spec.allowedConsumers"
        );
        report.error_for(Reason::NotAllowedByGroup, "spec.groupRef", message);
        return None;
    }
    let group = follow(report, "spec.groupRef", groups, Kind::DependencyProxyGroup, &wanted)?;
    Some(group.path.clone())
}

fn of_binding(id: &ObjectId, group: &str, held: Held) -> Vec<PullCredential> {
    let credential = |(hash, expires_at)| {
        let owner = Owner::PullBinding(id.clone());
        PullCredential::new(group, owner, &held.username, hash, true, expires_at)
    };
    held.hashes.into_iter().map(credential).collect()
}
