//! What is known of upstreams, told to the other replicas of the instance and to this one's next start.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use config::{Config, ObjectId, Upstream};
use jiff::Timestamp;

use super::Cache;
use crate::clock::since;
use crate::store::{self, UpstreamRecords, Version};
use crate::upstream::{Client, UpstreamRecord, record_name};

/// How often a replica writes down that it runs.
const PRESENCE: Duration = Duration::from_secs(15);

/// Another replica.
pub struct Other {
    pub address: String,
    /// How long ago it wrote down that it runs.
    pub seen: Duration,
    /// What it says of itself; `None` where it does not answer.
    pub status: Option<serde_json::Value>,
}

/// What this replica has read and told.
#[derive(Default)]
pub(super) struct Shared {
    /// By upstream and name of the record.
    records: HashMap<(ObjectId, String), Known>,
    /// Until when upstreams are frozen, as the record said that stands there.
    frozen: HashMap<ObjectId, (Version, Option<Timestamp>)>,
    /// When the store was last looked into.
    looked_at: Option<Timestamp>,
    /// When this replica last wrote down that it runs.
    present_at: Option<Timestamp>,
}

#[derive(Default)]
struct Known {
    /// What was read last.
    read: Option<Version>,
    /// What this replica wrote last: its own words are no news to it.
    wrote: Bytes,
    /// What the record says that stands there: all that the others, and the next start, can know.
    told: UpstreamRecord,
}

/// The replicas that have written so lately, by the store's time: it was read from what this one has just written.
fn running(replicas: Vec<(String, Timestamp)>) -> Vec<String> {
    let newest = replicas.iter().map(|(_, written)| *written).max().unwrap_or_default();
    let running = replicas.into_iter().filter(|(_, written)| since(newest, *written) <= 2 * PRESENCE);
    running.map(|(address, _)| address).collect()
}

impl Cache {
    /// Hears what other replicas, or an earlier start, know of upstreams, and tells what they do not know yet. Where the
    /// store fails, everything stays as it is.
    pub async fn share(&self, config: &Config) {
        let mut shared = self.shared.lock().await;
        let Ok(records) = self.store.upstream_records().await else { return };
        let now = self.clock.now();
        self.hear_frozen(&records, &mut shared.frozen).await;
        for upstream in config.upstreams().into_values() {
            let name = record_name(upstream);
            let looked_at = shared.looked_at;
            let known = shared.records.entry((upstream.id.clone(), name.clone())).or_default();
            let version = records.version(&upstream.id, &name);
            if let Some(version) = version.filter(|version| known.read.as_ref() != Some(version)) {
                // What is new since the last look is not older than that, whatever the clocks say.
                let looked = looked_at.map(|at| since(now, at));
                let age = since(now, version.written);
                let age = looked.map_or(age, |looked| looked.min(age));
                // Where it cannot be read, it is tried again.
                let Ok(record) = self.store.upstream_record(&upstream.id, &name).await else { continue };
                known.read = Some(version.clone());
                if let Some(record) = record.filter(|record| *record != known.wrote)
                    && let Some(record) = UpstreamRecord::read(&record, age, now)
                {
                    known.told = record.clone();
                    self.upstreams.client(upstream, config).hear(record);
                }
            }
            if let Some(client) = self.upstreams.used(upstream, config) {
                self.tell(upstream, &name, &client, known).await;
            }
        }
        shared.looked_at = Some(now);
        if let Some(replica) = &self.claims.replica
            && shared.present_at.is_none_or(|at| since(now, at) >= PRESENCE)
            && self.store.put_replica(&replica.address()).await.is_ok()
        {
            shared.present_at = Some(now);
            if let Ok(replicas) = self.store.replicas().await {
                let running = running(replicas);
                self.metrics.replicas_known.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
                replica.know(running);
            }
        }
    }

    /// Takes back that this replica runs.
    pub(super) async fn leave(&self) {
        if let Some(replica) = &self.claims.replica {
            self.store.remove_replica(&replica.address()).await.ok();
        }
    }

    /// Where other replicas reach this one; `None` where it shares nothing.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        self.claims.replica.as_ref().map(|replica| replica.address())
    }

    /// The other replicas of the instance, each with what it says of itself.
    pub async fn others(&self) -> Vec<Other> {
        let Some(replica) = &self.claims.replica else { return Vec::new() };
        let (own, now) = (replica.address(), self.clock.now());
        let others = self.store.replicas().await.unwrap_or_default();
        let others = others.into_iter().filter(|(address, _)| *address != own);
        let asked = others.map(async |(address, written)| {
            let status = replica.status(&address).await.ok();
            Other { address, seen: since(now, written), status }
        });
        futures_util::future::join_all(asked).await
    }

    async fn tell(&self, upstream: &Upstream, name: &str, client: &Client, known: &mut Known) {
        let now = self.clock.now();
        let record = client.record();
        if !record.is_news(&known.told, now) {
            return;
        }
        let bytes = Bytes::from(record.write(now));
        if self.store.put_upstream_record(&upstream.id, name, bytes.clone()).await.is_ok() {
            known.wrote = bytes;
            known.told = record;
        }
    }

    async fn hear_frozen(
        &self,
        records: &UpstreamRecords,
        known: &mut HashMap<ObjectId, (Version, Option<Timestamp>)>,
    ) {
        let mut frozen = HashMap::new();
        for (id, version) in records.frozen() {
            let until = match known.get(&id).filter(|(read, _)| *read == version) {
                Some((_, until)) => *until,
                // Where one cannot be read, nothing changes.
                None => match self.store.frozen(&id).await {
                    Ok(until) => until,
                    Err(_) => return,
                },
            };
            frozen.insert(id, (version, until));
        }
        *known = frozen;
        let until =
            |(id, (_, until)): (&ObjectId, &(Version, Option<Timestamp>))| Some((id.clone(), (*until)?));
        self.upstreams.freeze(known.iter().filter_map(until).collect());
    }

    /// Asks nothing of an upstream for a while, or ends that; other replicas hear of it within seconds.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn freeze(&self, id: &ObjectId, until: Option<Timestamp>) -> Result<(), store::Error> {
        self.store.freeze(id, until).await?;
        let records = self.store.upstream_records().await?;
        self.hear_frozen(&records, &mut self.shared.lock().await.frozen).await;
        Ok(())
    }
}
