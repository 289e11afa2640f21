//! RegistryUpstreams.

use std::time::Duration;

use crds::{RegistryUpstream, RegistryUpstreamSpec};
use url::{Host, Url};
use wildmatch::WildMatch;

use super::reference::{Ruling, Rulings, ca, check_allowed, local};
use super::report::Report;
use super::set::Set;
use super::{Options, secret};
use crate::{Action, Credentials, ObjectId, Problem, RateLimit, Rule, Upstream, WhenRefused, fingerprint};

/// Hosts of Docker Hub: the registry, and the names that clients know it by.
const DOCKER_HUB_HOSTS: [&str; 3] = ["registry-1.docker.io", "docker.io", "index.docker.io"];
const DOCKER_HUB_URL: &str = "https://registry-1.docker.io";

pub(super) fn judge(set: &Set<'_>, options: &Options, problems: &mut Vec<Problem>) -> Rulings<Upstream> {
    let mut rulings = Rulings::new();
    for (document, object) in set.all::<RegistryUpstream>() {
        let upstream = object.and_then(|object| {
            let mut report = Report::of(document);
            let upstream = build(&mut report, &document.id, &object.spec, set, options);
            report.close(upstream, problems)
        });
        rulings.insert(document.id.clone(), Ruling::from(upstream));
    }
    rulings
}

/// Docker Hub without credentials, for a group that names no upstream where the instance names none either.
pub(super) fn docker_hub(namespace: &str, options: &Options) -> Option<Upstream> {
    let url = Url::parse(DOCKER_HUB_URL).ok()?;
    let rate_limit = crds::RateLimit::default();
    Some(Upstream {
        id: ObjectId { namespace: namespace.to_owned(), name: "docker-hub".to_owned() },
        host: "docker.io".to_owned(),
        origin: origin(&url, None, options, None),
        url,
        docker_hub: true,
        insecure: false,
        credentials: None,
        ca: None,
        cache_validity: Some(Duration::from_secs(24 * 3600)),
        when_refused: WhenRefused::ServeCached,
        recheck_budget: Duration::from_millis(1000),
        rules: Vec::new(),
        rate_limit: limits(&rate_limit),
        token_hosts: Vec::new(),
    })
}

fn build(
    report: &mut Report<'_>,
    id: &ObjectId,
    spec: &RegistryUpstreamSpec,
    set: &Set<'_>,
    options: &Options,
) -> Option<Upstream> {
    let url = url(report, spec);
    bounds(report, spec);
    let rules = rules(report, spec);
    check_token_hosts(report, &spec.token_hosts);
    check_allowed(report, "spec.allowedGroups", &spec.allowed_groups);
    // An upstream never falls back to anonymous or to the public CAs: it waits for what it refers to.
    let credentials = spec.credentials_secret_ref.as_ref().and_then(|reference| {
        let found =
            secret::basic_auth(report, "spec.credentialsSecretRef", set, &local(reference, &id.namespace));
        if found.is_none() {
            report.refuse();
        }
        found
    });
    let ca = spec.ca_config_map_ref.as_ref().and_then(|reference| {
        let found = ca(report, "spec.caConfigMapRef", set, &local(reference, &id.namespace));
        if found.is_none() {
            report.refuse();
        }
        found
    });
    let url = url?;
    let docker_hub = spec.docker_hub || url.host_str().is_some_and(|h| DOCKER_HUB_HOSTS.contains(&h));
    Some(Upstream {
        id: id.clone(),
        host: if docker_hub { "docker.io".to_owned() } else { authority(&url) },
        origin: origin(&url, ca.as_deref(), options, credentials.as_ref().map(|(name, _)| name.as_str())),
        url,
        docker_hub,
        insecure: spec.insecure,
        credentials: credentials.map(|(username, password)| Credentials {
            fingerprint: fingerprint(&[b"credentials", username.as_bytes(), password.expose().as_bytes()]),
            username,
            password,
        }),
        ca,
        cache_validity: match u64::try_from(spec.cache_validity_hours).unwrap_or_default() {
            0 => None,
            hours => Some(Duration::from_secs(hours * 3600)),
        },
        when_refused: match spec.when_refused {
            crds::WhenRefused::ServeCached => WhenRefused::ServeCached,
            crds::WhenRefused::Refuse => WhenRefused::Refuse,
        },
        recheck_budget: Duration::from_millis(
            u64::try_from(spec.recheck_budget_milliseconds).unwrap_or_default(),
        ),
        rules,
        rate_limit: limits(&spec.rate_limit),
        token_hosts: spec.token_hosts.clone(),
    })
}

