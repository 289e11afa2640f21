//! What the proxy serves: documents after they were judged. Everything is parsed, resolved and in range.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use oci::Name;
use url::Url;
use wildmatch::WildMatch;

use crate::{PullCredentials, Secret};

/// The accepted documents of one instance.
#[derive(Clone, Debug)]
pub struct Config {
    /// Hash over the documents as they were read; changes with every change.
    pub hash: String,
    pub instance: Instance,
    /// By path, such as `team-a` or `team-a/child`.
    pub groups: BTreeMap<String, Arc<Group>>,
    /// By registry id, `<namespace>.<name>`.
    pub registries: BTreeMap<String, Arc<VirtualRegistry>>,
    /// Old names that keep working, longest prefix first.
    pub aliases: Vec<Alias>,
    /// By `Host` header, lower case, with the port if one was stated.
    pub mirrors: BTreeMap<String, Route>,
    /// What machines pull with.
    pub credentials: PullCredentials,
}

/// What an image name leads to.
#[derive(Clone, Debug)]
pub enum Route {
    Group(Arc<Group>),
    Registry(Arc<VirtualRegistry>),
}

/// An old prefix, without slashes at its ends, and what it means now.
#[derive(Clone, Debug)]
pub struct Alias {
    pub prefix: String,
    pub route: Route,
}

/// A Kubernetes object's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    pub namespace: String,
    pub name: String,
}

impl ObjectId {
    /// `namespace.name`, as ids of virtual registries, user names of bindings and keys of the store have it.
    #[must_use]
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// Reads it again: a namespace has no dot (RFC 1123 label), a name may.
    #[must_use]
    pub fn of_dotted(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('.')?;
        Some(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ObjectId {
    /// What to do.
    type Err = &'static str;

    /// Reads `namespace/name`, as it is displayed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("write it as namespace/name"),
        }
    }
}

/// The DependencyProxy document, or the defaults where there is none.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `default/default` where there is no document.
    pub id: ObjectId,
    /// What clients reach us at. `None`: the listening address, over http.
    pub external_url: Option<Url>,
    /// Other names of the same service.
    pub additional_urls: Vec<Url>,
    /// The administrator's off switch.
    pub enabled: bool,
    pub storage: Storage,
    /// Bound of the local folder in bytes: spool and kept blobs together.
    pub local_size_limit: u64,
    /// How long an issued token opens what it opens, 60 s to 1 h.
    pub token_ttl: Duration,
    pub users: Users,
    pub keys: Keys,
    /// Private addresses that upstreams may have.
    pub allowed_cidrs: Vec<IpNet>,
    /// How long running transfers may take after SIGTERM.
    pub drain: Duration,
    /// Bound of the stored blobs of all groups, in bytes; what was not used for the longest time goes first. `None`: no
    /// bound.
    pub storage_limit: Option<u64>,
}

/// Where blobs are kept. A boot field: a change needs a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Storage {
    /// `--data-dir`: documents that say `ephemeral` or `persistentVolumeClaim`, or nothing.
    Folder,
    S3(S3),
}

/// An S3 bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    pub bucket: String,
    pub region: Option<String>,
    pub endpoint: Option<Url>,
    pub prefix: Option<String>,
    pub path_style: bool,
    /// `None`: credentials come from the environment or the workload's identity.
    pub credentials: Option<S3Credentials>,
    /// PEM of a private CA.
    pub ca: Option<String>,
}

/// Keys of an S3 account: `accessKeyID`, `secretAccessKey` and `sessionToken` of the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Credentials {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
}

/// Static users: name to bcrypt hash.
#[derive(Clone, Debug, Default)]
pub struct Users {
    pub hashes: HashMap<String, Secret>,
}

/// Keys of the instance. Where no Secret brings them the proxy keeps its own in its data folder.
#[derive(Clone, Default)]
pub struct Keys {
    /// Under which tokens are hashed. Empty where no Secret brings one.
    pub instance: Vec<u8>,
    /// Signing keys by key id; several during a rotation.
    pub signing: BTreeMap<String, Secret>,
    /// The key id to sign with; one of `signing` unless that is empty.
    pub current: Option<String>,
    /// With which replicas show each other who they are. `None`: they do not share downloads.
    pub replica: Option<Secret>,
}

/// Key ids only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({:?}, current {:?})", self.signing.keys(), self.current)
    }
}

