//! The DependencyProxy that is served.

use std::time::Duration;

use crds::{AllowedNamespaces, DependencyProxy, DependencyProxySpec};
use ipnet::IpNet;
use url::Url;

use super::reference::{check_allowed, local, missing};
use super::report::Report;
use super::set::{Found, Set};
use super::{Options, pods, secret};
use crate::{Document, Instance, Keys, Kind, ObjectId, Problem, Reason, Severity, Storage, Users, quantity};

/// The instance, and what other documents are judged by.
pub(super) struct Chosen<'a> {
    /// The document, where there is one that fits its type.
    pub(super) document: Option<(&'a Document, &'a DependencyProxySpec)>,
    /// The instance that groups must name; `None`: they are taken as they come.
    pub(super) id: Option<ObjectId>,
    /// `None` where nothing can be served.
    pub(super) instance: Option<Instance>,
}

impl Chosen<'_> {
    pub(super) fn allowed_groups(&self) -> Option<&AllowedNamespaces> {
        self.document.map(|(_, spec)| &spec.allowed_groups)
    }

    /// GitLab's bound where there is no document.
    pub(super) fn max_registries_per_group(&self) -> i64 {
        self.document.map_or(5, |(_, spec)| spec.max_registries_per_group.max(1))
    }

    /// Under which deploy tokens are hashed.
    pub(super) fn instance_key(&self) -> &[u8] {
        self.instance.as_ref().map_or(&[], |i| &i.keys.instance)
    }
}

/// Finds the instance and judges it.
pub(super) fn choose<'a>(set: &Set<'a>, options: &Options, problems: &mut Vec<Problem>) -> Chosen<'a> {
    let all = set.all::<DependencyProxy>().map(|(document, _)| document).collect::<Vec<_>>();
    let id = match (&options.instance, all.as_slice()) {
        (Some(id), _) => id,
        (None, []) => return Chosen { document: None, id: None, instance: Some(defaults()) },
        (None, [only]) => &only.id,
        (None, several) => {
            let message =
                format!("is one of {}; say which to serve with --instance NAMESPACE/NAME", several.len());
            problems
                .extend(several.iter().map(|d| d.problem(Severity::Error, "metadata.name", message.clone())));
            return Chosen { document: None, id: None, instance: None };
        }
    };
    let document = match set.find::<DependencyProxy>(id) {
        Found::Usable(document, object) => Some((document, &object.spec)),
        Found::Refused => None,
        Found::Missing => {
            problems.push(no_such_instance(id));
            None
        }
    };
    let instance = document.and_then(|(document, spec)| {
        let mut report = Report::of(document);
        let instance = build(&mut report, &document.id, spec, set);
        report.close(instance, problems)
    });
    Chosen { document, id: Some(id.clone()), instance }
}

fn no_such_instance(id: &ObjectId) -> Problem {
    Problem {
        severity: Severity::Error,
        reason: Reason::ProxyNotFound,
        file: None,
        line: None,
        kind: Kind::DependencyProxy.as_str().to_owned(),
        object: Some(id.clone()),
        field: String::new(),
        message: missing(Kind::DependencyProxy, id),
    }
}

/// What holds where there is no DependencyProxy document.
fn defaults() -> Instance {
    Instance {
        id: ObjectId { namespace: "default".to_owned(), name: "default".to_owned() },
        external_url: None,
        additional_urls: Vec::new(),
        enabled: true,
        storage: Storage::Folder,
        local_size_limit: 10 << 30,
        token_ttl: Duration::from_secs(900),
        users: Users::default(),
        keys: Keys::default(),
        allowed_cidrs: Vec::new(),
        drain: Duration::from_secs(120),
        storage_limit: None,
    }
}

