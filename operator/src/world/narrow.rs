//! The last good version of an object, without what its owner has taken out since: that ends at once, whatever else is
//! wrong with the edit. Pure.

use std::sync::Arc;

use config::{Problem, fingerprint};
use crds::{DependencyProxy, DependencyProxyGroup, RegistryUpstream, Subject};
use kube::Resource;
use kube::core::object::HasSpec;
use serde::Serialize;

use super::settle::token_index;

/// `last` with what `now` no longer gives. Where a field of `now` is at fault itself, that of `last` holds.
pub(super) fn group(
    last: &DependencyProxyGroup,
    now: &DependencyProxyGroup,
    problems: &[Problem],
) -> Arc<DependencyProxyGroup> {
    let (mut kept, now) = (last.clone(), &now.spec);
    kept.spec.enabled &= now.enabled;
    kept.spec.members.retain_mut(|member| {
        let same = now.members.iter().find(|other| is_same(&other.subject, &member.subject));
        same.map(|same| member.role = same.role).is_some()
    });
    let at_fault = problems.iter().filter_map(|problem| token_index(&problem.field)).collect::<Vec<_>>();
    kept.spec.deploy_tokens.retain_mut(|token| {
        let tokens = now.deploy_tokens.iter().enumerate().filter(|(index, _)| !at_fault.contains(index));
        let mut tokens = tokens.map(|(_, other)| other);
        let same = tokens.find(|other| other.name == token.name && other.secret_ref == token.secret_ref);
        let Some(same) = same else { return false };
        token.scopes.retain(|scope| same.scopes.contains(scope));
        token.expires_at.clone_from(&same.expires_at);
        !token.scopes.is_empty()
    });
    if is_good(problems, "spec.allowedConsumers") {
        kept.spec.allowed_consumers = now.allowed_consumers.clone();
    }
    named_anew(kept)
}

/// The same of an upstream.
pub(super) fn upstream(
    last: &RegistryUpstream,
    now: &RegistryUpstream,
    problems: &[Problem],
) -> Arc<RegistryUpstream> {
    let (mut kept, now) = (last.clone(), &now.spec);
    if is_good(problems, "spec.allowedGroups") {
        kept.spec.allowed_groups = now.allowed_groups.clone();
    }
    if is_good(problems, "spec.rules") {
        kept.spec.rules = now.rules.clone();
    }
    named_anew(kept)
}

/// The same of an instance.
pub(super) fn proxy(
    last: &DependencyProxy,
    now: &DependencyProxy,
    problems: &[Problem],
) -> Arc<DependencyProxy> {
    let (mut kept, now) = (last.clone(), &now.spec);
    kept.spec.enabled &= now.enabled;
    if is_good(problems, "spec.allowedGroups") {
        kept.spec.allowed_groups = now.allowed_groups.clone();
    }
    named_anew(kept)
}

fn is_good(problems: &[Problem], field: &str) -> bool {
    !problems.iter().any(|problem| problem.field.starts_with(field))
}

fn is_same(a: &Subject, b: &Subject) -> bool {
    (a.kind, &a.name, &a.namespace) == (b.kind, &b.name, &b.namespace)
}

/// No version of the API server names an object that was changed here: what is in it does.
pub(super) fn named_anew<K>(mut object: K) -> Arc<K>
where
    K: Resource<DynamicType = ()> + HasSpec<Spec: Serialize>,
{
    let spec = serde_json::to_vec(object.spec()).unwrap_or_default();
    let meta = object.meta_mut();
    meta.generation = None;
    meta.resource_version = Some(fingerprint(&[&spec]));
    Arc::new(object)
}
