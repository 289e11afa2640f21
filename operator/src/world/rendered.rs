//! Objects as the pods get them: trimmed, and with hashes in place of tokens.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use config::{Document, Kind, ObjectId, Origin, TokenHash, fingerprint};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
const TOKEN: &str = "dependencyproxy.dev/token";
/// Type of the Secret in which a binding's credentials are.
pub const CREDENTIALS: &str = "dependencyproxy.dev/credentials";

/// Begins a document.
const MARK: &str = "--- ";

/// One object as it stands in the documents.
pub struct Rendered {
    pub kind: Kind,
    pub id: ObjectId,
    /// A document of one line: `--- {…}`.
    pub text: String,
    /// The text as the judge reads it.
    pub documents: Vec<Document>,
    /// Changes with the text.
    pub digest: String,
    /// Of a binding's credentials: the ids of its passwords.
    pub tokens: Vec<String>,
}

impl Rendered {
    fn of(kind: Kind, id: ObjectId, value: &Value) -> Arc<Self> {
        let text = format!("{MARK}{value}\n");
        let (documents, _) = config::parse(&text, "documents", Origin::Rendered);
        let digest = fingerprint(&[text.as_bytes()]);
        let texts = value.get("stringData").and_then(Value::as_object);
        let tokens = texts.into_iter().flat_map(Map::keys).filter_map(|name| name.strip_prefix("hash."));
        let tokens = tokens.map(str::to_owned).collect();
        Arc::new(Self { kind, id, text, documents, digest, tokens })
    }

    /// Reads a document as it was rendered.
    pub(super) fn read(line: &str) -> Option<Arc<Self>> {
        let value = serde_json::from_str::<Value>(line.strip_prefix(MARK)?).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let kind = Kind::named(value["kind"].as_str()?)?;
        let namespace = text(&value["metadata"]["namespace"]).unwrap_or_default();
        let id = ObjectId { namespace, name: text(&value["metadata"]["name"])? };
        Some(Self::of(kind, id, &value))
    }

    /// The object that was rendered.
    pub(super) fn object<K: DeserializeOwned>(&self) -> Option<K> {
        serde_json::from_str(self.text.strip_prefix(MARK)?).ok()
    }
}

/// What was rendered before, by kind, name and version: a change of one object renders one object.
#[derive(Default)]
pub(super) struct Renderings {
    before: HashMap<Key, Arc<Rendered>>,
    now: HashMap<Key, Arc<Rendered>>,
}

type Key = (Kind, ObjectId, String);

impl Renderings {
    /// Forgets what was not used since the last call.
    pub(super) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    fn get(
        &mut self,
        kind: Kind,
        id: &ObjectId,
        version: String,
        make: impl FnOnce() -> Value,
    ) -> Arc<Rendered> {
        let key = (kind, id.clone(), version);
        let known = self.now.get(&key).or_else(|| self.before.get(&key)).cloned();
        let rendered = known.unwrap_or_else(|| Rendered::of(kind, id.clone(), &make()));
        self.now.insert(key, rendered.clone());
        rendered
    }

    /// One of our own kinds. `change` may adapt the specification; `variant` must tell the adaptations apart.
    pub(super) fn own<K>(
        &mut self,
        kind: Kind,
        id: &ObjectId,
        object: &K,
        variant: &str,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Arc<Rendered>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        self.get(kind, id, format!("{} {variant}", version(object)), || {
            let mut spec = serde_json::to_value(object).unwrap_or_default()["spec"].take();
            if let Some(spec) = spec.as_object_mut() {
                change(spec);
            }
            json!({
                "apiVersion": crds::API_VERSION,
                "kind": kind.as_str(),
                "metadata": metadata(object),
                "spec": spec,
            })
        })
    }

    /// A Secret as it is, without what others wrote to its metadata.
    pub(super) fn secret(&mut self, id: &ObjectId, secret: &Secret) -> Arc<Rendered> {
        self.get(Kind::Secret, id, version(secret), || {
            secret_value(secret, secret.type_.as_deref().unwrap_or("Opaque"), &data_of(secret))
        })
    }

    /// A deploy token's Secret with the hash of its password. What is no such Secret stays as it is, for the judge to
    /// refuse; what was refused is not rendered.
    pub(super) fn token(&mut self, id: &ObjectId, secret: &Secret, key: &[u8]) -> Arc<Rendered> {
        let version = format!("{} token {}", version(secret), fingerprint(&[key]));
        self.get(Kind::Secret, id, version, || {
            let data = data_of(secret);
            let text = |name: &str| data.get(name).and_then(|value| std::str::from_utf8(value).ok());
            match (secret.type_.as_deref(), text("username"), text("password")) {
                (Some(BASIC_AUTH), Some(username), Some(password)) if data.len() == 2 => {
                    let hash = TokenHash::of(key, password).to_hex();
                    let data = BTreeMap::from([("username", username.as_bytes()), ("hash", hash.as_bytes())]);
                    secret_value(secret, TOKEN, &data)
                }
                (kind, ..) => secret_value(secret, kind.unwrap_or("Opaque"), &data),
            }
        })
    }

