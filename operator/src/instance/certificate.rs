//! The certificate of the pods' own port: what they wait for, in words. Kubelet says only that they are being made.

use crds::DependencyProxy;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;
use kube::{Api, Client};

use super::plan::{child, tls_secret};
use crate::optional::{Optional, certificate};
use crate::world::id_of;

/// Who writes the Secret.
enum Writer {
    /// Whoever wrote the DependencyProxy.
    Person,
    /// With what it says of its Certificate, if anything.
    CertManager(Option<String>),
    /// cert-manager, which this cluster does not have.
    Nobody,
}

/// What is missing of the certificate that pods cannot be without.
///
/// # Errors
/// When the API server cannot be asked.
pub(super) async fn missing(
    proxy: &DependencyProxy,
    optional: Optional,
    client: &Client,
) -> Result<Option<String>, kube::Error> {
    let id = id_of(proxy);
    let name = child(&id);
    let Some(secret_name) = tls_secret(&proxy.spec, &name) else { return Ok(None) };
    let api = Api::<Secret>::namespaced(client.clone(), &id.namespace);
    let secret = api.get_opt(&secret_name).await?;
    let is_issued = proxy.spec.tls.as_ref().is_some_and(|tls| tls.issuer_ref.is_some());
    let writer = match (is_issued, optional.cert_manager) {
        (false, _) => Writer::Person,
        (true, false) => Writer::Nobody,
        (true, true) => {
            let api = Api::namespaced_with(client.clone(), &id.namespace, &certificate());
            let certificate = if secret.is_none() { api.get_opt(&name).await? } else { None };
            Writer::CertManager(certificate.as_ref().and_then(said))
        }
    };
    Ok(words(&format!("{}/{secret_name}", id.namespace), secret.as_ref(), &writer))
}

fn words(secret_id: &str, secret: Option<&Secret>, writer: &Writer) -> Option<String> {
    let Some(secret) = secret else {
        return Some(match writer {
            Writer::Person => format!("there is no Secret {secret_id} with the certificate; create it"),
            Writer::Nobody => format!(
                "there is no Secret {secret_id}, which cert-manager would write, and this cluster has no cert-manager"
            ),
            Writer::CertManager(said) => format!(
                "cert-manager has not written Secret {secret_id} yet: {}; see kubectl describe certificate,certificaterequest",
                said.as_deref().unwrap_or("it says nothing of the Certificate")
            ),
        });
    };
    let has =
        |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|v| !v.0.is_empty());
    let key = ["tls.crt", "tls.key"].into_iter().find(|key| !has(key))?;
    Some(format!("Secret {secret_id} has no {key}; add it"))
}

/// What cert-manager says of a Certificate: why it failed, if it did, else why it is not ready.
pub(super) fn said(certificate: &DynamicObject) -> Option<String> {
    let conditions = certificate.data["status"]["conditions"].as_array()?;
    let conditions =
        conditions.iter().filter_map(|value| serde_json::from_value::<Condition>(value.clone()).ok());
    // With server-side apply it leaves `Issuing` there when all is done.
    let is_trouble = |condition: &Condition| condition.status == "False" && condition.reason != "Issued";
    let conditions = conditions.filter(is_trouble).collect::<Vec<_>>();
    let of = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    of("Issuing")
        .or_else(|| of("Ready"))
        .map(|condition| format!("{} {}", condition.reason, condition.message))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(keys: &[&str]) -> Secret {
        let data =
            keys.iter().map(|key| ((*key).to_owned(), "eA==")).collect::<std::collections::BTreeMap<_, _>>();
        serde_json::from_value(json!({"metadata": {}, "data": data})).unwrap()
    }

    fn issued(conditions: &[(&str, &str, &str, &str)]) -> Writer {
        let conditions = conditions.iter().map(|(kind, status, reason, message)| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2026-01-02T03:04:05Z"})
        });
        let status = json!({"conditions": conditions.collect::<Vec<_>>()});
        let value = json!({"metadata": {}, "status": status});
        Writer::CertManager(said(&serde_json::from_value(value).unwrap()))
    }

    #[test]
    fn what_pods_wait_for_is_said_with_what_to_do() {
        let see = "see kubectl describe certificate,certificaterequest";
        let waits = ("Ready", "False", "DoesNotExist", "Issuing certificate as Secret does not exist");
        let failed = ("Issuing", "False", "Failed", "the account is refused");
        for (secret, writer, expected) in [
            (None, Writer::Person, "there is no Secret n/tls with the certificate; create it".to_owned()),
            (
                None,
                Writer::Nobody,
                "there is no Secret n/tls, which cert-manager would write, and this cluster has no cert-manager"
                    .to_owned(),
            ),
            (
                None,
                Writer::CertManager(None),
                format!("cert-manager has not written Secret n/tls yet: it says nothing of the Certificate; {see}"),
            ),
            (
                None,
                issued(&[waits]),
                format!(
                    "cert-manager has not written Secret n/tls yet: DoesNotExist Issuing certificate as Secret does not exist; {see}"
                ),
            ),
            (
                None,
                issued(&[waits, failed]),
                format!("cert-manager has not written Secret n/tls yet: Failed the account is refused; {see}"),
            ),
            (Some(secret(&["tls.key"])), Writer::Person, "Secret n/tls has no tls.crt; add it".to_owned()),
            (Some(secret(&["tls.crt"])), Writer::Person, "Secret n/tls has no tls.key; add it".to_owned()),
        ] {
            assert_eq!(words("n/tls", secret.as_ref(), &writer), Some(expected));
        }
        assert_eq!(words("n/tls", Some(&secret(&["tls.crt", "tls.key"])), &Writer::Person), None);
    }
}
