//! The one place that knows where things are in the store.
//!
//! A repository is one path segment with `:` in place of `/` (a colon stands in no name): in a folder, or an S3
//! server that keeps one, `library` would otherwise have to be a file and a folder at once.

use config::ObjectId;
use object_store::path::Path;
use oci::{Algorithm, Digest, Name, Tag};

/// Whose right to a blob: this upstream's origin, through this group, in this repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    pub origin: String,
    pub group: ObjectId,
    pub repository: Name,
}

/// A group's way to one origin: whose policy rights and tags fall under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupOrigin {
    pub group: ObjectId,
    pub origin: String,
}

impl Holder {
    /// The holder without its repository.
    #[must_use]
    pub fn group_origin(&self) -> GroupOrigin {
        GroupOrigin { group: self.group.clone(), origin: self.origin.clone() }
    }
}

/// What is kept under a path.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// The bytes.
    Blob(&'a Digest),
    /// The right to a blob; its content is the manifest's media type, or nothing; LastModified is the last read.
    Link(&'a Digest, &'a Holder),
    /// All rights to a blob that one origin gave: a prefix.
    Links(&'a Digest, &'a str),
    /// All rights to a blob: a prefix.
    AnyLinks(&'a Digest),
    /// What a tag was when it was last checked.
    Tag(&'a Holder, &'a Tag),
    /// All claims of downloads: a prefix.
    Fills,
    /// Which replica downloads a blob or manifest from an origin.
    Fill(&'a Digest, &'a str),
    /// All claims of checks: a prefix.
    Checks,
    /// Which replica asks what a tag is now.
    Check(&'a Holder, &'a Tag),
    /// All replicas: a prefix.
    Replicas,
    /// That a replica runs, at `host:port`.
    Replica(&'a str),
    /// All that is known of upstreams: a prefix.
    Upstreams,
    /// What is known of an upstream, under the name of its origin and credentials, or until when it is frozen.
    Upstream(&'a ObjectId, &'a str),
    /// Since when a sweep has found no right to a blob.
    Tomb(&'a Digest),
    /// Since when a sweep has found no document that names this group with this origin.
    Orphan(&'a GroupOrigin),
    /// Written to learn the store's time.
    Now,
    /// What the last cleanup did, and when.
    Cleanup,
    /// Up to which digest stored blobs were checked in this round.
    Verified,
    /// Nothing is ever there: asked for to see whether the store answers.
    Probe,
}

impl Key<'_> {
    /// The path below the store's root.
    #[must_use]
    pub fn path(&self, instance: &ObjectId) -> Path {
        Path::from(format!("{}/{}", root(instance), self.relative()))
    }

    /// The path below the instance's own.
    #[must_use]
    pub fn relative(&self) -> String {
        match self {
            Self::Blob(digest) => format!("blobs/{}", sharded(digest)),
            Self::Link(digest, holder) => format!("_links/{}/{}", sharded(digest), held(holder)),
            Self::Links(digest, origin) => format!("_links/{}/{origin}", sharded(digest)),
            Self::AnyLinks(digest) => format!("_links/{}", sharded(digest)),
            Self::Tag(holder, tag) => format!("_tags/{}/{tag}", held(holder)),
            Self::Fills => "_fills".to_owned(),
            Self::Checks => "_checks".to_owned(),
            Self::Fill(digest, origin) => format!("_fills/{digest}/{origin}"),
            Self::Check(holder, tag) => format!("_checks/{}/{tag}", held(holder)),
            Self::Replicas => "_replicas".to_owned(),
            Self::Replica(address) => format!("_replicas/{address}"),
            Self::Upstreams => "_upstreams".to_owned(),
            Self::Upstream(id, name) => format!("_upstreams/{}/{name}", id.dotted()),
            Self::Tomb(digest) => format!("_tombs/{}", sharded(digest)),
            Self::Orphan(GroupOrigin { group, origin }) => {
                format!("_orphans/{origin}/{}", group.dotted())
            }
            Self::Now => "_now".to_owned(),
            Self::Cleanup => "_cleanup".to_owned(),
            Self::Verified => "_verified".to_owned(),
            Self::Probe => "_probe".to_owned(),
        }
    }
}

/// `sha256/ab/<hex>`.
fn sharded(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}/{}/{hex}", digest.algorithm().as_str(), &hex[..2])
}

/// `<origin>/<namespace.name>/<repository>`.
fn held(holder: &Holder) -> String {
    let Holder { origin, group, repository } = holder;
    format!("{origin}/{}/{}", group.dotted(), repository.as_str().replace('/', ":"))
}

/// What is listed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Blobs,
    Links,
    Tombs,
    Tags,
    Orphans,
}

impl Kind {
    /// The folder of all keys of this kind.
    pub(super) fn folder(self, instance: &ObjectId) -> Path {
        let name = match self {
            Self::Blobs => "blobs",
            Self::Links => "_links",
            Self::Tombs => "_tombs",
            Self::Tags => "_tags",
            Self::Orphans => "_orphans",
        };
        Path::from(format!("{}/{name}", root(instance)))
    }

    /// The part of it that has this stretch of digests.
    pub(super) fn stretch(self, instance: &ObjectId, stretch: Stretch) -> Path {
        let folder = self.folder(instance).join(stretch.algorithm.as_str());
        stretch.shard.map_or(folder.clone(), |shard| folder.join(format!("{shard:02x}")))
    }
}

/// Digests that are listed together, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub(super) algorithm: Algorithm,
    /// The first byte of the digests; `None`: all of them.
    pub(super) shard: Option<u8>,
}

