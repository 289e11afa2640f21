//! Lists: tags and referrers, passed on page by page.

use std::sync::Arc;

use bytes::Bytes;
use oci::{Digest, Reference, Tag};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Attempt, Cache, Error, Failure, Pull, Wanted};
use crate::resolve::Source;
use crate::upstream::{List, Reason};

/// The most tags that are asked for at a time.
const MAX_PAGE: u32 = 1000;

/// A page of a repository's tags.
#[derive(Clone, Debug)]
pub struct TagList {
    pub tags: Vec<String>,
    /// Where the next page begins, if there is one: the query's `n` and `last`.
    pub next: Option<(Option<u32>, String)>,
}

/// What refers to a manifest: an image index.
#[derive(Clone, Debug)]
pub struct Referrers {
    pub bytes: Bytes,
    /// Whether only the asked artifact type is in it.
    pub filtered: bool,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Value>,
}

impl Cache {
    /// Lists tags of the first upstream that has the repository.
    ///
    /// # Errors
    /// When no upstream has it.
    pub async fn tags(
        self: &Arc<Self>,
        pull: &Pull,
        n: Option<u32>,
        last: Option<&str>,
    ) -> Result<TagList, Error> {
        let n_at_most = n.map(|n| n.min(MAX_PAGE).to_string());
        let query = query([("n", n_at_most.as_deref()), ("last", last)]);
        if n == Some(0) {
            // distribution-spec: an empty list and no Link.
            return Ok(TagList { tags: Vec::new(), next: None });
        }
        self.first(pull, |source| {
            let (client, query) = (self.client(pull, source), query.clone());
            async move {
                let list = client
                    .list(&source.repository, "tags/list".to_owned(), query)
                    .await
                    .map_err(|e| e.reason)?;
                read_tags(&list)
            }
        })
        .await
    }

    /// Lists what refers to a manifest; where upstream has no such API, what the tag schema says.
    ///
    /// # Errors
    /// When no upstream answers.
    pub async fn referrers(
        self: &Arc<Self>,
        pull: &Pull,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Error> {
        let query = query([("artifactType", artifact_type)]);
        let native = self
            .first(pull, |source| {
                let (client, query) = (self.client(pull, source), query.clone());
                async move {
                    let list = client.list(&source.repository, format!("referrers/{digest}"), query).await;
                    read_index(&list.map_err(|e| e.reason)?.bytes, artifact_type)
                }
            })
            .await;
        match native {
            Err(error) if error.is_not_found() => self.tag_schema(pull, digest, artifact_type).await,
            native => native,
        }
    }

    /// distribution-spec, "Referrers tag schema": an index under the tag `sha256-<hex>`, or nothing.
    async fn tag_schema(
        self: &Arc<Self>,
        pull: &Pull,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Error> {
        let hex = digest.hex();
        let tag = Tag::parse(&format!("{}-{}", digest.algorithm().as_str(), &hex[..64]));
        let found = match tag {
            Ok(tag) => self.manifest(pull, &Reference::Tag(tag), Wanted::Bytes).await,
            Err(_) => return Ok(empty(artifact_type)),
        };
        match found {
            Ok(found) => Ok(found
                .bytes
                .and_then(|bytes| read_index(&bytes, artifact_type).ok())
                .unwrap_or_else(|| empty(artifact_type))),
            Err(error) if error.is_not_found() => Ok(empty(artifact_type)),
            Err(error) => Err(error),
        }
    }

    /// The first source that answers.
    async fn first<'p, T, F>(&self, pull: &'p Pull, ask: impl Fn(&'p Source) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Reason>>,
    {
        let mut attempts = Vec::new();
        for (source, allowed) in pull.sources() {
            let asked = match allowed {
                Ok(()) => ask(source).await.map_err(Failure::Upstream),
                Err(failure) => Err(failure),
            };
            match asked {
                Ok(answer) => return Ok(answer),
                Err(failure) => attempts.push(Attempt::new(source, failure)),
            }
        }
        Err(Error(attempts))
    }
}

/// The parameters that have a value, as a query; `None` where none has.
fn query<'a>(parameters: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Option<String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Some(query.finish()).filter(|query| !query.is_empty())
}

fn read_tags(list: &List) -> Result<TagList, Reason> {
    let read: Tags = serde_json::from_slice(&list.bytes)
        .map_err(|_| Reason::Wrong("a tag list that is none".to_owned()))?;
    let tags: Vec<_> =
        read.tags.unwrap_or_default().into_iter().filter(|tag| Tag::parse(tag).is_ok()).collect();
    let next = list.link.as_deref().and_then(next_page);
    // An upstream whose next page begins where this one began would be asked for ever.
    Ok(TagList { tags, next })
}

/// `n` and `last` of `</v2/x/tags/list?n=2&last=b>; rel="next"`.
fn next_page(link: &str) -> Option<(Option<u32>, String)> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.to_ascii_lowercase().contains("next").then_some(())?;
    let query = target.split_once('?')?.1;
    let pairs = || form_urlencoded::parse(query.as_bytes());
    let last = pairs().find(|(key, _)| key == "last")?.1;
    // Upstream's text goes into our header: only what a tag may be.
    Tag::parse(&last).ok()?;
    let n = pairs().find(|(key, _)| key == "n").and_then(|(_, n)| n.parse().ok());
    Some((n, last.into_owned()))
}

fn read_index(bytes: &Bytes, artifact_type: Option<&str>) -> Result<Referrers, Reason> {
    let mut index: Index =
        serde_json::from_slice(bytes).map_err(|_| Reason::Wrong("referrers that are no index".to_owned()))?;
    if let Some(wanted) = artifact_type {
        index
            .manifests
            .retain(|manifest| manifest.get("artifactType").and_then(Value::as_str) == Some(wanted));
    }
    Ok(write_index(&index, artifact_type))
}

fn empty(artifact_type: Option<&str>) -> Referrers {
    let media_type = oci::media::OCI_INDEX.to_owned();
    write_index(&Index { schema_version: 2, media_type, manifests: Vec::new() }, artifact_type)
}

fn write_index(index: &Index, artifact_type: Option<&str>) -> Referrers {
    let bytes = serde_json::to_vec(index).unwrap_or_default().into();
    Referrers { bytes, filtered: artifact_type.is_some() }
}

impl Error {
    /// Whether all upstreams say that it is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.0.iter().all(|attempt| matches!(&attempt.failure, Failure::Upstream(Reason::NotFound)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_from_absolute_and_relative_links() {
        let next = |link| next_page(link);
        assert_eq!(next(r#"</v2/a/tags/list?last=b&n=2>; rel="next""#), Some((Some(2), "b".into())));
        assert_eq!(next(r#"<https://x/v2/a/tags/list?last=b>; rel=next"#), Some((None, "b".into())));
        assert_eq!(next(r#"</v2/a/tags/list?last=b>; rel="prev""#), None);
        assert_eq!(next(r#"</v2/a/tags/list?last=%0d%0aX:y>; rel="next""#), None);
        assert_eq!(next("nonsense"), None);
    }

    #[test]
    fn referrers_are_filtered_by_artifact_type() {
        let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"artifactType":"a"},{"artifactType":"b"},{}]}"#;
        let read = |wanted| {
            read_index(&Bytes::from_static(index), wanted).map(|r| {
                serde_json::from_slice::<Value>(&r.bytes).unwrap_or_default()["manifests"]
                    .as_array()
                    .map_or(0, Vec::len)
            })
        };
        assert_eq!(read(Some("a")).ok(), Some(1));
        assert_eq!(read(None).ok(), Some(3));
    }
}
