//! What the pods of one instance get: its objects, judged, without what is refused.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use config::{Config, Kind, ObjectId, Problem, Severity, judge};
use crds::DependencyProxy;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::collect::{Members, id_of};
use super::draft::{Draft, Key, Pages, Sources};
use super::rendered::Rendered;
use super::settle::{Settled, held};

/// The documents of one instance.
#[derive(Clone)]
pub struct Rendering {
    /// The instance as it is there, be it refused or not.
    pub proxy: Arc<DependencyProxy>,
    /// The objects that are served: as they are, or as they last were good.
    pub served: Members,
    /// What pods serve with these documents; `None` where the instance itself is refused, and never was good.
    pub config: Option<Arc<Config>>,
    /// Of all objects of the instance as they are there, by object.
    pub problems: HashMap<(Kind, ObjectId), Vec<Problem>>,
    /// Objects that are served as they last were good, less what their owners have taken out since.
    pub older: HashSet<(Kind, ObjectId)>,
    /// Compressed documents.
    pub documents: Vec<u8>,
    /// Documents of the store's credentials and CA, which pods take at their start only.
    pub storage: String,
    /// What is in the documents.
    pub pages: Pages,
    /// The pages of `storage`.
    pub(super) stored: Pages,
    /// What passwords are hashed under.
    pub(super) key: Vec<u8>,
    /// Over the objects as they are there.
    pub(super) input: String,
}

impl Rendering {
    /// As pods name it in `/status` when they have these documents.
    #[must_use]
    pub fn hash(&self) -> Option<&str> {
        self.config.as_ref().map(|config| config.hash.as_str())
    }

    /// Whether the instance is served as it last was good, and not as it is now.
    #[must_use]
    pub fn is_proxy_older(&self) -> bool {
        self.older.contains(&(Kind::DependencyProxy, id_of(self.proxy.as_ref())))
    }

    /// Whether pods get the same from both, and people are told the same.
    fn is_same(&self, other: &Self) -> bool {
        self.input == other.input
            && (&self.documents, &self.storage) == (&other.documents, &other.storage)
            && (&self.problems, &self.older) == (&other.problems, &other.older)
            && self.config.is_some() == other.config.is_some()
    }
}

/// Renders an instance. Where nothing has changed, what was rendered before is given back; a DependencyProxy of another
/// generation may read the same.
pub(super) fn render(
    members: &Members,
    sources: &mut Sources<'_>,
    before: Option<&Arc<Rendering>>,
) -> Option<Arc<Rendering>> {
    let proxy = members.proxy.clone()?;
    let draft = Draft::of(Cow::Borrowed(members), sources, None)?;
    let input = draft.input();
    let of_this = |before: &Arc<Rendering>| {
        let version = |proxy: &DependencyProxy| (proxy.metadata.uid.clone(), proxy.metadata.generation);
        if version(&before.proxy) == version(&proxy) {
            return before.clone();
        }
        let mut of_this = Rendering { proxy: proxy.clone(), ..before.as_ref().clone() };
        if !of_this.is_proxy_older() {
            of_this.served.proxy = Some(proxy.clone());
        }
        Arc::new(of_this)
    };
    // A last good version refers to more than what the objects as they are there refer to.
    if let Some(before) = before.filter(|before| before.input == input && before.older.is_empty()) {
        return Some(of_this(before));
    }
    let made = make(&proxy, draft, input, sources, before.map(Arc::as_ref));
    let same = before.filter(|before| before.is_same(&made)).map(of_this);
    Some(same.unwrap_or_else(|| Arc::new(made)))
}

fn make(
    proxy: &Arc<DependencyProxy>,
    draft: Draft<'_>,
    input: String,
    sources: &mut Sources<'_>,
    before: Option<&Rendering>,
) -> Rendering {
    let first = judge(&draft.documents(), &draft.options);
    let problems = by_object(&first.problems);
    let own = (Kind::DependencyProxy, id_of(proxy.as_ref()));
    let of_proxy = problems.get(&own).map(Vec::as_slice).unwrap_or_default();
    let last = before.filter(|_| first.config.is_none());
    let last = last.and_then(|before| held(&draft.members, of_proxy, before, sources));
    let is_held = last.is_some();
    let (draft, judgement) = last.unwrap_or((draft, first));
    let Settled { draft, config, mut older } = Settled::of(draft, judgement, before, sources);
    if is_held {
        older.insert(own);
    }
    Rendering {
        proxy: proxy.clone(),
        problems,
        older,
        documents: compressed(draft.pages.values()),
        storage: draft.storage_only().map(|page| page.text.as_str()).collect(),
        config: config.map(Arc::new),
        served: draft.members.into_owned(),
        pages: draft.pages,
        stored: draft.storage,
        key: draft.key,
        input,
    }
}

/// The errors by object.
pub(super) fn by_object(problems: &[Problem]) -> HashMap<Key, Vec<Problem>> {
    let mut map = HashMap::<_, Vec<_>>::new();
    for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
        if let (Some(kind), Some(id)) = (Kind::named(&problem.kind), &problem.object) {
            map.entry((kind, id.clone())).or_default().push(problem.clone());
        }
    }
    map
}

/// The same pages give the same bytes.
fn compressed<'p>(pages: impl Iterator<Item = &'p Arc<Rendered>>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for page in pages {
        // Writing to memory does not fail.
        let _ = encoder.write_all(page.text.as_bytes());
    }
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
#[path = "rendering_tests.rs"]
pub(super) mod tests;
