//! The judge: documents -> ([`Config`], problems). Pure: no files, no clock, no network.
//!
//! The operator shows its problems as conditions, the proxy serves its [`Config`], `check` prints its problems:
//! "why is my group not there" has one answer everywhere.
//!
//! [`parse`] reads a text into documents, [`judge`] judges all of them together.

mod config;
mod credential;
mod documents;
mod judge;
mod lines;
mod problem;
mod quantity;
mod reason;
mod secret;
mod split;
mod typed;

pub use config::*;
pub use credential::{Owner, PullCredential, PullCredentials};
pub use documents::{Document, Kind, Origin, parse};
pub use judge::{Judgement, Options, is_object_name, judge};
pub use problem::{Problem, Severity};
pub use reason::Reason;
pub use secret::{Secret, TokenHash, fingerprint};
