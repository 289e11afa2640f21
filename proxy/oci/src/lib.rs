//! The words of the registry protocol: names, tags, digests, references, manifests, media types.
//!
//! Pure: no I/O, no clock, nothing of ours. A value of one of these types is well-formed, so whatever
//! builds a storage key or an upstream URL from them needs no check of its own.
//! Source: OCI distribution-spec 1.1, image-spec 1.1, Docker registry API v2.

mod digest;
mod manifest;
pub mod media;
mod name;
mod reference;

pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestError};
pub use name::{Name, NameError};
pub use reference::{Reference, ReferenceError, Tag};
