//! The judge: documents -> ([`Config`], problems). Pure: no files, no clock, no network.
//!
//! The operator shows its problems as conditions, the proxy serves its [`Config`], `check` prints its problems:
//! "why is my group not there" has one answer everywhere.

mod config;
mod secret;

pub use config::*;
pub use secret::{Secret, TokenHash, fingerprint};
