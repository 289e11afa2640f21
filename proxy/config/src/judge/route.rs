//! Aliases and mirror hosts of the instance. An entry that leads nowhere is left out; the others hold.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crds::NamespacedReference;
use oci::Name;
use url::Host;

use super::instance::Chosen;
use super::reference::{Rulings, follow, namespaced};
use super::report::Report;
use crate::{Alias, Group, Kind, Problem, Route, VirtualRegistry};

pub(super) fn judge(
    chosen: &Chosen<'_>,
    groups: &Rulings<Group>,
    registries: &Rulings<VirtualRegistry>,
    problems: &mut Vec<Problem>,
) -> (Vec<Alias>, BTreeMap<String, Route>) {
    let (mut aliases, mut mirrors) = (Vec::<Alias>::new(), BTreeMap::new());
    let Some((document, spec)) = chosen.document else { return (aliases, mirrors) };
    let targets = Targets { groups, registries, namespace: &document.id.namespace };
    let mut report = Report::of(document);
    report.count("spec.aliases", spec.aliases.len(), 0..=100);
    report.count("spec.mirrors", spec.mirrors.len(), 0..=100);
    for (index, alias) in spec.aliases.iter().enumerate() {
        let field = format!("spec.aliases[{index}]");
        let route =
            targets.route(&mut report, &field, alias.group_ref.as_ref(), alias.virtual_registry_ref.as_ref());
        if Name::parse(&alias.prefix).is_err() {
            let message = "must be lower-case segments such as harbor/dockerhub, without slashes at its ends";
            report.fault(&format!("{field}.prefix"), message);
        } else if aliases.iter().any(|a| a.prefix == alias.prefix) {
            report.fault(&format!("{field}.prefix"), "is the prefix of an earlier alias; take one out");
        } else if let Some(route) = route {
            aliases.push(Alias { prefix: alias.prefix.clone(), route });
        }
    }
    for (index, mirror) in spec.mirrors.iter().enumerate() {
        let field = format!("spec.mirrors[{index}]");
        let route = targets.route(
            &mut report,
            &field,
            mirror.group_ref.as_ref(),
            mirror.virtual_registry_ref.as_ref(),
        );
        if !is_host(&mirror.host) {
            let message =
                "must be a host name in lower case, with :port if clients state one, without scheme and path";
            report.fault(&format!("{field}.host"), message);
        } else if mirrors.contains_key(&mirror.host) {
            report.fault(&format!("{field}.host"), "is the host of an earlier mirror; take one out");
        } else if let Some(route) = route {
            mirrors.insert(mirror.host.clone(), route);
        }
    }
    report.close(None::<()>, problems);
    aliases.sort_by_key(|a| (Reverse(a.prefix.len()), a.prefix.clone()));
    (aliases, mirrors)
}

struct Targets<'a> {
    groups: &'a Rulings<Group>,
    registries: &'a Rulings<VirtualRegistry>,
    /// Of the instance: where references without a namespace lead.
    namespace: &'a str,
}

impl Targets<'_> {
    fn route(
        &self,
        report: &mut Report<'_>,
        field: &str,
        group: Option<&NamespacedReference>,
        registry: Option<&NamespacedReference>,
    ) -> Option<Route> {
        match (group, registry) {
            (Some(group), None) => {
                let id = namespaced(group, self.namespace);
                let field = format!("{field}.groupRef");
                follow(report, &field, self.groups, Kind::DependencyProxyGroup, &id).map(Route::Group)
            }
            (None, Some(registry)) => {
                let id = namespaced(registry, self.namespace);
                let field = format!("{field}.virtualRegistryRef");
                follow(report, &field, self.registries, Kind::VirtualRegistry, &id).map(Route::Registry)
            }
            _ => {
                report.fault(field, "must have exactly one of groupRef and virtualRegistryRef");
                None
            }
        }
    }
}

/// Whether a text is what a client may send as `Host`, in lower case.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == p))
        && Host::parse(host).is_ok_and(|parsed| parsed.to_string() == host)
}
