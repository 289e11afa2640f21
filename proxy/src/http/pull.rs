//! Requests for manifests, blobs and lists, from the cache's answer to HTTP.

use std::sync::Arc;

use axum::response::Response;
use oci::{Digest, Name, Reference};

use super::access::Note;
use super::error::{Context, Problem};
use super::range::{Slice, slice};
use super::request::Head;
use super::{Api, response};
use crate::cache::{Error, Pull, Wanted};
use crate::metrics::Source;

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
        let found = found
            .map_err(|error| self.not_served(&error, &format!("{}{separator}{reference}", self.image())))?;
        note.served(
            found.outcome,
            if found.outcome == crate::metrics::Outcome::Miss { Source::Upstream } else { Source::Cache },
        );
        note.warning = found.warning.is_some();
        Ok(response::manifest(&found, self.wanted(), self.ns.as_deref()))
    }

    pub(super) async fn blob(&self, digest: &Digest, note: &mut Note) -> Result<Response, Problem> {
        let found = self.api.cache.blob(&self.pull, digest, self.wanted()).await;
        let found = found.map_err(|error| self.not_served(&error, &format!("{}@{digest}", self.image())))?;
        note.served(found.outcome, found.body.source());
        // Without a length there is nothing to cut a part from: the whole is always a right answer.
        let slice = found.size.map_or(Slice::Whole, |size| slice(self.head.range.as_deref(), size));
        if let (Slice::Unsatisfiable, Some(size)) = (slice, found.size) {
            return Err(Problem::range(size));
        }
        let answer =
            response::blob(found, digest, slice, self.wanted(), &self.api.cache, self.ns.as_deref()).await;
        answer.map_err(|error| {
            tracing::warn!(%error, "the store failed");
            Problem::internal()
        })
    }

    pub(super) async fn tags(&self, note: &mut Note) -> Result<Response, Problem> {
        let n = match self.head.parameter("n") {
            None => None,
            Some(text) => Some(
                text.parse().map_err(|_| Problem::bad_request("n must be a number that is not negative"))?,
            ),
        };
        let last = self.head.parameter("last");
        if let Some(last) = &last {
            oci::Tag::parse(last)
                .map_err(|error| Problem::bad_request(&format!("last is no tag: {error}")))?;
        }
        let list = self.api.cache.tags(&self.pull, n, last.as_deref()).await;
        let list =
            list.map_err(|error| Problem { code: "NAME_UNKNOWN", ..self.not_served(&error, self.image()) })?;
        note.served(crate::metrics::Outcome::Miss, Source::Upstream);
        Ok(response::tags(&list, self.name))
    }

    pub(super) async fn referrers(&self, digest: &Digest, note: &mut Note) -> Result<Response, Problem> {
        let artifact_type = self.head.parameter("artifactType");
        let found = self.api.cache.referrers(&self.pull, digest, artifact_type.as_deref()).await;
        let found = found.map_err(|error| self.not_served(&error, &format!("{}@{digest}", self.image())))?;
        note.served(crate::metrics::Outcome::Miss, Source::Upstream);
        Ok(response::referrers(found))
    }

    fn wanted(&self) -> Wanted {
        if self.head.method == http::Method::HEAD { Wanted::Head } else { Wanted::Bytes }
    }

    fn image(&self) -> &str {
        self.pull.target.image.as_str()
    }

    fn not_served(&self, error: &Error, image: &str) -> Problem {
        let context = Context { image, is_mirror: self.is_mirror, now: self.api.clock.now() };
        Problem::not_served(error, &context)
    }
}
