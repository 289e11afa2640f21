//! Reading a manifest just far enough to refuse what two clients would read in two ways.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

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
    #[error(
        "clients would read the manifest in two ways: it has layers and manifests, or the same key twice"
    )]
    Ambiguous,
    #[error("the manifest has no media type")]
    NoMediaType,
}

/// The keys by which clients tell what a document is.
#[derive(Default)]
struct Document {
    media_type: Option<String>,
    has_layers: bool,
    has_config: bool,
    has_manifests: bool,
    /// Some key stands there twice: clients differ in which one counts.
    repeats: bool,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Document;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut document = Document::default();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let key = folded(&key);
            if key == "mediatype" {
                document.media_type = map.next_value()?;
            } else {
                // `null` is as good as nothing.
                let is_there = map.next_value::<Option<IgnoredAny>>()?.is_some();
                match key.as_str() {
                    "layers" => document.has_layers |= is_there,
                    "config" => document.has_config |= is_there,
                    "manifests" => document.has_manifests |= is_there,
                    _ => {}
                }
            }
            document.repeats |= !seen.insert(key);
        }
        Ok(document)
    }
}

/// A key as Go's encoding/json compares it, and so containerd and docker: without regard to case, and with the two
/// letters beyond ASCII that fold to ASCII ones.
fn folded(key: &str) -> String {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}

impl Manifest {
    /// Checks a manifest as it came with this `Content-Type`.
    ///
    /// # Errors
    /// Documents that clients could understand in two ways: GHSA-qq97-vm5h-rrhg (containerd),
    /// GHSA-5j5w-g665-5m35, GHSA-xmmx-7jpf-fx42, and what is no manifest at all.
    pub fn check(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        let document: Document = serde_json::from_slice(bytes).map_err(|_| ManifestError::NotJson)?;
        if document.repeats || document.has_manifests && (document.has_layers || document.has_config) {
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
            (None, None) if document.has_manifests => Ok(Self { media_type: media::OCI_INDEX.to_owned() }),
            (None, None) if document.has_layers => Ok(Self { media_type: media::OCI_MANIFEST.to_owned() }),
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
    fn keys_count_whatever_their_case_because_go_reads_them_so() {
        for text in [
            r#"{"layers":[],"Manifests":[]}"#,
            r#"{"LAYERS":[],"manifests":[]}"#,
            r#"{"config":{},"manifest\u017f":[]}"#,
            r#"{"mediaType":"a/b","MediaType":"c/d","layers":[]}"#,
            r#"{"layers":[],"Layers":[]}"#,
            r#"{"layers":[],"layers":[]}"#,
            r#"{"schemaVersion":2,"SchemaVersion":1,"layers":[]}"#,
        ] {
            let checked = Manifest::check(text.as_bytes(), Some(media::OCI_MANIFEST));
            assert_eq!(checked, Err(ManifestError::Ambiguous), "{text}");
        }
        let other = r#"{"MediaType":"a/b","layers":[]}"#;
        assert!(matches!(
            Manifest::check(other.as_bytes(), Some(media::OCI_MANIFEST)),
            Err(ManifestError::MediaTypeMismatch { .. })
        ));
        // Below the top level other rules hold, and null is nothing.
        let good = r#"{"layers":[{"a":1,"A":2}],"manifests":null,"annotations":{"k":"v","K":"V"}}"#;
        assert!(Manifest::check(good.as_bytes(), Some(media::OCI_MANIFEST)).is_ok());
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
