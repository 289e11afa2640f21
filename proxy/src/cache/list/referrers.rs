//! What refers to a manifest: upstream's answer, or where it has no such API, what the tag schema says.

use std::sync::Arc;

use bytes::Bytes;
use oci::{Digest, Reference, Tag};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Page;
use crate::cache::{Cache, Error, Failure, Pull, Wanted};
use crate::resolve::Source;
use crate::upstream::Reason;

/// Pages that are put together to one; whoever wants more gets a link to it.
const MAX_PAGES: usize = 10;
/// Bytes of these pages together.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What refers to a manifest: an image index.
#[derive(Clone, Debug)]
pub struct Referrers {
    pub bytes: Bytes,
    /// Whether only the asked artifact type is in it.
    pub filtered: bool,
    /// What is not in it, if there is more.
    pub next: Option<Page>,
}

/// An image index as far as it matters here; the rest stays as it is.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    /// OCI indexes may leave it out.
    #[serde(default = "index_type")]
    media_type: String,
    #[serde(default)]
    manifests: Vec<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

fn index_type() -> String {
    oci::media::OCI_INDEX.to_owned()
}

impl Cache {
    /// Lists what refers to a manifest, as the first upstream says that answers.
    ///
    /// # Errors
    /// When no upstream answers.
    pub async fn referrers(
        self: &Arc<Self>,
        pull: &Pull,
        digest: &Digest,
        page: &Page,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Error> {
        let ask = |source| self.pages(pull, source, digest, page.clone(), artifact_type);
        match self.first(pull, page, ask).await {
            Err(error) if error.lacks_api() => self.tag_schema(pull, digest, artifact_type).await,
            native => native,
        }
    }

    /// One upstream's pages, put together.
    async fn pages(
        &self,
        pull: &Pull,
        source: &Source,
        digest: &Digest,
        mut page: Page,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Reason> {
        let client = self.client(pull, source);
        let path = format!("referrers/{digest}");
        let mut index: Option<Index> = None;
        let mut size = 0;
        for _ in 0..MAX_PAGES {
            let asked = client.list(&source.repository, path.clone(), page.query()).await;
            let list = asked.map_err(|error| error.reason)?;
            let found = read_index(&list.bytes)?;
            size += list.bytes.len();
            match &mut index {
                // It is asked for again by whoever follows the link.
                Some(_) if size > MAX_BYTES => break,
                Some(index) => index.manifests.extend(found.manifests),
                None => index = Some(found),
            }
            let next = list.link.as_deref().and_then(|link| Page::next(link, pull.one_of_several(source)));
            match next {
                // A page that leads to itself would be asked for ever.
                Some(next) if next.query() != page.query() => page = next,
                _ => return Ok(write_index(index.unwrap_or_default(), artifact_type, None)),
            }
        }
        Ok(write_index(index.unwrap_or_default(), artifact_type, Some(page)))
    }

    /// distribution-spec, "Referrers tag schema": an index under the tag `sha256-<hex>`, or nothing.
    async fn tag_schema(
        self: &Arc<Self>,
        pull: &Pull,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Error> {
        let empty = || write_index(Index::default(), artifact_type, None);
        let hex = digest.hex();
        let tag = Tag::parse(&format!("{}-{}", digest.algorithm().as_str(), &hex[..64]));
        let Ok(tag) = tag else { return Ok(empty()) };
        match self.manifest(pull, &Reference::Tag(tag), Wanted::Bytes).await {
            Ok(found) => {
                let index = found.bytes.and_then(|bytes| read_index(&bytes).ok());
                Ok(index.map_or_else(empty, |index| write_index(index, artifact_type, None)))
            }
            Err(error) if error.lacks_api() => Ok(empty()),
            Err(error) => Err(error),
        }
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { schema_version: 2, media_type: index_type(), manifests: Vec::new(), others: Map::new() }
    }
}

fn read_index(bytes: &Bytes) -> Result<Index, Reason> {
    serde_json::from_slice(bytes).map_err(|_| Reason::Wrong("referrers that are no index".to_owned()))
}

fn write_index(mut index: Index, artifact_type: Option<&str>, next: Option<Page>) -> Referrers {
    if let Some(wanted) = artifact_type {
        let is_wanted =
            |manifest: &Value| manifest.get("artifactType").and_then(Value::as_str) == Some(wanted);
        index.manifests.retain(is_wanted);
    }
    let bytes = serde_json::to_vec(&index).unwrap_or_default().into();
    Referrers { bytes, filtered: artifact_type.is_some(), next }
}

impl Error {
    /// Whether all upstreams that were asked have no such repository, or no referrers API. Registries without it say
    /// so in many ways: 404 by the distribution-spec, and 400, 405 or 501 by themselves.
    fn lacks_api(&self) -> bool {
        let asked = || self.0.iter().filter(|a| !matches!(a.failure, Failure::Rule(_) | Failure::NotAllowed));
        let lacks = |failure: &Failure| match failure {
            Failure::Upstream(Reason::NotFound | Reason::Status(501)) => true,
            Failure::Upstream(Reason::Wrong(what)) => matches!(what.as_str(), "status 400" | "status 405"),
            _ => false,
        };
        asked().next().is_some() && asked().all(|attempt| lacks(&attempt.failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referrers_are_filtered_by_artifact_type_and_the_rest_stays() {
        // No mediaType: it is optional in OCI indexes.
        let index = br#"{"schemaVersion":2,"manifests":[{"artifactType":"a"},{"artifactType":"b"},{}],"annotations":{"k":"v"}}"#;
        let read = |wanted| {
            let index = read_index(&Bytes::from_static(index)).unwrap_or_default();
            serde_json::from_slice::<Value>(&write_index(index, wanted, None).bytes).unwrap_or_default()
        };
        assert_eq!(read(Some("a"))["manifests"].as_array().map(Vec::len), Some(1));
        let all = read(None);
        assert_eq!(all["manifests"].as_array().map(Vec::len), Some(3));
        assert_eq!(all["annotations"]["k"], "v");
        assert_eq!(all["mediaType"], oci::media::OCI_INDEX);
    }
}
