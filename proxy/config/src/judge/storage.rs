//! Where an instance keeps blobs.

use crds::DependencyProxySpec;

use super::reference::{self, local};
use super::report::Report;
use super::secret;
use super::set::Set;
use crate::{Reason, S3, Storage};

pub(super) fn judge(
    report: &mut Report<'_>,
    namespace: &str,
    spec: &DependencyProxySpec,
    set: &Set<'_>,
) -> Option<Storage> {
    let storage = &spec.storage;
    let members = [
        storage.s3.is_some(),
        storage.gcs.is_some(),
        storage.azure.is_some(),
        storage.persistent_volume_claim.is_some(),
        storage.ephemeral.is_some(),
    ];
    if members.iter().filter(|present| **present).count() != 1 {
        report.error(
            "spec.storage",
            "must have exactly one of s3, gcs, azure, persistentVolumeClaim and ephemeral",
        );
        return None;
    }
    if storage.gcs.is_some() {
        report.error_for(Reason::Unsupported, "spec.storage.gcs", "is not supported yet; use s3, which Google Cloud Storage speaks with HMAC keys, or another storage");
        return None;
    }
    if storage.azure.is_some() {
        report.error_for(
            Reason::Unsupported,
            "spec.storage.azure",
            "is not supported yet; use s3 or persistentVolumeClaim",
        );
        return None;
    }
    let several = spec.autoscaling.is_some() || spec.replicas.is_some_and(|replicas| replicas > 1);
    if storage.ephemeral.is_some() && several {
        report.error("spec.replicas", "must be 1 with ephemeral storage; use s3 for more replicas");
    }
    if storage.persistent_volume_claim.is_some() && several {
        report.error("spec.replicas", "must be 1 with a volume; use s3 for more replicas");
    }
    if let Some(claim) = &storage.persistent_volume_claim {
        super::instance::size(report, "spec.storage.persistentVolumeClaim.size", &claim.size);
        report.count("spec.storage.persistentVolumeClaim.accessModes", claim.access_modes.len(), 0..=4);
    }
    match &storage.s3 {
        Some(bucket) => s3(report, namespace, bucket, set).map(Storage::S3),
        None => Some(Storage::Folder),
    }
}

fn s3(report: &mut Report<'_>, namespace: &str, spec: &crds::S3, set: &Set<'_>) -> Option<S3> {
    report.length("spec.storage.s3.bucket", &spec.bucket, 3..=63);
    let endpoint = spec.endpoint.as_ref().and_then(|text| {
        let field = "spec.storage.s3.endpoint";
        let url = super::instance::http_url(report, field, text)?;
        let anonymous = url.username().is_empty() && url.password().is_none() && !text.contains('@');
        report.check(
            anonymous,
            field,
            "must have no user name or password; put them into credentialsSecretRef",
        );
        Some(url)
    });
    let prefix = spec.prefix.as_deref().unwrap_or("p");
    let well_formed =
        prefix.len() <= 255 && !prefix.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    report.check(
        well_formed,
        "spec.storage.s3.prefix",
        "must be 1 to 255 characters without slashes at its ends and without empty parts",
    );
    let credentials = spec.credentials_secret_ref.as_ref().map(|reference| {
        secret::s3(report, "spec.storage.s3.credentialsSecretRef", set, &local(reference, namespace))
    });
    let ca = spec.ca_config_map_ref.as_ref().map(|reference| {
        reference::ca(report, "spec.storage.s3.caConfigMapRef", set, &local(reference, namespace))
    });
    // A reference that leads nowhere makes the store unreachable: without it nothing is kept.
    let (credentials, ca) = match (credentials, ca) {
        (Some(None), _) | (_, Some(None)) => return None,
        (credentials, ca) => (credentials.flatten(), ca.flatten()),
    };
    Some(S3 {
        bucket: spec.bucket.clone(),
        region: spec.region.clone(),
        endpoint,
        prefix: spec.prefix.clone(),
        path_style: spec.path_style,
        credentials,
        ca,
    })
}
