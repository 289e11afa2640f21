//! What is fetched from an upstream: manifests, blobs, lists.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use oci::{Digest, MAX_MANIFEST_BYTES, Name, Reference, media};
use reqwest::Response;
use serde::{Deserialize, Serialize};

use super::ask::Ask;
use super::client::Client;
use super::connect::{next_chunk, read_small};
use super::error::{Error, Reason};
use super::permits::{Permit, Turn};

const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;
/// For a whole check: its turn, a token, redirects, the answer.
const CHECK: Duration = Duration::from_secs(30);

/// How long a request may wait for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// There is a cached copy: where the upstream rests or is busy, that will do.
    Cached,
    /// There is nothing else.
    Cold,
}

impl Patience {
    fn turn(self) -> Turn {
        match self {
            Self::Cached => Turn::Check,
            Self::Cold => Turn::Small,
        }
    }
}

/// What a HEAD of a manifest tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHead {
    pub digest: Option<Digest>,
    pub media_type: Option<String>,
    pub size: Option<u64>,
}

/// A manifest as it came; nothing of it is proven.
pub struct ManifestBody {
    pub bytes: Bytes,
    pub content_type: Option<String>,
}

/// A list as it came: `tags/list` or `referrers`.
pub struct List {
    pub bytes: Bytes,
    pub link: Option<String>,
}

/// A blob's bytes as they come; nothing of them is proven.
pub struct BlobBody {
    response: Response,
    /// Bytes to leave out at the beginning: upstream ignored the Range.
    skip: u64,
    /// Length of the whole blob, where upstream says it.
    pub size: Option<u64>,
    _permit: Permit,
}

impl BlobBody {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the transfer breaks or stalls.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        while let Some(mut chunk) = next_chunk(&mut self.response).await? {
            let skipped = self.skip.min(chunk.len() as u64);
            self.skip -= skipped;
            let rest = chunk.split_off(usize::try_from(skipped).unwrap_or(usize::MAX));
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
        Ok(None)
    }
}

impl Client {
    /// Asks what a manifest is, which costs nothing of the quota.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn head_manifest(
        &self,
        repository: &Name,
        reference: &Reference,
        patience: Patience,
    ) -> Result<ManifestHead, Error> {
        if patience == Patience::Cached && self.checks.check().is_err() {
            return Err(self.error(Reason::Busy));
        }
        let ask = Ask {
            headers: accept(),
            ..Ask::new(Method::HEAD, repository, format!("manifests/{reference}"), patience.turn())
        };
        let asked = tokio::time::timeout(CHECK, self.ask(ask)).await;
        let (response, _permit) = asked.unwrap_or_else(|_| Err(self.broke(Reason::Timeout(CHECK))))?;
        let text = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        Ok(ManifestHead {
            digest: text("docker-content-digest").and_then(|digest| Digest::parse(&digest).ok()),
            media_type: text("content-type"),
            size: text("content-length").and_then(|length| length.parse().ok()),
        })
    }

    /// Fetches a manifest, at most 4 MiB of it. This is what the quota counts.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn manifest(
        &self,
        repository: &Name,
        reference: &Reference,
        patience: Patience,
    ) -> Result<ManifestBody, Error> {
        let ask = Ask {
            headers: accept(),
            counted: true,
            ..Ask::new(Method::GET, repository, format!("manifests/{reference}"), patience.turn())
        };
        let (response, _permit) = self.ask(ask).await?;
        let content_type =
            response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = read_small(response, MAX_MANIFEST_BYTES, "a manifest")
            .await
            .map_err(|reason| self.broke(reason))?;
        Ok(ManifestBody { bytes, content_type })
    }

    /// Asks whether a blob is there; its length where upstream says it.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn head_blob(&self, repository: &Name, digest: &Digest) -> Result<Option<u64>, Error> {
        let (response, _permit) =
            self.ask(Ask::new(Method::HEAD, repository, format!("blobs/{digest}"), Turn::Small)).await?;
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Ok(length.and_then(|length| length.parse().ok()))
    }

    /// Begins to fetch a blob from that offset on.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn blob(&self, repository: &Name, digest: &Digest, offset: u64) -> Result<BlobBody, Error> {
        let mut ask = Ask::new(Method::GET, repository, format!("blobs/{digest}"), Turn::Body);
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            ask.headers
                .insert(header::RANGE, range.map_err(|_| self.error(Reason::Wrong("an offset".to_owned())))?);
        }
        let (response, permit) = self.ask(ask).await?;
        let length = response.content_length();
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(BlobBody { response, skip: offset, size: length, _permit: permit });
        }
        match content_range(response.headers()) {
            Some((start, size)) if start == offset => {
                Ok(BlobBody { response, skip: 0, size, _permit: permit })
            }
            _ => Err(self.error(Reason::Wrong("another range than the one asked for".to_owned()))),
        }
    }

    /// Fetches a list below a repository, at most 4 MiB of it.
    ///
    /// # Errors
    /// As [`Reason`] says.
    pub async fn list(&self, repository: &Name, path: String, query: Option<String>) -> Result<List, Error> {
        let ask = Ask { query, headers: accept(), ..Ask::new(Method::GET, repository, path, Turn::Small) };
        let (response, _permit) = self.ask(ask).await?;
        let text = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let link = text("link");
        let bytes =
            read_small(response, MAX_LIST_BYTES, "a list").await.map_err(|reason| self.broke(reason))?;
        Ok(List { bytes, link })
    }
}

fn accept() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(media::ACCEPT))])
}

/// Start and whole length of `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    Some((start, size.parse().ok()))
}
