//! What upstream says a tag is, asked once for the whole instance: who asks at this replica meanwhile gets the same
//! answer, be it a failure. Other replicas read what it has written down; where each answer is checked, they ask the
//! replica that checks the tag for all.

use std::sync::Arc;

use config::{Config, ObjectId};
use jiff::Timestamp;
use oci::{Name, Tag};

use super::claims::{Mine, Once, Work};
use super::manifest::aborted;
use super::tag::Copy;
use super::{Cache, Validity, by_tag};
use crate::replica::Heard;
use crate::store::{Holder, TagRecord};
use crate::upstream::{Client, ManifestHead, Patience, Reason};

/// What is to be found out.
pub(super) struct Check {
    pub client: Arc<Client>,
    pub holder: Holder,
    pub tag: Tag,
    /// The store has no record of it.
    pub is_cold: bool,
    pub copy: Option<Copy>,
    pub validity: Validity,
    pub patience: Patience,
}

/// What another replica wants to have checked, with which account.
#[derive(Debug, PartialEq, Eq)]
pub struct AskedTag {
    /// Fingerprint of origin and credentials.
    pub account: String,
    pub group: ObjectId,
    pub repository: Name,
    pub tag: Tag,
}

/// Who asks for what, at this replica. Who has other credentials, or counts another check as good, is not answered with it.
pub(super) type CheckKey = (Arc<Client>, Holder, Tag, Validity);

/// What upstream says.
#[derive(Clone)]
pub(super) struct Said {
    /// `None`: it answers no HEAD.
    pub head: Option<ManifestHead>,
    /// Somebody else has asked, and written it down.
    pub is_written: bool,
    /// Others wait until everyone who has heard it is done with it: then it is written down, or comes to nothing.
    _claim: Option<Arc<Mine>>,
}

impl Cache {
    /// Asks what a tag is, once for the whole instance where that is written down.
    pub(super) async fn said(self: &Arc<Self>, check: Check) -> Result<Said, Reason> {
        if !check.is_cold && check.validity == Validity::None {
            return self.ask(&check, Mine::unclaimed()).await;
        }
        let key = (check.client.clone(), check.holder.clone(), check.tag.clone(), check.validity);
        let cache = self.clone();
        let work = || async move { cache.ask_once(&check).await };
        self.checks.join(key, work).await.unwrap_or_else(|| Err(aborted()))
    }

    /// Asks what a tag is that is checked before every answer, once for the whole instance: the replica that checks it for
    /// all, and where that is this one, or has no answer, upstream. To claim each check would take longer than to make it.
    pub(super) async fn heard(self: &Arc<Self>, client: &Arc<Client>, holder: &Holder, tag: &Tag) -> Heard {
        // What somebody has frozen here, others may not have heard of.
        let replica = self.claims.replica.as_ref().filter(|_| client.frozen_until().is_none());
        let Some(replica) = replica.cloned() else {
            return self.head(client, holder, by_tag(tag), Patience::Cached).await;
        };
        let key = (client.clone(), holder.clone(), tag.clone());
        let (cache, (client, holder, tag)) = (self.clone(), key.clone());
        let work = || async move {
            match replica.heard(&holder, &tag, client.record_name()).await {
                Some(heard) if heard.as_ref().err().is_none_or(|reason| !reason.may_be_local()) => {
                    client.note(&heard);
                    heard
                }
                _ => cache.head(&client, &holder, by_tag(&tag), Patience::Cached).await,
            }
        };
        self.heard.join(key, work).await.unwrap_or_else(|| Err(aborted()))
    }

