//! What upstream says a tag is, asked once for the whole instance: who asks at this replica meanwhile gets the same
//! answer, be it a failure, and other replicas read what it has written down.

use std::sync::Arc;

use jiff::Timestamp;
use oci::Tag;

use super::claims::{Mine, Once, Work};
use super::manifest::aborted;
use super::tag::Copy;
use super::{Cache, Validity, by_tag};
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
    /// Asks what a tag is, once for the whole instance. A tag that is checked before every answer is asked for by each
    /// replica: to agree would take longer than to ask, and the HEAD costs nothing.
    pub(super) async fn said(self: &Arc<Self>, check: Check) -> Result<Said, Reason> {
        if !check.is_cold && check.validity == Validity::None {
            return self.ask(&check, Mine::unclaimed()).await;
        }
        let key = (check.client.clone(), check.holder.clone(), check.tag.clone(), check.validity);
        let cache = self.clone();
        let work = || async move { cache.ask_once(&check).await };
        self.checks.join(key, work).await.unwrap_or_else(|| Err(aborted()))
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
        let head = self.head(&check.client, &check.holder, by_tag(&check.tag), check.patience).await;
        self.heard(check, head, mine)
    }

    /// Takes note of what upstream has answered.
    pub(super) fn heard(
        self: &Arc<Self>,
        check: &Check,
        head: Result<ManifestHead, Reason>,
        mine: Mine,
    ) -> Result<Said, Reason> {
        let head = match head {
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
            // Behind the answer of who asks. Other replicas wait for it: they read it.
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
