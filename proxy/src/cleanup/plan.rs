//! What goes and what stays of one digest. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use config::ObjectId;
use jiff::Timestamp;

use super::ages::{Ages, Cutoff};
use super::policy::{Keep, Policies};
use super::{GRACE, ORPHAN_GRACE, UNKNOWN_USE};
use crate::clock::since;
use crate::store::{Entry, GroupOrigin, Holder, Link};

/// By what one pass decides.
pub(super) struct Plan<'a> {
    pub(super) policies: &'a Policies,
    /// What was found to be named by no document, and since when.
    pub(super) orphans: &'a HashMap<GroupOrigin, Timestamp>,
    /// By the store's clock.
    pub(super) now: Timestamp,
    /// Groups that have more than they may.
    pub(super) groups: HashMap<ObjectId, Cutoff>,
    /// All groups together.
    pub(super) instance: Option<Cutoff>,
}

/// What becomes of one digest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) forgotten: Vec<Link>,
    pub(super) kept: Vec<Link>,
    pub(super) fate: Fate,
}

/// What becomes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    /// It has lost its last right: a tombstone is put, and a later run looks again.
    Buried,
    /// The tombstone is old enough, and nobody came back to it.
    Deleted,
    /// There is a tombstone, and there should be none.
    Raised,
}

impl Plan<'_> {
    /// Decides about everything that there is of one digest.
    pub(super) fn judge(&mut self, entry: Entry) -> Verdict {
        let size = entry.blob.map(|blob| blob.size);
        let (mut forgotten, mut kept) = (Vec::new(), Vec::new());
        for link in entry.links {
            // A right to what is not there helps nobody: it will be fetched again.
            let idle = size.is_none() && self.age(link.read_at) >= GRACE;
            let side =
                if idle || self.has_expired(&link.holder, link.read_at) { &mut forgotten } else { &mut kept };
            side.push(link);
        }
        let over = self.over_limit(&kept, size.unwrap_or_default());
        let (over, kept) = kept.into_iter().partition(|link| over.contains(&link.holder.group));
        forgotten.extend::<Vec<_>>(over);
        let kept: Vec<Link> = kept;
        let fate = self.fate(entry.blob.map(|blob| blob.modified), entry.tomb, !kept.is_empty());
        Verdict { forgotten, kept, fate }
    }

    /// Whether what was used then, as far as is written down, has been kept long enough.
    pub(super) fn has_expired(&self, holder: &Holder, used_at: Timestamp) -> bool {
        match self.policies.keep(&holder.group, &holder.origin) {
            Keep::ForEver => false,
            Keep::For(time) => self.age(used_at) > time.saturating_add(UNKNOWN_USE),
            // Counted from when a run first found it so, not from its last use: a document that is away for a day does
            // not cost the cache.
            Keep::Orphan => {
                let since = self.orphans.get(&holder.group_origin());
                since.is_some_and(|since| used_at < *since && self.age(*since) >= ORPHAN_GRACE)
            }
        }
    }

    /// The groups that lose their rights to a blob, since somebody has more than he may.
    fn over_limit(&mut self, links: &[Link], size: u64) -> HashSet<ObjectId> {
        let now = self.now;
        let newest = last_use(links);
        let cutoffs = &mut self.groups;
        let mut goes = |group: &ObjectId, at: Timestamp| {
            cutoffs.get_mut(group).is_some_and(|cutoff| cutoff.takes(since(now, at), size))
        };
        let over = newest.iter().filter(|(group, at)| goes(group, **at)).map(|(group, _)| (*group).clone());
        let mut over: HashSet<_> = over.collect();
        let left = newest.iter().filter(|(group, _)| !over.contains(**group)).map(|(_, at)| *at).max();
        if let (Some(at), Some(cutoff)) = (left, &mut self.instance)
            && cutoff.takes(since(now, at), size)
        {
            over.extend(newest.keys().map(|group| (*group).clone()));
        }
        over
    }

    /// Times are the store's: when the blob was written, and when the tombstone was.
    fn fate(&self, blob: Option<Timestamp>, tomb: Option<Timestamp>, linked: bool) -> Fate {
        match (blob, tomb) {
            (None, Some(_)) => Fate::Raised,
            (None, None) => Fate::Stays,
            (Some(_), Some(_)) if linked => Fate::Raised,
            (Some(_), None) if linked => Fate::Stays,
            // A download writes the blob first and then the rights to it.
            (Some(blob), None) if self.age(blob) < GRACE => Fate::Stays,
            (Some(_), None) => Fate::Buried,
            // It was uploaded again since.
            (Some(blob), Some(tomb)) if blob >= tomb => {
                if self.age(blob) < GRACE {
                    Fate::Raised
                } else {
                    Fate::Buried
                }
            }
            (Some(_), Some(tomb)) if self.age(tomb) < GRACE => Fate::Stays,
            (Some(_), Some(_)) => Fate::Deleted,
        }
    }

    fn age(&self, at: Timestamp) -> Duration {
        since(self.now, at)
    }
}

/// When each group last used a blob.
fn last_use(links: &[Link]) -> HashMap<&ObjectId, Timestamp> {
    let mut newest = HashMap::new();
    for link in links {
        let at = newest.entry(&link.holder.group).or_insert(link.read_at);
        *at = link.read_at.max(*at);
    }
    newest
}

