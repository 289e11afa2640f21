//! From the judged pages of an instance to those that pods take: what went bad stays as it was, what never was good is
//! left out.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use config::{Config, Judgement, Kind, Problem, judge};
use crds::{DependencyProxySpec, NamespacedReference};
use kube::Resource;

use super::collect::{Members, id_of, named};
use super::draft::{Draft, Key, Sources};
use super::narrow;
use super::rendering::{Rendering, by_object};

/// Judgements at most. Each round puts back or takes out what referred to what the one before did; the chain of
/// references is shorter than this.
const ROUNDS: usize = 8;

/// What pods take.
pub(super) struct Settled<'a> {
    pub draft: Draft<'a>,
    /// `None` where the instance itself is refused, and never was good.
    pub config: Option<Config>,
    /// Objects of which the last good version is there in place of the one of now.
    pub older: HashSet<Key>,
}

/// The instance as it last was good, where it is refused now: one bad field must not keep what others withdraw from the
/// pods. None where it never was good.
pub(super) fn held<'a>(
    members: &Members,
    problems: &[Problem],
    before: &Rendering,
    sources: &mut Sources<'_>,
) -> Option<(Draft<'a>, Judgement)> {
    let (now, last) = (members.proxy.as_ref()?, before.served.proxy.as_ref()?);
    before.config.as_ref().filter(|_| now.meta().uid == last.meta().uid)?;
    let kept = narrow::proxy(last, now, problems);
    let id = id_of(kept.as_ref());
    let default = kept.spec.default_upstream_ref.as_ref().map(|default| named(default, &id.namespace));
    let members = Members { proxy: Some(kept), ..members.clone() };
    let draft = |keys: Option<&Rendering>, sources: &mut Sources<'_>| {
        let mut draft = Draft::of(Cow::Owned(members.clone()), sources, keys)?;
        if let Some(default) = &default {
            draft.borrow(default, before, sources);
        }
        Some(draft)
    };
    let held = draft(None, sources)?;
    let judgement = judge(&held.documents(), &held.options);
    if judgement.config.is_some() {
        return Some((held, judgement));
    }
    // What it refers to has gone or is bad: that stays as it was too.
    let bad = by_object(&judgement.problems).remove(&(Kind::DependencyProxy, id)).unwrap_or_default();
    let concerns = |field: &str| bad.iter().any(|problem| problem.field.starts_with(field));
    let mut held = if concerns("spec.auth.keysSecretRef") { draft(Some(before), sources)? } else { held };
    if concerns("spec.storage") {
        held.storage.clone_from(&before.stored);
    }
    let judgement = judge(&held.documents(), &held.options);
    judgement.config.is_some().then_some((held, judgement))
}

impl<'a> Settled<'a> {
    /// Puts back and takes out until the judge finds nothing: pods then take the documents as a whole.
    pub(super) fn of(
        draft: Draft<'a>,
        first: Judgement,
        before: Option<&Rendering>,
        sources: &mut Sources<'_>,
    ) -> Self {
        let mut settled = Self { draft, config: None, older: HashSet::new() };
        let mut judgement = first;
        let mut restored = HashSet::new();
        for _ in 0..ROUNDS {
            let bad = by_object(&judgement.problems);
            let Some(config) = judgement.config else { return settled };
            if bad.is_empty() {
                settled.config = Some(config);
                return settled;
            }
            // Everything is put back that can be, before anything is left out for want of it.
            let mut is_changed = false;
            for (key, problems) in &bad {
                if let Some(before) = before
                    && !restored.contains(key)
                    && !settled.can_mend(key, problems, &config)
                    && settled.restore(key, problems, before, sources)
                {
                    restored.insert(key.clone());
                    is_changed = true;
                }
            }
            for (key, problems) in bad.iter().filter(|_| !is_changed) {
                if key.0 == Kind::DependencyProxy || settled.can_mend(key, problems, &config) {
                    settled.mend(key, problems, &config, sources);
                } else {
                    settled.remove(key);
                }
            }
            judgement = judge(&settled.draft.documents(), &settled.draft.options);
        }
        let instance = &settled.draft.options.instance;
        tracing::error!(?instance, "the documents cannot be brought into order; they stay as they were");
        settled
    }

    /// Whether an object serves without the part that is at fault.
    fn can_mend(&self, (kind, id): &Key, problems: &[Problem], config: &Config) -> bool {
        match kind {
            Kind::DependencyProxy => !problems.iter().any(|problem| is_default(&problem.field)),
            Kind::DependencyProxyGroup => {
                problems.iter().all(|problem| token_index(&problem.field).is_some())
            }
            Kind::Secret => {
                self.draft.members.users().as_ref() == Some(id) && !config.instance.users.hashes.is_empty()
            }
            _ => false,
        }
    }

    fn mend(&mut self, (kind, id): &Key, problems: &[Problem], config: &Config, sources: &mut Sources<'_>) {
        let members = &self.draft.members;
        match kind {
            Kind::DependencyProxy => {
                let Some(mut proxy) = members.proxy.as_deref().cloned() else { return };
                leave_out(&mut proxy.spec, problems);
                self.draft.put_proxy(narrow::named_anew(proxy), sources);
            }
            Kind::DependencyProxyGroup => {
                let Some(mut group) = members.groups.get(id).map(|group| group.as_ref().clone()) else {
                    return;
                };
                let at_fault = problems.iter().filter_map(|problem| token_index(&problem.field));
                let at_fault = at_fault.collect::<HashSet<_>>();
                keep_others(&mut group.spec.deploy_tokens, &at_fault);
                self.draft.put_group(id, narrow::named_anew(group), sources);
            }
            _ => {
                let lines = config.instance.users.hashes.iter();
                let lines = lines.map(|(name, hash)| format!("{name}:{}\n", hash.expose()));
                let lines = lines.collect::<BTreeSet<_>>().into_iter().collect::<String>();
                if let Some(secret) = sources.contents.secret(id) {
                    self.draft.add(sources.renderings.users(id, secret, &lines));
                }
            }
        }
    }