fn build(
    report: &mut Report<'_>,
    id: &ObjectId,
    spec: &DependencyProxySpec,
    set: &Set<'_>,
) -> Option<Instance> {
    report.check(
        id.name.len() <= 40,
        "metadata.name",
        "must have at most 40 characters; choose a shorter name",
    );
    let external_url = root_url(report, "spec.externalURL", &spec.external_url);
    report.count("spec.additionalURLs", spec.additional_urls.len(), 0..=16);
    let additional_urls = (spec.additional_urls.iter().enumerate())
        .filter_map(|(index, url)| root_url(report, &format!("spec.additionalURLs[{index}]"), url))
        .collect();
    report.within("spec.drainSeconds", spec.drain_seconds, 0..=3600);
    report.within("spec.auth.tokenTTLSeconds", spec.auth.token_ttl_seconds, 60..=3600);
    report.within("spec.maxRegistriesPerGroup", spec.max_registries_per_group, 1..=1000);
    pods::check(report, spec);
    check_allowed(report, "spec.allowedGroups", &spec.allowed_groups);
    let local_size_limit = size(report, "spec.localCache.sizeLimit", &spec.local_cache.size_limit);
    let quota = spec.quota.as_ref();
    let storage_limit = quota.map(|quota| size(report, "spec.quota.storageBytes", &quota.storage_bytes));
    schedule(report, "spec.cleanup.schedule", &spec.cleanup.schedule);
    report.within("spec.cleanup.verifyMinutes", spec.cleanup.verify_minutes, 0..=1440);
    let allowed_cidrs = cidrs(report, &spec.upstream_networks.allowed_cidrs);
    let storage = super::storage::judge(report, &id.namespace, spec, set);
    // Without its users an instance still serves deploy tokens.
    let users = spec.auth.static_users_secret_ref.as_ref().and_then(|reference| {
        secret::users(report, "spec.auth.staticUsersSecretRef", set, &local(reference, &id.namespace))
    });
    let keys = match &spec.auth.keys_secret_ref {
        None => Some(Keys::default()),
        Some(reference) => {
            secret::keys(report, "spec.auth.keysSecretRef", set, &local(reference, &id.namespace))
        }
    };
    Some(Instance {
        id: id.clone(),
        external_url: Some(external_url?),
        additional_urls,
        enabled: spec.enabled,
        storage: storage?,
        local_size_limit: local_size_limit?,
        token_ttl: Duration::from_secs(u64::try_from(spec.auth.token_ttl_seconds).ok()?),
        users: users.unwrap_or_default(),
        keys: keys?,
        allowed_cidrs,
        drain: Duration::from_secs(u64::try_from(spec.drain_seconds).ok()?),
        storage_limit: storage_limit.flatten(),
    })
}

/// An http or https URL.
pub(super) fn http_url(report: &mut Report<'_>, field: &str, text: &str) -> Option<Url> {
    let url =
        Url::parse(text).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some());
    if url.is_none() {
        report.error(field, "must be an http or https URL with a host, such as https://registry.example.com");
    }
    url
}

/// A URL that clients reach a registry at: they want it at the root of the host.
fn root_url(report: &mut Report<'_>, field: &str, text: &str) -> Option<Url> {
    report.length(field, text, 1..=2048);
    let url = http_url(report, field, text)?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    report.check(
        bare,
        field,
        "must have no path, query or fragment: clients want the registry at the root of the host",
    );
    let anonymous = url.username().is_empty() && url.password().is_none() && !text.contains('@');
    report.check(anonymous, field, "must have no user name or password; take them out");
    Some(url)
}

/// A quantity of bytes above zero.
pub(super) fn size(report: &mut Report<'_>, field: &str, text: &str) -> Option<u64> {
    let bytes = quantity::bytes(text).filter(|b| *b > 0);
    if bytes.is_none() {
        report.error(field, "must be a quantity of bytes above zero, such as 10Gi");
    }
    bytes
}

/// Five fields; what is in them the API server reads when it takes the CronJob.
fn schedule(report: &mut Report<'_>, field: &str, text: &str) {
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"*,/?-".contains(&b));
    let fields: Vec<_> = text.split(' ').collect();
    let numbers =
        fields.first().is_some_and(|minute| !minute.bytes().any(|b| b.is_ascii_alphabetic() || b == b'?'));
    let fits = fields.len() == 5 && numbers && fields.iter().all(|part| !part.is_empty() && plain(part));
    report.length(field, text, 9..=100);
    report.check(fits, field, "must be five fields of a CronJob's schedule, such as 0 3 * * *");
}

fn cidrs(report: &mut Report<'_>, texts: &[String]) -> Vec<IpNet> {
    report.count("spec.upstreamNetworks.allowedCIDRs", texts.len(), 0..=64);
    let mut networks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(_) => {
                let field = format!("spec.upstreamNetworks.allowedCIDRs[{index}]");
                report.error(&field, "must be a network such as 10.1.0.0/16");
            }
        }
    }
    networks
}
