//! The one place that knows where things are in the store.
//!
//! A repository is one path segment with `:` in place of `/` (a colon stands in no name): in a folder, or an S3
//! server that keeps one, `library` would otherwise have to be a file and a folder at once.

use config::ObjectId;
use object_store::path::Path;
use oci::{Digest, Name, Tag};

/// Whose right to a blob: this upstream's origin, through this group, in this repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    pub origin: String,
    pub group: ObjectId,
    pub repository: Name,
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
    /// What a tag was when it was last checked.
    Tag(&'a Holder, &'a Tag),
    /// Which replica downloads a blob or manifest from an origin.
    Fill(&'a Digest, &'a str),
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
    /// Nothing is ever there: asked for to see whether the store answers.
    Probe,
}

impl Key<'_> {
    /// The path below the store's root.
    #[must_use]
    pub fn path(&self, instance: &ObjectId) -> Path {
        Path::from(format!("{}.{}/v1/{}", instance.namespace, instance.name, self.relative()))
    }

    /// The path below the instance's own.
    #[must_use]
    pub fn relative(&self) -> String {
        match self {
            Self::Blob(digest) => format!("blobs/{}", sharded(digest)),
            Self::Link(digest, holder) => format!("_links/{}/{}", sharded(digest), held(holder)),
            Self::Links(digest, origin) => format!("_links/{}/{origin}", sharded(digest)),
            Self::Tag(holder, tag) => format!("_tags/{}/{tag}", held(holder)),
            Self::Fill(digest, origin) => format!("_fills/{digest}/{origin}"),
            Self::Check(holder, tag) => format!("_checks/{}/{tag}", held(holder)),
            Self::Replicas => "_replicas".to_owned(),
            Self::Replica(address) => format!("_replicas/{address}"),
            Self::Upstreams => "_upstreams".to_owned(),
            Self::Upstream(id, name) => format!("_upstreams/{}.{}/{name}", id.namespace, id.name),
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
    format!("{origin}/{}.{}/{}", group.namespace, group.name, repository.as_str().replace('/', ":"))
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
}
