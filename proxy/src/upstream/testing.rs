//! What the unit tests of this room share.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use config::{ObjectId, RateLimit, Upstream, WhenRefused};
use url::Url;

/// An upstream that says nothing but where it is.
pub(super) fn upstream_at(url: &str) -> Upstream {
    let url = Url::parse(url).unwrap();
    Upstream {
        id: ObjectId { namespace: "team-a".to_owned(), name: "upstream".to_owned() },
        host: url.host_str().unwrap().to_owned(),
        origin: url.to_string(),
        docker_hub: false,
        insecure: url.scheme() == "http",
        credentials: None,
        ca: None,
        cache_validity: None,
        when_refused: WhenRefused::ServeCached,
        recheck_budget: Duration::from_secs(1),
        rules: Vec::new(),
        rate_limit: RateLimit { reserve_pulls: 0, max_concurrent_requests: 16, max_checks_per_minute: 600 },
        token_hosts: Vec::new(),
        url,
    }
}
