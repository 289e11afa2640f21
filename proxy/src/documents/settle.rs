//! From what was read to what is served: a document that went bad keeps its last good version. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use config::{Config, Document, Judgement, ObjectId, Options, Problem, Reason, Severity, judge};

use super::Read;

/// What is served, and what is wrong with what was read.
pub struct Settled {
    /// `None` where nothing can be served.
    pub config: Option<Arc<Config>>,
    /// The documents that `config` was made of.
    pub documents: Vec<Document>,
    /// Of what was read, whether it is served or not.
    pub problems: Vec<Problem>,
    /// Whether all that was read is served.
    pub is_taken: bool,
}

/// Judges what was read. `last` are the documents that are served now; none at the start.
///
/// A document that is bad now and was good before stays as it was; the others change. Where that does not mend it,
/// because what it refers to has gone, everything stays as it was.
#[must_use]
pub fn settle(read: Read, last: &Settled, options: &Options) -> Settled {
    let Judgement { config, mut problems } = judge(&read.documents, options);
    problems.splice(0..0, read.problems);
    let bad = Bad::of(&problems, |reason| !reason.is_withdrawal());
    if !bad.is_empty() {
        let mixed = bad.mended(&read.documents, &last.documents);
        let mended = judge(&mixed, options);
        // What waits for another is named by the other's own problem, unless that was withdrawn.
        let own = |reason: Reason| !reason.is_withdrawal() && reason != Reason::DependencyNotReady;
        let still = Bad::of(&mended.problems, own);
        let lost = last.documents.iter().any(|document| still.names(document));
        match mended.config {
            Some(config) if !lost => {
                let documents = mixed.into_iter().filter(|document| !still.names(document)).collect();
                return Settled { config: Some(Arc::new(config)), documents, problems, is_taken: false };
            }
            _ if last.config.is_some() => {
                let (config, documents) = (last.config.clone(), last.documents.clone());
                return Settled { config, documents, problems, is_taken: false };
            }
            _ => {}
        }
    }
    let documents = read.documents.into_iter().filter(|document| !bad.names(document)).collect();
    let is_taken = Bad::of(&problems, |_| true).is_empty() && config.is_some();
    Settled { config: config.map(Arc::new), documents, problems, is_taken }
}

impl Settled {
    /// Nothing, as before the first reading.
    #[must_use]
    pub fn nothing() -> Self {
        Self { config: None, documents: Vec::new(), problems: Vec::new(), is_taken: false }
    }
}

/// The documents that problems are about, and the files of which some could not be read.
struct Bad {
    objects: HashSet<(String, ObjectId)>,
    files: HashSet<String>,
}

impl Bad {
    fn of(problems: &[Problem], counts: impl Fn(Reason) -> bool) -> Self {
        let counts = |problem: &&Problem| problem.severity == Severity::Error && counts(problem.reason);
        let errors = || problems.iter().filter(counts);
        let objects =
            errors().filter_map(|problem| Some((problem.kind.clone(), problem.object.clone()?))).collect();
        let files = errors()
            .filter(|problem| problem.object.is_none())
            .filter_map(|problem| problem.file.clone())
            .collect();
        Self { objects, files }
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.files.is_empty()
    }

    fn names(&self, document: &Document) -> bool {
        self.objects.contains(&(document.kind.as_str().to_owned(), document.id.clone()))
    }

