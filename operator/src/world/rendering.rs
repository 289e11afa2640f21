//! What the pods of one instance get: its objects, judged, without what is refused.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use config::{Config, Document, Judgement, Kind, ObjectId, Options, Problem, Severity, fingerprint, judge};
use crds::DependencyProxy;
use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};

use super::collect::{Members, credentials_secret, id_of, keys_secret};
use super::contents::Contents;
use super::rendered::{Rendered, Renderings};
use crate::watch::Shelf;

/// Rounds of taking out what is refused. Each takes out what referred to what the one before took out; the chain of
/// references is shorter than this.
const ROUNDS: usize = 6;

/// The documents of one instance.
#[derive(Clone)]
pub struct Rendering {
    pub proxy: Arc<DependencyProxy>,
    /// What pods serve with these documents; `None` where the instance itself is refused.
    pub config: Option<Arc<Config>>,
    /// Of all objects of the instance, by object.
    pub problems: HashMap<(Kind, ObjectId), Vec<Problem>>,
    /// Compressed documents.
    pub documents: Vec<u8>,
    /// Documents of the store's credentials and CA, which pods take at their start only.
    pub storage: String,
    /// What is in the documents.
    pub pages: BTreeMap<(Kind, ObjectId), Arc<Rendered>>,
    /// Over everything that it was made of.
    input: String,
}

impl Rendering {
    /// As pods name it in `/status` when they have these documents.
    #[must_use]
    pub fn hash(&self) -> Option<&str> {
        self.config.as_ref().map(|config| config.hash.as_str())
    }
}

/// Renders an instance. Where nothing has changed, what was rendered before is given back; a DependencyProxy of another
/// generation may read the same.
pub(super) fn render(
    proxy: &Arc<DependencyProxy>,
    members: &Members,
    sources: &mut Sources<'_>,
    before: Option<&Arc<Rendering>>,
) -> Arc<Rendering> {
    let draft = Draft::of(proxy, members, sources);
    let input = draft.input();
    if let Some(before) = before.filter(|before| before.input == input) {
        let version = |proxy: &DependencyProxy| (proxy.metadata.uid.clone(), proxy.metadata.generation);
        if version(&before.proxy) == version(proxy) {
            return before.clone();
        }
        return Arc::new(Rendering { proxy: proxy.clone(), ..before.as_ref().clone() });
    }
    let first = judge(&draft.documents(), &draft.options);
    let problems = by_object(&first.problems);
    let draft = draft.cleaned(first, sources, before);
    Arc::new(Rendering {
        proxy: proxy.clone(),
        problems,
        documents: compressed(draft.pages.values()),
        storage: draft.storage_only().map(|page| page.text.as_str()).collect(),
        config: draft.config,
        pages: draft.pages,
        input,
    })
}

/// Where contents come from.
pub(super) struct Sources<'a> {
    pub contents: &'a Contents,
    pub namespaces: &'a Shelf<PartialObjectMeta<Namespace>>,
    pub renderings: &'a mut Renderings,
}

/// Pages on their way to a rendering.
struct Draft<'a> {
    members: &'a Members,
    options: Options,
    pages: BTreeMap<(Kind, ObjectId), Arc<Rendered>>,
    storage: BTreeMap<(Kind, ObjectId), Arc<Rendered>>,
    config: Option<Arc<Config>>,
}

impl<'a> Draft<'a> {
    fn of(proxy: &DependencyProxy, members: &'a Members, sources: &mut Sources<'_>) -> Self {
        let id = id_of(proxy);
        let options = Options {
            instance: Some(id),
            https_proxy: proxy.spec.egress.https_proxy.clone(),
            http_proxy: proxy.spec.egress.http_proxy.clone(),
        };
        let mut draft =
            Self { members, options, pages: BTreeMap::new(), storage: BTreeMap::new(), config: None };
        draft.add_secrets(sources);
        draft.add_config_maps(sources);
        draft.add(proxy_page(proxy, sources.renderings, &[]));
        let renderings = &mut *sources.renderings;
        for (id, group) in &members.groups {
            draft.add(renderings.own(Kind::DependencyProxyGroup, id, group.as_ref(), "", |_| {}));
        }
        for (id, upstream) in &members.upstreams {
            draft.add(renderings.own(Kind::RegistryUpstream, id, upstream.as_ref(), "", |_| {}));
        }
        for (id, registry) in &members.registries {
            draft.add(renderings.own(Kind::VirtualRegistry, id, registry.as_ref(), "", |_| {}));
        }
        for (id, binding) in &members.bindings {
            let secret = credentials_secret(id);
            let has_credentials = sources.contents.secret(&secret).is_some();
            let variant = if has_credentials { "with credentials" } else { "" };
            draft.add(renderings.own(Kind::PullBinding, id, binding.as_ref(), variant, |spec| {
                if has_credentials {
                    spec.insert("credentialsSecretRef".to_owned(), json!({"name": secret.name}));
                }
            }));
        }
        for name in members.namespaces() {
            let id = ObjectId { namespace: String::new(), name };
            if let Some(namespace) = sources.namespaces.get(&id) {
                draft.add(renderings.namespace(&id, &namespace));
            }
        }
        draft
    }

