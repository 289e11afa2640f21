//! Server-side apply of what was built, and the removal of what is built no more.

use std::collections::{BTreeMap, HashMap};

use config::{fingerprint, is_object_name};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

/// The name under which the operator owns fields.
pub const FIELD_MANAGER: &str = "dependency-proxy-operator";

/// An object as it shall be.
#[derive(Clone, Debug)]
pub struct Object {
    pub resource: ApiResource,
    pub namespace: String,
    pub name: String,
    pub value: Value,
}

impl Object {
    /// One of a kind that this program knows.
    #[must_use]
    pub fn of<K>(object: &K) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Self::dynamic(ApiResource::erase::<K>(&()), serde_json::to_value(object).unwrap_or_default())
    }

    /// One of an optional kind, as JSON with name and namespace.
    #[must_use]
    pub fn dynamic(resource: ApiResource, mut value: Value) -> Self {
        value["apiVersion"] = Value::from(resource.api_version.clone());
        value["kind"] = Value::from(resource.kind.clone());
        // What the API server writes is not ours to state.
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        let text = |key: &str| value["metadata"][key].as_str().unwrap_or_default().to_owned();
        Self { namespace: text("namespace"), name: text("name"), resource, value }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.value["metadata"]["labels"].clone()).unwrap_or_default()
    }

    fn owner(&self) -> Option<&str> {
        self.value["metadata"]["ownerReferences"][0]["uid"].as_str()
    }

    fn shares_owner<K: Resource>(&self, live: &PartialObjectMeta<K>) -> bool {
        owners(live).any(|uid| Some(uid) == self.owner())
    }

    /// Says that somebody else has the name.
    #[must_use]
    pub fn taken(&self) -> String {
        let kind = &self.resource.kind;
        format!(
            "{kind} {} is there already and belongs to somebody else; remove it, or choose another name",
            self.name
        )
    }

    fn key(&self) -> Key {
        (self.resource.kind.clone(), self.namespace.clone(), self.name.clone())
    }
}

type Key = (String, String, String);

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Unchanged,
    Written,
    /// There is one of that name that belongs to somebody else.
    Taken,
    /// The API server does not take it as it is: what it says. Trying again changes nothing.
    Refused(String),
}

/// Applies objects. What was applied and has not changed since is not written again.
pub struct Applier {
    client: Client,
    /// By the owner's uid.
    applied: Mutex<HashMap<String, HashMap<Key, Applied>>>,
}

/// An object after it was applied: what was asked, and which version that made.
#[derive(Clone, PartialEq, Eq)]
struct Applied {
    digest: String,
    version: String,
}

impl Applier {
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, applied: Mutex::default() }
    }

    /// Makes an object be as it shall. One that is there and belongs to somebody else is not touched.
    ///
    /// # Errors
    /// When the API server cannot do it now.
    pub async fn apply(&self, object: &Object) -> Result<Outcome, kube::Error> {
        if !is_object_name(&object.name) {
            let said = "an object's name has lower-case letters, digits, '-' and '.' only";
            return Ok(Outcome::Refused(format!(
                "{:?} cannot be the name of a {}: {said}",
                object.name, object.resource.kind
            )));
        }
        let api =
            Api::<DynamicObject>::namespaced_with(self.client.clone(), &object.namespace, &object.resource);
        let digest = fingerprint(&[object.value.to_string().as_bytes()]);
        let live = api.get_metadata_opt(&object.name).await?;
        if live.as_ref().is_some_and(|live| !object.shares_owner(live)) {
            return Ok(Outcome::Taken);
        }
        let owner = object.owner().unwrap_or_default();
        let known = self.applied.lock().get(owner).and_then(|applied| applied.get(&object.key())).cloned();
        if let (Some(live), Some(known)) = (&live, known)
            && known == (Applied { digest: digest.clone(), version: version(live) })
            && object.labels().iter().all(|(name, value)| live.labels().get(name) == Some(value))
        {
            return Ok(Outcome::Unchanged);
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let result = match api.patch_metadata(&object.name, &parameters, &Patch::Apply(&object.value)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                let Object { resource, name, .. } = object;
                tracing::warn!(kind = %resource.kind, namespace = object.namespace, name, error = status.message, "refused");
                let said = format!("the API server refuses {} {name}: {}", resource.kind, status.message);
                return Ok(Outcome::Refused(said));
            }
            result => result?,
        };
        let applied = Applied { digest, version: version(&result) };
        self.applied.lock().entry(owner.to_owned()).or_default().insert(object.key(), applied);
        Ok(Outcome::Written)
    }

    /// Whether an object is as it was when it was applied last.
    pub fn is_own<K: Resource<DynamicType = ()>>(&self, live: &PartialObjectMeta<K>) -> bool {
        let key = (K::kind(&()).into_owned(), live.namespace().unwrap_or_default(), live.name_any());
        let applied = self.applied.lock();
        let known = owners(live).find_map(|owner| applied.get(owner)?.get(&key));
        known.is_some_and(|known| known.version == version(live))
    }

    /// The owner is no more, and what it owns goes with it.
    pub fn forget(&self, owner: &str) {
        self.applied.lock().remove(owner);
    }

    /// Deletes the objects of a kind with these labels that are not among `wanted`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn prune(
        &self,
        resource: &ApiResource,
        namespace: &str,
        labels: &str,
        wanted: &[Object],
    ) -> Result<(), kube::Error> {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, resource);
        for found in api.list_metadata(&ListParams::default().labels(labels)).await? {
            let name = found.name_any();
            if wanted.iter().any(|object| object.resource.kind == resource.kind && object.name == name) {
                continue;
            }
            tracing::info!(kind = %resource.kind, namespace, name, "no longer wanted; deleting it");
            self.delete(&api, &name).await?;
        }
        Ok(())
    }

    async fn delete(&self, api: &Api<DynamicObject>, name: &str) -> Result<(), kube::Error> {
        match api.delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            result => result.map(drop),
        }
    }
}

fn owners<K: Resource>(live: &PartialObjectMeta<K>) -> impl Iterator<Item = &str> {
    live.metadata.owner_references.iter().flatten().map(|reference| reference.uid.as_str())
}

/// Changes when somebody changes what we asked for: of kinds with a generation, their status does not count.
fn version<K: Resource>(live: &PartialObjectMeta<K>) -> String {
    let uid = live.metadata.uid.as_deref().unwrap_or_default();
    match live.metadata.generation {
        Some(generation) => format!("{uid} {generation}"),
        None => format!("{uid} {}", live.metadata.resource_version.as_deref().unwrap_or_default()),
    }
}
