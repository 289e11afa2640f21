//! Media types of manifests.

/// A multi-platform index of the OCI image-spec.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An image manifest of the OCI image-spec; artifacts and Helm charts use it too.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker's multi-platform list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The artifact manifest of image-spec 1.1's release candidates; still met in registries.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// What we accept from upstream, always all of it: an index is passed on as it is, never a platform chosen for the client.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
application/vnd.oci.artifact.manifest.v1+json, */*;q=0.1";

/// A `Content-Type` without its parameters, lower case.
#[must_use]
pub fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_do_not_count() {
        assert_eq!(essence("Application/vnd.oci.image.index.v1+json; charset=utf-8"), OCI_INDEX);
        assert_eq!(essence(""), "");
    }
}
