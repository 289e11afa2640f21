//! References: what they lead to, and whether they may.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{AllowedNamespaces, FromNamespaces, LocalReference, NamespacedReference};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::core::{Selector, SelectorExt};

use super::report::Report;
use super::set::{Found, Set, Typed};
use crate::{Kind, ObjectId, Reason};

/// What became of a document.
pub(super) enum Ruling<T> {
    Accepted(Arc<T>),
    Refused,
    /// It belongs to another instance.
    Foreign,
}

pub(super) type Rulings<T> = BTreeMap<ObjectId, Ruling<T>>;

impl<T> Ruling<T> {
    pub(super) fn from(value: Option<T>) -> Self {
        value.map_or(Self::Refused, |value| Self::Accepted(Arc::new(value)))
    }
}

pub(super) fn local(reference: &LocalReference, namespace: &str) -> ObjectId {
    ObjectId { namespace: namespace.to_owned(), name: reference.name.clone() }
}

pub(super) fn namespaced(reference: &NamespacedReference, namespace: &str) -> ObjectId {
    let namespace = reference.namespace.as_deref().unwrap_or(namespace).to_owned();
    ObjectId { namespace, name: reference.name.clone() }
}

/// What a reference leads to; a fault where it leads nowhere. `None` without a fault: to another instance.
pub(super) fn follow<T>(
    report: &mut Report<'_>,
    field: &str,
    rulings: &Rulings<T>,
    kind: Kind,
    id: &ObjectId,
) -> Option<Arc<T>> {
    match rulings.get(id) {
        Some(Ruling::Accepted(object)) => return Some(object.clone()),
        Some(Ruling::Foreign) => {}
        Some(Ruling::Refused) => report.fault_for(Reason::DependencyNotReady, field, refused(kind, id)),
        None => report.fault_for(Reason::not_found(kind), field, missing(kind, id)),
    }
    None
}

/// The document that a reference leads to; a fault where there is none.
pub(super) fn document<'a, T: Typed>(
    report: &mut Report<'_>,
    field: &str,
    set: &Set<'a>,
    id: &ObjectId,
) -> Option<(&'a crate::Document, &'a T)> {
    match set.find::<T>(id) {
        Found::Usable(document, object) => return Some((document, object)),
        Found::Refused => report.fault_for(Reason::invalid(T::KIND), field, refused(T::KIND, id)),
        Found::Missing => report.fault_for(Reason::not_found(T::KIND), field, missing(T::KIND, id)),
    }
    None
}

/// A PEM bundle of a ConfigMap, under `ca.crt`.
pub(super) fn ca(report: &mut Report<'_>, field: &str, set: &Set<'_>, id: &ObjectId) -> Option<String> {
    let (document, map) = document::<ConfigMap>(report, field, set, id)?;
    let pem = map.data.as_ref().and_then(|d| d.get("ca.crt"));
    match pem {
        Some(pem)
            if pem.contains("-----BEGIN CERTIFICATE-----") && pem.contains("-----END CERTIFICATE-----") =>
        {
            return Some(pem.clone());
        }
        Some(_) => {
            super::secret::blame(report, document, "data.ca.crt", "must be one or more PEM certificates")
        }
        None => super::secret::blame(
            report,
            document,
            "data.ca.crt",
            "is required; put the PEM certificates there",
        ),
    }
    report.fault_for(Reason::InvalidConfigMap, field, refused(Kind::ConfigMap, id));
    None
}

pub(super) fn refused(kind: Kind, id: &ObjectId) -> String {
    format!("{} {id} is refused; mend it first", kind.as_str())
}

pub(super) fn missing(kind: Kind, id: &ObjectId) -> String {
    format!("there is no {} {id}; create it or correct the name", kind.as_str())
}

/// Checks what an object says about who may refer to it.
pub(super) fn check_allowed(report: &mut Report<'_>, field: &str, allowed: &AllowedNamespaces) {
    match (&allowed.selector, allowed.from) {
        (None, FromNamespaces::Selector) => {
            report.error(&format!("{field}.selector"), "is required with from: Selector; add it")
        }
        (Some(_), FromNamespaces::Same | FromNamespaces::All) => {
            report.error(
                &format!("{field}.selector"),
                "belongs to from: Selector; set that, or take the selector out",
            );
        }
        (Some(selector), FromNamespaces::Selector) if Selector::try_from(selector.clone()).is_err() => {
            let message = "must have operators In, NotIn, Exists and DoesNotExist with fitting values";
            report.error(&format!("{field}.selector.matchExpressions"), message);
        }
        _ => {}
    }
}

/// Whether an object in `owner` may be referred to from a namespace.
pub(super) fn allows(allowed: &AllowedNamespaces, owner: &str, namespace: &str, set: &Set<'_>) -> bool {
    match allowed.from {
        // What one owns one may always use.
        _ if owner == namespace => true,
        FromNamespaces::Same => false,
        FromNamespaces::All => true,
        FromNamespaces::Selector => {
            let selector = allowed.selector.clone().and_then(|s| Selector::try_from(s).ok());
            selector.is_some_and(|selector| selector.matches(&labels(namespace, set)))
        }
    }
}

/// A namespace's labels; without its document, the one that Kubernetes sets on each.
fn labels(namespace: &str, set: &Set<'_>) -> BTreeMap<String, String> {
    let id = ObjectId { namespace: String::new(), name: namespace.to_owned() };
    let mut labels = match set.find::<Namespace>(&id) {
        Found::Usable(_, object) => object.metadata.labels.clone().unwrap_or_default(),
        Found::Refused | Found::Missing => BTreeMap::new(),
    };
    labels.insert("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
    labels
}
