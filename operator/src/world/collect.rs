//! Which objects belong to which instance, and what they refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::ObjectId;
use crds::{
    AllowedNamespaces, DependencyProxy, DependencyProxyGroup, FromNamespaces, LocalReference,
    NamespacedReference, PullBinding, RegistryUpstream, VirtualRegistry,
};
use kube::{Resource, ResourceExt};

use crate::watch::Sight;

/// The objects of one instance, each kind by name; or those that belong to none.
#[derive(Clone, Default)]
pub struct Members {
    pub proxy: Option<Arc<DependencyProxy>>,
    pub groups: BTreeMap<ObjectId, Arc<DependencyProxyGroup>>,
    pub upstreams: BTreeMap<ObjectId, Arc<RegistryUpstream>>,
    pub registries: BTreeMap<ObjectId, Arc<VirtualRegistry>>,
    pub bindings: BTreeMap<ObjectId, Arc<PullBinding>>,
}

/// All objects that are watched, sorted into instances.
pub(super) struct Collection {
    pub instances: BTreeMap<ObjectId, Members>,
    /// What no instance serves: upstreams that nobody refers to, groups of an instance that is not there.
    pub loose: Members,
}

/// The name of an object.
pub fn id_of<K: Resource<DynamicType = ()>>(object: &K) -> ObjectId {
    ObjectId { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// What a reference from a namespace names.
pub fn named(reference: &NamespacedReference, namespace: &str) -> ObjectId {
    let namespace = reference.namespace.as_deref().unwrap_or(namespace).to_owned();
    ObjectId { namespace, name: reference.name.clone() }
}

/// What a reference within a namespace names.
pub(super) fn local(reference: &LocalReference, namespace: &str) -> ObjectId {
    ObjectId { namespace: namespace.to_owned(), name: reference.name.clone() }
}

/// The Secret in which the operator keeps a binding's credentials.
#[must_use]
pub fn credentials_secret(binding: &ObjectId) -> ObjectId {
    let name = format!("{}-dependency-proxy-credentials", binding.name);
    ObjectId { namespace: binding.namespace.clone(), name }
}

/// The Secret in which the operator keeps an instance's keys.
#[must_use]
pub fn keys_secret(instance: &ObjectId) -> ObjectId {
    ObjectId {
        namespace: instance.namespace.clone(),
        name: format!("{}-dependency-proxy-keys", instance.name),
    }
}

/// The file of an instance's documents in their Secret.
pub const DOCUMENTS: &str = "documents.yaml.gz";
/// The same of the store's credentials.
pub const STORAGE: &str = "storage.yaml";

/// The Secret from which an instance's pods read their documents.
#[must_use]
pub fn documents_secret(instance: &ObjectId) -> String {
    format!("{}-dependency-proxy-documents", instance.name)
}

/// The same for the store's credentials.
#[must_use]
pub fn storage_secret(instance: &ObjectId) -> String {
    format!("{}-dependency-proxy-storage", instance.name)
}

impl Collection {
    /// Sorts what is watched now. Objects that are being deleted are gone.
    #[must_use]
    pub(super) fn of(sight: &Sight) -> Self {
        let mut instances = living(sight.proxies.all())
            .map(|(id, proxy)| (id, Members { proxy: Some(proxy), ..Members::default() }))
            .collect::<BTreeMap<_, _>>();
        let mut loose = Members::default();
        let mut homes = BTreeMap::new();
        for (id, group) in living(sight.groups.all()) {
            let home = named(&group.spec.proxy_ref, &id.namespace);
            homes.insert(id.clone(), home.clone());
            instances.get_mut(&home).unwrap_or(&mut loose).groups.insert(id, group);
        }
        for (id, registry) in living(sight.registries.all()) {
            let home = homes.get(&local(&registry.spec.group_ref, &id.namespace));
            home.and_then(|home| instances.get_mut(home))
                .unwrap_or(&mut loose)
                .registries
                .insert(id, registry);
        }
        for (id, binding) in living(sight.bindings.all()) {
            let home = homes.get(&named(&binding.spec.group_ref, &id.namespace));
            home.and_then(|home| instances.get_mut(home)).unwrap_or(&mut loose).bindings.insert(id, binding);
        }
        let upstreams = living(sight.upstreams.all()).collect::<BTreeMap<_, _>>();
        let mut used = BTreeSet::new();
        for members in instances.values_mut() {
            for id in members.upstream_references() {
                if let Some(upstream) = upstreams.get(&id) {
                    members.upstreams.insert(id.clone(), upstream.clone());
                    used.insert(id);
                }
            }
        }
        loose.upstreams = upstreams.into_iter().filter(|(id, _)| !used.contains(id)).collect();
        Self { instances, loose }
    }
}

fn living<K: Resource<DynamicType = ()>>(
    objects: impl Iterator<Item = Arc<K>>,
) -> impl Iterator<Item = (ObjectId, Arc<K>)> {
    objects
        .filter(|object| object.meta().deletion_timestamp.is_none())
        .map(|object| (id_of(object.as_ref()), object))
}

impl Members {
    fn upstream_references(&self) -> BTreeSet<ObjectId> {
        let mut ids = BTreeSet::new();
        for (id, group) in &self.groups {
            ids.extend(group.spec.upstream_ref.as_ref().map(|reference| named(reference, &id.namespace)));
        }
        for (id, registry) in &self.registries {
            ids.extend(registry.spec.upstreams.iter().map(|reference| named(reference, &id.namespace)));
        }
        if let Some(proxy) = &self.proxy {
            let namespace = id_of(proxy.as_ref()).namespace;
            ids.extend(
                proxy.spec.default_upstream_ref.as_ref().map(|reference| named(reference, &namespace)),
            );
        }
        ids
    }

    /// Secrets that hold a user name and password of an upstream.
    pub fn upstream_credentials(&self) -> impl Iterator<Item = ObjectId> {
        self.upstreams.iter().filter_map(|(id, upstream)| {
            Some(local(upstream.spec.credentials_secret_ref.as_ref()?, &id.namespace))
        })
    }

    /// Secrets that hold a deploy token.
    pub fn deploy_tokens(&self) -> impl Iterator<Item = ObjectId> {
        self.groups.iter().flat_map(|(id, group)| {
            group.spec.deploy_tokens.iter().map(|token| local(&token.secret_ref, &id.namespace))
        })
    }

    /// Secrets that hold what bindings pull with.
    pub fn binding_credentials(&self) -> impl Iterator<Item = ObjectId> {
        self.bindings.keys().map(credentials_secret)
    }

    /// The Secret of static users.
    #[must_use]
    pub fn users(&self) -> Option<ObjectId> {
        let proxy = self.proxy.as_ref()?;
        let reference = proxy.spec.auth.static_users_secret_ref.as_ref()?;
        Some(local(reference, &proxy.namespace()?))
    }

    /// The Secret of the instance's keys: the user's, else the operator's.
    #[must_use]
    pub fn keys(&self) -> Option<ObjectId> {
        let proxy = self.proxy.as_ref()?;
        let own = keys_secret(&id_of(proxy.as_ref()));
        Some(
            proxy
                .spec
                .auth
                .keys_secret_ref
                .as_ref()
                .map_or(own.clone(), |reference| local(reference, &own.namespace)),
        )
    }

    /// The Secret of the bucket's credentials.
    #[must_use]
    pub fn storage_credentials(&self) -> Option<ObjectId> {
        let proxy = self.proxy.as_ref()?;
        let reference = proxy.spec.storage.s3.as_ref()?.credentials_secret_ref.as_ref()?;
        Some(local(reference, &proxy.namespace()?))
    }

    /// The ConfigMap of the bucket's CA.
    #[must_use]
    pub fn storage_ca(&self) -> Option<ObjectId> {
        let proxy = self.proxy.as_ref()?;
        let reference = proxy.spec.storage.s3.as_ref()?.ca_config_map_ref.as_ref()?;
        Some(local(reference, &proxy.namespace()?))
    }

    /// ConfigMaps of upstreams' CAs.
    pub fn upstream_cas(&self) -> impl Iterator<Item = ObjectId> {
        self.upstreams.iter().filter_map(|(id, upstream)| {
            Some(local(upstream.spec.ca_config_map_ref.as_ref()?, &id.namespace))
        })
    }

    /// All Secrets that matter.
    pub fn secrets(&self) -> impl Iterator<Item = ObjectId> {
        let singles = [self.users(), self.keys(), self.storage_credentials()];
        self.upstream_credentials()
            .chain(self.deploy_tokens())
            .chain(self.binding_credentials())
            .chain(singles.into_iter().flatten())
    }

    /// All ConfigMaps that matter.
    pub fn config_maps(&self) -> impl Iterator<Item = ObjectId> {
        self.upstream_cas().chain(self.storage_ca())
    }

    /// Namespaces whose labels decide something; none where no object selects by labels.
    #[must_use]
    pub fn namespaces(&self) -> BTreeSet<String> {
        let selects = |allowed: &AllowedNamespaces| allowed.from == FromNamespaces::Selector;
        let by_labels = self.proxy.iter().any(|proxy| selects(&proxy.spec.allowed_groups))
            || self.upstreams.values().any(|upstream| selects(&upstream.spec.allowed_groups))
            || self.groups.values().any(|group| selects(&group.spec.allowed_consumers));
        if !by_labels {
            return BTreeSet::new();
        }
        let ids = self.groups.keys().chain(self.registries.keys()).chain(self.bindings.keys());
        ids.map(|id| id.namespace.clone()).collect()
    }
}