    /// Puts back an object as it last was good, with what it needs, but without what its owner has taken out since.
    /// Whether there is such a version.
    fn restore(
        &mut self,
        key: &Key,
        problems: &[Problem],
        before: &Rendering,
        sources: &mut Sources<'_>,
    ) -> bool {
        let (kind, id) = key;
        let last = &before.served;
        let of_now = self.draft.pages.get(key).map(|page| page.digest.clone());
        match kind {
            Kind::DependencyProxy => {
                // Only its default is at fault: the rest of it serves.
                let (Some(last), Some(now)) = (&last.proxy, &self.draft.members.proxy) else { return false };
                let default = &last.spec.default_upstream_ref;
                if *default == now.spec.default_upstream_ref {
                    return false;
                }
                let mut proxy = now.as_ref().clone();
                proxy.spec.default_upstream_ref.clone_from(default);
                self.draft.put_proxy(narrow::named_anew(proxy), sources);
                self.borrow_all(default.iter(), &id.namespace, before, sources);
            }
            Kind::DependencyProxyGroup => {
                let (Some(last), Some(now)) = (last.groups.get(id), self.draft.members.groups.get(id)) else {
                    return false;
                };
                let kept = narrow::group(last, now, problems);
                self.borrow_all(kept.spec.upstream_ref.iter(), &id.namespace, before, sources);
                self.draft.put_group(id, kept, sources);
            }
            Kind::RegistryUpstream => {
                let now = self.draft.members.upstreams.get(id);
                let (Some(last), Some(now)) = (last.upstreams.get(id), now) else { return false };
                let kept = narrow::upstream(last, now, problems);
                self.draft.put_upstream(id, kept, before, sources);
            }
            Kind::VirtualRegistry => {
                let Some(last) = last.registries.get(id) else { return false };
                self.borrow_all(last.spec.upstreams.iter(), &id.namespace, before, sources);
                self.draft.put_registry(id, last.clone(), sources);
            }
            Kind::PullBinding | Kind::Secret | Kind::ConfigMap | Kind::Namespace => {
                let Some(page) = before.pages.get(key) else { return false };
                self.draft.add(page.clone());
                if let (Kind::PullBinding, Some(last)) = (kind, last.bindings.get(id)) {
                    self.draft.members.to_mut().bindings.insert(id.clone(), last.clone());
                }
            }
        }
        if self.draft.pages.get(key).map(|page| &page.digest) != of_now.as_ref() {
            self.older.insert(key.clone());
        }
        true
    }

    fn borrow_all<'r>(
        &mut self,
        references: impl Iterator<Item = &'r NamespacedReference>,
        namespace: &str,
        before: &Rendering,
        sources: &mut Sources<'_>,
    ) {
        for reference in references {
            self.draft.borrow(&named(reference, namespace), before, sources);
        }
    }

    fn remove(&mut self, key: &Key) {
        let (kind, id) = key;
        self.draft.pages.remove(key);
        self.older.remove(key);
        let members = self.draft.members.to_mut();
        match kind {
            Kind::DependencyProxyGroup => drop(members.groups.remove(id)),
            Kind::RegistryUpstream => drop(members.upstreams.remove(id)),
            Kind::VirtualRegistry => drop(members.registries.remove(id)),
            Kind::PullBinding => drop(members.bindings.remove(id)),
            Kind::DependencyProxy | Kind::Secret | Kind::ConfigMap | Kind::Namespace => {}
        }
    }
}

fn is_default(field: &str) -> bool {
    field == "spec.defaultUpstreamRef"
}

/// Takes the parts out of an instance that lead nowhere.
fn leave_out(spec: &mut DependencyProxySpec, problems: &[Problem]) {
    let at_fault = |list: &str| {
        let indexes = problems.iter().filter_map(|problem| index_in(&problem.field, list));
        indexes.map(|(index, _)| index).collect::<HashSet<_>>()
    };
    keep_others(&mut spec.aliases, &at_fault("spec.aliases"));
    keep_others(&mut spec.mirrors, &at_fault("spec.mirrors"));
    if problems.iter().any(|problem| problem.field == "spec.auth.staticUsersSecretRef") {
        spec.auth.static_users_secret_ref = None;
    }
}

fn keep_others<T>(entries: &mut Vec<T>, at_fault: &HashSet<usize>) {
    let mut index = 0..;
    entries.retain(|_| index.next().is_some_and(|index| !at_fault.contains(&index)));
}

/// The index in `spec.list[2].field`, and what follows it.
fn index_in<'f>(field: &'f str, list: &str) -> Option<(usize, &'f str)> {
    let (index, rest) = field.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, rest))
}

/// Which deploy token of a group cannot be used because of its Secret.
pub(super) fn token_index(field: &str) -> Option<usize> {
    index_in(field, "spec.deployTokens")
        .filter(|(_, rest)| rest.starts_with(".secretRef"))
        .map(|(index, _)| index)
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
