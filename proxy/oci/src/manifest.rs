//! Reading a manifest just far enough to refuse what two clients would read in two ways.

use serde::Deserialize;

use crate::media;

/// The largest manifest that is taken from upstream: 4 MiB, as the distribution-spec says registries should
/// accept, and below the 4,393,216 bytes over which containerd refuses one.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// What is known of a manifest beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The type to answer with: `Content-Type` without parameters, or the document's own where upstream sent none.
    pub media_type: String,
}

/// Why a document cannot be served as a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is no JSON object")]
    NotJson,
    #[error("the manifest says it is {document}, but was sent as {header}")]
    MediaTypeMismatch { document: String, header: String },
    #[error("the manifest has both layers and manifests")]
    Ambiguous,
    #[error("the manifest has no media type")]
    NoMediaType,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    layers: Option<serde_json::Value>,
    config: Option<serde_json::Value>,
    manifests: Option<serde_json::Value>,
}

impl Manifest {
    /// Checks a manifest as it came with this `Content-Type`.
    ///
    /// # Errors
    /// Documents that clients could understand in two ways: GHSA-qq97-vm5h-rrhg (containerd),
    /// GHSA-5j5w-g665-5m35, GHSA-xmmx-7jpf-fx42, and what is no manifest at all.
    pub fn check(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        let document: Document = serde_json::from_slice(bytes).map_err(|_| ManifestError::NotJson)?;
        if document.manifests.is_some() && (document.layers.is_some() || document.config.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        let header = content_type.map(media::essence).filter(|t| !is_generic(t));
        match (document.media_type, header) {
            (Some(document), Some(header)) if !document.eq_ignore_ascii_case(&header) => {
                Err(ManifestError::MediaTypeMismatch { document, header })
            }
            (_, Some(header)) => Ok(Self { media_type: header }),
            (Some(document), None) => Ok(Self { media_type: document }),
            // OCI documents may leave mediaType out; their shape then tells them apart.
            (None, None) if document.manifests.is_some() => {
                Ok(Self { media_type: media::OCI_INDEX.to_owned() })
            }
            (None, None) if document.layers.is_some() => {
                Ok(Self { media_type: media::OCI_MANIFEST.to_owned() })
            }
            (None, None) => Err(ManifestError::NoMediaType),
        }
    }
}

/// Types that plain file servers send for any JSON document: they say nothing.
fn is_generic(media_type: &str) -> bool {
    matches!(media_type, "" | "application/json" | "application/octet-stream" | "text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_manifest_that_is_also_an_index_is_refused() {
        let both = br#"{"manifests":[],"layers":[]}"#;
        assert_eq!(Manifest::check(both, Some(media::OCI_INDEX)), Err(ManifestError::Ambiguous));
    }

    #[test]
    fn a_media_type_that_contradicts_the_header_is_refused() {
        let text = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX);
        assert!(matches!(
            Manifest::check(text.as_bytes(), Some(media::OCI_MANIFEST)),
            Err(ManifestError::MediaTypeMismatch { .. })
        ));
    }

    #[test]
    fn the_header_decides_then_the_document_then_the_shape() {
        let check = |text: &str, header| Manifest::check(text.as_bytes(), header).map(|m| m.media_type);
        assert_eq!(
            check(r#"{"layers":[]}"#, Some(media::DOCKER_MANIFEST)),
            Ok(media::DOCKER_MANIFEST.to_owned())
        );
        assert_eq!(check(r#"{"mediaType":"x/y"}"#, Some("application/json")), Ok("x/y".to_owned()));
        assert_eq!(check(r#"{"manifests":[]}"#, None), Ok(media::OCI_INDEX.to_owned()));
        assert_eq!(check(r#"{"layers":[]}"#, None), Ok(media::OCI_MANIFEST.to_owned()));
        assert_eq!(check("{}", None), Err(ManifestError::NoMediaType));
        assert_eq!(check("[1]", None), Err(ManifestError::NotJson));
        assert_eq!(check("<html>", None), Err(ManifestError::NotJson));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_check_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), header in proptest::option::of("\\PC{0,40}")) {
            let _ = Manifest::check(&bytes, header.as_deref());
        }
    }
}
