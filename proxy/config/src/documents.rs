//! Documents: texts as the objects that they say, each with the place where it stands.

use std::fmt;
use std::sync::Arc;

use crds::{DependencyProxy, DependencyProxyGroup, PullBinding, RegistryUpstream, VirtualRegistry};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

use crate::lines::line_of;
use crate::split::{Chunk, split};
use crate::typed::read;
use crate::{ObjectId, Problem, Reason, Severity, fingerprint};

/// Who wrote a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A person: an unknown field or kind is a problem, because it is a typing error.
    File,
    /// An operator: an unknown field or kind is a warning, because operators may be newer than proxies.
    Rendered,
}

/// One document. Its content never shows in debug output: it may be a Secret. A clone shares content and text.
#[derive(Clone)]
pub struct Document {
    pub kind: Kind,
    pub id: ObjectId,
    /// `metadata.creationTimestamp`: of two that are in conflict, the older one wins.
    pub created: Option<Timestamp>,
    pub(crate) content: Arc<Content>,
    pub(crate) source: Source,
}

impl Document {
    /// What the older one of two comes first by: the creation time, absent last; then the name.
    pub(crate) fn age(&self) -> (bool, Option<Timestamp>, &ObjectId) {
        (self.created.is_none(), self.created, &self.id)
    }

    /// The file that it was read from, as it was named to [`parse`].
    #[must_use]
    pub fn file(&self) -> &str {
        &self.source.file
    }
}

/// The kinds that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    DependencyProxy,
    RegistryUpstream,
    DependencyProxyGroup,
    VirtualRegistry,
    PullBinding,
    Secret,
    ConfigMap,
    Namespace,
}

pub(crate) enum Content {
    DependencyProxy(Box<DependencyProxy>),
    RegistryUpstream(Box<RegistryUpstream>),
    DependencyProxyGroup(Box<DependencyProxyGroup>),
    VirtualRegistry(Box<VirtualRegistry>),
    PullBinding(Box<PullBinding>),
    Secret(Box<Secret>),
    ConfigMap(Box<ConfigMap>),
    Namespace(Box<Namespace>),
    /// It did not fit its type. It stays known by name, so that whoever refers to it hears the true reason.
    Refused,
}

/// Where a document stands.
#[derive(Clone)]
pub(crate) struct Source {
    file: Arc<str>,
    /// Line of the text's beginning in the file, from 1.
    line: usize,
    text: Arc<str>,
    /// Fingerprint of the text; taken once, because the items of a List share a text.
    pub(crate) digest: Arc<str>,
    /// The document's path in the text: `items[2]` in a List, else empty.
    pub(crate) root: Arc<str>,
}

/// Reads a text of YAML or JSON documents, `kind: List` among them. What cannot be read is a problem and leaves
/// the other documents of the text as they are.
#[must_use]
pub fn parse(text: &str, file: &str, origin: Origin) -> (Vec<Document>, Vec<Problem>) {
    let mut reader = Reader { origin, documents: Vec::new(), problems: Vec::new() };
    let file = Arc::<str>::from(file);
    for chunk in split(text) {
        reader.chunk(chunk, &file);
    }
    reader.problems.sort_by_key(|p| p.line);
    (reader.documents, reader.problems)
}

struct Reader {
    origin: Origin,
    documents: Vec<Document>,
    problems: Vec<Problem>,
}

impl Reader {
    fn chunk(&mut self, chunk: Chunk<'_>, file: &Arc<str>) {
        let mut source = Source {
            file: file.clone(),
            line: chunk.line,
            text: chunk.text.into(),
            digest: fingerprint(&[chunk.text.as_bytes()]).into(),
            root: Arc::default(),
        };
        match value(chunk.text) {
            Ok(value) => self.object(value, source),
            Err(failure) => {
                let text = failure.to_string();
                let reason = text.split(" at line ").next().unwrap_or_default();
                let mut problem = source.problem(
                    Severity::Error,
                    "Document",
                    None,
                    "",
                    format!("is not well-formed YAML: {reason}"),
                );
                if let Some(location) = failure.location() {
                    source.line += location.line().saturating_sub(1);
                    problem.line = Some(source.line);
                }
                self.problems.push(problem);
            }
        }
    }

