//! The certificate of the pods' own port, in words: what pods wait for, since kubelet says only that they are being made,
//! and what cert-manager says of it.

use crds::DependencyProxy;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt};

use super::exposure::{Word, conditions};
use super::plan::{child, tls_secret};
use crate::optional::{Optional, certificate};
use crate::world::id_of;

/// Why cert-manager has a certificate made anew of which the old one is no good to clients.
const USELESS: [&str; 3] = ["InvalidKeyPair", "InvalidCertificate", "Expired"];

/// How it is with the certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// What is missing of it: no pod starts without.
    pub missing: Option<String>,
    /// What its maker says of it.
    pub word: Word,
}

/// Who writes the Secret.
enum Writer {
    /// Whoever wrote the DependencyProxy.
    Person,
    /// With the Certificate that it was asked for.
    CertManager(Option<Box<DynamicObject>>),
    /// cert-manager, which this cluster does not have.
    Nobody,
}

/// Looks at the Secret, and at the Certificate that it comes from.
///
/// # Errors
/// When the API server cannot be asked.
pub(super) async fn look(
    proxy: &DependencyProxy,
    optional: Optional,
    client: &Client,
) -> Result<Standing, kube::Error> {
    let id = id_of(proxy);
    let name = child(&id);
    let Some(secret_name) = tls_secret(&proxy.spec, &name) else {
        return Ok(Standing { missing: None, word: Word::Yes });
    };
    let secret = Api::<Secret>::namespaced(client.clone(), &id.namespace).get_opt(&secret_name).await?;
    let is_issued = proxy.spec.tls.as_ref().is_some_and(|tls| tls.issuer_ref.is_some());
    let writer = match (is_issued, optional.cert_manager) {
        (false, _) => Writer::Person,
        (true, false) => Writer::Nobody,
        (true, true) => {
            let api = Api::namespaced_with(client.clone(), &id.namespace, &certificate());
            Writer::CertManager(api.get_opt(&name).await?.map(Box::new))
        }
    };
    Ok(standing(&format!("{}/{secret_name}", id.namespace), secret.as_ref(), &writer))
}

fn standing(secret_id: &str, secret: Option<&Secret>, writer: &Writer) -> Standing {
    let certificate = match writer {
        Writer::CertManager(certificate) => certificate.as_deref(),
        Writer::Person | Writer::Nobody => None,
    };
    let said =
        certificate.map(|certificate| conditions(&certificate.data["status"]["conditions"], certificate));
    let said = said.unwrap_or_default();
    let missing = missing(secret_id, secret, writer, why(&said));
    let word = certificate.map(|certificate| word(&certificate.name_any(), &said, missing.is_none()));
    Standing { missing, word: word.unwrap_or(Word::Yes) }
}

fn missing(secret_id: &str, secret: Option<&Secret>, writer: &Writer, why: Option<String>) -> Option<String> {
    let Some(secret) = secret else {
        return Some(match writer {
            Writer::Person => format!("there is no Secret {secret_id} with the certificate; create it"),
            Writer::Nobody => format!(
                "there is no Secret {secret_id}, which cert-manager would write, and this cluster has no cert-manager"
            ),
            Writer::CertManager(_) => format!(
                "cert-manager has not written Secret {secret_id} yet: {}; see kubectl describe certificate,certificaterequest",
                why.as_deref().unwrap_or("it says nothing of the Certificate")
            ),
        });
    };
    let has =
        |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|v| !v.0.is_empty());
    let key = ["tls.crt", "tls.key"].into_iter().find(|key| !has(key))?;
    Some(format!("Secret {secret_id} has no {key}; add it"))
}

/// While the next certificate is made, for a name that was added or since this one ends, the one that is there serves.
fn word(name: &str, said: &[Condition], is_there: bool) -> Word {
    let ready = said.iter().find(|condition| condition.type_ == "Ready");
    let is_served = |ready: &Condition| is_there && !USELESS.contains(&ready.reason.as_str());
    match (ready, why(said)) {
        (Some(ready), None) if ready.status == "True" => Word::Yes,
        (Some(ready), Some(why)) if ready.status == "True" => {
            Word::Remark(format!("Certificate {name} is not renewed: {why}"))
        }
        (Some(ready), Some(why)) if ready.status == "False" && is_served(ready) => Word::Remark(format!(
            "the certificate is served as it was, a new one is awaited: Certificate {name}: {why}"
        )),
        (Some(ready), Some(why)) if ready.status == "False" => {
            Word::No("CertificateNotReady", format!("Certificate {name}: {why}"))
        }
        _ => Word::Remark(format!("cert-manager has not said yet whether Certificate {name} is ready")),
    }
}

