//! VirtualRegistries.

use std::collections::HashMap;

use crds::{VirtualRegistry as Object, VirtualRegistrySpec};

use super::group::find_upstream;
use super::reference::{Ruling, Rulings, follow, local, namespaced};
use super::report::Report;
use super::set::Set;
use crate::{Document, Group, Kind, Problem, Upstream, VirtualRegistry};

/// GitLab's bound: registries of a top-level group, those of its subgroups among them.
const MAX_PER_TOP_LEVEL_GROUP: usize = 5;

pub(super) fn judge(
    set: &Set<'_>,
    groups: &Rulings<Group>,
    upstreams: &Rulings<Upstream>,
    problems: &mut Vec<Problem>,
) -> Rulings<VirtualRegistry> {
    let mut rulings = Rulings::new();
    let mut objects = set.all::<Object>().collect::<Vec<_>>();
    objects.sort_by_key(|(document, _)| (document.created.is_none(), document.created, &document.id));
    let mut counts = HashMap::<String, usize>::new();
    for (document, object) in objects {
        let ruling = object.map_or(Ruling::Refused, |object| {
            let mut report = Report::of(document);
            let foreign = matches!(
                groups.get(&local(&object.spec.group_ref, &document.id.namespace)),
                Some(Ruling::Foreign)
            );
            let registry = build(&mut report, document, &object.spec, set, groups, upstreams, &mut counts);
            let registry = report.close(registry, problems);
            if foreign { Ruling::Foreign } else { Ruling::from(registry) }
        });
        rulings.insert(document.id.clone(), ruling);
    }
    rulings
}

fn build(
    report: &mut Report<'_>,
    document: &Document,
    spec: &VirtualRegistrySpec,
    set: &Set<'_>,
    groups: &Rulings<Group>,
    upstreams: &Rulings<Upstream>,
    counts: &mut HashMap<String, usize>,
) -> Option<VirtualRegistry> {
    let namespace = &document.id.namespace;
    report.count("spec.upstreams", spec.upstreams.len(), 1..=5);
    let names = spec.upstreams.iter().map(|u| namespaced(u, namespace).to_string()).collect::<Vec<_>>();
    report.unique("spec.upstreams", "name", names.iter().map(String::as_str));
    // One that is missing refuses the registry: the next upstream might have another image of the same name.
    let found = (spec.upstreams.iter().enumerate())
        .filter_map(|(index, reference)| {
            find_upstream(report, &format!("spec.upstreams[{index}]"), set, upstreams, reference, namespace)
        })
        .collect();
    let group = follow(
        report,
        "spec.groupRef",
        groups,
        Kind::DependencyProxyGroup,
        &local(&spec.group_ref, namespace),
    )?;
    if !report.is_refused() {
        let top = group.path.split('/').next().unwrap_or_default();
        let count = counts.entry(top.to_owned()).or_default();
        *count += 1;
        let message =
            format!("{top} has five virtual registries already, with those of its subgroups; take one out");
        report.check(*count <= MAX_PER_TOP_LEVEL_GROUP, "spec.groupRef", &message);
    }
    Some(VirtualRegistry { id: document.id.clone(), group, upstreams: found })
}
