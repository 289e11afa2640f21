//! VirtualRegistries.

use std::collections::HashMap;

use crds::{VirtualRegistry as Object, VirtualRegistrySpec};

use super::group::find_upstream;
use super::reference::{Ruling, Rulings, follow, local, namespaced};
use super::report::Report;
use super::set::Set;
use crate::{Document, Group, Kind, ObjectId, Problem, Reason, Upstream, VirtualRegistry};

/// What the judgement of a registry looks at.
struct Bench<'a> {
    set: &'a Set<'a>,
    groups: &'a Rulings<Group>,
    upstreams: &'a Rulings<Upstream>,
    /// Registries of a top-level group, those of its subgroups among them.
    max_per_group: i64,
}

pub(super) fn judge<'a>(
    set: &'a Set<'a>,
    groups: &'a Rulings<Group>,
    upstreams: &'a Rulings<Upstream>,
    max_per_group: i64,
    problems: &mut Vec<Problem>,
) -> Rulings<VirtualRegistry> {
    let bench = Bench { set, groups, upstreams, max_per_group };
    let mut objects = set.all::<Object>().collect::<Vec<_>>();
    objects.sort_by_key(|(document, _)| document.age());
    let mut counts = HashMap::<String, i64>::new();
    let mut rulings = Rulings::new();
    for (document, object) in objects {
        let ruling = object.map_or(Ruling::Refused, |object| {
            let group = local(&object.spec.group_ref, &document.id.namespace);
            if let Some(Ruling::Foreign) = groups.get(&group) {
                return Ruling::Foreign;
            }
            let mut report = Report::of(document);
            let registry = bench.build(&mut report, document, &object.spec, &group);
            if let Some(registry) = registry.as_ref().filter(|_| !report.is_refused()) {
                bench.check_count(&mut report, &registry.group, &mut counts);
            }
            Ruling::from(report.close(registry, problems))
        });
        rulings.insert(document.id.clone(), ruling);
    }
    rulings
}

impl Bench<'_> {
    fn build(
        &self,
        report: &mut Report<'_>,
        document: &Document,
        spec: &VirtualRegistrySpec,
        group: &ObjectId,
    ) -> Option<VirtualRegistry> {
        let namespace = &document.id.namespace;
        report.count("spec.upstreams", spec.upstreams.len(), 1..=5);
        let names = spec.upstreams.iter().map(|u| namespaced(u, namespace).to_string()).collect::<Vec<_>>();
        report.unique("spec.upstreams", "name", names.iter().map(String::as_str));
        // One that is missing refuses the registry: the next upstream might have another image of the same name.
        let upstreams = (spec.upstreams.iter().enumerate())
            .filter_map(|(index, reference)| {
                let field = format!("spec.upstreams[{index}]");
                find_upstream(report, &field, self.set, self.upstreams, reference, namespace)
            })
            .collect();
        let group = follow(report, "spec.groupRef", self.groups, Kind::DependencyProxyGroup, group)?;
        Some(VirtualRegistry { id: document.id.clone(), group, upstreams })
    }

    /// The older registries of a top-level group hold.
    fn check_count(&self, report: &mut Report<'_>, group: &Group, counts: &mut HashMap<String, i64>) {
        let top = group.path.split('/').next().unwrap_or_default();
        let count = counts.entry(top.to_owned()).or_default();
        *count += 1;
        if *count > self.max_per_group {
            let message = format!(
                "{top} has {} virtual registries already, with those of its subgroups; take one out",
                self.max_per_group
            );
            report.error_for(Reason::TooManyRegistries, "spec.groupRef", message);
        }
    }
}
