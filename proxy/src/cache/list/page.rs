//! Which page of a list: `n`, `last`, and whatever else an upstream puts into its links.

use form_urlencoded::Serializer;

/// The most tags that are asked for at a time.
const MAX_PAGE: u64 = 1000;
/// The longest query that is passed on, in bytes as it is sent. Registries' continuation tokens have some hundred.
const MAX_QUERY: usize = 2048;
/// The parameter of our own links that keeps the next pages with the upstream that gave the first.
const UPSTREAM: &str = "upstream";
/// The parameter by which mirrors' clients name a registry; upstream does not get it.
const NAMESPACE: &str = "ns";

/// A page of a list, as a client or a link of an upstream asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// For upstream.
    parameters: Vec<(String, String)>,
    /// The name of the upstream that gave the page before.
    pub(super) upstream: Option<String>,
}

/// Why a query asks for no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    #[error("n must be a number that is not negative")]
    Number,
    #[error("the query is longer than {MAX_QUERY} bytes")]
    TooLong,
}

impl Page {
    /// Reads a client's query.
    ///
    /// # Errors
    /// When `n` is no number, or the query is too long.
    pub fn read(query: &str) -> Result<Self, PageError> {
        let mut page = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                NAMESPACE => {}
                UPSTREAM => page.upstream = Some(value.into_owned()),
                "n" => page.parameters.push((name.into_owned(), number(&value)?.to_string())),
                _ => page.parameters.push((name.into_owned(), value.into_owned())),
            }
        }
        let length = page.link_query(None).len();
        if length > MAX_QUERY { Err(PageError::TooLong) } else { Ok(page) }
    }

    /// The page that a `Link` header of this upstream leads to, such as `</v2/x/tags/list?n=2&last=b>; rel="next"`.
    /// Only its query counts: where to ask is not upstream's to say.
    /// `upstream` is its name, where others could be asked for the next page instead.
    pub(super) fn next(link: &str, upstream: Option<&str>) -> Option<Self> {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        parameters.to_ascii_lowercase().contains("next").then_some(())?;
        let query = target.split_once('?')?.1;
        let page = Self { upstream: upstream.map(str::to_owned), ..Self::read(query).ok()? };
        (!page.parameters.is_empty()).then_some(page)
    }

    /// Whether nothing is asked for. distribution-spec: then there is an empty list and no Link.
    pub(super) fn is_empty(&self) -> bool {
        self.parameters.iter().any(|(name, value)| name == "n" && value == "0")
    }

    /// The query for upstream; `None` where there is nothing to say.
    pub(super) fn query(&self) -> Option<String> {
        let query = Serializer::new(String::new()).extend_pairs(&self.parameters).finish();
        Some(query).filter(|query| !query.is_empty())
    }

    /// The query of our own link to this page. Everything in it is percent-encoded, whoever it came from.
    #[must_use]
    pub fn link_query(&self, ns: Option<&str>) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(&self.parameters);
        query.extend_pairs(self.upstream.iter().map(|name| (UPSTREAM, name)));
        query.extend_pairs(ns.iter().map(|ns| (NAMESPACE, ns)));
        query.finish()
    }
}

/// As much as upstream is asked for, however much the client wants.
fn number(text: &str) -> Result<u64, PageError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PageError::Number);
    }
    // All digits: what does not fit is too large.
    Ok(text.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_next_page_is_read_from_absolute_and_relative_links() {
        let next = |link: &str| Page::next(link, Some("hub")).map(|page| page.link_query(None));
        let is = |query: &str| Some(query.to_owned());
        assert_eq!(next(r#"</v2/a/tags/list?last=b&n=2>; rel="next""#), is("last=b&n=2&upstream=hub"));
        assert_eq!(next(r#"<https://x/v2/a/tags/list?last=b>; rel=next"#), is("last=b&upstream=hub"));
        assert_eq!(next(r#"<?next_page=gAAA%3D%3D>; rel="next""#), is("next_page=gAAA%3D%3D&upstream=hub"));
        assert_eq!(next(r#"</v2/a/tags/list?last=b>; rel="prev""#), None);
        assert_eq!(next(r#"</v2/a/tags/list>; rel="next""#), None);
        assert_eq!(next(&format!(r#"<?last={}>; rel="next""#, "x".repeat(5000))), None);
        assert_eq!(next("nonsense"), None);
    }

    #[test]
    fn upstreams_text_ends_no_link_and_no_header() {
        let page = Page::next("<?last=%0d%0aX:y%3E;%22 \u{e9}>; rel=next", Some("hub"));
        let query = page.map(|page| page.link_query(Some("a>b"))).unwrap_or_default();
        assert_eq!(query, "last=%0D%0AX%3Ay%3E%3B%22+%C3%A9&upstream=hub&ns=a%3Eb");
    }

    #[test]
    fn a_client_may_ask_for_any_number_and_after_anything() {
        let asked = |query: &str| Page::read(query).map(|page| page.query().unwrap_or_default());
        assert_eq!(asked("n=99999999999999999999999&last=.."), Ok("n=1000&last=..".to_owned()));
        assert_eq!(asked("ns=docker.io&upstream=hub"), Ok(String::new()));
        assert_eq!(asked("n=-1"), Err(PageError::Number));
        assert_eq!(asked("n="), Err(PageError::Number));
        assert_eq!(asked(&format!("last={}", "x".repeat(256))).map(|query| query.len()), Ok(261));
        assert_eq!(asked(&format!("last={}", "x".repeat(4096))), Err(PageError::TooLong));
        assert!(Page::read("n=0").is_ok_and(|page| page.is_empty()));
    }

    proptest! {
        #[test]
        fn no_link_makes_the_parser_panic_and_every_query_is_plain(link in "<\\PC{0,80}\\?\\PC{0,80}>; rel=next") {
            if let Some(page) = Page::next(&link, Some("hub")) {
                let query = page.link_query(None);
                prop_assert!(query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'>' && byte != b'"'));
                prop_assert_eq!(Page::read(&query), Ok(page));
            }
        }
    }
}