/// What a listed path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Blob(Digest),
    Link(Digest, Holder),
    Tomb(Digest),
    Tag(Holder, Tag),
    Orphan(GroupOrigin),
    Upstream(ObjectId, String),
}

impl Named {
    /// `None` for what is not ours: it stays as it is.
    pub(super) fn parse(instance: &ObjectId, path: &Path) -> Option<Self> {
        let rest = path.as_ref().strip_prefix(&root(instance))?.strip_prefix('/')?;
        let parts: Vec<_> = rest.split('/').collect();
        match *parts.as_slice() {
            ["blobs", algorithm, _, hex] => Some(Self::Blob(digest(algorithm, hex)?)),
            ["_tombs", algorithm, _, hex] => Some(Self::Tomb(digest(algorithm, hex)?)),
            ["_links", algorithm, _, hex, origin, group, repository] => {
                Some(Self::Link(digest(algorithm, hex)?, holder(origin, group, repository)?))
            }
            ["_tags", origin, group, repository, tag] => {
                Some(Self::Tag(holder(origin, group, repository)?, Tag::parse(tag).ok()?))
            }
            ["_orphans", origin, group] => Some(Self::Orphan(GroupOrigin {
                group: ObjectId::of_dotted(group)?,
                origin: origin.to_owned(),
            })),
            ["_upstreams", id, name] => Some(Self::Upstream(ObjectId::of_dotted(id)?, name.to_owned())),
            _ => None,
        }
    }

    /// Of which digest it speaks.
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Blob(digest) | Self::Link(digest, _) | Self::Tomb(digest) => Some(*digest),
            Self::Tag(..) | Self::Orphan(_) | Self::Upstream(..) => None,
        }
    }
}

fn root(instance: &ObjectId) -> String {
    format!("{}/v1", instance.dotted())
}

fn digest(algorithm: &str, hex: &str) -> Option<Digest> {
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

fn holder(origin: &str, group: &str, repository: &str) -> Option<Holder> {
    let repository = Name::parse(&repository.replace(':', "/")).ok()?;
    Some(Holder { origin: origin.to_owned(), group: ObjectId::of_dotted(group)?, repository })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_path() {
        let id = |name: &str| ObjectId { namespace: "ns".into(), name: name.into() };
        let digest = Digest::of(oci::Algorithm::Sha256, b"");
        let holder = Holder {
            origin: "0f".into(),
            group: id("team-a"),
            repository: Name::parse("library/alpine").unwrap(),
        };
        let hex = digest.hex();
        let path = |key: Key<'_>| key.path(&id("main")).to_string();
        assert_eq!(path(Key::Blob(&digest)), format!("ns.main/v1/blobs/sha256/e3/{hex}"));
        assert_eq!(
            path(Key::Link(&digest, &holder)),
            format!("ns.main/v1/_links/sha256/e3/{hex}/0f/ns.team-a/library:alpine")
        );
        assert_eq!(path(Key::Links(&digest, "0f")), format!("ns.main/v1/_links/sha256/e3/{hex}/0f"));
        let tag = Tag::parse("3.20").unwrap();
        assert_eq!(path(Key::Tag(&holder, &tag)), "ns.main/v1/_tags/0f/ns.team-a/library:alpine/3.20");
        assert_eq!(path(Key::Upstream(&id("hub"), "frozen")), "ns.main/v1/_upstreams/ns.hub/frozen");
        assert_eq!(path(Key::Fill(&digest, "0f")), format!("ns.main/v1/_fills/sha256:{hex}/0f"));
        assert_eq!(path(Key::Check(&holder, &tag)), "ns.main/v1/_checks/0f/ns.team-a/library:alpine/3.20");
    }
    #[test]
    fn a_listed_path_names_what_was_written_there() {
        let id = |name: &str| ObjectId { namespace: "ns".into(), name: name.into() };
        let digest = Digest::of(oci::Algorithm::Sha512, b"");
        let holder = Holder {
            origin: "0f".into(),
            group: id("team.with.dots"),
            repository: Name::parse("library/alpine").unwrap(),
        };
        let tag = Tag::parse("3.20").unwrap();
        let named = |key: Key<'_>| Named::parse(&id("main"), &key.path(&id("main")));
        assert_eq!(named(Key::Blob(&digest)), Some(Named::Blob(digest)));
        assert_eq!(named(Key::Tomb(&digest)), Some(Named::Tomb(digest)));
        assert_eq!(named(Key::Link(&digest, &holder)), Some(Named::Link(digest, holder.clone())));
        assert_eq!(named(Key::Tag(&holder, &tag)), Some(Named::Tag(holder.clone(), tag.clone())));
        let owner = holder.group_origin();
        assert_eq!(named(Key::Orphan(&owner)), Some(Named::Orphan(owner.clone())));
        let upstream = id("my.registry");
        assert_eq!(named(Key::Upstream(&upstream, "0f")), Some(Named::Upstream(upstream, "0f".to_owned())));
        for other in [Key::Probe, Key::Now, Key::Cleanup, Key::AnyLinks(&digest)] {
            assert_eq!(named(other), None);
        }
        assert_eq!(Named::parse(&id("other"), &Key::Blob(&digest).path(&id("main"))), None);
        let stray = Path::from("ns.main/v1/blobs/sha256/e3/README");
        assert_eq!(Named::parse(&id("main"), &stray), None);
    }
}
