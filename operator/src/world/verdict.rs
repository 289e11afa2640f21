//! What is true of one object, for its status.

use std::collections::HashMap;
use std::sync::Arc;

use config::{Group, Kind, ObjectId, Options, Problem, Reason, Severity, Upstream, judge};

use super::collect::{Members, credentials_secret};
use super::draft::Sources;
use super::rendering::{Rendering, by_object};
use super::{Report, World};
use crate::pods::UpstreamReport;

/// What is true of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Of the object that was judged.
    pub generation: Option<i64>,
    /// Errors; an object may serve in spite of one, without the part that it concerns.
    pub problems: Vec<Problem>,
    /// The instance that the object belongs to.
    pub instance: Option<ObjectId>,
    pub serving: Serving,
    /// Why every pull is refused although pods have it, in words.
    pub switched_off: Option<String>,
    pub facts: Facts,
}

/// Whether pods have the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It is refused, or nothing needs it.
    No,
    /// Accepted; the pods were not asked yet, since this operator began.
    Unheard,
    /// Accepted; not every ready pod has it yet.
    Pending,
    /// Every ready pod has it as it last was good, and not as it is now.
    Older,
    /// Pods do not get it, nor lose it, while their instance is suspended.
    Suspended,
    /// The same while their instance is refused, and its last good version is not known.
    Frozen,
    /// Every ready pod has it.
    Yes,
}

/// What people want to know of an object that serves.
#[derive(Clone, Debug, PartialEq)]
pub enum Facts {
    None,
    Group {
        url: String,
        path: String,
        upstream: String,
    },
    Upstream {
        account: String,
        health: Option<UpstreamReport>,
    },
    Registry {
        url: String,
        upstreams: Vec<String>,
    },
    /// `tokens`: ids of the passwords that every ready pod takes.
    Binding {
        url: String,
        path: String,
        tokens: Vec<String>,
    },
}

pub(super) fn of_instance(
    world: &mut World,
    instance: &ObjectId,
    members: &Members,
    rendering: &Arc<Rendering>,
    report: Option<&Report>,
) {
    let bench = Bench::of(instance, members, rendering, report);
    for (id, group) in &members.groups {
        let facts = bench.groups.get(id).map(|group| {
            let upstream = group.upstream.id.to_string();
            Facts::Group { url: bench.url(), path: group.path.clone(), upstream }
        });
        bench.note(world, Kind::DependencyProxyGroup, id, group.metadata.generation, facts);
    }
    for (id, registry) in &members.registries {
        let name = id.dotted();
        let served = rendering.config.as_ref().and_then(|config| config.registries.get(&name));
        let facts = served.map(|registry| {
            let upstreams = registry.upstreams.iter().map(|upstream| upstream.id.to_string()).collect();
            Facts::Registry { url: bench.url(), upstreams }
        });
        bench.note(world, Kind::VirtualRegistry, id, registry.metadata.generation, facts);
    }
    for (id, upstream) in &members.upstreams {
        let health = report.and_then(|report| report.upstreams.get(&id.to_string())).cloned();
        let account = bench.upstreams.get(id).map(|upstream| account(upstream)).unwrap_or_default();
        let facts = Some(Facts::Upstream { account, health });
        bench.note(world, Kind::RegistryUpstream, id, upstream.metadata.generation, facts);
    }
    for (id, binding) in &members.bindings {
        let group = &bench.bindings[id];
        let is_served = rendering.pages.contains_key(&(Kind::PullBinding, id.clone()));
        let facts = bench.groups.get(group).filter(|_| is_served).map(|group| {
            let pushed = report.and_then(|report| report.rendering.as_ref());
            let tokens = pushed.map(|rendering| tokens(rendering, id)).unwrap_or_default();
            Facts::Binding { url: bench.url(), path: group.path.clone(), tokens }
        });
        bench.note(world, Kind::PullBinding, id, binding.metadata.generation, facts);
    }
}

/// What the objects of an instance are looked up in.
struct Bench<'a> {
    instance: &'a ObjectId,
    rendering: &'a Arc<Rendering>,
    report: Option<&'a Report>,
    groups: HashMap<&'a ObjectId, &'a Arc<Group>>,
    upstreams: HashMap<&'a ObjectId, &'a Arc<Upstream>>,
    /// The groups of bindings.
    bindings: HashMap<&'a ObjectId, ObjectId>,
}

