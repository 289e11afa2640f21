//! Which replicas there are, as they write down themselves. For people: nothing is decided by it.

use bytes::Bytes;
use jiff::Timestamp;

use super::{Error, Key, Store};

impl Store {
    /// Writes down that a replica runs at this `host:port`.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_replica(&self, address: &str) -> Result<(), Error> {
        self.write(&Key::Replica(address), Bytes::new()).await
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove_replica(&self, address: &str) -> Result<(), Error> {
        self.objects.delete(&Key::Replica(address).path(&self.instance)).await
    }

    /// The replicas that were there, and when each wrote so last, by the store's clock.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn replicas(&self) -> Result<Vec<(String, Timestamp)>, Error> {
        let below = self.objects.below(&Key::Replicas.path(&self.instance)).await?;
        let address = |path: object_store::path::Path| path.filename().map(str::to_owned);
        Ok(below.into_iter().filter_map(|(path, written)| Some((address(path)?, written))).collect())
    }
}
