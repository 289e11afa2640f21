//! Which policy a right or a tag falls under. Pure.
//!
//! A right says by which origin it came, and not whether through the group's prefix or one of its virtual registries.
//! So the origin decides: the one of the group's own upstream falls under `dependencyProxy`, one that only its
//! registries use under `virtualRegistries`, and where both use it the longer time holds.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use config::{Config, Group, ObjectId, RegistryCleanup};
use jiff::Timestamp;

use crate::clock::since;

/// How long something is kept after its last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    ForEver,
    For(Duration),
    /// No document names this group with this origin any more.
    Orphan,
}

/// The policies of all groups in one run.
pub(super) struct Policies {
    groups: HashMap<ObjectId, Policy>,
    /// Whether the documents are without error. Otherwise what they do not name may only be badly written.
    complete: bool,
}

struct Policy {
    own_origin: String,
    registry_origins: HashSet<String>,
    dependency_proxy: Keep,
    virtual_registries: Keep,
    storage_limit: Option<u64>,
}

impl Policies {
    /// `last_run` and `now` by the store's clock.
    pub(super) fn new(config: &Config, complete: bool, last_run: Option<Timestamp>, now: Timestamp) -> Self {
        let policy = |group: &Group| Policy {
            own_origin: group.upstream.origin.clone(),
            registry_origins: HashSet::new(),
            dependency_proxy: group.cleanup.dependency_proxy.map_or(Keep::ForEver, Keep::For),
            virtual_registries: match group.cleanup.virtual_registries {
                Some(RegistryCleanup { keep, cadence }) if is_due(cadence, last_run, now) => Keep::For(keep),
                _ => Keep::ForEver,
            },
            storage_limit: group.storage_limit,
        };
        let groups = config.groups.values().map(|group| (group.id.clone(), policy(group)));
        let mut groups: HashMap<_, _> = groups.collect();
        for registry in config.registries.values() {
            if let Some(policy) = groups.get_mut(&registry.group.id) {
                let origins = registry.upstreams.iter().map(|upstream| upstream.origin.clone());
                policy.registry_origins.extend(origins);
            }
        }
        Self { groups, complete }
    }

    pub(super) fn keep(&self, group: &ObjectId, origin: &str) -> Keep {
        let unnamed = if self.complete { Keep::Orphan } else { Keep::ForEver };
        let Some(policy) = self.groups.get(group) else { return unnamed };
        match (policy.own_origin == origin, policy.registry_origins.contains(origin)) {
            (true, false) if self.complete => policy.dependency_proxy,
            (false, true) => policy.virtual_registries,
            // The document that is bad may be of a registry which uses it, too.
            (true, _) => longer(policy.dependency_proxy, policy.virtual_registries),
            (false, false) => unnamed,
        }
    }

    /// Bound of a group's bytes.
    pub(super) fn storage_limit(&self, group: &ObjectId) -> Option<u64> {
        self.groups.get(group)?.storage_limit
    }

    pub(super) fn has_storage_limits(&self) -> bool {
        self.groups.values().any(|policy| policy.storage_limit.is_some())
    }
}

fn longer(one: Keep, other: Keep) -> Keep {
    match (one, other) {
        (Keep::For(one), Keep::For(other)) => Keep::For(one.max(other)),
        _ => Keep::ForEver,
    }
}

