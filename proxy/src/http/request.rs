//! From a request's line and headers to what is asked for. Whatever is malformed ends here.

use axum::extract::Request;
use http::{HeaderMap, Method, header};
use oci::{Digest, Name, Reference};
use percent_encoding::percent_decode_str;

use super::error::Problem;

/// The longest path that is looked at: a name of 255, a tag of 128 or a digest of 135, and the words between.
const MAX_PATH: usize = 1024;

/// What every request has.
pub(super) struct Head {
    pub id: String,
    pub method: Method,
    pub authorization: Option<Vec<u8>>,
    /// Lower case, with the port if one was sent.
    pub host: Option<String>,
    pub range: Option<String>,
    pub query: String,
}

/// What is asked for below a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Manifest(Reference),
    Blob(Digest),
    Tags,
    Referrers(Digest),
}

impl Head {
    pub(super) fn read(request: &Request, id: String) -> Self {
        let text =
            |name| request.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        Self {
            id,
            method: request.method().clone(),
            authorization: authorization(request.headers()),
            host: text(header::HOST).map(str::to_ascii_lowercase),
            range: text(header::RANGE).map(str::to_owned),
            query: request.uri().query().unwrap_or_default().to_owned(),
        }
    }

    /// A parameter of the query; `None` where it is absent.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// The header's bytes; of several, none: which one would count is anybody's guess.
fn authorization(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next()?.as_bytes().to_vec();
    values.next().is_none().then_some(first)
}

/// Takes the part of a path after `/v2/` apart.
pub(super) fn parse_path(path: &str) -> Result<(Name, Asked), Problem> {
    if path.len() > MAX_PATH {
        return Err(Problem::name_invalid(&format!("a path here has at most {MAX_PATH} characters")));
    }
    let path = decode(path)?;
    if path == "_catalog" {
        return Err(Problem::unsupported("There is no catalog here: a cache knows only what was pulled."));
    }
    let Some((rest, last)) = path.rsplit_once('/') else {
        return Err(Problem::name_unknown("This path is no part of the registry API."));
    };
    let Some((name, kind)) = rest.rsplit_once('/') else {
        return Err(Problem::name_unknown("This path is no part of the registry API."));
    };
    let digest =
        |text: &str| Digest::parse(text).map_err(|error| Problem::digest_invalid(&error.to_string()));
    let asked = match (kind, last) {
        ("manifests", reference) => Asked::Manifest(parse_reference(reference)?),
        ("blobs", text) => Asked::Blob(digest(text)?),
        ("tags", "list") => Asked::Tags,
        ("referrers", text) => Asked::Referrers(digest(text)?),
        _ => return Err(Problem::name_unknown("This path is no part of the registry API.")),
    };
    let name = Name::parse(name).map_err(|error| Problem::name_invalid(&error.to_string()))?;
    Ok((name, asked))
}

fn parse_reference(text: &str) -> Result<Reference, Problem> {
    Reference::parse(text).map_err(|error| match error {
        oci::ReferenceError::Digest(error) => Problem::digest_invalid(&error.to_string()),
        oci::ReferenceError::Tag => Problem::manifest_invalid(&error.to_string()),
    })
}

/// Some clients escape the colon of a digest. An escaped slash would change what the path means: refused.
fn decode(path: &str) -> Result<String, Problem> {
    if !path.contains('%') {
        return Ok(path.to_owned());
    }
    let bytes = path.as_bytes();
    let well_formed = path.match_indices('%').all(|(at, _)| {
        matches!(bytes.get(at + 1..at + 3), Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    });
    let slash = path.to_ascii_lowercase().contains("%2f");
    let decoded = percent_decode_str(path).decode_utf8().ok().filter(|_| well_formed && !slash);
    decoded
        .map(Into::into)
        .ok_or_else(|| Problem::name_invalid("the path has a malformed or misleading % escape"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_may_contain_the_words_of_the_api() {
        let (name, asked) =
            parse_path("g/dependency_proxy/containers/manifests/tags/manifests/latest").unwrap();
        assert_eq!(name.as_str(), "g/dependency_proxy/containers/manifests/tags");
        assert_eq!(asked, Asked::Manifest(Reference::parse("latest").unwrap()));
        assert_eq!(parse_path("a/tags/list").unwrap().1, Asked::Tags);
    }

    #[test]
    fn an_escaped_colon_is_a_colon() {
        let escaped = format!("a/blobs/{}", DIGEST.replace(':', "%3A"));
        assert_eq!(parse_path(&escaped).unwrap().1, Asked::Blob(DIGEST.parse().unwrap()));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for path in [
            "",
            "a",
            "a/b",
            "a/manifests",
            "/manifests/latest",
            "a//manifests/latest",
            "../manifests/latest",
            "a/../b/manifests/latest",
            "a/manifests/..",
            "a/manifests/.x",
            "a/blobs/latest",
            "a/blobs/sha256:0",
            "a/blobs/sha256:..%2f..",
            "a%2Fb/manifests/latest",
            "a%00/manifests/latest",
            "a%/manifests/latest",
            "a%zz/manifests/latest",
            "%ff/manifests/latest",
            "A/manifests/latest",
            "a/unknown/x",
            "a/tags/other",
        ] {
            assert!(parse_path(path).is_err(), "{path}");
        }
        assert!(parse_path(&format!("{}/manifests/latest", "a/".repeat(40_000))).is_err());
    }

    proptest! {
        #[test]
        fn no_path_makes_the_parser_panic(path in "\\PC{0,300}") {
            let _ = parse_path(&path);
        }

        #[test]
        fn a_path_of_the_grammar_parses(name in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}", tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}") {
            let (parsed, asked) = parse_path(&format!("{name}/manifests/{tag}")).unwrap();
            prop_assert_eq!(parsed.as_str(), name);
            prop_assert_eq!(asked, Asked::Manifest(Reference::parse(&tag).unwrap()));
        }
    }
}
