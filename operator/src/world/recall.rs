//! What an operator before this one rendered, out of the Secrets that pods read it from. So an object that is bad stays
//! as it last was good, whoever leads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use config::{Kind, ObjectId, judge};
use crds::{DependencyProxy, RegistryUpstream};
use flate2::read::GzDecoder;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::core::object::HasSpec;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::collect::{DOCUMENTS, Members, STORAGE, documents_secret, id_of, storage_secret};
use super::draft::{Pages, options};
use super::narrow::named_anew;
use super::rendered::Rendered;
use super::rendering::Rendering;
use crate::watch::Shelf;

/// Bytes of documents: pods read no more either.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What the pods of an instance were given last, less the objects that are no more; none where they were given nothing.
///
/// # Errors
/// When the API server cannot be asked.
pub(super) async fn recall(
    client: &Client,
    members: &Members,
    upstreams: &Shelf<RegistryUpstream>,
) -> Result<Option<Rendering>, kube::Error> {
    let Some(proxy) = &members.proxy else { return Ok(None) };
    let id = id_of(proxy.as_ref());
    let api = Api::<Secret>::namespaced(client.clone(), &id.namespace);
    let Some(documents) = api.get_opt(&documents_secret(&id)).await? else { return Ok(None) };
    let storage = api.get_opt(&storage_secret(&id)).await?;
    let upstream = |id: &ObjectId| upstreams.get(id);
    Ok(tokio::task::block_in_place(|| read(proxy, members, upstream, (&documents, storage.as_ref()))))
}

fn read(
    proxy: &Arc<DependencyProxy>,
    members: &Members,
    upstream: impl Fn(&ObjectId) -> Option<Arc<RegistryUpstream>>,
    (documents, storage): (&Secret, Option<&Secret>),
) -> Option<Rendering> {
    let packed = file(documents, DOCUMENTS, proxy)?;
    let mut text = String::new();
    GzDecoder::new(packed).take(LARGEST).read_to_string(&mut text).ok()?;
    let storage = storage.and_then(|secret| file(secret, STORAGE, proxy));
    let storage = String::from_utf8_lossy(storage.unwrap_or_default()).into_owned();
    let (mut pages, stored) = (pages(&text), pages(&storage));
    let mut served = Members::default();
    // Pages of Secrets and ConfigMaps may be needed although these are gone.
    pages.retain(|(kind, id), page| match kind {
        Kind::DependencyProxy => {
            served.proxy = same(page, Some(proxy));
            served.proxy.is_some()
        }
        Kind::DependencyProxyGroup => keep(&mut served.groups, id, same(page, members.groups.get(id))),
        Kind::RegistryUpstream => keep(&mut served.upstreams, id, same(page, upstream(id).as_ref())),
        Kind::VirtualRegistry => keep(&mut served.registries, id, same(page, members.registries.get(id))),
        Kind::PullBinding => keep(&mut served.bindings, id, same(page, members.bindings.get(id))),
        Kind::Secret | Kind::ConfigMap | Kind::Namespace => true,
    });
    let options = options(served.proxy.as_deref()?);
    let others = stored.iter().filter(|(key, _)| !pages.contains_key(*key)).map(|(_, page)| page);
    let all = pages.values().chain(others).flat_map(|page| page.documents.iter().cloned());
    let config = judge(&all.collect::<Vec<_>>(), &options).config.map(Arc::new);
    let keys = served.keys().and_then(|id| pages.get(&(Kind::Secret, id)));
    Some(Rendering {
        proxy: proxy.clone(),
        config,
        problems: HashMap::new(),
        older: HashSet::new(),
        documents: packed.to_vec(),
        key: keys.and_then(|page| instance_key(page)).unwrap_or_default(),
        storage,
        served,
        pages,
        stored,
        // Of objects that were not seen: it is rendered anew in any case.
        input: String::new(),
    })
}

/// What is in a Secret of the instance, and not of one that had its name before.
fn file<'s>(secret: &'s Secret, name: &str, proxy: &DependencyProxy) -> Option<&'s [u8]> {
    let uid = proxy.metadata.uid.as_ref()?;
    let mut owners = secret.metadata.owner_references.iter().flatten();
    let ByteString(bytes) = secret.data.as_ref()?.get(name)?;
    owners.any(|owner| owner.uid == *uid).then_some(bytes)
}

fn pages(text: &str) -> Pages {
    let pages = text.lines().filter_map(Rendered::read);
    pages.map(|page| ((page.kind, page.id.clone()), page)).collect()
}

/// An object as it was rendered, if it is the one that is there now: documents do not say its uid, but in
/// which second it was made.
fn same<K>(page: &Rendered, now: Option<&Arc<K>>) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + HasSpec<Spec: Serialize> + DeserializeOwned,
{
    let now = now?.meta();
    let mut last =
        page.object::<K>().filter(|last| last.meta().creation_timestamp == now.creation_timestamp)?;
    last.meta_mut().uid.clone_from(&now.uid);
    Some(named_anew(last))
}

/// Whether it is there.
fn keep<K>(objects: &mut BTreeMap<ObjectId, Arc<K>>, id: &ObjectId, object: Option<Arc<K>>) -> bool {
    object.map(|object| objects.insert(id.clone(), object)).is_some()
}

fn instance_key(page: &Rendered) -> Option<Vec<u8>> {
    let secret = page.object::<Secret>()?;
    let text = || secret.string_data.as_ref()?.get("instance").map(|text| text.clone().into_bytes());
    text().or_else(|| Some(secret.data.as_ref()?.get("instance")?.0.clone()))
}

#[cfg(test)]
#[path = "recall_tests.rs"]
mod tests;