/// A DependencyProxyGroup.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: ObjectId,
    /// Lower-case path; its segments are the group and its parents.
    pub path: String,
    pub enabled: bool,
    /// How long a tag is served without a HEAD; zero: HEAD before every answer.
    pub recheck_after: Duration,
    pub upstream: Arc<Upstream>,
    pub members: Vec<Member>,
    pub cleanup: Cleanup,
    /// Bound of the group's stored blobs in bytes, each counted once; `None`: no bound.
    pub storage_limit: Option<u64>,
}

/// What of a group is forgotten when nobody pulls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// How long images under the group's prefix are kept after their last pull; `None`: for ever.
    pub dependency_proxy: Option<Duration>,
    /// The same of its virtual registries' images.
    pub virtual_registries: Option<RegistryCleanup>,
}

/// The cleanup policy of a group's virtual registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryCleanup {
    /// How long images are kept after their last pull.
    pub keep: Duration,
    /// Time between two runs.
    pub cadence: Duration,
}

/// A role in a group. The order is the order of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Guest,
    Reporter,
    Developer,
    Maintainer,
    Owner,
}

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

#[derive(Clone, Debug)]
pub struct Member {
    pub subject: Subject,
    pub role: Role,
}

/// A RegistryUpstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub id: ObjectId,
    /// Without a trailing slash or `/v2`.
    pub url: Url,
    /// The registry host as image names write it, such as `docker.io`; what `?ns=` must be.
    pub host: String,
    /// Who delivers: fingerprint of URL, CA, egress proxy and account name, not of the password.
    pub origin: String,
    pub docker_hub: bool,
    pub insecure: bool,
    pub credentials: Option<Credentials>,
    /// PEM of a private CA.
    pub ca: Option<String>,
    /// `None`: never check again (`cacheValidityHours: 0`).
    pub cache_validity: Option<Duration>,
    pub when_refused: WhenRefused,
    pub recheck_budget: Duration,
    pub rules: Vec<Rule>,
    pub rate_limit: RateLimit,
    /// Token services outside the upstream's own site, lower-case host names.
    pub token_hosts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: Secret,
    /// Changes when user name or password change.
    pub fingerprint: String,
}

/// What a cached tag is worth when upstream answers 401, 403 or 404.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenRefused {
    ServeCached,
    Refuse,
}

/// An allow or deny rule on repositories as upstream names them.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub action: Action,
    pub repository: WildMatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
}

/// How gently an upstream is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The last pulls of the quota, kept for images of which there is no copy.
    pub reserve_pulls: i64,
    pub max_concurrent_requests: usize,
    pub max_checks_per_minute: u32,
}

/// A VirtualRegistry: up to five upstreams in order.
#[derive(Clone, Debug)]
pub struct VirtualRegistry {
    pub id: ObjectId,
    pub group: Arc<Group>,
    pub upstreams: Vec<Arc<Upstream>>,
}

impl VirtualRegistry {
    /// What stands in image names: `<namespace>.<name>`.
    #[must_use]
    pub fn registry_id(&self) -> String {
        self.id.dotted()
    }
}

impl Route {
    /// The group whose members may pull and under whose name rights to blobs are kept.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        match self {
            Self::Group(group) => group,
            Self::Registry(registry) => &registry.group,
        }
    }
}

impl Upstream {
    /// The rule that refuses this repository: a deny rule that matches, or the allow list as a whole where none does.
    #[must_use]
    pub fn refusal(&self, repository: &Name) -> Option<Refusal<'_>> {
        let matching = |action| {
            self.rules.iter().find(move |r| r.action == action && r.repository.matches(repository.as_str()))
        };
        if let Some(rule) = matching(Action::Deny) {
            return Some(Refusal::Denied(&rule.name));
        }
        let restricted = self.rules.iter().any(|r| r.action == Action::Allow);
        (restricted && matching(Action::Allow).is_none()).then_some(Refusal::NotAllowed)
    }
}

/// Why rules refuse a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// The deny rule's name.
    Denied(&'a str),
    /// There are allow rules and none matches.
    NotAllowed,
}

impl Config {
    /// The upstreams that groups and registries refer to, each once.
    #[must_use]
    pub fn upstreams(&self) -> BTreeMap<&ObjectId, &Arc<Upstream>> {
        let groups = self.groups.values().map(|group| &group.upstream);
        let registries = self.registries.values().flat_map(|registry| &registry.upstreams);
        groups.chain(registries).map(|upstream| (&upstream.id, upstream)).collect()
    }

    /// The groups that a path belongs to: itself first, then its parents.
    pub fn lineage<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Arc<Group>> {
        let ends = path.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
        std::iter::once(path.len())
            .chain(ends.into_iter().rev())
            .filter_map(move |end| self.groups.get(&path[..end]))
    }
}
