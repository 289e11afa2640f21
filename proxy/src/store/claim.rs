//! Claims: which replica does a piece of work for the whole instance, written down where all of them look.
//!
//! A claim is put where none is, and replaced only where it still is what was read: of all who try, one wins. It says
//! where the replica can be asked: whoever meets it asks there whether it still holds, and takes over at once where
//! nobody answers. One that nobody meets expires: it is written again while the work goes on, and a cleanup takes away
//! what was not. Both times are the store's own, so that clocks of replicas which are apart do no harm.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};

use super::{Error, Key, Store, time};
use crate::clock::since;

/// A claim that was not written for so long has expired.
const EXPIRY: Duration = Duration::from_secs(3600);
/// How often a claim is written again: a store that is away for a while does not let it expire.
pub const RENEWED: Duration = Duration::from_secs(15 * 60);

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

    /// Writes a claim again that still stands. `false`: it does not.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn renew_claim(&self, key: &Key<'_>, claim: &Claim) -> Result<bool, Error> {
        match self.claimed(key).await? {
            Some(claimed) if claimed.claim == *claim => self.claim(key, claim, Some(&claimed)).await,
            _ => Ok(false),
        }
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

    /// Takes away claims that have expired, and as old names of replicas, which are written every few seconds: a replica
    /// that was killed leaves them.
    ///
    /// # Errors
    /// When the store cannot be listed, or refuses a deletion.
    pub async fn remove_expired_claims(&self, now: Timestamp) -> Result<(), Error> {
        let mut expired = Vec::new();
        for prefix in [Key::Fills, Key::Checks, Key::Replicas] {
            let mut found = self.list(&prefix.path(&self.instance));
            while let Some(meta) = found.try_next().await? {
                expired.extend((since(now, time(&meta)) > EXPIRY).then_some(meta.location));
            }
        }
        self.delete_listed(expired).await
    }

    /// Whether other replicas may use this store, too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }
}
