//! Forgetting what is cached, at somebody's wish: what of which groups is meant, and the work behind the answer.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use config::{Config, Group, ObjectId};
use oci::{Digest, Name, Tag};

use crate::store::{Crowded, Purge, Store, What};

/// How often a purge is tried again where the store fails.
const RETRIES: usize = 10;
/// The longest time between two tries.
const PAUSE: Duration = Duration::from_secs(60);

/// Whose cache is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Group(ObjectId),
    /// By its id, `<namespace>.<name>`.
    Registry(String),
    Upstream(ObjectId),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(id) => write!(f, "group {id}"),
            Self::Registry(id) => write!(f, "virtual registry {id}"),
            Self::Upstream(id) => write!(f, "upstream {id}"),
        }
    }
}

/// A group of which something is forgotten: all, or what these origins delivered.
pub struct Concerned {
    pub group: Arc<Group>,
    origins: Option<HashSet<String>>,
}

/// The groups that a target concerns; none where there is no such target.
#[must_use]
pub fn concerned(config: &Config, target: &Target) -> Vec<Concerned> {
    match target {
        Target::Group(id) => {
            let group = config.groups.values().find(|group| group.id == *id);
            group.map(|group| Concerned { group: group.clone(), origins: None }).into_iter().collect()
        }
        Target::Registry(id) => {
            let registry = config.registries.get(id);
            let of = |registry: &Arc<config::VirtualRegistry>| {
                let origins = registry.upstreams.iter().map(|upstream| upstream.origin.clone());
                Concerned { group: registry.group.clone(), origins: Some(origins.collect()) }
            };
            registry.map(of).into_iter().collect()
        }
        Target::Upstream(id) => {
            let Some(upstream) = config.upstreams().remove(id) else { return Vec::new() };
            let users = config
                .registries
                .values()
                .filter(|registry| registry.upstreams.iter().any(|used| used.id == *id));
            let users = users.map(|registry| &registry.group);
            let own = config.groups.values().filter(|group| group.upstream.id == *id);
            let origins = Some(HashSet::from([upstream.origin.clone()]));
            let mut seen = HashSet::new();
            let groups = own.chain(users).filter(|group| seen.insert(group.id.clone()));
            groups.map(|group| Concerned { group: group.clone(), origins: origins.clone() }).collect()
        }
    }
}

/// What of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// As upstreams name it; `None`: all.
    repositories: Option<Vec<Name>>,
    what: What,
}

impl Scope {
    /// Reads `image`, `tag` and `digest` of a query.
    ///
    /// # Errors
    /// A sentence, where they make no sense: whoever mistypes one does not want everything to go.
    pub fn read<'q>(pairs: impl Iterator<Item = (&'q str, &'q str)>) -> Result<Self, String> {
        let (mut image, mut what) = (None, What::Everything);
        for (key, value) in pairs {
            match (key, &what) {
                ("image", _) => image = Some(Name::parse(value).map_err(|error| error.to_string())?),
                ("tag", What::Everything) => {
                    what = What::Tag(Tag::parse(value).map_err(|error| error.to_string())?);
                }
                ("digest", What::Everything) => {
                    what = What::Digest(Digest::parse(value).map_err(|error| error.to_string())?);
                }
                _ => return Err("purging takes image, and one of tag and digest".to_owned()),
            }
        }
        if matches!(what, What::Tag(_)) && image.is_none() {
            return Err("a tag is purged together with its image: add image".to_owned());
        }
        Ok(Self { repositories: image.map(|image| as_upstreams_name_it(&image)), what })
    }
}

/// As it is written, and as Docker Hub names it.
fn as_upstreams_name_it(image: &Name) -> Vec<Name> {
    let official = image.is_short().then(|| image.under("library").ok()).flatten();
    std::iter::once(image.clone()).chain(official).collect()
}

/// Forgets it, behind the answer and after what was asked for before. `by`: who asked, for the log.
///
/// # Errors
/// When too much waits already; then nothing is done.
pub fn begin(store: &Arc<Store>, concerned: &[Concerned], scope: &Scope, by: &str) -> Result<(), Crowded> {
    let purge = |Concerned { group, origins }: &Concerned| Purge {
        group: group.id.clone(),
        origins: origins.clone(),
        repositories: scope.repositories.clone(),
        what: scope.what.clone(),
    };
    let is_first = store.queue_purges(concerned.iter().map(purge).collect())?;
    let by = by.escape_default().to_string();
    for one in concerned {
        tracing::info!(group = %one.group.id, %by, what = ?scope.what, "purging");
    }
    if is_first {
        let store = store.clone();
        tokio::spawn(async move {
            while let Some(purges) = store.next_purges() {
                for purge in purges {
                    forget(&store, &purge).await;
                }
            }
        });
    }
    Ok(())
}

async fn forget(store: &Store, purge: &Purge) {
    let group = purge.group.to_string();
    let retries = ExponentialBuilder::default().with_max_times(RETRIES).with_max_delay(PAUSE);
    match (|| store.purge(purge)).retry(retries).sleep(tokio::time::sleep).await {
        Ok(purged) => tracing::info!(%group, rights = purged.links, tags = purged.tags, "purged"),
        Err(error) => tracing::error!(%group, %error, "not everything was purged: ask again"),
    }
}