impl<'a> Bench<'a> {
    fn of(
        instance: &'a ObjectId,
        members: &'a Members,
        rendering: &'a Arc<Rendering>,
        report: Option<&'a Report>,
    ) -> Self {
        let (mut groups, mut upstreams) = (HashMap::new(), HashMap::new());
        if let Some(config) = &rendering.config {
            groups.extend(config.groups.values().map(|group| (&group.id, group)));
            upstreams.extend(config.groups.values().map(|group| (&group.upstream.id, &group.upstream)));
            let of_registries = config.registries.values().flat_map(|registry| &registry.upstreams);
            upstreams.extend(of_registries.map(|upstream| (&upstream.id, upstream)));
        }
        let bindings = members.bindings.iter();
        let bindings = bindings
            .map(|(id, binding)| (id, super::named(&binding.spec.group_ref, &id.namespace)))
            .collect();
        Self { instance, rendering, report, groups, upstreams, bindings }
    }

    fn is_served(&self) -> bool {
        self.rendering.config.is_some()
    }

    fn url(&self) -> String {
        let proxy = self.rendering.served.proxy.as_ref().unwrap_or(&self.rendering.proxy);
        proxy.spec.external_url.trim_end_matches('/').to_owned()
    }

    fn note(
        &self,
        world: &mut World,
        kind: Kind,
        id: &ObjectId,
        generation: Option<i64>,
        facts: Option<Facts>,
    ) {
        let key = (kind, id.clone());
        let serving = self.serving(&key);
        let mut problems = self.rendering.problems.get(&key).cloned().unwrap_or_default();
        // An upstream may serve several instances. What is true of it in one of them is told, a problem first.
        if let Some(other) = world.verdicts.get(&key)
            && (serving != Serving::Yes || !other.problems.is_empty())
            && problems.is_empty()
        {
            return;
        }
        if !self.is_served() && kind != Kind::RegistryUpstream && problems.is_empty() {
            let message = format!("DependencyProxy {} is refused; mend it first", self.instance);
            problems.push(problem(kind, id, "spec", Reason::DependencyNotReady, message));
        }
        let verdict = Verdict {
            generation,
            problems,
            instance: Some(self.instance.clone()),
            serving,
            switched_off: self.switched_off(&key),
            facts: facts.unwrap_or(Facts::None),
        };
        world.verdicts.insert(key, Arc::new(verdict));
    }

    fn serving(&self, key: &(Kind, ObjectId)) -> Serving {
        let pushed = self.report.and_then(|report| report.rendering.as_ref());
        let pushed = pushed.and_then(|rendering| rendering.pages.get(key)).map(|page| &page.digest);
        let wanted = self.rendering.pages.get(key).map(|page| &page.digest);
        match (wanted, pushed) {
            _ if !self.is_served() => Serving::Frozen,
            (Some(wanted), Some(pushed)) if wanted == pushed => match self.rendering.older.contains(key) {
                true => Serving::Older,
                false => Serving::Yes,
            },
            (None, None) => Serving::No,
            (Some(_), _) if self.report.is_none() => Serving::Unheard,
            _ if self.rendering.proxy.spec.suspend => Serving::Suspended,
            (None, _) => Serving::No,
            (Some(_), _) => Serving::Pending,
        }
    }

    /// The switches of the instance and of groups, as the proxy looks at them.
    fn switched_off(&self, (kind, id): &(Kind, ObjectId)) -> Option<String> {
        let config = self.rendering.config.as_ref()?;
        if !config.instance.enabled {
            let instance = self.instance;
            return Some(format!(
                "DependencyProxy {instance} is switched off; its administrator can set spec.enabled to true"
            ));
        }
        let group = match kind {
            Kind::DependencyProxyGroup => self.groups.get(id).copied(),
            Kind::VirtualRegistry => {
                let registry = config.registries.get(&id.dotted());
                registry.map(|registry| &registry.group)
            }
            Kind::PullBinding => self.groups.get(self.bindings.get(id)?).copied(),
            _ => None,
        };
        let group = group.filter(|group| !group.enabled)?;
        Some(format!("group {} is switched off; its owner can set spec.enabled to true", group.id))
    }
}

