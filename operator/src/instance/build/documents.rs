//! The Secrets that pods read.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::metadata;
use crate::apply::Object;
use crate::instance::plan::Plan;
use crate::world::{DOCUMENTS, STORAGE, documents_secret, storage_secret};

/// The rendered documents.
pub(super) fn documents(plan: &Plan) -> Object {
    Object::of(&Secret {
        metadata: metadata(plan, documents_secret(&plan.id)),
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(DOCUMENTS.to_owned(), ByteString(plan.documents.clone()))])),
        ..Secret::default()
    })
}

/// The store's credentials, apart from the documents: pods take them at their start only.
pub(super) fn storage(plan: &Plan) -> Option<Object> {
    (!plan.storage.is_empty()).then(|| {
        let data = BTreeMap::from([(STORAGE.to_owned(), ByteString(plan.storage.clone().into_bytes()))]);
        Object::of(&Secret {
            metadata: metadata(plan, storage_secret(&plan.id)),
            type_: Some("Opaque".to_owned()),
            data: Some(data),
            ..Secret::default()
        })
    })
}
