//! DependencyProxyGroups.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crds::{
    DependencyProxyGroup, DependencyProxyGroupSpec, NamespacedReference, RegistryUpstream, Scope, SubjectKind,
};

use super::instance::{Chosen, size};
use super::reference::{Ruling, Rulings, allows, check_allowed, follow, local, missing, namespaced};
use super::report::Report;
use super::set::{Found, Set};
use super::{Options, path, secret, upstream};
use crate::{
    Cleanup, Document, Group, Kind, Member, ObjectId, Owner, Problem, PullCredential, Reason,
    RegistryCleanup, Role, Subject, Upstream,
};

/// What the judgement of a group looks at.
struct Bench<'a> {
    set: &'a Set<'a>,
    chosen: &'a Chosen<'a>,
    upstreams: &'a Rulings<Upstream>,
    options: &'a Options,
}

pub(super) fn judge<'a>(
    set: &'a Set<'a>,
    chosen: &'a Chosen<'a>,
    upstreams: &'a Rulings<Upstream>,
    options: &'a Options,
    problems: &mut Vec<Problem>,
) -> (Rulings<Group>, Vec<PullCredential>) {
    let bench = Bench { set, chosen, upstreams, options };
    let mut rulings = Rulings::new();
    let mut credentials = Vec::new();
    let (mut own, mut claims) = (Vec::new(), Vec::new());
    for (document, object) in set.all::<DependencyProxyGroup>() {
        let mut report = Report::of(document);
        let ruling = match object {
            None => Ruling::Refused,
            Some(object) => match bench.admit(&mut report, &document.id, &object.spec) {
                Some(true) => {
                    // A group keeps its path while it waits for something else to be mended.
                    if path::check(&mut report, &object.spec.path) {
                        claims.push((document, object.spec.path.as_str()));
                    }
                    own.push((document, &object.spec, report));
                    continue;
                }
                Some(false) => Ruling::Foreign,
                None => Ruling::Refused,
            },
        };
        report.close(None::<()>, problems);
        rulings.insert(document.id.clone(), ruling);
    }
    let conflicts = path::conflicts(claims);
    for (document, spec, mut report) in own {
        if let Some(message) = conflicts.get(&document.id) {
            report.error_for(Reason::PathConflict, "spec.path", message);
        }
        let built = bench.build(&mut report, document, spec);
        let (group, tokens) = report.close(built, problems).unzip();
        credentials.extend(tokens.into_iter().flatten());
        rulings.insert(document.id.clone(), Ruling::from(group));
    }
    (rulings, credentials)
}

