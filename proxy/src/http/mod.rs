//! The registry API. axum and hyper appear here and nowhere else.

mod access;
mod api;
mod error;
mod pull;
mod purge;
mod range;
pub mod replica;
mod request;
mod response;
mod router;
pub mod serve;
mod sign_in;
pub mod tls;

use std::sync::Arc;

use config::Config;
use jiff::Timestamp;
use tokio::sync::watch;

use access::Note;
pub use router::handle;

use crate::auth::{Auth, Caller, Presented, Refusal};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// What is served now: a configuration, and the parts that are made of it.
#[derive(Clone)]
pub struct Live {
    pub config: Arc<Config>,
    pub auth: Arc<Auth>,
    pub loaded_at: Timestamp,
}

/// All that requests need.
pub struct Api {
    pub live: watch::Receiver<Live>,
    pub cache: Arc<Cache>,
    pub metrics: Metrics,
    pub clock: Clock,
    /// The address that we listen on, for documents that name no URL.
    pub listen: std::net::SocketAddr,
    /// Whether that speaks TLS.
    pub tls: bool,
}

impl Api {
    /// What this request sees, from its first to its last byte.
    fn now_live(&self) -> Live {
        self.live.borrow().clone()
    }
}

impl Live {
    async fn present(&self, request: &request::Head, now: Timestamp) -> Result<Presented, Refusal> {
        self.auth.verify(&self.config, request.authorization.as_deref(), now).await
    }

    /// The same, noted for the access log.
    async fn admit(
        &self,
        request: &request::Head,
        now: Timestamp,
        note: &mut Note,
    ) -> Result<Presented, Refusal> {
        let presented = self.present(request, now).await?;
        note.caller = Some(presented.caller().identity.name().to_owned());
        Ok(presented)
    }

    async fn password(&self, user: &str, password: &str, now: Timestamp) -> Result<Caller, Refusal> {
        self.auth.credentials.verify(&self.config, user, password, now).await
    }
}
