//! Repository names: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/…)*`, at most 255 characters.

use std::fmt;

use serde::Serialize;

/// The longest name that clients and registries agree on (distribution-spec, "Pulling manifests").
const MAX_NAME: usize = 255;

/// A well-formed repository name, such as `library/alpine`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// Why a text is no repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a repository name must not be empty")]
    Empty,
    #[error("a repository name has at most 255 characters")]
    TooLong,
    #[error("a repository name is lower case; write the group and the image in lower case")]
    UpperCase,
    #[error(
        "a repository name consists of lower-case letters, digits, and single separators . _ __ - between them"
    )]
    Malformed,
}

impl Name {
    /// Parses a repository name.
    ///
    /// # Errors
    /// Whatever the distribution-spec's grammar does not allow, `..` and empty segments among it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        if text.split('/').all(is_component) {
            return Ok(Self(text.to_owned()));
        }
        let lower = text.to_ascii_lowercase();
        Err(if lower.split('/').all(is_component) { NameError::UpperCase } else { NameError::Malformed })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This name below a prefix: `library` and `alpine` give `library/alpine`.
    ///
    /// # Errors
    /// When the two together are too long, or the prefix is malformed.
    pub fn under(&self, prefix: &str) -> Result<Self, NameError> {
        Self::parse(&format!("{prefix}/{self}"))
    }

    /// Whether the name is one component, as Docker Hub's official images are written.
    #[must_use]
    pub fn is_short(&self) -> bool {
        !self.0.contains('/')
    }
}

/// Letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let start = at;
        while at < bytes.len() && alphanumeric(bytes[at]) {
            at += 1;
        }
        if at == start {
            return false;
        }
        if at == bytes.len() {
            return true;
        }
        let separator = at;
        while at < bytes.len() && !alphanumeric(bytes[at]) {
            at += 1;
        }
        match &bytes[separator..at] {
            b"." | b"_" | b"__" => {}
            dashes if dashes.iter().all(|b| *b == b'-') => {}
            _ => return false,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_specification_are_accepted() {
        for text in ["a", "library/alpine", "a.b/c_d/e__f/g---h", "0/1", "team-a.hub"] {
            assert!(Name::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in [
            "/a", "a/", "a//b", "..", "a/../b", ".a", "a.", "a..b", "a___b", "-a", "a-", "a._b", "a b",
            "a\0b", "é", "a%2fb", "a:b", "a@b",
        ] {
            assert_eq!(Name::parse(text), Err(NameError::Malformed), "{text}");
        }
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse(&"a".repeat(256)), Err(NameError::TooLong));
        assert_eq!(Name::parse("Team-A/x"), Err(NameError::UpperCase));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
            let _ = Name::parse(&text);
        }

        #[test]
        fn generated_names_parse_and_print_back(text in "[a-z0-9]{1,8}(([.]|_|__|-{1,3})[a-z0-9]{1,5}){0,3}(/[a-z0-9]{1,8}){0,4}") {
            prop_assert_eq!(Name::parse(&text).map(|n| n.to_string()), Ok(text));
        }

        #[test]
        fn an_accepted_name_is_a_safe_path(text in "[a-z./_%A-Z-]{1,40}") {
            if let Ok(name) = Name::parse(&text) {
                prop_assert!(!name.as_str().contains("..") && !name.as_str().contains("//") && !name.as_str().starts_with('/'));
            }
        }
    }
}