impl Bench<'_> {
    /// Whether the group belongs to the instance; `None` where it belongs to none that takes it.
    fn admit(&self, report: &mut Report<'_>, id: &ObjectId, spec: &DependencyProxyGroupSpec) -> Option<bool> {
        let field = "spec.proxyRef";
        let wanted = namespaced(&spec.proxy_ref, &id.namespace);
        let Some(own) = &self.chosen.id else { return Some(true) };
        if let Found::Missing = self.set.find::<crds::DependencyProxy>(&wanted) {
            report.error_for(Reason::ProxyNotFound, field, missing(Kind::DependencyProxy, &wanted));
            return None;
        }
        if *own != wanted {
            return Some(false);
        }
        let allowed = self.chosen.allowed_groups();
        if allowed.is_some_and(|allowed| !allows(allowed, &own.namespace, &id.namespace, self.set)) {
            let message = format!(
                "DependencyProxy {own} takes no groups of namespace {}; ask its owner to widen spec.allowedGroups",
                id.namespace
            );
            report.error_for(Reason::NotAllowedByProxy, field, message);
            return None;
        }
        Some(true)
    }

    fn build(
        &self,
        report: &mut Report<'_>,
        document: &Document,
        spec: &DependencyProxyGroupSpec,
    ) -> Option<(Group, Vec<PullCredential>)> {
        let id = &document.id;
        report.within("spec.recheckAfterSeconds", spec.recheck_after_seconds, 0..=31_536_000);
        let cleanup = cleanup(report, &spec.cleanup);
        let quota = spec.quota.as_ref();
        let storage_limit = quota.map(|quota| size(report, "spec.quota.storageBytes", &quota.storage_bytes));
        check_allowed(report, "spec.allowedConsumers", &spec.allowed_consumers);
        let members = members(report, spec);
        let deploy_tokens = self.deploy_tokens(report, id, spec);
        let upstream = self.upstream(report, id, spec);
        let group = Group {
            id: id.clone(),
            path: spec.path.clone(),
            enabled: spec.enabled,
            recheck_after: Duration::from_secs(u64::try_from(spec.recheck_after_seconds).unwrap_or_default()),
            upstream: upstream?,
            members,
            cleanup,
            storage_limit: storage_limit.flatten(),
        };
        Some((group, deploy_tokens))
    }

    /// The group's upstream, else the instance's, else Docker Hub.
    fn upstream(
        &self,
        report: &mut Report<'_>,
        id: &ObjectId,
        spec: &DependencyProxyGroupSpec,
    ) -> Option<Arc<Upstream>> {
        if let Some(reference) = &spec.upstream_ref {
            return find_upstream(
                report,
                "spec.upstreamRef",
                self.set,
                self.upstreams,
                reference,
                &id.namespace,
            );
        }
        let default = self
            .chosen
            .document
            .and_then(|(document, spec)| Some((document, spec.default_upstream_ref.as_ref()?)));
        match default {
            None => upstream::docker_hub(&id.namespace, self.options).map(Arc::new),
            Some((instance, reference)) => {
                let mut trouble = Report::of(instance);
                let field = "spec.defaultUpstreamRef";
                let found = find_upstream(
                    &mut trouble,
                    field,
                    self.set,
                    self.upstreams,
                    reference,
                    &instance.id.namespace,
                );
                if let Some(problem) = trouble.problems.first() {
                    let message = format!(
                        "DependencyProxy {} names a default that cannot be used: {}",
                        instance.id, problem.message
                    );
                    report.error_for(problem.reason, "spec.upstreamRef", message);
                }
                report.problems.extend(trouble.problems);
                found
            }
        }
    }

    /// A token whose Secret cannot be used is left out; the group serves the others.
    fn deploy_tokens(
        &self,
        report: &mut Report<'_>,
        id: &ObjectId,
        spec: &DependencyProxyGroupSpec,
    ) -> Vec<PullCredential> {
        report.count("spec.deployTokens", spec.deploy_tokens.len(), 0..=100);
        report.unique("spec.deployTokens", "name", spec.deploy_tokens.iter().map(|t| t.name.as_str()));
        let mut tokens = Vec::new();
        for (index, token) in spec.deploy_tokens.iter().enumerate() {
            let field = format!("spec.deployTokens[{index}]");
            report.length(&format!("{field}.name"), &token.name, 1..=63);
            report.count(&format!("{field}.scopes"), token.scopes.len(), 1..=4);
            let scopes = token.scopes.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>();
            report.unique(&format!("{field}.scopes"), "", scopes.iter().map(String::as_str));
            let secret = local(&token.secret_ref, &id.namespace);
            let key = self.chosen.instance_key();
            let Some((username, hash)) =
                secret::token(report, &format!("{field}.secretRef"), self.set, &secret, key)
            else {
                continue;
            };
            let owner = Owner::DeployToken(token.name.clone());
            let reads = token.scopes.contains(&Scope::ReadRegistry);
            let expires_at = token.expires_at.as_ref().map(|t| t.0);
            tokens.push(PullCredential::new(&spec.path, owner, &username, hash, reads, expires_at));
        }
        tokens
    }
}

