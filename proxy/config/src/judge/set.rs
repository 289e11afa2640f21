//! Documents by kind and name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crds::{DependencyProxy, DependencyProxyGroup, PullBinding, RegistryUpstream, VirtualRegistry};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};

use crate::documents::Content;
use crate::{Document, Kind, ObjectId, Problem, Reason, Severity};

pub(super) struct Set<'a> {
    documents: BTreeMap<(Kind, ObjectId), &'a Document>,
}

/// What is known of an object that something refers to.
pub(super) enum Found<'a, T> {
    Usable(&'a Document, &'a T),
    /// There is such a document, but it did not fit its type.
    Refused,
    Missing,
}

impl<'a> Set<'a> {
    /// The first document of a kind and name holds; later ones are problems.
    pub(super) fn new(all: &'a [Document], problems: &mut Vec<Problem>) -> Self {
        let mut documents = BTreeMap::new();
        for document in all {
            match documents.entry((document.kind, document.id.clone())) {
                Entry::Vacant(place) => {
                    place.insert(document);
                }
                Entry::Occupied(_) => {
                    let message =
                        "is the name of an earlier document of the same kind; choose another or take one out";
                    let problem = document.problem(Severity::Error, "metadata.name", message);
                    problems.push(problem.because(Reason::NameConflict));
                }
            }
        }
        Self { documents }
    }

    pub(super) fn find<T: Typed>(&self, id: &ObjectId) -> Found<'a, T> {
        match self.documents.get(&(T::KIND, id.clone())) {
            Some(document) => match T::of(&document.content) {
                Some(object) => Found::Usable(document, object),
                None => Found::Refused,
            },
            None => Found::Missing,
        }
    }

    /// All objects of a kind by name; `None` for those that did not fit their type.
    pub(super) fn all<T: Typed>(&self) -> impl Iterator<Item = (&'a Document, Option<&'a T>)> {
        self.documents.values().filter(|d| d.kind == T::KIND).map(|d| (*d, T::of(&d.content)))
    }
}

/// The type of a kind.
pub(super) trait Typed: 'static + Sized {
    const KIND: Kind;
    fn of(content: &Content) -> Option<&Self>;
}

macro_rules! typed {
    ($($kind:ident),*) => {$(
        impl Typed for $kind {
            const KIND: Kind = Kind::$kind;
            fn of(content: &Content) -> Option<&Self> {
                if let Content::$kind(object) = content { Some(object) } else { None }
            }
        }
    )*};
}

typed!(
    DependencyProxy,
    RegistryUpstream,
    DependencyProxyGroup,
    VirtualRegistry,
    PullBinding,
    Secret,
    ConfigMap,
    Namespace
);
