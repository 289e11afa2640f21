//! Which replicas there are, as they write down themselves. For people, and for who
//! asks whom: where one is missing, nothing but a HEAD depends on it.

use bytes::Bytes;
use jiff::Timestamp;
use object_store::ObjectMeta;
use percent_encoding::percent_decode_str;

use super::{Error, Key, Store, time};

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
        let address = |meta: &ObjectMeta| {
            // A store writes the brackets of an IPv6 address in its own way.
            let name = percent_decode_str(meta.location.filename()?).decode_utf8().ok()?;
            Some((name.into_owned(), time(meta)))
        };
        Ok(below.iter().filter_map(address).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::store::testing;

    #[tokio::test]
    async fn an_address_is_read_as_it_was_written() {
        let data = tempfile::tempdir().unwrap();
        let store = testing::shared(&testing::config(), data.path());
        for address in ["10.0.0.7:5001", "[fd00::7]:5001"] {
            store.put_replica(address).await.unwrap();
        }
        let replicas = store.replicas().await.unwrap();
        let mut addresses: Vec<_> = replicas.iter().map(|(address, _)| address).collect();
        addresses.sort();
        assert_eq!(addresses, ["10.0.0.7:5001", "[fd00::7]:5001"]);
    }
}