/// What cert-manager has against a Certificate: why it failed, if it did, else why it is not ready.
fn why(said: &[Condition]) -> Option<String> {
    // With server-side apply it leaves `Issuing` there when all is done.
    let is_trouble = |condition: &&Condition| condition.status == "False" && condition.reason != "Issued";
    let of = |kind: &str| said.iter().filter(is_trouble).find(|condition| condition.type_ == kind);
    let condition = of("Issuing").or_else(|| of("Ready"))?;
    Some(format!("{} {}", condition.reason, condition.message))
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

    type Said = (&'static str, &'static str, &'static str, Option<i64>);

    /// A Certificate of generation 2 of which this is said.
    fn issued(said: &[Said]) -> Writer {
        let conditions = said.iter().map(|(kind, status, reason, generation)| {
            json!({"type": kind, "status": status, "reason": reason, "message": format!("what {reason} means"),
                "observedGeneration": generation, "lastTransitionTime": "2026-01-02T03:04:05Z"})
        });
        let status = json!({"conditions": conditions.collect::<Vec<_>>()});
        let metadata = json!({"name": "main", "namespace": "n", "generation": 2});
        let value = json!({"metadata": metadata, "status": status});
        Writer::CertManager(serde_json::from_value(value).unwrap())
    }

    const READY: Said = ("Ready", "True", "Ready", Some(2));

    #[test]
    fn what_pods_wait_for_is_said_with_what_to_do() {
        let see = "see kubectl describe certificate,certificaterequest";
        let waits = ("Ready", "False", "DoesNotExist", None);
        let failed = ("Issuing", "False", "Failed", None);
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
                    "cert-manager has not written Secret n/tls yet: DoesNotExist what DoesNotExist means; {see}"
                ),
            ),
            (
                None,
                issued(&[waits, failed]),
                format!("cert-manager has not written Secret n/tls yet: Failed what Failed means; {see}"),
            ),
            (Some(secret(&["tls.key"])), Writer::Person, "Secret n/tls has no tls.crt; add it".to_owned()),
            (Some(secret(&["tls.crt"])), Writer::Person, "Secret n/tls has no tls.key; add it".to_owned()),
        ] {
            assert_eq!(standing("n/tls", secret.as_ref(), &writer).missing, Some(expected));
        }
        let well = Standing { missing: None, word: Word::Yes };
        assert_eq!(standing("n/tls", Some(&secret(&["tls.crt", "tls.key"])), &Writer::Person), well);
    }

    #[test]
    fn a_certificate_that_is_there_serves_while_the_next_one_is_made() {
        let there = secret(&["tls.crt", "tls.key"]);
        let awaited = |why: &str| {
            Word::Remark(format!(
                "the certificate is served as it was, a new one is awaited: Certificate main: {why}"
            ))
        };
        let no = |text: &str| Word::No("CertificateNotReady", format!("Certificate main: {text}"));
        let changed = ("Ready", "False", "RequestChanged", Some(2));
        for (secret, said, expected) in [
            (Some(&there), vec![changed], awaited("RequestChanged what RequestChanged means")),
            (
                Some(&there),
                vec![changed, ("Issuing", "True", "RequestChanged", None)],
                awaited("RequestChanged what RequestChanged means"),
            ),
            (
                Some(&there),
                vec![changed, ("Issuing", "False", "Failed", None)],
                awaited("Failed what Failed means"),
            ),
            (None, vec![changed], no("RequestChanged what RequestChanged means")),
            (Some(&secret(&["tls.crt"])), vec![changed], no("RequestChanged what RequestChanged means")),
            (Some(&there), vec![("Ready", "False", "Expired", Some(2))], no("Expired what Expired means")),
        ] {
            assert_eq!(standing("n/tls", secret, &issued(&said)).word, expected, "{said:?}");
        }
    }

    #[test]
    fn a_certificate_is_as_cert_manager_says() {
        let silence =
            || Word::Remark("cert-manager has not said yet whether Certificate main is ready".to_owned());
        for (said, expected) in [
            (vec![], silence()),
            (vec![READY], Word::Yes),
            (vec![READY, ("Issuing", "True", "Renewing", None)], Word::Yes),
            (vec![READY, ("Issuing", "False", "Issued", None)], Word::Yes),
            (
                vec![READY, ("Issuing", "False", "Failed", None)],
                Word::Remark("Certificate main is not renewed: Failed what Failed means".to_owned()),
            ),
            // Of the Certificate as it was before.
            (vec![("Ready", "False", "DoesNotExist", Some(1))], silence()),
        ] {
            assert_eq!(standing("n/tls", None, &issued(&said)).word, expected, "{said:?}");
        }
    }
}