/// The upstream that a reference from a namespace leads to. Whoever cannot have one waits: another upstream in its
/// place would serve other images under the same names.
pub(super) fn find_upstream(
    report: &mut Report<'_>,
    field: &str,
    set: &Set<'_>,
    upstreams: &Rulings<Upstream>,
    reference: &NamespacedReference,
    namespace: &str,
) -> Option<Arc<Upstream>> {
    let wanted = namespaced(reference, namespace);
    if let Found::Usable(_, object) = set.find::<RegistryUpstream>(&wanted)
        && !allows(&object.spec.allowed_groups, &wanted.namespace, namespace, set)
    {
        let message = format!(
            "RegistryUpstream {wanted} is not for namespace {namespace}; ask its owner to widen spec.allowedGroups"
        );
        report.error_for(Reason::NotAllowedByUpstream, field, message);
        return None;
    }
    let found = follow(report, field, upstreams, Kind::RegistryUpstream, &wanted);
    if found.is_none() {
        report.refuse();
    }
    found
}

fn members(report: &mut Report<'_>, spec: &DependencyProxyGroupSpec) -> Vec<Member> {
    report.count("spec.members", spec.members.len(), 0..=100);
    report.unique("spec.members", "name", spec.members.iter().map(|m| m.name.as_str()));
    let mut members = Vec::new();
    for (index, member) in spec.members.iter().enumerate() {
        let field = format!("spec.members[{index}]");
        report.length(&format!("{field}.name"), &member.name, 1..=63);
        report.length(&format!("{field}.subject.name"), &member.subject.name, 1..=253);
        let name = member.subject.name.clone();
        let subject = match (member.subject.kind, member.subject.namespace.clone()) {
            (SubjectKind::User, None) => Subject::User(name),
            (SubjectKind::Group, None) => Subject::Group(name),
            (SubjectKind::ServiceAccount, Some(namespace)) => Subject::ServiceAccount { namespace, name },
            (SubjectKind::ServiceAccount, None) => {
                report
                    .error(&format!("{field}.subject.namespace"), "is required for a ServiceAccount; add it");
                continue;
            }
            (SubjectKind::User | SubjectKind::Group, Some(_)) => {
                report.error(
                    &format!("{field}.subject.namespace"),
                    "belongs to a ServiceAccount only; take it out",
                );
                continue;
            }
        };
        members.push(Member { subject, role: role(member.role) });
    }
    members
}

fn role(role: crds::Role) -> Role {
    match role {
        crds::Role::Guest => Role::Guest,
        crds::Role::Reporter => Role::Reporter,
        crds::Role::Developer => Role::Developer,
        crds::Role::Maintainer => Role::Maintainer,
        crds::Role::Owner => Role::Owner,
    }
}

fn cleanup(report: &mut Report<'_>, spec: &crds::Cleanup) -> Cleanup {
    let crds::Cleanup { dependency_proxy: group, virtual_registries: registries } = spec;
    report.within("spec.cleanup.dependencyProxy.ttlDays", group.ttl_days, 1..=365);
    report.within(
        "spec.cleanup.virtualRegistries.keepDaysAfterDownload",
        registries.keep_days_after_download,
        1..=365,
    );
    let known = HashSet::from([1, 7, 14, 30, 90]).contains(&registries.cadence_days);
    report.check(known, "spec.cleanup.virtualRegistries.cadenceDays", "must be one of 1, 7, 14, 30 and 90");
    Cleanup {
        dependency_proxy: group.enabled.then(|| days(group.ttl_days)),
        virtual_registries: registries.enabled.then(|| RegistryCleanup {
            keep: days(registries.keep_days_after_download),
            cadence: days(registries.cadence_days),
        }),
    }
}

/// Of a number that was found to be in range.
fn days(number: i64) -> Duration {
    Duration::from_secs(24 * 3600 * u64::try_from(number).unwrap_or(u64::MAX / (24 * 3600)))
}