/// What is true of objects that no instance serves.
pub(super) fn of_loose(world: &mut World, members: &Members, sources: &mut Sources<'_>) {
    let problems = loose_problems(members, sources);
    let mut note =
        |kind: Kind, id: &ObjectId, generation: Option<i64>, own: Option<Problem>, facts: Facts| {
            let mut problems = problems.get(&(kind, id.clone())).cloned().unwrap_or_default();
            match own {
                // Without its instance nothing else of a group can be judged: its upstream may well be there.
                Some(own) if own.reason == Reason::ProxyNotFound => problems = vec![own],
                own if problems.is_empty() => problems.extend(own),
                _ => {}
            }
            let serving = Serving::No;
            let verdict =
                Verdict { generation, problems, instance: None, serving, switched_off: None, facts };
            world.verdicts.insert((kind, id.clone()), Arc::new(verdict));
        };
    for (id, upstream) in &members.upstreams {
        let facts = Facts::Upstream { account: String::new(), health: None };
        note(Kind::RegistryUpstream, id, upstream.metadata.generation, None, facts);
    }
    for (id, group) in &members.groups {
        let proxy = super::named(&group.spec.proxy_ref, &id.namespace);
        let message = format!("there is no DependencyProxy {proxy}; create it or correct the name");
        let kind = Kind::DependencyProxyGroup;
        let own = problem(kind, id, "spec.proxyRef", Reason::ProxyNotFound, message);
        note(kind, id, group.metadata.generation, Some(own), Facts::None);
    }
    let waits = |kind, id: &ObjectId| {
        let message =
            "its group belongs to no DependencyProxy that is there; mend the group first".to_owned();
        Some(problem(kind, id, "spec.groupRef", Reason::DependencyNotReady, message))
    };
    for (id, registry) in &members.registries {
        let kind = Kind::VirtualRegistry;
        note(kind, id, registry.metadata.generation, waits(kind, id), Facts::None);
    }
    for (id, binding) in &members.bindings {
        let kind = Kind::PullBinding;
        note(kind, id, binding.metadata.generation, waits(kind, id), Facts::None);
    }
}

fn loose_problems(members: &Members, sources: &mut Sources<'_>) -> HashMap<(Kind, ObjectId), Vec<Problem>> {
    let mut documents = Vec::new();
    let renderings = &mut *sources.renderings;
    for (id, upstream) in &members.upstreams {
        let page = renderings.own(Kind::RegistryUpstream, id, upstream.as_ref(), "", |_| {});
        documents.extend(page.documents.iter().cloned());
    }
    for (id, group) in &members.groups {
        let page = renderings.own(Kind::DependencyProxyGroup, id, group.as_ref(), "", |_| {});
        documents.extend(page.documents.iter().cloned());
    }
    for (id, registry) in &members.registries {
        let page = renderings.own(Kind::VirtualRegistry, id, registry.as_ref(), "", |_| {});
        documents.extend(page.documents.iter().cloned());
    }
    for (id, binding) in &members.bindings {
        let page = renderings.own(Kind::PullBinding, id, binding.as_ref(), "", |_| {});
        documents.extend(page.documents.iter().cloned());
    }
    for id in members.upstream_credentials().chain(members.deploy_tokens()) {
        if let Some(secret) = sources.contents.secret(&id) {
            documents.extend(renderings.secret(&id, secret).documents.iter().cloned());
        }
    }
    for id in members.upstream_cas() {
        if let Some(map) = sources.contents.config_map(&id) {
            documents.extend(renderings.ca(&id, map).documents.iter().cloned());
        }
    }
    by_object(&judge(&documents, &Options::default()).problems)
}

/// The ids of a binding's passwords in what was rendered.
fn tokens(rendering: &Rendering, binding: &ObjectId) -> Vec<String> {
    let is_there = rendering.pages.contains_key(&(Kind::PullBinding, binding.clone()));
    let page = rendering.pages.get(&(Kind::Secret, credentials_secret(binding))).filter(|_| is_there);
    page.map(|page| page.tokens.clone()).unwrap_or_default()
}

fn account(upstream: &Upstream) -> String {
    let account = upstream.credentials.as_ref();
    account.map_or_else(|| "anonymous".to_owned(), |account| account.username.clone())
}

fn problem(kind: Kind, id: &ObjectId, field: &str, reason: Reason, message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        file: None,
        line: None,
        kind: kind.as_str().to_owned(),
        object: Some(id.clone()),
        field: field.to_owned(),
        message,
        reason,
    }
}
