//! An upstream registry that misbehaves on request: OCI distribution-spec over HTTP/1.1, in memory, in this process.
//!
//! Content is put in with [`Upstream::image`] and its siblings; what goes wrong is said with [`Upstream::on`] and can
//! be changed while clients are connected; every request is recorded before it is answered.

mod answer;
mod body;
mod content;
mod fault;
mod record;
mod serve;
#[cfg(test)]
mod tests;
mod token;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use oci::Digest;
use url::Url;

pub use content::{Image, Index, noise};
pub use fault::{Fault, Gate, RuleBuilder};
pub use record::Recorded;
pub use serve::Ca;

use content::Content;
use fault::Faults;
use record::Log;
use serve::Listener;
use token::Access;

/// A running fake registry. Clones are the same registry; it stops when the last one is dropped.
#[derive(Clone)]
pub struct Upstream {
    listener: Arc<Listener>,
    registry: Arc<Registry>,
}

/// Everything a request is answered from.
struct Registry {
    /// `http://127.0.0.1:PORT`, without a slash at the end.
    base: String,
    content: Content,
    faults: Faults,
    access: Access,
    log: Log,
}

impl Upstream {
    /// Starts an empty registry over plain HTTP on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::launch(Ipv4Addr::LOCALHOST, None).await
    }

    /// The same on another loopback address, such as 127.0.0.9: another host, as far as credentials are concerned.
    pub async fn start_on(address: Ipv4Addr) -> Self {
        Self::launch(address, None).await
    }

    /// The same over TLS, with a certificate for 127.0.0.1 and localhost of a CA made for this call.
    pub async fn start_tls() -> (Self, Ca) {
        let ca = Ca::generate();
        (Self::launch(Ipv4Addr::LOCALHOST, Some(&ca)).await, ca)
    }

    async fn launch(address: Ipv4Addr, ca: Option<&Ca>) -> Self {
        let (listener, base) = Listener::bind(address, ca).await;
        let registry = Arc::new(Registry {
            base,
            content: Content::default(),
            faults: Faults::default(),
            access: Access::default(),
            log: Log::default(),
        });
        listener.serve(registry.clone());
        Self { listener: Arc::new(listener), registry }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// What a RegistryUpstream document names.
    pub fn url(&self) -> Url {
        Url::parse(&self.registry.base).unwrap()
    }

    /// Closes the port and breaks every connection: from now on connections are refused.
    pub async fn stop(&self) {
        self.listener.stop().await;
    }

    /// Opens the same port again, with the same content.
    pub async fn restart(&self) {
        self.listener.reopen().await;
        self.listener.serve(self.registry.clone());
    }

    // Content.

    /// Stores a blob; returns its sha256 digest.
    pub fn blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        self.registry.content.put_blob(repository, bytes.into(), oci::Algorithm::Sha256)
    }

    /// Stores a blob under its sha512 digest.
    pub fn blob_sha512(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        self.registry.content.put_blob(repository, bytes.into(), oci::Algorithm::Sha512)
    }

    /// Stores a manifest, as these bytes, and points the tag at it.
    pub fn manifest(&self, repository: &str, tag: &str, bytes: impl Into<Bytes>, media_type: &str) -> Digest {
        let digest = self.registry.content.put_manifest(repository, bytes.into(), media_type);
        self.registry.content.tag(repository, tag, digest);
        digest
    }

    /// Stores an OCI image with these layers and points the tag at it.
    pub fn image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Image {
        let image = self.registry.content.put_image(repository, "amd64", layers);
        self.registry.content.tag(repository, tag, image.digest);
        image
    }

    /// Stores an OCI index with an image for linux/amd64 and one for linux/arm64, one layer each.
    pub fn index(&self, repository: &str, tag: &str) -> Index {
        let index = self.registry.content.put_index(repository, tag);
        self.registry.content.tag(repository, tag, index.digest);
        index
    }

    /// Points a tag at a manifest that is stored already.
    pub fn retag(&self, repository: &str, tag: &str, digest: Digest) {
        self.registry.content.tag(repository, tag, digest);
    }

    /// Forgets a tag or a digest, whatever it names.
    pub fn remove(&self, repository: &str, reference: &str) {
        self.registry.content.remove(repository, reference);
    }

    // Faults.

    /// Begins a rule for requests whose path contains `pattern`, the token service's `/token` included. Of several
    /// rules that match, the one made first applies.
    pub fn on(&self, pattern: &str) -> RuleBuilder<'_> {
        self.registry.faults.rule(pattern)
    }

    /// Drops every rule: the registry behaves again. Responses under way go on as they began.
    pub fn behave(&self) {
        self.registry.faults.clear();
    }

    /// Sends Docker Hub's rate limit headers; every manifest GET costs one, and with none left it is answered 429.
    pub fn quota(&self, limit: u64, remaining: u64, window_seconds: u64) {
        self.registry.faults.quota(limit, remaining, window_seconds);
    }

    /// What is left of [`Upstream::quota`].
    pub fn remaining(&self) -> u64 {
        self.registry.faults.remaining()
    }

    // Access.

    /// From now on repositories need a token of `/token`, which it gives to anyone.
    pub fn require_bearer(&self) {
        self.registry.access.require_bearer(None);
    }

    /// From now on repositories need a token of `/token`, which wants these credentials.
    pub fn require_bearer_for(&self, user: &str, password: &str) {
        self.registry.access.require_bearer(Some((user, password)));
    }

    /// From now on repositories need HTTP Basic with these credentials.
    pub fn require_basic(&self, user: &str, password: &str) {
        self.registry.access.require_basic(user, password);
    }

    /// The realm that challenges name in place of this registry's own `/token`.
    pub fn realm(&self, url: &str) {
        self.registry.access.set_realm(url);
    }

    /// The `expires_in` of tokens given from now on; they are refused after that. 300 s where nothing is said.
    pub fn token_lifetime(&self, seconds: u64) {
        self.registry.access.set_lifetime(seconds);
    }

    /// Ends all tokens given so far.
    pub fn revoke_tokens(&self) {
        self.registry.access.revoke();
    }

    // What happened.

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.registry.log.all()
    }

    /// How many requests had this method and a path that contains `pattern`.
    pub fn count(&self, method: Method, pattern: &str) -> usize {
        self.registry.log.count(|r| r.method == method && r.path.contains(pattern))
    }

    /// Waits until `n` requests fulfil the predicate.
    ///
    /// # Panics
    /// After 10 s, with the requests that came.
    pub async fn wait_for(&self, n: usize, predicate: impl Fn(&Recorded) -> bool) {
        self.registry.log.wait_for(n, predicate).await;
    }

    /// [`Upstream::wait_for`] with what [`Upstream::count`] counts.
    pub async fn wait_for_count(&self, n: usize, method: Method, pattern: &str) {
        self.wait_for(n, |r| r.method == method && r.path.contains(pattern)).await;
    }

    /// Begins to count anew.
    pub fn forget(&self) {
        self.registry.log.clear();
    }

    /// How many responses are being written at this moment, those that never come included.
    pub fn in_flight(&self) -> usize {
        self.registry.log.in_flight()
    }
}