    /// Asks upstream for another replica. `None`: with these documents its question does not lead to that account.
    pub fn ask_for_other(
        self: &Arc<Self>,
        config: &Config,
        asked: &AskedTag,
    ) -> Option<impl Future<Output = Heard> + Send + use<>> {
        let group = config.groups.values().find(|group| group.id == asked.group && group.enabled)?;
        let upstream = &group.upstream;
        let client = self.upstreams.client(upstream, config);
        if client.record_name() != asked.account || upstream.refusal(&asked.repository).is_some() {
            return None;
        }
        let (group, repository) = (asked.group.clone(), asked.repository.clone());
        let holder = Holder { origin: upstream.origin.clone(), group, repository };
        let (cache, tag) = (self.clone(), by_tag(&asked.tag));
        Some(async move { cache.head(&client, &holder, tag, Patience::Cached).await })
    }

    async fn ask_once(self: &Arc<Self>, check: &Check) -> Result<Said, Reason> {
        let work = Work::Check(check.holder.clone(), check.tag.clone());
        let written = || self.written(check);
        let mine = match self.claims.once(&work, written).await {
            Once::Found(record) => return Ok(Said::written(&record)),
            Once::Make(mine) => mine,
        };
        // Somebody may have ended between this one's look and its claim.
        if mine.is_claimed()
            && let Some(record) = written().await
        {
            return Ok(Said::written(&record));
        }
        self.ask(check, mine).await
    }

    /// What somebody else has found out meanwhile. Where there was no record, any was written after the question, whatever
    /// the clocks say; else it is good for as long as a check is, if there is a copy of what it names.
    async fn written(self: &Arc<Self>, check: &Check) -> Option<Arc<TagRecord>> {
        let record = self.or_empty("tag", self.store.tag_anew(&check.holder, &check.tag).await)?;
        if check.is_cold {
            return Some(record);
        }
        let is_fresh = check.validity.covers(record.checked_at, self.clock.now());
        (is_fresh && self.copy_of(&check.holder, record.clone()).await.is_some()).then_some(record)
    }

    async fn ask(self: &Arc<Self>, check: &Check, mine: Mine) -> Result<Said, Reason> {
        let heard = self.head(&check.client, &check.holder, by_tag(&check.tag), check.patience).await;
        self.conclude(check, heard, mine)
    }

    /// Writes down what can be, behind the answer.
    pub(super) fn conclude(
        self: &Arc<Self>,
        check: &Check,
        heard: Heard,
        mine: Mine,
    ) -> Result<Said, Reason> {
        let head = match heard {
            Ok(head) => Some(head),
            Err(Reason::NoHead) => None,
            Err(reason) => return Err(reason),
        };
        let record = head.as_ref().and_then(|head| check.renewed(head, self.clock.now()));
        let Some(record) = record else {
            let claim = mine.is_claimed().then(|| Arc::new(mine));
            return Ok(Said { head, is_written: false, _claim: claim });
        };
        if let Some(write) = self.store.put_tag(&check.holder, &check.tag, record, check.validity.length()) {
            let cache = self.clone();
            // Other replicas wait for it: they read it.
            tokio::spawn(async move {
                cache.or_empty("tag", write.await);
                drop(mine);
            });
        }
        Ok(Said { head, is_written: false, _claim: None })
    }
}

impl Check {
    /// What can be written down at once: that the tag is what it was; or what it is, where there is no copy. Who asks others
    /// for it meanwhile need not wait for its bytes, and clients that ask for the manifest by digest next (containerd,
    /// docker) never ask for the tag's bytes: without this the tag would be unknown when upstream is away. A tag that has
    /// changed is written down with its new bytes: until then the copy is all there is.
    fn renewed(&self, head: &ManifestHead, now: Timestamp) -> Option<TagRecord> {
        let digest = head.digest?;
        match &self.copy {
            Some(copy) if copy.record.digest == digest => {
                Some(TagRecord { checked_at: now, ..(*copy.record).clone() })
            }
            Some(_) => None,
            None => Some(TagRecord::new(digest, head.media_type.clone()?, head.size?, now)),
        }
    }
}

impl Said {
    fn written(record: &TagRecord) -> Self {
        let (media_type, size) = (Some(record.media_type.clone()), Some(record.size));
        let head = ManifestHead { digest: Some(record.digest), media_type, size };
        Self { head: Some(head), is_written: true, _claim: None }
    }
}