    fn object(&mut self, mut value: Value, source: Source) {
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, name) = (text(&value, "apiVersion"), text(&value, "kind"));
        if name.ends_with("List")
            && let Some(Value::Sequence(items)) = value.get_mut("items")
        {
            for (index, item) in std::mem::take(items).into_iter().enumerate() {
                let prefix = if source.root.is_empty() { String::new() } else { format!("{}.", source.root) };
                self.object(
                    item,
                    Source { root: format!("{prefix}items[{index}]").into(), ..source.clone() },
                );
            }
            return;
        }
        if version.is_empty() || name.is_empty() {
            let message = "must be a mapping with apiVersion and kind";
            self.problems.push(source.problem(Severity::Error, "Document", None, "", message));
            return;
        }
        let Some(kind) = Kind::of(&version, &name) else {
            // A file for kubectl may bring its workloads along; a slip in our own group's version is a slip.
            let is_ours = version == "v1" || version.split('/').next() == crds::API_VERSION.split('/').next();
            let (severity, message) = match self.origin {
                Origin::File if is_ours => (
                    Severity::Error,
                    format!("is no kind of {version} that is known here; take the document out"),
                ),
                Origin::File | Origin::Rendered => {
                    (Severity::Warning, format!("is no kind of {version} that is known here; it is ignored"))
                }
            };
            let problem = source.problem(severity, &name, None, "kind", message);
            self.problems.push(problem.because(Reason::Unsupported));
            return;
        };
        // A status belongs to the cluster that wrote it.
        if let Some(fields) = value.as_mapping_mut() {
            fields.remove("status");
        }
        self.known(kind, value, source);
    }

    fn known(&mut self, kind: Kind, value: Value, source: Source) {
        let Some(id) = self.identity(kind, &value, &source) else { return };
        let mut reader =
            TypedReader { origin: self.origin, kind, id: &id, source: &source, problems: &mut self.problems };
        let content = match kind {
            Kind::DependencyProxy => reader.content(value, Content::DependencyProxy),
            Kind::RegistryUpstream => reader.content(value, Content::RegistryUpstream),
            Kind::DependencyProxyGroup => reader.content(value, Content::DependencyProxyGroup),
            Kind::VirtualRegistry => reader.content(value, Content::VirtualRegistry),
            Kind::PullBinding => reader.content(value, Content::PullBinding),
            Kind::Secret => reader.content(value, Content::Secret),
            Kind::ConfigMap => reader.content(value, Content::ConfigMap),
            Kind::Namespace => reader.content(value, Content::Namespace),
        };
        let created = content.metadata().and_then(|m| m.creation_timestamp.as_ref()).map(|t| t.0);
        self.documents.push(Document { kind, id, created, content: content.into(), source });
    }

    /// Name and namespace, which end up in storage keys and so must be what an API server would take.
    fn identity(&mut self, kind: Kind, value: &Value, source: &Source) -> Option<ObjectId> {
        let metadata = value.get("metadata");
        let text = |key: &str| metadata.and_then(|m| m.get(key)).and_then(Value::as_str).map(str::to_owned);
        let namespace = match kind {
            Kind::Namespace => String::new(),
            _ => text("namespace").unwrap_or_else(|| "default".to_owned()),
        };
        let name = text("name").unwrap_or_default();
        let mut refuse = |field: &str, message: &str| {
            self.problems.push(source.problem(Severity::Error, kind.as_str(), None, field, message));
        };
        if name.is_empty() {
            refuse("metadata.name", "is required; add it");
            return None;
        }
        if name.len() > 253 || !name.split('.').all(is_label) {
            refuse("metadata.name", "must be lower-case letters, digits, - and . as Kubernetes names are");
            return None;
        }
        if kind != Kind::Namespace && (namespace.len() > 63 || !is_label(&namespace)) {
            refuse(
                "metadata.namespace",
                "must be lower-case letters, digits and - as Kubernetes namespaces are",
            );
            return None;
        }
        Some(ObjectId { namespace, name })
    }
}

/// Reads one document of a known kind.
struct TypedReader<'a> {
    origin: Origin,
    kind: Kind,
    id: &'a ObjectId,
    source: &'a Source,
    problems: &'a mut Vec<Problem>,
}

