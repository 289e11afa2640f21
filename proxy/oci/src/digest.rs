//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>`, lower case only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The algorithms that the image-spec registers and that we can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The prefix before the colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// The digest of some bytes. Only well-formed digests of a known algorithm exist as values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Digest {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("a digest looks like sha256:<64 lower-case hex digits>")]
    Malformed,
    #[error("the digest's algorithm is not supported; use sha256 or sha512")]
    UnknownAlgorithm,
}

impl Digest {
    /// Parses `algorithm:hex`.
    ///
    /// # Errors
    /// Anything but a registered algorithm with exactly its number of lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Malformed)?;
        match algorithm {
            "sha256" => decode(hex).map(Self::Sha256),
            "sha512" => decode(hex).map(Self::Sha512),
            _ if is_algorithm(algorithm) => Err(DigestError::UnknownAlgorithm),
            _ => Err(DigestError::Malformed),
        }
    }

    /// The digest of these bytes.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The lower-case hex digits after the colon.
    #[must_use]
    pub fn hex(&self) -> String {
        match self {
            Self::Sha256(bytes) => hex::encode(bytes),
            Self::Sha512(bytes) => hex::encode(bytes),
        }
    }
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], DigestError> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if !text.bytes().all(lower) {
        return Err(DigestError::Malformed);
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| DigestError::Malformed)?;
    Ok(bytes)
}

/// image-spec: `algorithm ::= algorithm-component (algorithm-separator algorithm-component)*`.
fn is_algorithm(text: &str) -> bool {
    let component =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.split(['+', '.', '_', '-']).all(component)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: aws_lc_rs::digest::Context,
}

impl Hasher {
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        let name = match algorithm {
            Algorithm::Sha256 => &aws_lc_rs::digest::SHA256,
            Algorithm::Sha512 => &aws_lc_rs::digest::SHA512,
        };
        Self { algorithm, context: aws_lc_rs::digest::Context::new(name) }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    #[must_use]
    pub fn finish(self) -> Digest {
        let sum = self.context.finish();
        // The library returns exactly as many bytes as the algorithm has.
        match self.algorithm {
            Algorithm::Sha256 => Digest::Sha256(copy(sum.as_ref())),
            Algorithm::Sha512 => Digest::Sha512(copy(sum.as_ref())),
        }
    }
}

fn copy<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY);
    }

    #[test]
    fn malformed_digests_are_refused() {
        let hex = &EMPTY[7..];
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../etc/passwd",
            &EMPTY[..EMPTY.len() - 1],
            &format!("{EMPTY}0"),
            &EMPTY.to_uppercase(),
            &format!("sha256:{}", hex.to_uppercase()),
            &format!("SHA256:{hex}"),
            &format!(" sha256:{hex}"),
            &format!(":{hex}"),
            &format!("a/b:{hex}"),
        ] {
            assert_eq!(Digest::parse(text), Err(DigestError::Malformed), "{text}");
        }
        for text in [format!("md5:{hex}"), format!("sha512+b64:{hex}")] {
            assert_eq!(Digest::parse(&text), Err(DigestError::UnknownAlgorithm), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            let _ = Digest::parse(&text);
        }

        #[test]
        fn what_is_printed_parses_back(bytes in proptest::collection::vec(any::<u8>(), 0..64), long: bool) {
            let digest = Digest::of(if long { Algorithm::Sha512 } else { Algorithm::Sha256 }, &bytes);
            prop_assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        }

        #[test]
        fn hashing_in_pieces_gives_the_same_digest(bytes in proptest::collection::vec(any::<u8>(), 1..500), cut in 0usize..500) {
            let cut = cut.min(bytes.len());
            let mut hasher = Hasher::new(Algorithm::Sha256);
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            prop_assert_eq!(hasher.finish(), Digest::of(Algorithm::Sha256, &bytes));
        }
    }
}