/// The URL without a slash or `/v2` at its end.
fn url(report: &mut Report<'_>, spec: &RegistryUpstreamSpec) -> Option<Url> {
    let field = "spec.url";
    report.length(field, &spec.url, 1..=2048);
    let mut url = super::instance::http_url(report, field, &spec.url)?;
    if url.scheme() == "http" && !spec.insecure {
        report.error(field, "is plain http; use https, or allow it with insecure: true");
    }
    if !url.username().is_empty() || url.password().is_some() || spec.url.contains('@') {
        report.error(
            field,
            "must have no user name or password; put them into a Secret and name it in credentialsSecretRef",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        report.error(field, "must have no query and no fragment; take them out");
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v2").unwrap_or(path).to_owned();
    url.set_path(&path);
    Some(url)
}

fn bounds(report: &mut Report<'_>, spec: &RegistryUpstreamSpec) {
    report.within("spec.cacheValidityHours", spec.cache_validity_hours, 0..=8760);
    report.within("spec.recheckBudgetMilliseconds", spec.recheck_budget_milliseconds, 0..=60_000);
    let limit = &spec.rate_limit;
    report.within("spec.rateLimit.reservePulls", limit.reserve_pulls, 0..=1_000_000);
    report.within("spec.rateLimit.maxConcurrentRequests", limit.max_concurrent_requests, 1..=1000);
    report.within("spec.rateLimit.maxChecksPerMinute", limit.max_checks_per_minute, 1..=1_000_000);
}

fn limits(limit: &crds::RateLimit) -> RateLimit {
    RateLimit {
        reserve_pulls: limit.reserve_pulls,
        max_concurrent_requests: usize::try_from(limit.max_concurrent_requests).unwrap_or(1),
        max_checks_per_minute: u32::try_from(limit.max_checks_per_minute).unwrap_or(1),
    }
}

fn rules(report: &mut Report<'_>, spec: &RegistryUpstreamSpec) -> Vec<Rule> {
    report.count("spec.rules", spec.rules.len(), 0..=20);
    report.unique("spec.rules", "name", spec.rules.iter().map(|r| r.name.as_str()));
    for (index, rule) in spec.rules.iter().enumerate() {
        report.length(&format!("spec.rules[{index}].name"), &rule.name, 1..=63);
        report.length(&format!("spec.rules[{index}].repository"), &rule.repository, 1..=255);
    }
    let rule = |rule: &crds::RepositoryRule| Rule {
        name: rule.name.clone(),
        action: match rule.action {
            crds::Action::Allow => Action::Allow,
            crds::Action::Deny => Action::Deny,
        },
        repository: WildMatch::new(&rule.repository),
    };
    spec.rules.iter().map(rule).collect()
}

fn check_token_hosts(report: &mut Report<'_>, hosts: &[String]) {
    report.count("spec.tokenHosts", hosts.len(), 0..=16);
    report.unique("spec.tokenHosts", "", hosts.iter().map(String::as_str));
    for (index, host) in hosts.iter().enumerate() {
        if Host::parse(host).ok().is_none_or(|parsed| parsed.to_string() != *host) {
            let message = "must be a host name in lower case, without scheme and port";
            report.error(&format!("spec.tokenHosts[{index}]"), message);
        }
    }
}

/// Host and, where the URL states one, port.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn origin(url: &Url, ca: Option<&str>, options: &Options, account: Option<&str>) -> String {
    let proxy = if url.scheme() == "http" { &options.http_proxy } else { &options.https_proxy };
    let proxy = proxy.as_deref().map(without_user_info).unwrap_or_default();
    let parts = [url.as_str(), ca.unwrap_or_default(), &proxy, account.unwrap_or_default()];
    fingerprint(&parts.map(str::as_bytes))
}

/// The egress proxy without its user name and password: who delivers stays the same when they are rotated.
fn without_user_info(proxy: &str) -> String {
    let (scheme, rest) = proxy.split_once("://").unwrap_or(("http", proxy));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{}", host.trim_end_matches('/'))
}
