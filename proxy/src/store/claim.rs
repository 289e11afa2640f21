//! Claims: which replica does a piece of work for the whole instance, written down where all of them look.
//!
//! A claim is put where none is, and replaced only where it still is what was read: of all who try, one wins. It says
//! where the replica can be asked. It has no time of expiry: whether it still holds is asked of the replica that made
//! it, so that clocks which are apart do no harm.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};

use super::objects::absent_is_none;
use super::{Error, Key, Store, time};

/// Who does it. Unknown fields of a newer version are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// `host:port` at which other replicas reach this one.
    pub replica: String,
    /// Of this claim alone: a replica that starts again has another one under the same address.
    pub id: String,
}

/// A claim as it was read.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub claim: Claim,
    version: UpdateVersion,
}

impl Store {
    /// Writes a claim where there is none, or in place of one that no longer holds. `false`: somebody else was first.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn claim(
        &self,
        key: &Key<'_>,
        claim: &Claim,
        instead_of: Option<&Claimed>,
    ) -> Result<bool, Error> {
        let bytes = Bytes::from(serde_json::to_vec(claim).unwrap_or_default());
        let version = instead_of.map(|claimed| claimed.version.clone());
        self.objects.put_if(&key.path(&self.instance), bytes, version).await
    }

    /// The claim that stands; `None` where there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn claimed(&self, key: &Key<'_>) -> Result<Option<Claimed>, Error> {
        let found = self.objects.get_version(&key.path(&self.instance)).await?;
        // One that cannot be understood is nobody's: it can be replaced, and nobody answers at its address.
        Ok(found.map(|(bytes, version)| {
            let nobodys = || Claim { replica: String::new(), id: String::new() };
            Claimed { claim: serde_json::from_slice(&bytes).unwrap_or_else(|_| nobodys()), version }
        }))
    }

    /// Takes a claim away, if it still stands.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn disclaim(&self, key: &Key<'_>, claim: &Claim) -> Result<(), Error> {
        match self.claimed(key).await? {
            Some(claimed) if claimed.claim == *claim => self.objects.delete(&key.path(&self.instance)).await,
            _ => Ok(()),
        }
    }

    /// Takes away claims, and names of replicas, that were written before then: a replica that was killed leaves them.
    ///
    /// # Errors
    /// When the store cannot be listed, or refuses a deletion.
    pub async fn remove_leftovers(&self, before: Timestamp) -> Result<(), Error> {
        for prefix in [Key::Fills, Key::Checks, Key::Replicas] {
            let old = self.list(&prefix.path(&self.instance));
            let old = old.try_filter_map(move |meta| {
                std::future::ready(Ok((time(&meta) < before).then_some(meta.location)))
            });
            let old: Vec<_> = old.try_collect().await?;
            let mut deleted =
                self.objects.store().delete_stream(stream::iter(old.into_iter().map(Ok)).boxed());
            while let Some(deleted) = deleted.next().await {
                absent_is_none(deleted)?;
            }
        }
        Ok(())
    }

    /// Whether other replicas may use this store, too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }
}
