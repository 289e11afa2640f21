//! The registry's content: bytes by repository and digest, and tags.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use bytes::Bytes;
use oci::{Algorithm, Digest, media};
use serde_json::json;

/// An image as it was put into the registry.
#[derive(Clone, Debug)]
pub struct Image {
    pub digest: Digest,
    pub manifest: Bytes,
    pub config: Digest,
    pub layers: Vec<Digest>,
}

/// A multi-platform index as it was put into the registry.
#[derive(Clone, Debug)]
pub struct Index {
    pub digest: Digest,
    pub manifest: Bytes,
    /// linux/amd64, then linux/arm64.
    pub images: Vec<Image>,
}

/// `length` bytes that look random and differ with the seed, so that no two blobs of a test are equal by accident.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).max(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[derive(Default)]
pub(super) struct Content(Mutex<HashMap<String, Repository>>);

#[derive(Default)]
struct Repository {
    blobs: HashMap<Digest, Bytes>,
    manifests: HashMap<Digest, Manifest>,
    tags: BTreeMap<String, Digest>,
}

#[derive(Clone)]
pub(super) struct Manifest {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
    pub(super) media_type: String,
}

impl Content {
    fn repository<T>(&self, name: &str, change: impl FnOnce(&mut Repository) -> T) -> T {
        change(self.0.lock().unwrap().entry(name.to_owned()).or_default())
    }

    pub(super) fn put_blob(&self, repository: &str, bytes: Bytes, algorithm: Algorithm) -> Digest {
        let digest = Digest::of(algorithm, &bytes);
        self.repository(repository, |r| r.blobs.insert(digest, bytes));
        digest
    }

    pub(super) fn put_manifest(&self, repository: &str, bytes: Bytes, media_type: &str) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let manifest = Manifest { digest, bytes, media_type: media_type.to_owned() };
        self.repository(repository, |r| r.manifests.insert(digest, manifest));
        digest
    }

    pub(super) fn put_image(&self, repository: &str, architecture: &str, layers: &[Vec<u8>]) -> Image {
        let put = |bytes: Bytes| (self.put_blob(repository, bytes.clone(), Algorithm::Sha256), bytes.len());
        let layers = layers.iter().map(|l| put(Bytes::from(l.clone()))).collect::<Vec<_>>();
        let ids = layers.iter().map(|(digest, _)| digest.to_string()).collect::<Vec<_>>();
        let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}});
        let (config, config_size) = put(config.to_string().into());
        let descriptors = layers.iter().map(|(digest, size)| {
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(), "size": size})
        });
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": config_size},
            "layers": descriptors.collect::<Vec<_>>(),
        });
        let manifest = Bytes::from(document.to_string());
        let digest = self.put_manifest(repository, manifest.clone(), media::OCI_MANIFEST);
        Image { digest, manifest, config, layers: layers.into_iter().map(|(digest, _)| digest).collect() }
    }

    pub(super) fn put_index(&self, repository: &str, tag: &str) -> Index {
        let images = ["amd64", "arm64"].map(|architecture| {
            let layer = format!("layer of {repository}:{tag} for {architecture}").into_bytes();
            (architecture, self.put_image(repository, architecture, &[layer]))
        });
        let manifests = images.iter().map(|(architecture, image)| {
            json!({"mediaType": media::OCI_MANIFEST, "digest": image.digest.to_string(), "size": image.manifest.len(),
                   "platform": {"architecture": architecture, "os": "linux"}})
        });
        let document = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests.collect::<Vec<_>>()});
        let manifest = Bytes::from(document.to_string());
        let digest = self.put_manifest(repository, manifest.clone(), media::OCI_INDEX);
        Index { digest, manifest, images: images.into_iter().map(|(_, image)| image).collect() }
    }

    pub(super) fn tag(&self, repository: &str, tag: &str, digest: Digest) {
        self.repository(repository, |r| r.tags.insert(tag.to_owned(), digest));
    }

    pub(super) fn remove(&self, repository: &str, reference: &str) {
        self.repository(repository, |r| {
            r.tags.remove(reference);
            if let Ok(digest) = Digest::parse(reference) {
                r.blobs.remove(&digest);
                r.manifests.remove(&digest);
            }
        });
    }

    pub(super) fn find_manifest(&self, repository: &str, reference: &str) -> Option<Manifest> {
        self.repository(repository, |r| {
            let digest = r.tags.get(reference).copied().or_else(|| Digest::parse(reference).ok())?;
            r.manifests.get(&digest).cloned()
        })
    }

    pub(super) fn find_blob(&self, repository: &str, digest: &str) -> Option<(Digest, Bytes)> {
        let digest = Digest::parse(digest).ok()?;
        self.repository(repository, |r| r.blobs.get(&digest).map(|bytes| (digest, bytes.clone())))
    }

    pub(super) fn tags(&self, repository: &str) -> Vec<String> {
        self.repository(repository, |r| r.tags.keys().cloned().collect())
    }

    /// The descriptors of manifests whose `subject` is this digest.
    pub(super) fn referrers(&self, repository: &str, digest: &str) -> Vec<serde_json::Value> {
        self.repository(repository, |r| {
            let mut found = Vec::new();
            for manifest in r.manifests.values() {
                let document = serde_json::from_slice(&manifest.bytes).unwrap_or(serde_json::Value::Null);
                if document["subject"]["digest"] == digest {
                    let descriptor = json!({"mediaType": manifest.media_type, "digest": manifest.digest.to_string(),
                        "size": manifest.bytes.len(), "artifactType": document["artifactType"]});
                    found.push(descriptor);
                }
            }
            found
        })
    }
}
