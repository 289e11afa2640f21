//! Secrets that cannot be printed, and tokens that are kept as hashes only.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac};

/// A text that never shows itself in logs, errors or debug output.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// HMAC-SHA256 of a token under the instance key: what is kept of deploy and binding tokens.
#[derive(Clone, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token. The same input gives the same bytes, so rendering it again changes nothing.
    #[must_use]
    pub fn of(instance_key: &[u8], token: &str) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, instance_key), token.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Self(bytes)
    }

    /// Reads 64 hex digits, as the operator renders them.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).ok()?;
        Some(Self(bytes))
    }

    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// Takes the same time whatever the answer.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hash)")
    }
}

/// A short name for a credential: 32 hex digits over its parts, each with its length, so that no two lists of parts collide.
#[must_use]
pub fn fingerprint(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    hex::encode(&context.finish().as_ref()[..16])
}
