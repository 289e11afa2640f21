//! What comes after the repository: a tag or a digest.

use std::fmt;

use crate::{Digest, DigestError};

/// A well-formed tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

/// A tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

/// Why a text is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("a tag has 1 to 128 letters, digits, _ . and -, and does not begin with . or -")]
    Tag,
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Tag {
    /// Parses a tag.
    ///
    /// # Errors
    /// Whatever the distribution-spec's grammar does not allow.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let well_formed = match text.as_bytes() {
            [first, rest @ ..] => {
                word(*first) && rest.len() < 128 && rest.iter().all(|b| word(*b) || *b == b'.' || *b == b'-')
            }
            [] => false,
        };
        if well_formed { Ok(Self(text.to_owned())) } else { Err(ReferenceError::Tag) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Reference {
    /// Parses a tag or, where there is a colon, a digest.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') {
            Ok(Self::Digest(Digest::parse(text)?))
        } else {
            Tag::parse(text).map(Self::Tag)
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_tags_are_refused() {
        for text in ["", ".a", "-a", "a/b", "a b", "é", "a\0", "..", &"a".repeat(129)] {
            assert_eq!(Tag::parse(text), Err(ReferenceError::Tag), "{text}");
        }
        assert!(Tag::parse(&"a".repeat(128)).is_ok());
        assert!(Tag::parse("_3.20-RC").is_ok());
    }

    #[test]
    fn a_colon_makes_it_a_digest() {
        assert_eq!(Reference::parse("sha256:abc"), Err(ReferenceError::Digest(DigestError::Malformed)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            let _ = Reference::parse(&text);
        }

        #[test]
        fn generated_tags_print_back(text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            prop_assert_eq!(Reference::parse(&text).map(|r| r.to_string()), Ok(text));
        }
    }
}
