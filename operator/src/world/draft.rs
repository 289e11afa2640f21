//! Objects of one instance as pages, on their way to what pods get.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Document, Kind, ObjectId, Options, fingerprint};
use crds::{DependencyProxy, DependencyProxyGroup, RegistryUpstream, VirtualRegistry};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use serde_json::json;

use super::collect::{Members, credentials_secret, id_of, keys_secret, local};
use super::contents::Contents;
use super::rendered::{Rendered, Renderings};
use super::rendering::Rendering;
use crate::watch::Shelf;

pub(super) type Key = (Kind, ObjectId);
pub(super) type Pages = BTreeMap<Key, Arc<Rendered>>;

/// Where contents come from.
pub(super) struct Sources<'a> {
    pub contents: &'a Contents,
    pub namespaces: &'a Shelf<PartialObjectMeta<Namespace>>,
    pub upstreams: &'a Shelf<RegistryUpstream>,
    pub renderings: &'a mut Renderings,
}

/// Pages, and the objects that they are of.
pub(super) struct Draft<'a> {
    pub members: Cow<'a, Members>,
    pub options: Options,
    pub pages: Pages,
    pub storage: Pages,
    /// What passwords are hashed under.
    pub key: Vec<u8>,
}

impl<'a> Draft<'a> {
    /// The pages of these objects. `keys`: whose keys are taken in place of those that are there.
    pub(super) fn of(
        members: Cow<'a, Members>,
        sources: &mut Sources<'_>,
        keys: Option<&Rendering>,
    ) -> Option<Self> {
        let proxy = members.proxy.clone()?;
        let options = options(&proxy);
        let of_instance = || members.keys().and_then(|id| instance_key(sources.contents, &id));
        let key = keys.map_or_else(|| of_instance().unwrap_or_default(), |keys| keys.key.clone());
        let (pages, storage) = (BTreeMap::new(), BTreeMap::new());
        let mut draft = Self { members, options, pages, storage, key };
        draft.add_secrets(sources);
        draft.add_config_maps(sources);
        draft.add_objects(sources);
        draft.add(proxy_page(&proxy, sources.renderings));
        draft.add_namespaces(sources);
        if let (Some(keys), Some(id)) = (keys, draft.members.keys())
            && let Some(page) = keys.pages.get(&(Kind::Secret, id))
        {
            draft.add(page.clone());
        }
        Some(draft)
    }

    pub(super) fn add(&mut self, page: Arc<Rendered>) {
        self.pages.insert((page.kind, page.id.clone()), page);
    }

    fn add_objects(&mut self, sources: &mut Sources<'_>) {
        let renderings = &mut *sources.renderings;
        let mut pages = Vec::new();
        for (id, group) in &self.members.groups {
            pages.push(renderings.own(Kind::DependencyProxyGroup, id, group.as_ref(), "", |_| {}));
        }
        for (id, upstream) in &self.members.upstreams {
            pages.push(renderings.own(Kind::RegistryUpstream, id, upstream.as_ref(), "", |_| {}));
        }
        for (id, registry) in &self.members.registries {
            pages.push(renderings.own(Kind::VirtualRegistry, id, registry.as_ref(), "", |_| {}));
        }
        for (id, binding) in &self.members.bindings {
            let secret = credentials_secret(id);
            let has_credentials = sources.contents.secret(&secret).is_some();
            let variant = if has_credentials { "with credentials" } else { "" };
            pages.push(renderings.own(Kind::PullBinding, id, binding.as_ref(), variant, |spec| {
                // One that the object names itself is older than the rule against it.
                spec.remove("credentialsSecretRef");
                if has_credentials {
                    spec.insert("credentialsSecretRef".to_owned(), json!({"name": secret.name}));
                }
            }));
        }
        for page in pages {
            self.add(page);
        }
    }

    /// Namespaces whose labels decide something.
    pub(super) fn add_namespaces(&mut self, sources: &mut Sources<'_>) {
        for name in self.members.namespaces() {
            let id = ObjectId { namespace: String::new(), name };
            if let Some(namespace) = sources.namespaces.get(&id) {
                self.add(sources.renderings.namespace(&id, &namespace));
            }
        }
    }

    pub(super) fn put_proxy(&mut self, proxy: Arc<DependencyProxy>, sources: &mut Sources<'_>) {
        self.add(proxy_page(&proxy, sources.renderings));
        self.members.to_mut().proxy = Some(proxy);
    }

    pub(super) fn put_group(
        &mut self,
        id: &ObjectId,
        group: Arc<DependencyProxyGroup>,
        sources: &mut Sources<'_>,
    ) {
        self.add(sources.renderings.own(Kind::DependencyProxyGroup, id, group.as_ref(), "", |_| {}));
        self.members.to_mut().groups.insert(id.clone(), group);
    }

    pub(super) fn put_registry(
        &mut self,
        id: &ObjectId,
        registry: Arc<VirtualRegistry>,
        sources: &mut Sources<'_>,
    ) {
        self.add(sources.renderings.own(Kind::VirtualRegistry, id, registry.as_ref(), "", |_| {}));
        self.members.to_mut().registries.insert(id.clone(), registry);
    }

