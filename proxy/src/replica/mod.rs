//! The replicas of an instance among each other: how one shows another who it is, and how it is asked.
//!
//! They speak plain http over the pods' network. The key that they share never crosses it: each request carries a
//! token that is good for that request alone.

mod ask;
mod checker;
mod pass;

use std::net::SocketAddr;
use std::time::Duration;

use config::{Config, ObjectId, Secret};
use form_urlencoded::Serializer;
use parking_lot::RwLock;

pub use ask::{FillBody, Gone, State};
pub use checker::Heard;

use crate::clock::Clock;
use crate::store::Holder;

/// A claim and its state, below this on a replica's port.
pub const CLAIMS: &str = "/replica/v1/claims/";
/// A download in progress, below this.
pub const FILLS: &str = "/replica/v1/fills/";
/// What upstream says a tag is, below this.
pub const CHECKS: &str = "/replica/v1/checks/";
/// What a replica says of itself.
pub const STATUS: &str = "/replica/v1/status";
/// Length of the whole blob, where upstream stated it.
pub const SIZE: &str = "dependency-proxy-size";
/// Whether the holder that was named waits for that download already, and so has shown its right.
pub const SHOWN: &str = "dependency-proxy-shown";
/// How long a replica lets another wait before it says that it is still at it: silence for longer means that it is gone.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often a replica that asks upstream for another one says that it still waits.
pub const BEAT: Duration = Duration::from_millis(25);

/// This replica among the others.
pub struct Replica {
    address: SocketAddr,
    instance: ObjectId,
    /// Live: another Secret, another key.
    key: RwLock<Option<Secret>>,
    /// Addresses of those that run.
    others: RwLock<Vec<String>>,
    http: reqwest::Client,
    clock: Clock,
}

impl Replica {
    /// One that others reach at `address`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(address: SocketAddr, config: &Config, clock: Clock) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(HEARTBEAT)
            .tcp_nodelay(true)
            .build()?;
        let key = RwLock::new(config.instance.keys.replica.clone());
        let (instance, others) = (config.instance.id.clone(), RwLock::default());
        Ok(Self { address, instance, key, others, http, clock })
    }

    /// Takes the key of a changed configuration.
    pub fn retain(&self, config: &Config) {
        *self.key.write() = config.instance.keys.replica.clone();
    }

    /// `host:port` at which others reach it.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

/// Who asks, as the query of a question names it.
fn query_of(holder: &Holder) -> Serializer<'static, String> {
    let mut query = Serializer::new(String::new());
    query.append_pair("namespace", &holder.group.namespace);
    query.append_pair("group", &holder.group.name);
    query.append_pair("repository", holder.repository.as_str());
    query
}
