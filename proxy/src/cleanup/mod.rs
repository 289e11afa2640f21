//! The cleanup: keeps the store within its bounds, beside proxies that use it.
//!
//! Rights are forgotten by the groups' policies and quotas; a blob without rights gets a tombstone, and a later run
//! deletes it if nobody has come back to it within an hour. Listings tell everything: no record is read. Two runs at
//! once do what one would.

mod ages;
mod pass;
mod plan;
mod policy;
mod report;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use config::Config;

pub use report::{Blobs, GroupBytes, MAX_MESSAGE_BYTES, Records, Report, Verified};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::{Error, Store, USE_PRECISION};
use pass::Act;
use plan::Plan;
use policy::Policies;

/// What was written or used within this time stays. Downloads write a blob before the rights to it.
pub(crate) const GRACE: Duration = Duration::from_secs(3600);
/// Something may have been used so much later than is written down: proxies write that at most hourly, and ask the store
/// a minute after they have asked it.
pub(crate) const UNKNOWN_USE: Duration = USE_PRECISION.saturating_add(Duration::from_secs(60));
/// How long what no document names is kept: a group may come back.
pub(crate) const ORPHAN_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often a proxy looks what the last cleanup did.
const LOOKED_AT: Duration = Duration::from_secs(300);

/// How a cleanup is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Tells what it would do, and does nothing.
    pub dry_run: bool,
    /// Whether the documents are without error; otherwise nothing is taken for abandoned.
    pub complete: bool,
    /// Reads stored blobs besides; `None`: none.
    pub verify: Option<Pace>,
}

/// How much of the store is read to see whether it is whole.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub bytes_per_second: u64,
    /// The next run goes on after so long; `None`: to the end.
    pub length: Option<Duration>,
}

/// Brings the store within the bounds that the documents set.
///
/// # Errors
/// When the store fails. What was done until then is done, and the next run goes on.
pub async fn run(store: &Store, config: &Config, options: Options, clock: &Clock) -> Result<Report, Error> {
    let mut report = Report { started_at: clock.now(), dry_run: options.dry_run, ..Report::default() };
    let now = store.store_time().await?;
    let last_run = store.last_cleanup().await?.map(|(_, at)| at);
    let policies = Policies::new(config, options.complete, last_run, now);
    let orphans = store.orphans().await?;
    let nothing = HashMap::new();
    let mut plan = Plan { policies: &policies, orphans: &orphans, now, groups: nothing, instance: None };
    let act = if options.dry_run { Act::Rehearse } else { Act::Apply };

    if policies.has_storage_limits() {
        let census = pass::digests(store, &mut plan, Act::Count, &mut report).await?;
        plan.groups = census.group_cutoffs(&policies);
    }
    let groups = plan.groups.clone();
    let mut census = pass::digests(store, &mut plan, act, &mut report).await?;
    (report.blobs.examined, report.links.examined) = (census.blobs, census.links);
    plan.instance = config.instance.storage_limit.and_then(|limit| census.instance_cutoff(limit));
    if plan.instance.is_some() {
        if options.dry_run {
            // The first pass left everything as it was: this one finds all of it again.
            plan.groups = groups;
            report = Report { blobs: Blobs { examined: census.blobs, ..Blobs::default() }, ..report };
            report.links.deleted = 0;
        }
        census = pass::digests(store, &mut plan, act, &mut report).await?;
    }
    pass::tags(store, &plan, act, &mut census, &mut report).await?;
    if options.complete && !options.dry_run {
        pass::orphans(store, &plan, &census).await?;
    }
    if !options.dry_run {
        store.remove_expired_claims(now).await?;
        store.remove_old_upstream_records(now).await?;
    }
    report.blobs.kept_bytes = census.bytes;
    report.list(census.groups.iter().map(|(group, bytes)| (group.to_string(), *bytes)));
    // Before the check, which may take hours and fail: what was freed is freed.
    note(store, &mut report, clock).await?;
    if let Some(pace) = options.verify {
        verify::verify(store, pace, options.dry_run, &mut report).await?;
        note(store, &mut report, clock).await?;
    }
    tracing::info!(
        dry_run = report.dry_run,
        blobs = report.blobs.examined,
        forgotten = report.links.deleted,
        deleted = report.blobs.deleted,
        freed_bytes = report.blobs.bytes,
        kept_bytes = report.blobs.kept_bytes,
        "the cleanup has ended"
    );
    Ok(report)
}

/// Writes down what was done so far.
async fn note(store: &Store, report: &mut Report, clock: &Clock) -> Result<(), Error> {
    report.ended_at = clock.now();
    if report.dry_run { Ok(()) } else { store.note_cleanup(report.message().into()).await }
}

/// Shows in a proxy's metrics what the last cleanup did, for ever: a job is gone before anybody asks it.
pub async fn show(store: Arc<Store>, metrics: Metrics) {
    loop {
        if let Ok(Some((record, at))) = store.last_cleanup().await
            && let Ok(report) = serde_json::from_slice::<Report>(&record)
        {
            metrics.cleanup_freed_bytes.set(report.blobs.bytes);
            metrics.cleanup_kept_bytes.set(report.blobs.kept_bytes);
            // Last: it says that the others are there.
            metrics.cleanup_last_run.set(at.as_second());
        }
        tokio::time::sleep(LOOKED_AT).await;
    }
}
