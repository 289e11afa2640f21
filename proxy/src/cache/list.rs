//! Lists: tags and referrers, passed on page by page.

mod page;
mod referrers;

use std::sync::Arc;

use oci::Tag;
use serde::Deserialize;

pub use page::Page;
pub use referrers::Referrers;

use super::{Cache, Error, Pull, first_of};
use crate::resolve::Source;
use crate::upstream::{List, Reason};

/// A page of a repository's tags.
#[derive(Clone, Debug)]
pub struct TagList {
    pub tags: Vec<String>,
    /// The page after this one, if there is one.
    pub next: Option<Page>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Cache {
    /// Lists tags of the first upstream that has the repository.
    ///
    /// # Errors
    /// When no upstream has it.
    pub async fn tags(self: &Arc<Self>, pull: &Pull, page: &Page) -> Result<TagList, Error> {
        if page.is_empty() {
            return Ok(TagList { tags: Vec::new(), next: None });
        }
        self.first(pull, page, |source| self.tag_page(pull, source, page)).await
    }

    async fn tag_page(&self, pull: &Pull, source: &Source, page: &Page) -> Result<TagList, Reason> {
        let client = self.client(pull, source);
        let list = client.list(&source.repository, "tags/list".to_owned(), page.query()).await;
        let list = read_tags(&list.map_err(|error| error.reason)?, pull.one_of_several(source))?;
        // A page that leads to itself would be asked for ever.
        let next = list.next.filter(|next| next.query() != page.query());
        Ok(TagList { next, ..list })
    }

    /// The first source that answers; for a later page, only the one that gave the page before: what `last` means
    /// differs from upstream to upstream, and half a list of each would be no list.
    async fn first<'p, T, F>(
        &self,
        pull: &'p Pull,
        page: &Page,
        ask: impl Fn(&'p Source) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Reason>>,
    {
        let is_of = |source: &Source| page.upstream.as_ref() == Some(&source.upstream.id.name);
        // The documents may have changed since.
        let stays = pull.sources().any(|(source, _)| is_of(source));
        let sources: Vec<_> = pull.sources().filter(|(source, _)| !stays || is_of(source)).collect();
        first_of(sources, ask).await
    }
}

impl Pull {
    /// The upstream's name, where there are others beside it.
    fn one_of_several<'p>(&self, source: &'p Source) -> Option<&'p str> {
        (self.target.sources.len() > 1).then_some(source.upstream.id.name.as_str())
    }
}

fn read_tags(list: &List, upstream: Option<&str>) -> Result<TagList, Reason> {
    let read: Tags = serde_json::from_slice(&list.bytes)
        .map_err(|_| Reason::Wrong("a tag list that is none".to_owned()))?;
    let tags = read.tags.unwrap_or_default().into_iter().filter(|tag| Tag::parse(tag).is_ok()).collect();
    Ok(TagList { tags, next: list.link.as_deref().and_then(|link| Page::next(link, upstream)) })
}
