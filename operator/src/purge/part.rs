//! What of a cache an annotation's value means: a reference, as people write images.

use oci::{Digest, DigestError, Name, NameError, Reference, ReferenceError, Tag};

/// An image, a tag of it, or a manifest or blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    image: Option<Name>,
    reference: Option<Reference>,
}

/// Why a value says nothing to forget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mistake {
    #[error("{word:?}: {why}; write library/alpine, library/alpine:3, library/alpine@sha256:… or sha256:…")]
    Unreadable { word: String, why: Why },
    #[error(
        "{word:?} reads like an image, and this annotation forgets everything; use {instead} for an image"
    )]
    NotEverything { word: String, instead: &'static str },
}

/// What is wrong with a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error("it takes a tag or a digest, not both")]
    Both,
}

impl Part {
    /// Reads the first word of a value; what comes after it only makes the value new.
    pub(super) fn read(value: &str) -> Result<Self, Mistake> {
        let word = first(value);
        parse(word).map_err(|why| Mistake::Unreadable { word: word.to_owned(), why })
    }

    /// As pods take it.
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let image = self.image.iter().map(|image| ("image", image.to_string()));
        let reference = self.reference.iter().map(|reference| match reference {
            Reference::Tag(tag) => ("tag", tag.to_string()),
            Reference::Digest(digest) => ("digest", digest.to_string()),
        });
        image.chain(reference).collect()
    }
}

/// A value that asks for everything to be forgotten is any text, but not one in which somebody named an image.
///
/// A time such as `11/26/26` or `2026-11-26T05:09` begins with a digit.
pub(super) fn everything(value: &str, instead: &'static str) -> Result<(), Mistake> {
    let word = first(value);
    let is_image = word.starts_with(|c: char| c.is_alphabetic()) && word.contains(['/', ':', '@']);
    if is_image { Err(Mistake::NotEverything { word: word.to_owned(), instead }) } else { Ok(()) }
}

fn first(value: &str) -> &str {
    value.split_whitespace().next().unwrap_or_default()
}

fn parse(word: &str) -> Result<Part, Why> {
    if let Some((image, digest)) = word.split_once('@') {
        if image.contains(':') {
            return Err(Why::Both);
        }
        let digest = Digest::parse(digest)?;
        return Ok(Part { image: Some(Name::parse(image)?), reference: Some(Reference::Digest(digest)) });
    }
    // No image is named like this: a digest that was cut short must not become a tag.
    if word.starts_with("sha256:") || word.starts_with("sha512:") {
        return Ok(Part { image: None, reference: Some(Reference::Digest(Digest::parse(word)?)) });
    }
    Ok(match word.split_once(':') {
        None => Part { image: Some(Name::parse(word)?), reference: None },
        Some((image, tag)) => {
            let tag = Tag::parse(tag)?;
            Part { image: Some(Name::parse(image)?), reference: Some(Reference::Tag(tag)) }
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn query(value: &str) -> String {
        let pairs = Part::read(value).unwrap().query();
        pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
    }

    #[test]
    fn an_image_a_tag_and_a_digest_are_read_and_what_follows_only_makes_the_value_new() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for (value, expected) in [
            ("alpine", "image=alpine".to_owned()),
            ("library/alpine", "image=library/alpine".to_owned()),
            ("library/alpine:3", "image=library/alpine&tag=3".to_owned()),
            (" library/alpine:3  Thu Nov 26 05:09:34 UTC 2026", "image=library/alpine&tag=3".to_owned()),
            (&format!("library/alpine@{digest} again"), format!("image=library/alpine&digest={digest}")),
            (&digest, format!("digest={digest}")),
        ] {
            assert_eq!(query(value), expected, "{value}");
        }
    }

    #[test]
    fn what_is_mistyped_names_nothing() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for (value, expected) in [
            ("library/Alpine", Why::Name(NameError::UpperCase)),
            ("library//alpine", Why::Name(NameError::Malformed)),
            ("library/alpine,library/busybox", Why::Name(NameError::Malformed)),
            (":3", Why::Name(NameError::Empty)),
            ("library/alpine:", Why::Reference(ReferenceError::Tag)),
            ("localhost:5000/alpine", Why::Reference(ReferenceError::Tag)),
            ("https://example.com/alpine", Why::Reference(ReferenceError::Tag)),
            ("library/alpine@3", Why::Digest(DigestError::Malformed)),
            ("sha256:a1a1", Why::Digest(DigestError::Malformed)),
            (&format!("library/alpine:3@{digest}"), Why::Both),
            (&format!("@{digest}"), Why::Name(NameError::Empty)),
        ] {
            let word = value.to_owned();
            assert_eq!(Part::read(value), Err(Mistake::Unreadable { word, why: expected }));
        }
    }

    #[test]
    fn any_text_asks_for_everything_but_one_that_names_an_image() {
        for value in [
            "Thu Nov 26 05:09:34 UTC 2026",
            "2026-11-26T05:09",
            "2026-11-26T05:09:34+00:00",
            "11/26/26",
            "05:09",
            "1795669774",
            "monday",
        ] {
            assert_eq!(everything(value, "x"), Ok(()), "{value}");
        }
        for value in ["library/alpine", "library/Alpine now", "alpine:3", "alpine@sha256:a1", "sha256:a1"] {
            let word = first(value).to_owned();
            assert_eq!(everything(value, "x"), Err(Mistake::NotEverything { word, instead: "x" }));
        }
    }
}
