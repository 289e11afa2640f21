//! Blobs with real content.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use oci::{Algorithm, Digest};

/// Bytes that a registry keeps under their digest.
#[derive(Clone, Debug)]
pub struct Blob {
    pub bytes: Bytes,
    pub digest: Digest,
}

impl Blob {
    /// These bytes, under their sha256 digest.
    #[must_use]
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        Self::with(Algorithm::Sha256, bytes)
    }

    /// These bytes, under their digest of `algorithm`.
    #[must_use]
    pub fn with(algorithm: Algorithm, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::of(algorithm, &bytes);
        Self { bytes, digest }
    }

    /// `size` random bytes.
    #[must_use]
    pub fn random(size: usize) -> Self {
        let mut bytes = vec![0; size];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
        Self::of(bytes)
    }

    /// JSON text, as configs are.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self::of(value.to_string())
    }

    /// The descriptor by which a manifest refers to it.
    #[must_use]
    pub fn descriptor(&self, media_type: &str) -> serde_json::Value {
        serde_json::json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A layer: a `tar.gz` of files, and the digest of the tar inside, which a config lists.
#[derive(Clone, Debug)]
pub struct Layer {
    pub blob: Blob,
    pub diff_id: Digest,
}

impl Layer {
    /// A layer with these files: path, mode, content.
    ///
    /// # Panics
    /// If a path is longer than 100 bytes.
    #[must_use]
    pub fn of(files: &[(&str, u32, &[u8])]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, mode, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(1_700_000_000);
            header.set_entry_type(tar::EntryType::Regular);
            tar.append_data(&mut header, path, *content).expect("a short path");
        }
        let tar = tar.into_inner().expect("memory takes it");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar).expect("memory takes it");
        let blob = Blob::of(gzip.finish().expect("memory takes it"));
        Self { blob, diff_id: Digest::of(Algorithm::Sha256, &tar) }
    }
}