    fn add(&mut self, page: Arc<Rendered>) {
        self.pages.insert((page.kind, page.id.clone()), page);
    }

    /// A Secret that is used for two things stays as it is: the pods hash a deploy token themselves.
    fn add_secrets(&mut self, sources: &mut Sources<'_>) {
        let (members, contents, renderings) = (self.members, sources.contents, &mut *sources.renderings);
        let key = members.keys().and_then(|id| instance_key(contents, &id)).unwrap_or_default();
        for id in members.binding_credentials() {
            if let Some(secret) = contents.secret(&id) {
                self.add(renderings.credentials(&id, secret, &key));
            }
        }
        for id in members.deploy_tokens() {
            if let Some(secret) = contents.secret(&id) {
                self.add(renderings.token(&id, secret, &key));
            }
        }
        let plain = members.upstream_credentials().chain(members.users()).chain(members.keys());
        for id in plain {
            if let Some(secret) = contents.secret(&id) {
                self.add(renderings.secret(&id, secret));
            }
        }
        if let Some((id, secret)) =
            members.storage_credentials().and_then(|id| Some((id.clone(), contents.secret(&id)?)))
        {
            let page = renderings.secret(&id, secret);
            self.storage.insert((page.kind, id), page);
        }
    }

    fn add_config_maps(&mut self, sources: &mut Sources<'_>) {
        for id in self.members.upstream_cas() {
            if let Some(map) = sources.contents.config_map(&id) {
                self.add(sources.renderings.ca(&id, map));
            }
        }
        if let Some(id) = self.members.storage_ca()
            && let Some(map) = sources.contents.config_map(&id)
        {
            let page = sources.renderings.ca(&id, map);
            self.storage.insert((page.kind, id), page);
        }
    }

    /// The documents as pods read them from their two folders.
    fn documents(&self) -> Vec<Document> {
        let pages = self.pages.values().chain(self.storage_only());
        pages.flat_map(|page| page.documents.iter().cloned()).collect()
    }

    /// Nothing may stand in both folders.
    fn storage_only(&self) -> impl Iterator<Item = &Arc<Rendered>> {
        self.storage.iter().filter(|(key, _)| !self.pages.contains_key(*key)).map(|(_, page)| page)
    }

    fn input(&self) -> String {
        let egress = format!("{:?}", self.options);
        let pages = self.pages.values().chain(self.storage.values()).map(|page| page.digest.as_bytes());
        fingerprint(&std::iter::once(egress.as_bytes()).chain(pages).collect::<Vec<_>>())
    }

    /// Takes out what is refused, and what refers to that, until the judge finds nothing: pods then take the
    /// documents as a whole. An object that went bad stays as it was before.
    fn cleaned(
        mut self,
        first: Judgement,
        sources: &mut Sources<'_>,
        before: Option<&Arc<Rendering>>,
    ) -> Self {
        let mut judgement = first;
        for round in 0..ROUNDS {
            let bad = by_object(&judgement.problems);
            if judgement.config.is_none() {
                return self;
            }
            if bad.is_empty() {
                self.config = judgement.config.map(Arc::new);
                return self;
            }
            for (key, problems) in &bad {
                let last = before.filter(|_| round == 0).and_then(|before| before.pages.get(key));
                let page = self.mended(key, problems, &judgement, sources).or_else(|| last.cloned());
                match page {
                    Some(page) => self.pages.insert(key.clone(), page),
                    None => self.pages.remove(key),
                };
            }
            judgement = judge(&self.documents(), &self.options);
        }
        tracing::error!(instance = ?self.options.instance, "the documents cannot be brought into order; they stay as they were");
        self
    }

