//! What is in the Secrets and ConfigMaps that something refers to.
//!
//! The watches bring names and versions only, so that the operator does not hold every Secret of the cluster.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use config::ObjectId;
use futures_util::{StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::watch::Shelf;

/// Reads at once.
const AT_ONCE: usize = 16;

/// Contents by name, each with the version at which it was read.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) secrets: HashMap<ObjectId, Arc<Secret>>,
    pub(super) config_maps: HashMap<ObjectId, Arc<ConfigMap>>,
}

impl Contents {
    /// Reads what is new among the wanted Secrets, and forgets the others.
    ///
    /// # Errors
    /// When the API server cannot be asked; what was known stays.
    pub(super) async fn follow_secrets(
        &mut self,
        client: &Client,
        wanted: &BTreeSet<ObjectId>,
        watched: &Shelf<PartialObjectMeta<Secret>>,
    ) -> Result<(), kube::Error> {
        follow(client, &mut self.secrets, wanted, watched).await
    }

    /// The same for ConfigMaps.
    ///
    /// # Errors
    /// As for Secrets.
    pub(super) async fn follow_config_maps(
        &mut self,
        client: &Client,
        wanted: &BTreeSet<ObjectId>,
        watched: &Shelf<PartialObjectMeta<ConfigMap>>,
    ) -> Result<(), kube::Error> {
        follow(client, &mut self.config_maps, wanted, watched).await
    }

    #[must_use]
    pub(super) fn secret(&self, id: &ObjectId) -> Option<&Arc<Secret>> {
        self.secrets.get(id)
    }

    #[must_use]
    pub(super) fn config_map(&self, id: &ObjectId) -> Option<&Arc<ConfigMap>> {
        self.config_maps.get(id)
    }
}

async fn follow<K>(
    client: &Client,
    known: &mut HashMap<ObjectId, Arc<K>>,
    wanted: &BTreeSet<ObjectId>,
    watched: &Shelf<PartialObjectMeta<K>>,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
    PartialObjectMeta<K>: Resource<DynamicType = ()>,
{
    known.retain(|id, _| wanted.contains(id) && watched.get(id).is_some());
    let stale = wanted.iter().filter(|id| {
        let Some(seen) = watched.get(id) else { return false };
        known.get(*id).is_none_or(|object| object.resource_version() != seen.resource_version())
    });
    let reads = stale.cloned().map(|id| {
        let api = Api::<K>::namespaced(client.clone(), &id.namespace);
        async move { api.get_opt(&id.name).await.map(|object| (id, object)) }
    });
    let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    while let Some(read) = reads.next().await {
        let (id, object) = read?;
        match object {
            Some(object) => known.insert(id, Arc::new(object)),
            None => known.remove(&id),
        };
    }
    Ok(())
}
