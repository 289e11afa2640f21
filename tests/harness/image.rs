//! Whole images and artifacts, built here: an index, two platforms, configs, layers.

use bytes::Bytes;
use oci::{Digest, media};
use serde_json::{Value, json};

use crate::blob::{Blob, Layer};
use crate::tool;

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const HELM_CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A manifest or an index, byte for byte as it is pushed.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub media_type: String,
    pub bytes: Bytes,
    pub digest: Digest,
}

impl Manifest {
    /// A document under its `mediaType`, or the OCI manifest's where it has none.
    #[must_use]
    pub fn of(document: &Value) -> Self {
        let media_type = document["mediaType"].as_str().unwrap_or(media::OCI_MANIFEST).to_owned();
        // Indented, as some registries' clients push it: whoever writes JSON again changes these bytes.
        let Blob { bytes, digest } = Blob::of(serde_json::to_vec_pretty(document).expect("JSON is written"));
        Self { media_type, bytes, digest }
    }

    #[must_use]
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// What is pushed together: the manifest that a tag names, the manifests it lists, and all blobs.
#[derive(Clone, Debug)]
pub struct Image {
    /// The index of an image, or the one manifest of an artifact.
    pub top: Manifest,
    /// The manifests of the platforms: linux/amd64, then linux/arm64. Empty for an artifact.
    pub platforms: Vec<Manifest>,
    /// The configs and layers of all platforms.
    pub blobs: Vec<Blob>,
}

/// The media types of one family of images.
struct Family {
    index: &'static str,
    manifest: &'static str,
    config: &'static str,
    layer: &'static str,
}

impl Image {
    /// An OCI image for linux/amd64 and linux/arm64, two layers each. No two calls give the same digests.
    #[must_use]
    pub fn oci() -> Self {
        let index = media::OCI_INDEX;
        Self::build(&Family { index, manifest: media::OCI_MANIFEST, config: OCI_CONFIG, layer: OCI_LAYER })
    }

    /// The same with Docker's media types.
    #[must_use]
    pub fn docker() -> Self {
        let index = media::DOCKER_LIST;
        Self::build(&Family {
            index,
            manifest: media::DOCKER_MANIFEST,
            config: DOCKER_CONFIG,
            layer: DOCKER_LAYER,
        })
    }

    fn build(family: &Family) -> Self {
        let seed = hex::encode(tool::random::<8>());
        let mut image = Self { top: Manifest::of(&Value::Null), platforms: Vec::new(), blobs: Vec::new() };
        let mut entries = Vec::new();
        for architecture in ["amd64", "arm64"] {
            let manifest = image.platform(family, architecture, &seed);
            let mut entry = manifest.descriptor();
            entry["platform"] = json!({"architecture": architecture, "os": "linux"});
            entries.push(entry);
            image.platforms.push(manifest);
        }
        image.top =
            Manifest::of(&json!({"schemaVersion": 2, "mediaType": family.index, "manifests": entries}));
        image
    }

    fn platform(&mut self, family: &Family, architecture: &str, seed: &str) -> Manifest {
        let release = format!("NAME=harness\nBUILD={seed}\n");
        // A second layer that does not compress, so that it has the size of a real one.
        let content = Blob::random(300_000).bytes;
        let layers = [
            Layer::of(&[
                ("etc/os-release", 0o644, release.as_bytes()),
                ("etc/arch", 0o644, architecture.as_bytes()),
            ]),
            Layer::of(&[("usr/share/harness/content", 0o644, content.as_ref())]),
        ];
        let config = Blob::json(&json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2023-11-14T22:13:20Z",
            "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": layers.each_ref().map(|layer| layer.diff_id)},
            "history": [{"created_by": "harness"}, {"created_by": "harness"}],
        }));
        let manifest = Manifest::of(&json!({
            "schemaVersion": 2,
            "mediaType": family.manifest,
            "config": config.descriptor(family.config),
            "layers": layers.each_ref().map(|layer| layer.blob.descriptor(family.layer)),
        }));
        self.blobs.push(config);
        self.blobs.extend(layers.map(|layer| layer.blob));
        manifest
    }

    /// A Helm chart, as `helm push` makes it.
    #[must_use]
    pub fn helm_chart(name: &str) -> Self {
        let about = format!("apiVersion: v2\nname: {name}\nversion: 0.1.0\n");
        let chart = Layer::of(&[(&format!("{name}/Chart.yaml"), 0o644, about.as_bytes())]).blob;
        let config = Blob::json(&json!({"apiVersion": "v2", "name": name, "version": "0.1.0"}));
        let top = Manifest::of(&json!({
            "schemaVersion": 2,
            "config": config.descriptor(HELM_CONFIG),
            "layers": [chart.descriptor(HELM_CHART)],
        }));
        Self { top, platforms: Vec::new(), blobs: vec![config, chart] }
    }

    /// An OCI artifact of one type whose only layer are these bytes.
    #[must_use]
    pub fn artifact(artifact_type: &str, layer: Blob) -> Self {
        Self::attached(artifact_type, layer, None)
    }

    /// An artifact that refers to `subject`, as signatures and SBOMs do.
    #[must_use]
    pub fn referrer(artifact_type: &str, layer: Blob, subject: &Manifest) -> Self {
        Self::attached(artifact_type, layer, Some(subject))
    }

    fn attached(artifact_type: &str, layer: Blob, subject: Option<&Manifest>) -> Self {
        let config = Blob::of("{}");
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": config.descriptor(EMPTY),
            "layers": [layer.descriptor("application/octet-stream")],
        });
        if let Some(subject) = subject {
            document["subject"] = subject.descriptor();
        }
        Self { top: Manifest::of(&document), platforms: Vec::new(), blobs: vec![config, layer] }
    }

    /// The digest that a pull by tag resolves to.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.top.digest
    }
}