/// What stays after one pass.
#[derive(Default)]
pub(super) struct Census {
    /// What was there.
    pub(super) blobs: u64,
    pub(super) links: u64,
    /// Of blobs that stay.
    pub(super) bytes: u64,
    /// Bytes of each group; a blob counts once in each group that has a right to it.
    pub(super) groups: HashMap<ObjectId, u64>,
    /// The same by age, of groups with a bound.
    ages: HashMap<ObjectId, Ages>,
    /// Blobs to which anybody has a right, by their last use by whomever.
    instance: Ages,
    /// What no document names.
    pub(super) orphans: HashSet<GroupOrigin>,
}

impl Census {
    /// Counts what was there of a digest, and what stays.
    pub(super) fn count(&mut self, size: Option<u64>, examined: usize, kept: &[Link], plan: &Plan<'_>) {
        self.links += examined as u64;
        for link in kept {
            self.note_orphan(&link.holder, plan);
        }
        let Some(size) = size else { return };
        self.blobs += 1;
        self.bytes += size;
        let newest = last_use(kept);
        if let Some(at) = newest.values().max() {
            self.instance.add(plan.age(*at), size);
        }
        for (group, at) in newest {
            if plan.policies.storage_limit(group).is_some() {
                self.ages.entry(group.clone()).or_default().add(plan.age(at), size);
            }
            match self.groups.get_mut(group) {
                Some(bytes) => *bytes += size,
                None => drop(self.groups.insert(group.clone(), size)),
            }
        }
    }

    pub(super) fn note_orphan(&mut self, holder: &Holder, plan: &Plan<'_>) {
        if plan.policies.keep(&holder.group, &holder.origin) == Keep::Orphan {
            self.orphans.insert(holder.group_origin());
        }
    }

    /// What has to go of groups that have more than they may.
    pub(super) fn group_cutoffs(&self, policies: &Policies) -> HashMap<ObjectId, Cutoff> {
        let cutoff = |(group, ages): (&ObjectId, &Ages)| {
            Some((group.clone(), ages.cutoff(policies.storage_limit(group)?)?))
        };
        self.ages.iter().filter_map(cutoff).collect()
    }

    /// What has to go so that all together have no more than that.
    pub(super) fn instance_cutoff(&self, limit: u64) -> Option<Cutoff> {
        self.instance.cutoff(limit)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// What becomes of a blob written that many minutes ago, with a tombstone put that many minutes ago.
    fn fate(blob: Option<i64>, tomb: Option<i64>, linked: bool) -> Fate {
        let (orphans, now) = (HashMap::new(), Timestamp::UNIX_EPOCH);
        let (documents, _) = config::parse("", "f.yaml", config::Origin::File);
        let config = config::judge(&documents, &config::Options::default()).config;
        let policies = config.map(|config| Policies::new(&config, true, None, now));
        let minutes_ago = |minutes: i64| Timestamp::from_second(-60 * minutes).unwrap_or(now);
        let plan = policies.as_ref().map(|policies| Plan {
            policies,
            orphans: &orphans,
            now,
            groups: HashMap::new(),
            instance: None,
        });
        let fate = plan.map(|plan| plan.fate(blob.map(minutes_ago), tomb.map(minutes_ago), linked));
        fate.unwrap_or(Fate::Stays)
    }

    #[test]
    fn a_blob_goes_only_when_it_has_been_without_rights_for_a_grace_and_was_not_written_since() {
        for (blob, tomb, linked, expected, why) in [
            (Some(600), None, true, Fate::Stays, "it is in use"),
            (Some(600), Some(300), true, Fate::Raised, "it is in use again"),
            (Some(59), None, false, Fate::Stays, "its right may be on its way"),
            (Some(61), None, false, Fate::Buried, "nobody has a right to it"),
            (Some(600), Some(59), false, Fate::Stays, "somebody may come back"),
            (Some(600), Some(61), false, Fate::Deleted, "nobody came back"),
            (Some(30), Some(300), false, Fate::Raised, "it was uploaded a moment ago"),
            (Some(90), Some(300), false, Fate::Buried, "it was uploaded since: the grace begins anew"),
            (Some(300), Some(300), false, Fate::Buried, "at the same second: which was first is not known"),
            (None, Some(300), false, Fate::Raised, "there is nothing left below it"),
            (None, None, true, Fate::Stays, "there is nothing"),
        ] {
            assert_eq!(fate(blob, tomb, linked), expected, "{why}: {blob:?} {tomb:?} {linked}");
        }
    }

    #[test]
    fn what_may_have_been_used_within_the_time_it_is_kept_stays() {
        let text = "
{apiVersion: dependencyproxy.dev/v1alpha1, kind: DependencyProxyGroup, metadata: {name: a, namespace: dp},
 spec: {proxyRef: {name: main}, path: team-a, cleanup: {dependencyProxy: {enabled: true, ttlDays: 1}}}}
";
        let (documents, _) = config::parse(text, "f.yaml", config::Origin::File);
        let config = config::judge(&documents, &config::Options::default()).config.unwrap();
        let (orphans, now) = (HashMap::new(), Timestamp::UNIX_EPOCH);
        let policies = Policies::new(&config, true, None, now);
        let plan =
            Plan { policies: &policies, orphans: &orphans, now, groups: HashMap::new(), instance: None };
        let group = config.groups.values().next().unwrap();
        let (origin, repository) = (group.upstream.origin.clone(), oci::Name::parse("a").unwrap());
        let holder = Holder { origin, group: group.id.clone(), repository };
        let expired =
            |minutes: i64| plan.has_expired(&holder, Timestamp::from_second(-60 * minutes).unwrap());
        assert!(!expired(24 * 60 + 60), "it may have been used an hour after that was written down");
        assert!(expired(24 * 60 + 62));
    }
}
