//! The pull secret on service accounts.
//!
//! `imagePullSecrets` is one list that belongs to nobody: it is read, changed and written with the version that was
//! read, and what was added is taken back.

use std::collections::BTreeSet;

use config::is_object_name;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

/// Tries when somebody else writes at the same time.
const TRIES: usize = 5;

/// A service account and a pull secret on it.
pub(super) type Grant = (String, String);

/// The grants that an annotation speaks of: `account=secret`, with commas.
pub(super) fn read(text: &str) -> BTreeSet<Grant> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(account, secret)| (account.to_owned(), secret.to_owned())).collect()
}

/// The annotation that speaks of grants.
pub(super) fn write(grants: &BTreeSet<Grant>) -> String {
    grants.iter().map(|(account, secret)| format!("{account}={secret}")).collect::<Vec<_>>().join(",")
}

/// Adds or takes back a pull secret. `false` where there is no such service account.
///
/// # Errors
/// When the API server refuses.
pub(super) async fn set(
    client: &Client,
    namespace: &str,
    (account, secret): &Grant,
    wanted: bool,
) -> Result<bool, kube::Error> {
    if !is_object_name(account) {
        return Ok(false);
    }
    let api = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let mut tries = 0;
    loop {
        let Some(found) = api.get_opt(account).await? else { return Ok(false) };
        let mut names = found.image_pull_secrets.unwrap_or_default();
        let has = names.iter().any(|reference| reference.name == *secret);
        if has == wanted {
            return Ok(true);
        }
        if wanted {
            names.push(k8s_openapi::api::core::v1::LocalObjectReference { name: secret.clone() });
        } else {
            names.retain(|reference| reference.name != *secret);
        }
        let patch = json!({
            "metadata": {"resourceVersion": found.metadata.resource_version},
            "imagePullSecrets": names,
        });
        tries += 1;
        match api.patch_metadata(account, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.is_conflict() && tries < TRIES => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(false),
            result => return result.map(|_| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_as_it_was() {
        let grants =
            BTreeSet::from([("default".to_owned(), "dp".to_owned()), ("ci".to_owned(), "dp".to_owned())]);
        assert_eq!(read(&write(&grants)), grants);
        assert_eq!(read(""), BTreeSet::new());
    }
}