    /// What was read, with the last good version of what is bad in it, and of what a broken file no longer shows.
    fn mended(&self, read: &[Document], last: &[Document]) -> Vec<Document> {
        let name = |document: &Document| (document.kind, document.id.clone());
        let before: HashMap<_, _> = last.iter().map(|document| (name(document), document)).collect();
        let shown: HashSet<_> = read.iter().map(name).collect();
        let mended = |document: &Document| {
            let last = if self.names(document) { before.get(&name(document)).copied() } else { None };
            last.unwrap_or(document).clone()
        };
        let hidden = last.iter().filter(|document| self.files.contains(document.file()));
        let hidden = hidden.filter(|document| !shown.contains(&name(document))).cloned();
        read.iter().map(mended).chain(hidden).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Origin;

    fn group(name: &str, extra: &str) -> String {
        format!(
            "{{apiVersion: dependencyproxy.dev/v1alpha1, kind: DependencyProxyGroup, metadata: {{name: {name}}}, \
             spec: {{proxyRef: {{name: x}}, path: {name}{extra}}}}}"
        )
    }

    fn step(last: &Settled, documents: &[String]) -> Settled {
        let (documents, problems) = config::parse(&documents.join("\n---\n"), "f.yaml", Origin::File);
        settle(Read { documents, problems, fingerprint: String::new() }, last, &Options::default())
    }

    fn paths(settled: &Settled) -> Vec<String> {
        settled.config.iter().flat_map(|config| config.groups.keys().cloned()).collect()
    }

    #[test]
    fn a_document_that_goes_bad_stays_as_it_was_and_the_others_change() {
        let first = step(&Settled::nothing(), &[group("a", ""), group("b", "")]);
        assert!(first.is_taken, "{:?}", first.problems);
        let second = step(&first, &[group("a", ", colour: red"), group("c", "")]);
        assert_eq!(paths(&second), ["a", "c"]);
        assert!(!second.is_taken);
        assert_eq!(second.problems.len(), 1);
        let third = step(&second, &[group("c", "")]);
        assert_eq!(paths(&third), ["c"]);
        assert!(third.is_taken);
    }

    #[test]
    fn a_document_that_never_was_good_hurts_only_itself() {
        let first = step(&Settled::nothing(), &[group("a", ""), group("b", ", colour: red")]);
        assert_eq!(paths(&first), ["a"]);
        assert!(!first.is_taken);
    }

    #[test]
    fn what_a_broken_file_no_longer_shows_stays() {
        let first = step(&Settled::nothing(), &[group("a", ""), group("b", "")]);
        let second = step(&first, &[group("a", ""), "{kind: [".to_owned()]);
        assert_eq!(paths(&second), ["a", "b"]);
        assert!(!second.is_taken);
    }

    #[test]
    fn what_another_no_longer_allows_ends_with_all_that_needs_it() {
        let upstream = |from: &str| {
            format!(
                "{{apiVersion: dependencyproxy.dev/v1alpha1, kind: RegistryUpstream, metadata: {{name: u, namespace: other}}, spec: {{url: https://registry.example, allowedGroups: {{from: {from}}}}}}}"
            )
        };
        let registry = "{apiVersion: dependencyproxy.dev/v1alpha1, kind: VirtualRegistry, metadata: {name: r}, spec: {groupRef: {name: a}, upstreams: [{name: u, namespace: other}]}}".to_owned();
        let a = group("a", ", upstreamRef: {name: u, namespace: other}");
        let first =
            step(&Settled::nothing(), &[a.clone(), group("b", ""), registry.clone(), upstream("All")]);
        assert!(first.is_taken, "{:?}", first.problems);
        let second = step(&first, &[a.clone(), group("b", ""), registry, upstream("Same")]);
        assert_eq!(paths(&second), ["b"]);
        assert!(!second.is_taken);
    }

    #[test]
    fn when_what_a_document_needs_goes_everything_stays() {
        let upstream = "{apiVersion: dependencyproxy.dev/v1alpha1, kind: RegistryUpstream, metadata: {name: u}, spec: {url: https://registry.example}}".to_owned();
        let first = step(&Settled::nothing(), &[group("a", ", upstreamRef: {name: u}"), upstream]);
        assert!(first.is_taken, "{:?}", first.problems);
        let second = step(&first, &[group("a", ", upstreamRef: {name: u}")]);
        assert_eq!(paths(&second), ["a"]);
        assert!(!second.is_taken);
    }
}
