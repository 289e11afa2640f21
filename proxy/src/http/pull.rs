//! Requests for manifests, blobs and lists, from the cache's answer to HTTP.

use std::sync::Arc;

use axum::response::Response;
use oci::{Digest, Name, Reference};

use super::access::Note;
use super::error::{Context, Problem};
use super::range::{Slice, slice};
use super::request::Head;
use super::{Api, response};
use crate::cache::{Blob, Error, Page, Pull, Wanted};
use crate::metrics::{Outcome, Source};

/// A request by somebody who may pull there.
pub(super) struct Asking<'a> {
    pub api: &'a Arc<Api>,
    pub head: &'a Head,
    /// As it stands in the request.
    pub name: &'a Name,
    pub pull: Pull,
    pub is_mirror: bool,
    pub ns: Option<String>,
}

impl Asking<'_> {
    pub(super) async fn manifest(&self, reference: &Reference, note: &mut Note) -> Result<Response, Problem> {
        let found = self.api.cache.manifest(&self.pull, reference, self.wanted()).await;
        let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
        let found = found.map_err(|error| {
            let image = format!("{}{separator}{reference}", self.image());
            self.not_served(&error, &image, "MANIFEST_UNKNOWN")
        })?;
        note.served(
            found.outcome,
            if found.outcome == Outcome::Miss { Source::Upstream } else { Source::Cache },
        );
        note.warning = found.warning.is_some();
        Ok(response::manifest(&found, self.wanted(), self.ns.as_deref()))
    }

    pub(super) async fn blob(&self, digest: &Digest, note: &mut Note) -> Result<Response, Problem> {
        let image = format!("{}@{digest}", self.image());
        let found = self.api.cache.blob(&self.pull, digest, self.wanted_of_blob()).await;
        let found = found.map_err(|error| self.not_served(&error, &image, "BLOB_UNKNOWN"))?;
        if let Some(answer) = self.blob_answer(found, digest, note).await? {
            return Ok(answer);
        }
        // The store rests now, and the cache goes upstream.
        let found = self.api.cache.blob(&self.pull, digest, self.wanted_of_blob()).await;
        let found = found.map_err(|error| Problem::store_failed(&image, Some(&error)))?;
        let answer = self.blob_answer(found, digest, note).await?;
        answer.ok_or_else(|| Problem::store_failed(&image, None))
    }

    /// `None` where the store said that it has the blob, and does not give it.
    async fn blob_answer(
        &self,
        found: Blob,
        digest: &Digest,
        note: &mut Note,
    ) -> Result<Option<Response>, Problem> {
        note.served(found.outcome, found.body.source());
        // RFC 9110 §14.2: only GET has ranges. Without a length there is nothing to cut a part from: the whole is
        // always a right answer.
        let range = self.head.range.as_deref().filter(|_| self.wanted() == Wanted::Bytes);
        let slice = found.size.map_or(Slice::Whole, |size| slice(range, size));
        if let (Slice::Unsatisfiable, Some(size)) = (slice, found.size) {
            return Err(Problem::range(size));
        }
        let answer =
            response::blob(found, digest, slice, self.wanted(), &self.api.cache, self.ns.as_deref()).await;
        Ok(answer.inspect_err(|error| tracing::warn!(%error, "the store failed")).ok())
    }

    pub(super) async fn tags(&self, note: &mut Note) -> Result<Response, Problem> {
        let page = self.page()?;
        let list = self.api.cache.tags(&self.pull, &page).await;
        let list = list.map_err(|error| self.not_served(&error, self.image(), "NAME_UNKNOWN"))?;
        note.served(Outcome::Miss, Source::Upstream);
        Ok(response::tags(&list, self.name, self.ns.as_deref()))
    }

    pub(super) async fn referrers(&self, digest: &Digest, note: &mut Note) -> Result<Response, Problem> {
        let page = self.page()?;
        let artifact_type = self.head.parameter("artifactType");
        let found = self.api.cache.referrers(&self.pull, digest, &page, artifact_type.as_deref()).await;
        let image = format!("{}@{digest}", self.image());
        let found = found.map_err(|error| self.not_served(&error, &image, "MANIFEST_UNKNOWN"))?;
        note.served(Outcome::Miss, Source::Upstream);
        Ok(response::referrers(found, self.name, digest, self.ns.as_deref()))
    }

    fn page(&self) -> Result<Page, Problem> {
        Page::read(&self.head.query).map_err(|error| Problem::bad_request(&error.to_string()))
    }

    fn wanted(&self) -> Wanted {
        if self.head.method == http::Method::HEAD { Wanted::Head } else { Wanted::Bytes }
    }

    fn wanted_of_blob(&self) -> Wanted {
        match self.wanted() {
            Wanted::Bytes if self.head.range.is_some() => Wanted::Part,
            wanted => wanted,
        }
    }

    fn image(&self) -> &str {
        self.pull.target.image.as_str()
    }

    fn not_served(&self, error: &Error, image: &str, unknown: &'static str) -> Problem {
        let target = &self.pull.target;
        let context = Context {
            image,
            unknown,
            // Groups put `library/` there themselves.
            hints_at_library: target.is_registry && target.sources.iter().any(|s| s.upstream.docker_hub),
            is_mirror: self.is_mirror,
            now: self.api.clock.now(),
        };
        Problem::not_served(error, &context)
    }
}