    /// An upstream with what it refers to; what of that is not there any more is taken from `before`.
    pub(super) fn put_upstream(
        &mut self,
        id: &ObjectId,
        upstream: Arc<RegistryUpstream>,
        before: &Rendering,
        sources: &mut Sources<'_>,
    ) {
        self.add(sources.renderings.own(Kind::RegistryUpstream, id, upstream.as_ref(), "", |_| {}));
        let (secret, map) = (&upstream.spec.credentials_secret_ref, &upstream.spec.ca_config_map_ref);
        if let Some(secret) = secret.as_ref().map(|secret| local(secret, &id.namespace)) {
            let key = (Kind::Secret, secret);
            let there = sources.contents.secret(&key.1);
            let page = there.map(|secret| sources.renderings.secret(&key.1, secret));
            self.add_missing(key, page, before);
        }
        if let Some(map) = map.as_ref().map(|map| local(map, &id.namespace)) {
            let key = (Kind::ConfigMap, map);
            let there = sources.contents.config_map(&key.1);
            let page = there.map(|map| sources.renderings.ca(&key.1, map));
            self.add_missing(key, page, before);
        }
        self.members.to_mut().upstreams.insert(id.clone(), upstream);
        self.add_namespaces(sources);
    }

    /// Adds an upstream to which something refers again, if it is still there.
    pub(super) fn borrow(&mut self, id: &ObjectId, before: &Rendering, sources: &mut Sources<'_>) {
        if self.members.upstreams.contains_key(id) {
            return;
        }
        let upstream = sources.upstreams.get(id);
        let Some(upstream) = upstream.filter(|upstream| upstream.metadata.deletion_timestamp.is_none())
        else {
            return;
        };
        self.put_upstream(id, upstream, before, sources);
    }

    fn add_missing(&mut self, key: Key, page: Option<Arc<Rendered>>, before: &Rendering) {
        if !self.pages.contains_key(&key)
            && let Some(page) = page.or_else(|| before.pages.get(&key).cloned())
        {
            self.pages.insert(key, page);
        }
    }

    /// A Secret that is used for two things stays as it is: the pods hash a deploy token themselves.
    fn add_secrets(&mut self, sources: &mut Sources<'_>) {
        let (contents, renderings) = (sources.contents, &mut *sources.renderings);
        let members = self.members.clone();
        for id in members.binding_credentials() {
            if let Some(secret) = contents.secret(&id) {
                self.add(renderings.credentials(&id, secret, &self.key));
            }
        }
        for id in members.deploy_tokens() {
            if let Some(secret) = contents.secret(&id) {
                self.add(renderings.token(&id, secret, &self.key));
            }
        }
        let plain = members.upstream_credentials().chain(members.users()).chain(members.keys());
        for id in plain {
            if let Some(secret) = contents.secret(&id) {
                self.add(renderings.secret(&id, secret));
            }
        }
        if let Some(id) = members.storage_credentials()
            && let Some(secret) = contents.secret(&id)
        {
            self.storage.insert((Kind::Secret, id.clone()), renderings.secret(&id, secret));
        }
    }

    fn add_config_maps(&mut self, sources: &mut Sources<'_>) {
        let members = self.members.clone();
        for id in members.upstream_cas() {
            if let Some(map) = sources.contents.config_map(&id) {
                self.add(sources.renderings.ca(&id, map));
            }
        }
        if let Some(id) = members.storage_ca()
            && let Some(map) = sources.contents.config_map(&id)
        {
            self.storage.insert((Kind::ConfigMap, id.clone()), sources.renderings.ca(&id, map));
        }
    }

    /// The documents as pods read them from their two folders.
    pub(super) fn documents(&self) -> Vec<Document> {
        let pages = self.pages.values().chain(self.storage_only());
        pages.flat_map(|page| page.documents.iter().cloned()).collect()
    }

    /// Nothing may stand in both folders.
    pub(super) fn storage_only(&self) -> impl Iterator<Item = &Arc<Rendered>> {
        self.storage.iter().filter(|(key, _)| !self.pages.contains_key(*key)).map(|(_, page)| page)
    }

    /// Changes with everything that the documents are made of.
    pub(super) fn input(&self) -> String {
        let egress = format!("{:?}", self.options);
        let pages = self.pages.values().chain(self.storage.values()).map(|page| page.digest.as_bytes());
        fingerprint(&std::iter::once(egress.as_bytes()).chain(pages).collect::<Vec<_>>())
    }
}

/// How the pods of an instance judge.
pub(super) fn options(proxy: &DependencyProxy) -> Options {
    Options {
        instance: Some(id_of(proxy)),
        https_proxy: proxy.spec.egress.https_proxy.clone(),
        http_proxy: proxy.spec.egress.http_proxy.clone(),
    }
}

/// The DependencyProxy, with the operator's keys where it names none.
fn proxy_page(proxy: &DependencyProxy, renderings: &mut Renderings) -> Arc<Rendered> {
    let id = id_of(proxy);
    let keys = keys_secret(&id);
    renderings.own(Kind::DependencyProxy, &id, proxy, "", |spec| {
        let auth = spec.entry("auth").or_insert_with(|| json!({}));
        if auth.get("keysSecretRef").is_none() {
            auth["keysSecretRef"] = json!({"name": keys.name});
        }
    })
}

fn instance_key(contents: &Contents, id: &ObjectId) -> Option<Vec<u8>> {
    Some(contents.secret(id)?.data.as_ref()?.get("instance")?.0.clone())
}