impl TypedReader<'_> {
    fn content<T: DeserializeOwned>(&mut self, value: Value, wrap: fn(Box<T>) -> Content) -> Content {
        let reading = read::<T>(value);
        let mut refused = false;
        for (field, message) in reading.mistakes {
            self.problem(Severity::Error, &field, message);
        }
        for field in reading.unknown.iter().filter(|f| *f != "apiVersion" && *f != "kind") {
            match self.origin {
                Origin::File => {
                    refused = true;
                    self.problem(
                        Severity::Error,
                        field,
                        "is no field of this kind; correct its name or take it out",
                    );
                }
                Origin::Rendered => {
                    self.problem(Severity::Warning, field, "is no field of this kind; it is ignored")
                }
            }
        }
        reading.value.filter(|_| !refused).map_or(Content::Refused, |content| wrap(Box::new(content)))
    }

    fn problem(&mut self, severity: Severity, field: &str, message: impl Into<String>) {
        let problem =
            self.source.problem(severity, self.kind.as_str(), Some(self.id.clone()), field, message);
        self.problems.push(problem.because(Reason::invalid(self.kind)));
    }
}

/// A document's value. JSON is read as JSON: its escapes are not all YAML's.
fn value(text: &str) -> Result<Value, serde_yaml::Error> {
    let body = text.strip_prefix("---").unwrap_or(text).trim_start();
    if body.starts_with('{')
        && let Ok(value) = serde_json::from_str(body)
    {
        return Ok(value);
    }
    let mut value = serde_yaml::from_str::<Value>(text)?;
    value.apply_merge()?;
    Ok(value)
}

/// A label of RFC 1123.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

impl Source {
    pub(crate) fn problem(
        &self,
        severity: Severity,
        kind: &str,
        object: Option<ObjectId>,
        field: &str,
        message: impl Into<String>,
    ) -> Problem {
        let dot = if self.root.is_empty() || field.is_empty() { "" } else { "." };
        let line = self.line + line_of(&self.text, &format!("{}{dot}{field}", self.root));
        Problem {
            severity,
            reason: Reason::InvalidSpec,
            file: Some(self.file.to_string()),
            line: Some(line),
            kind: kind.to_owned(),
            object,
            field: field.to_owned(),
            message: message.into(),
        }
    }
}

impl Document {
    pub(crate) fn problem(&self, severity: Severity, field: &str, message: impl Into<String>) -> Problem {
        let problem =
            self.source.problem(severity, self.kind.as_str(), Some(self.id.clone()), field, message);
        problem.because(Reason::invalid(self.kind))
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.id)
    }
}

impl Kind {
    fn of(api_version: &str, kind: &str) -> Option<Self> {
        let ours = [
            Self::DependencyProxy,
            Self::RegistryUpstream,
            Self::DependencyProxyGroup,
            Self::VirtualRegistry,
            Self::PullBinding,
        ];
        let core = [Self::Secret, Self::ConfigMap, Self::Namespace];
        let known: &[Self] = match api_version {
            crds::API_VERSION => &ours,
            "v1" => &core,
            _ => &[],
        };
        known.iter().find(|k| k.as_str() == kind).copied()
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::DependencyProxy,
            Self::RegistryUpstream,
            Self::DependencyProxyGroup,
            Self::VirtualRegistry,
            Self::PullBinding,
            Self::Secret,
            Self::ConfigMap,
            Self::Namespace,
        ];
        all.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind as documents write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DependencyProxy => "DependencyProxy",
            Self::RegistryUpstream => "RegistryUpstream",
            Self::DependencyProxyGroup => "DependencyProxyGroup",
            Self::VirtualRegistry => "VirtualRegistry",
            Self::PullBinding => "PullBinding",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::Namespace => "Namespace",
        }
    }
}

impl Content {
    fn metadata(&self) -> Option<&ObjectMeta> {
        match self {
            Self::DependencyProxy(object) => Some(&object.metadata),
            Self::RegistryUpstream(object) => Some(&object.metadata),
            Self::DependencyProxyGroup(object) => Some(&object.metadata),
            Self::VirtualRegistry(object) => Some(&object.metadata),
            Self::PullBinding(object) => Some(&object.metadata),
            Self::Secret(object) => Some(&object.metadata),
            Self::ConfigMap(object) => Some(&object.metadata),
            Self::Namespace(object) => Some(&object.metadata),
            Self::Refused => None,
        }
    }
}