/// Time is cut into pieces of the cadence; a run is due when it is the first in its piece. So a day on which nothing
/// ran is made up for, and nothing has to be remembered for each group.
fn is_due(cadence: Duration, last_run: Option<Timestamp>, now: Timestamp) -> bool {
    let piece = |at| since(at, Timestamp::UNIX_EPOCH).as_secs() / cadence.as_secs().max(1);
    last_run.is_none_or(|last| piece(last) != piece(now))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// team-a on docker-hub with a registry on docker-hub and quay; team-b on quay, whose cleanup is off.
    fn policies(complete: bool, last_run: Option<i64>, now: i64) -> (Policies, [String; 2]) {
        policies_of(&format!("{GROUPS}{REGISTRY}"), complete, last_run, now)
    }

    const GROUPS: &str = "
{apiVersion: dependencyproxy.dev/v1alpha1, kind: RegistryUpstream, metadata: {name: hub, namespace: dp},
 spec: {url: 'https://registry-1.docker.io'}}
---
{apiVersion: dependencyproxy.dev/v1alpha1, kind: RegistryUpstream, metadata: {name: quay, namespace: dp},
 spec: {url: 'https://quay.io'}}
---
{apiVersion: dependencyproxy.dev/v1alpha1, kind: DependencyProxyGroup, metadata: {name: a, namespace: dp},
 spec: {proxyRef: {name: main}, path: team-a, upstreamRef: {name: hub}, quota: {storageBytes: 1Gi}, cleanup: {
  dependencyProxy: {enabled: true, ttlDays: 10},
  virtualRegistries: {enabled: true, keepDaysAfterDownload: 30, cadenceDays: 7}}}}
---
{apiVersion: dependencyproxy.dev/v1alpha1, kind: DependencyProxyGroup, metadata: {name: b, namespace: dp},
 spec: {proxyRef: {name: main}, path: team-b, upstreamRef: {name: quay}}}
";
    const REGISTRY: &str = "---
{apiVersion: dependencyproxy.dev/v1alpha1, kind: VirtualRegistry, metadata: {name: all, namespace: dp},
 spec: {groupRef: {name: a}, upstreams: [{name: hub}, {name: quay}]}}
";

    fn policies_of(text: &str, complete: bool, last_run: Option<i64>, now: i64) -> (Policies, [String; 2]) {
        let (documents, problems) = config::parse(text, "f.yaml", config::Origin::File);
        assert!(problems.is_empty(), "{problems:?}");
        let config = config::judge(&documents, &config::Options::default()).config.unwrap();
        let [hub, quay] = ["hub", "quay"].map(|name| {
            let id = ObjectId { namespace: "dp".into(), name: name.into() };
            config.upstreams()[&id].origin.clone()
        });
        let day = |day: i64| Timestamp::from_second(day * 24 * 3600 + 3 * 3600).unwrap();
        (Policies::new(&config, complete, last_run.map(day), day(now)), [hub, quay])
    }

    fn group(name: &str) -> ObjectId {
        ObjectId { namespace: "dp".into(), name: name.into() }
    }

    #[test]
    fn the_origin_tells_the_policy_and_where_both_use_it_the_longer_holds() {
        let (policies, [hub, quay]) = policies(true, None, 70);
        assert_eq!(policies.keep(&group("a"), &hub), Keep::For(30 * DAY), "prefix 10 days, registry 30");
        assert_eq!(policies.keep(&group("a"), &quay), Keep::For(30 * DAY), "the registry alone");
        assert_eq!(policies.keep(&group("b"), &quay), Keep::ForEver, "its cleanup is off");
        assert_eq!(policies.storage_limit(&group("a")), Some(1 << 30));
    }

    #[test]
    fn registries_have_their_turn_once_in_a_cadence() {
        let keep = |last, now| {
            let (policies, [_, quay]) = policies(true, last, now);
            policies.keep(&group("a"), &quay)
        };
        assert_eq!(keep(Some(70), 71), Keep::ForEver, "the run of day 70 was this week's");
        assert_eq!(keep(Some(76), 77), Keep::For(30 * DAY), "a new week");
        assert_eq!(keep(Some(75), 79), Keep::For(30 * DAY), "day 77 was missed");
    }

    #[test]
    fn what_no_document_names_is_an_orphan_unless_a_document_is_bad() {
        let (policies_, [hub, _]) = policies(true, None, 70);
        assert_eq!(policies_.keep(&group("gone"), &hub), Keep::Orphan);
        assert_eq!(policies_.keep(&group("b"), &hub), Keep::Orphan);
        let (policies_, _) = policies(false, None, 70);
        assert_eq!(policies_.keep(&group("gone"), &hub), Keep::ForEver);
    }

    #[test]
    fn while_the_document_of_a_registry_is_bad_what_it_keeps_longer_is_kept() {
        let keep = |complete| {
            let (policies, [hub, _]) = policies_of(GROUPS, complete, None, 70);
            policies.keep(&group("a"), &hub)
        };
        assert_eq!(keep(true), Keep::For(10 * DAY), "no registry uses it");
        assert_eq!(keep(false), Keep::For(30 * DAY), "the registry's document may be the bad one");
    }
}
