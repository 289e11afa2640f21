//! From the name in a request to a group, its upstreams, and the repository as they name it. Pure.

use std::sync::Arc;

use config::{Config, Group, Route, Upstream};
use oci::Name;

use crate::store::Holder;

/// Between a group's path and the image.
const CONTAINERS: &str = "/dependency_proxy/containers/";
/// Before a registry id.
const REGISTRIES: &str = "virtual_registries/container/";

/// What a name leads to, before anybody's rights are looked at.
#[derive(Clone, Debug)]
pub enum Lead {
    /// A group or registry that exists, and the rest of the name.
    Route {
        route: Route,
        image: Name,
        /// What stands for it in the request, whatever it leads to: a refusal repeats this and tells nothing else.
        written: String,
    },
    /// A group or registry that does not exist; as it was written.
    Unknown(String),
}

impl Lead {
    /// The group in which it is pulled, if there is one.
    #[must_use]
    pub fn group(&self) -> Option<&Group> {
        match self {
            Self::Route { route, .. } => Some(route.group()),
            Self::Unknown(_) => None,
        }
    }

    /// What stands for it in the request.
    #[must_use]
    pub fn written(&self) -> &str {
        match self {
            Self::Route { written, .. } | Self::Unknown(written) => written,
        }
    }
}

/// How images are named here, for those who wrote something else.
pub const NAMES: &str =
    "Names are <group>/dependency_proxy/containers/<image> or virtual_registries/container/<id>/<image>.";

/// Where an image may come from, in order.
#[derive(Clone, Debug)]
pub struct Target {
    pub group: Arc<Group>,
    /// Whether the name was a virtual registry's: then tags are good for the upstream's `cacheValidityHours`.
    pub is_registry: bool,
    pub sources: Vec<Source>,
    /// The image as the client wrote it, without the prefix.
    pub image: Name,
}

/// One upstream, and what it calls the image.
#[derive(Clone, Debug)]
pub struct Source {
    pub upstream: Arc<Upstream>,
    pub repository: Name,
}

/// Why a name that leads to a group has no sources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("this instance is switched off")]
    InstanceDisabled,
    #[error("group {0} is switched off")]
    GroupDisabled(String),
    #[error("registry {0} has no upstreams")]
    NoUpstreams(String),
    #[error("no upstream here is {0}")]
    OtherNamespace(String),
    #[error("the name is too long")]
    TooLong,
}

/// Finds what a name leads to. `host` is the request's `Host`, lower case.
#[must_use]
pub fn lead(config: &Config, host: Option<&str>, name: &Name) -> Lead {
    if let Some(route) = host.and_then(|host| config.mirrors.get(host)) {
        let written = host.unwrap_or_default().to_owned();
        return Lead::Route { route: route.clone(), image: name.clone(), written };
    }
    let text = name.as_str();
    let unknown = || Lead::Unknown(written(name).to_owned());
    let found = |route: Route, image: &str| match Name::parse(image) {
        Ok(image) => Lead::Route { route, image, written: written(name).to_owned() },
        Err(_) => unknown(),
    };
    for alias in &config.aliases {
        if let Some(image) = text.strip_prefix(&alias.prefix).and_then(|rest| rest.strip_prefix('/')) {
            return found(alias.route.clone(), image);
        }
    }
    if let Some((id, image)) = text.strip_prefix(REGISTRIES).and_then(|rest| rest.split_once('/')) {
        return match config.registries.get(id) {
            Some(registry) => found(Route::Registry(registry.clone()), image),
            None => unknown(),
        };
    }
    if let Some((path, image)) = text.split_once(CONTAINERS) {
        return match config.groups.get(path) {
            Some(group) => found(Route::Group(group.clone()), image),
            None => unknown(),
        };
    }
    unknown()
}

/// What stands for the group in a name: the registry id, the group's path, or the whole name where it has neither
/// form, such as an alias. The name alone decides, so that nobody learns from it what exists.
fn written(name: &Name) -> &str {
    form(name).unwrap_or(name.as_str())
}

/// Whether a name has one of the two forms of [`NAMES`].
#[must_use]
pub fn has_form(name: &Name) -> bool {
    form(name).is_some()
}

fn form(name: &Name) -> Option<&str> {
    let text = name.as_str();
    let id = text.strip_prefix(REGISTRIES).and_then(|rest| rest.split_once('/'));
    id.or_else(|| text.split_once(CONTAINERS)).map(|(written, _)| written)
}

/// Finds the upstreams of an image. `ns` is the registry that a mirror's client believes to ask.
///
/// # Errors
/// When something is switched off or missing, or `ns` is none of the upstreams.
pub fn resolve(config: &Config, route: &Route, image: &Name, ns: Option<&str>) -> Result<Target, Error> {
    if !config.instance.enabled {
        return Err(Error::InstanceDisabled);
    }
    let group = route.group().clone();
    if !group.enabled {
        return Err(Error::GroupDisabled(group.path.clone()));
    }
    let (is_registry, upstreams) = match route {
        Route::Group(group) => (false, vec![group.upstream.clone()]),
        Route::Registry(registry) => (true, registry.upstreams.clone()),
    };
    if let (true, Route::Registry(registry)) = (upstreams.is_empty(), route) {
        return Err(Error::NoUpstreams(registry.registry_id()));
    }
    let mut sources = Vec::with_capacity(upstreams.len());
    for upstream in upstreams.into_iter().filter(|upstream| ns.is_none_or(|ns| is_host(upstream, ns))) {
        let official = !is_registry && upstream.docker_hub && image.is_short();
        let repository =
            if official { image.under("library").map_err(|_| Error::TooLong)? } else { image.clone() };
        sources.push(Source { upstream, repository });
    }
    match (sources.is_empty(), ns) {
        (true, Some(ns)) => Err(Error::OtherNamespace(ns.to_owned())),
        _ => Ok(Target { group, is_registry, sources, image: image.clone() }),
    }
}

/// Docker Hub has three host names and one set of images.
fn is_host(upstream: &Upstream, ns: &str) -> bool {
    let hub = matches!(ns, "docker.io" | "registry-1.docker.io" | "index.docker.io");
    upstream.host.eq_ignore_ascii_case(ns) || (hub && upstream.docker_hub)
}

impl Target {
    /// Under which name the right to this source's blobs is kept.
    #[must_use]
    pub fn holder(&self, source: &Source) -> Holder {
        Holder {
            origin: source.upstream.origin.clone(),
            group: self.group.id.clone(),
            repository: source.repository.clone(),
        }
    }
}
