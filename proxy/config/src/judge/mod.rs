//! Documents -> (Config, problems). A bad document hurts only itself: it is named, and the others serve.

mod binding;
mod group;
mod instance;
mod path;
mod pods;
mod reference;
mod registry;
mod report;
mod route;
mod secret;
mod set;
mod storage;
mod upstream;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::{Config, Document, ObjectId, Problem, fingerprint};
use reference::{Ruling, Rulings};
pub use report::is_object_name;
use set::Set;

/// What a judgement depends on besides the documents.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The DependencyProxy to serve, where there are several.
    pub instance: Option<ObjectId>,
    /// URL of the egress proxy through which upstreams with https are asked; part of who delivers.
    pub https_proxy: Option<String>,
    /// The same for upstreams with plain http.
    pub http_proxy: Option<String>,
}

/// The result.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// `None` where nothing can be served: it is not clear which DependencyProxy is meant, or it is unusable.
    pub config: Option<Config>,
    /// All problems, in the order of files and lines.
    pub problems: Vec<Problem>,
}

impl Judgement {
    /// The problems by kind and object; an object that is not here has none. Which groups and registries serve is in
    /// `config`; upstreams and bindings serve unless one of their problems is an error.
    #[must_use]
    pub fn by_object(&self) -> HashMap<(&str, &ObjectId), Vec<&Problem>> {
        let mut found = HashMap::<_, Vec<_>>::new();
        for problem in &self.problems {
            let Some(object) = &problem.object else { continue };
            found.entry((problem.kind.as_str(), object)).or_default().push(problem);
        }
        found
    }
}

/// Judges a set of documents as a whole.
#[must_use]
pub fn judge(documents: &[Document], options: &Options) -> Judgement {
    let mut problems = Vec::new();
    let set = Set::new(documents, &mut problems);
    let chosen = instance::choose(&set, options, &mut problems);
    let upstreams = upstream::judge(&set, options, &mut problems);
    let (groups, mut credentials) = group::judge(&set, &chosen, &upstreams, options, &mut problems);
    let max_registries = chosen.max_registries_per_group();
    let registries = registry::judge(&set, &groups, &upstreams, max_registries, &mut problems);
    let (aliases, mirrors) = route::judge(&chosen, &groups, &registries, &mut problems);
    credentials.extend(binding::judge(&set, &groups, chosen.instance_key(), &mut problems));
    let config = chosen.instance.map(|instance| Config {
        hash: hash(documents),
        instance,
        groups: accepted(groups).into_iter().map(|g| (g.path.clone(), g)).collect::<BTreeMap<_, _>>(),
        registries: accepted(registries).into_iter().map(|r| (r.registry_id(), r)).collect(),
        aliases,
        mirrors,
        credentials: credentials.into_iter().collect(),
    });
    Judgement { config, problems: in_order(problems) }
}

fn accepted<T>(rulings: Rulings<T>) -> Vec<Arc<T>> {
    rulings
        .into_values()
        .filter_map(|r| if let Ruling::Accepted(object) = r { Some(object) } else { None })
        .collect()
}

/// A hash over the documents that does not depend on their order: a folder and a stream of them are the same.
fn hash(documents: &[Document]) -> String {
    let part = |d: &Document| fingerprint(&[d.source.root.as_bytes(), d.source.digest.as_bytes()]);
    let mut parts = documents.iter().map(part).collect::<Vec<_>>();
    parts.sort();
    fingerprint(&parts.iter().map(String::as_bytes).collect::<Vec<_>>())
}

/// Each problem once, by place: two that refer to one bad Secret find the same problem in it.
fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    let mut seen = HashSet::new();
    problems.retain(|p| seen.insert(p.clone()));
    problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    problems
}