    /// A binding's credentials with hashes in place of passwords.
    pub(super) fn credentials(&mut self, id: &ObjectId, secret: &Secret, key: &[u8]) -> Arc<Rendered> {
        let version = format!("{} credentials {}", version(secret), fingerprint(&[key]));
        self.get(Kind::Secret, id, version, || {
            // Which one is handed out is nothing to the pods.
            let kept = data_of(secret).into_iter().filter(|(name, _)| *name != "current");
            let hashed = kept.map(|(name, value)| match name.strip_prefix("password.") {
                Some(token) => {
                    let password = String::from_utf8_lossy(value);
                    (format!("hash.{token}"), TokenHash::of(key, &password).to_hex().into_bytes())
                }
                None => (name.to_owned(), value.to_vec()),
            });
            let hashed = hashed.collect::<BTreeMap<_, _>>();
            let data = hashed.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            secret_value(secret, CREDENTIALS, &data)
        })
    }

    /// Static users, those of them that the judge took.
    pub(super) fn users(&mut self, id: &ObjectId, secret: &Secret, lines: &str) -> Arc<Rendered> {
        self.get(
            Kind::Secret,
            id,
            format!("{} users {}", version(secret), fingerprint(&[lines.as_bytes()])),
            || secret_value(secret, "Opaque", &BTreeMap::from([("users", lines.as_bytes())])),
        )
    }

    /// A ConfigMap's certificates.
    pub(super) fn ca(&mut self, id: &ObjectId, map: &ConfigMap) -> Arc<Rendered> {
        self.get(Kind::ConfigMap, id, version(map), || {
            let ca = map.data.as_ref().and_then(|data| data.get("ca.crt"));
            let data = ca.map(|ca| json!({"ca.crt": ca})).unwrap_or_else(|| json!({}));
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(map), "data": data})
        })
    }

    /// A Namespace's labels.
    pub(super) fn namespace(
        &mut self,
        id: &ObjectId,
        namespace: &PartialObjectMeta<Namespace>,
    ) -> Arc<Rendered> {
        self.get(Kind::Namespace, id, version(namespace), || {
            let metadata = json!({"name": id.name, "labels": namespace.labels()});
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        })
    }
}

fn version<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let meta = object.meta();
    let uid = meta.uid.as_deref().unwrap_or_default();
    match meta.generation {
        Some(generation) => format!("{uid} {generation}"),
        None => format!("{uid} {}", meta.resource_version.as_deref().unwrap_or_default()),
    }
}

/// Of the metadata only what the judge reads.
fn metadata<K: Resource<DynamicType = ()>>(object: &K) -> Value {
    let mut metadata = json!({"name": object.name_any(), "namespace": object.namespace()});
    if let Some(created) = object.creation_timestamp() {
        metadata["creationTimestamp"] = json!(created);
    }
    metadata
}

fn data_of(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    secret.data.iter().flatten().map(|(name, ByteString(value))| (name.as_str(), value.as_slice())).collect()
}

fn secret_value(secret: &Secret, kind: &str, data: &BTreeMap<&str, &[u8]>) -> Value {
    let mut value = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret.name_any(), "namespace": secret.namespace()},
        "type": kind,
    });
    // Text as text: hashes in base64 would compress badly, and a document is easier to read.
    let texts = data.iter().map(|(name, bytes)| Some((*name, std::str::from_utf8(bytes).ok()?)));
    match texts.collect::<Option<BTreeMap<_, _>>>() {
        Some(texts) => value["stringData"] = json!(texts),
        None => {
            let bytes = data.iter().map(|(name, bytes)| (*name, ByteString(bytes.to_vec())));
            value["data"] = json!(bytes.collect::<BTreeMap<_, _>>());
        }
    }
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const KEY: &[u8] = &[7; 32];

    fn secret(kind: &str, data: &[(&str, &str)]) -> Secret {
        let data =
            data.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret {
            type_: Some(kind.to_owned()),
            data: Some(data.collect()),
            metadata: kube::api::ObjectMeta {
                name: Some("s".into()),
                namespace: Some("n".into()),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn id() -> ObjectId {
        ObjectId { namespace: "n".into(), name: "s".into() }
    }

    #[test]
    fn a_deploy_token_is_rendered_as_its_hash() {
        let token = secret(BASIC_AUTH, &[("username", "ci"), ("password", "s3cret")]);
        let rendered = Renderings::default().token(&id(), &token, KEY);
        assert!(!rendered.text.contains("s3cret"));
        assert!(rendered.text.contains(&TokenHash::of(KEY, "s3cret").to_hex()));
    }

    #[test]
    fn passwords_of_a_binding_are_rendered_as_hashes_and_their_ends_stay() {
        let data = [("username", "u"), ("password.1", "s3cret"), ("expires.1", "2026-01-01T00:00:00Z")];
        let rendered = Renderings::default().credentials(&id(), &secret(CREDENTIALS, &data), KEY);
        assert!(!rendered.text.contains("s3cret"));
        assert!(rendered.text.contains("hash.1") && rendered.text.contains("expires.1"));
    }

    #[test]
    fn what_was_not_used_for_a_turn_is_forgotten() {
        let mut renderings = Renderings::default();
        let first = renderings.secret(&id(), &secret("Opaque", &[]));
        renderings.turn();
        assert!(Arc::ptr_eq(&first, &renderings.secret(&id(), &secret("Opaque", &[]))));
        renderings.turn();
        renderings.turn();
        assert!(!Arc::ptr_eq(&first, &renderings.secret(&id(), &secret("Opaque", &[]))));
    }
}
