//! A pull-through cache for container images. `ARCHITECTURE.md` has the way of a request through these rooms.

pub mod admin;
pub mod args;
pub mod auth;
pub mod cache;
pub mod cleanup;
pub mod clock;
pub mod command;
pub mod documents;
pub mod http;
pub mod listen;
pub mod metrics;
pub mod purge;
pub mod quota;
pub mod replica;
pub mod resolve;
pub mod run;
pub mod store;
pub mod telemetry;
pub mod upstream;

pub use clock::Clock;
pub use run::{Running, Settings, StartError};