    /// An object without the part that is at fault, where the rest of it serves.
    fn mended(
        &self,
        (kind, id): &(Kind, ObjectId),
        problems: &[Problem],
        judgement: &Judgement,
        sources: &mut Sources<'_>,
    ) -> Option<Arc<Rendered>> {
        let renderings = &mut *sources.renderings;
        match kind {
            Kind::DependencyProxy => {
                let fields = problems.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>();
                Some(proxy_page(self.members.proxy.as_deref()?, renderings, &fields))
            }
            Kind::DependencyProxyGroup => {
                let tokens = problems.iter().map(|problem| token_index(&problem.field));
                let tokens = tokens.collect::<Option<HashSet<_>>>()?;
                let group = self.members.groups.get(id)?;
                let variant = format!("without {:?}", sorted(&tokens));
                Some(renderings.own(*kind, id, group.as_ref(), &variant, |spec| drop_tokens(spec, &tokens)))
            }
            Kind::Secret if self.members.users().as_ref() == Some(id) => {
                let users = &judgement.config.as_ref()?.instance.users.hashes;
                let lines = users.iter().map(|(name, hash)| format!("{name}:{}\n", hash.expose()));
                let mut lines = lines.collect::<Vec<_>>();
                lines.sort();
                Some(renderings.users(id, sources.contents.secret(id)?, &lines.concat()))
                    .filter(|_| !lines.is_empty())
            }
            _ => None,
        }
    }
}

/// The DependencyProxy, with the operator's keys where it names none, and without references at fault.
fn proxy_page(proxy: &DependencyProxy, renderings: &mut Renderings, at_fault: &[&str]) -> Arc<Rendered> {
    let id = id_of(proxy);
    let keys = keys_secret(&id);
    renderings.own(Kind::DependencyProxy, &id, proxy, &at_fault.join(" "), |spec| {
        let auth = spec.entry("auth").or_insert_with(|| json!({}));
        if auth.get("keysSecretRef").is_none() {
            auth["keysSecretRef"] = json!({"name": keys.name});
        }
        for field in at_fault {
            remove(spec, field);
        }
    })
}

/// Removes a field such as `spec.auth.staticUsersSecretRef` or `spec.aliases[2].groupRef`: of a list, the entry.
fn remove(spec: &mut serde_json::Map<String, Value>, field: &str) {
    let mut parts = field.split('.').skip(1);
    let (Some(first), second) = (parts.next(), parts.next()) else { return };
    match (first.split_once('['), second) {
        (Some((list, rest)), _) => {
            let index = rest.split(']').next().and_then(|index| index.parse::<usize>().ok());
            // In place of removing: the indexes of the other problems stay true.
            if let (Some(Value::Array(entries)), Some(index)) = (spec.get_mut(list), index)
                && let Some(entry) = entries.get_mut(index)
            {
                *entry = Value::Null;
            }
        }
        (None, Some(second)) => {
            if let Some(Value::Object(object)) = spec.get_mut(first) {
                object.remove(second);
            }
        }
        (None, None) => {}
    }
    for list in ["aliases", "mirrors"] {
        if let Some(Value::Array(entries)) = spec.get_mut(list) {
            entries.retain(|entry| !entry.is_null());
        }
    }
}

fn token_index(field: &str) -> Option<usize> {
    let (index, rest) = field.strip_prefix("spec.deployTokens[")?.split_once(']')?;
    rest.starts_with(".secretRef").then_some(())?;
    index.parse().ok()
}

fn drop_tokens(spec: &mut serde_json::Map<String, Value>, indexes: &HashSet<usize>) {
    if let Some(Value::Array(tokens)) = spec.get_mut("deployTokens") {
        let mut index = 0;
        tokens.retain(|_| {
            index += 1;
            !indexes.contains(&(index - 1))
        });
    }
}

fn sorted(indexes: &HashSet<usize>) -> Vec<usize> {
    let mut indexes = indexes.iter().copied().collect::<Vec<_>>();
    indexes.sort_unstable();
    indexes
}

fn instance_key(contents: &Contents, id: &ObjectId) -> Option<Vec<u8>> {
    Some(contents.secret(id)?.data.as_ref()?.get("instance")?.0.clone())
}

/// The errors by object.
pub(super) fn by_object(problems: &[Problem]) -> HashMap<(Kind, ObjectId), Vec<Problem>> {
    let mut map = HashMap::<_, Vec<_>>::new();
    for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
        if let (Some(kind), Some(id)) = (Kind::named(&problem.kind), &problem.object) {
            map.entry((kind, id.clone())).or_default().push(problem.clone());
        }
    }
    map
}

/// The same pages give the same bytes.
fn compressed<'p>(pages: impl Iterator<Item = &'p Arc<Rendered>>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for page in pages {
        // Writing to memory does not fail.
        let _ = encoder.write_all(page.text.as_bytes());
    }
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
#[path = "rendering_tests.rs"]
mod tests;
