//! A pull-through cache for container images.

pub mod auth;
pub mod cache;
pub mod clock;
pub mod http;
pub mod metrics;
pub mod quota;
pub mod resolve;
pub mod store;
pub mod upstream;
