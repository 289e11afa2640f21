//! Docker Hub's RateLimit headers, as they are sent. Nothing about the numbers is known beforehand, and an absent
//! header is not a zero: paid accounts and exempt images get none.

use http::HeaderMap;
use jiff::Timestamp;

/// What upstream last said about its limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Pulls per window.
    pub limit: Option<i64>,
    /// Pulls left; Docker Hub has been seen to send negative ones.
    pub remaining: Option<i64>,
    /// Length of the window in seconds.
    pub window: Option<u64>,
    /// What it counts by: an address, a network or an account; empty where it does not say.
    pub source: String,
    /// When it said so.
    pub observed_at: Timestamp,
}

impl Quota {
    /// Reads `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 98;w=21600`; `None` where neither is there.
    #[must_use]
    pub fn read(headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let limit = header(headers, "ratelimit-limit").and_then(parse);
        let remaining = header(headers, "ratelimit-remaining").and_then(parse);
        let window = [limit, remaining].into_iter().flatten().find_map(|(_, window)| window);
        if limit.is_none() && remaining.is_none() {
            return None;
        }
        let source = header(headers, "docker-ratelimit-source").unwrap_or_default();
        let source = source.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        Some(Self {
            limit: limit.map(|l| l.0),
            remaining: remaining.map(|r| r.0),
            window,
            source,
            observed_at: now,
        })
    }

    /// Whether no more than that many pulls are left. What was said longer ago than the window counts no more.
    #[must_use]
    pub fn is_down_to(&self, reserve: i64, now: Timestamp) -> bool {
        let age = crate::clock::since(now, self.observed_at).as_secs();
        self.window.is_none_or(|window| age < window)
            && self.remaining.is_some_and(|remaining| remaining <= reserve)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `98;w=21600` is 98 in a window of 21600 s; the window may be missing, other parameters are ignored.
fn parse(text: &str) -> Option<(i64, Option<u64>)> {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok());
    Some((number, window))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Option<Quota> {
        let headers = pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        Quota::read(&headers, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_headers_are_read_as_sent() {
        let quota = read(&[
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "98;w=21600"),
            ("docker-ratelimit-source", "2001:db8::"),
        ]);
        let quota = quota.unwrap();
        assert_eq!((quota.limit, quota.remaining, quota.window), (Some(100), Some(98), Some(21600)));
        assert_eq!(quota.source, "2001:db8::");
        assert_eq!(read(&[("ratelimit-remaining", "-3")]).unwrap().remaining, Some(-3));
    }

    #[test]
    fn absent_headers_are_not_zero() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("ratelimit-limit", "many")]), None);
        assert_eq!(read(&[("ratelimit-limit", "100;w=21600")]).unwrap().remaining, None);
        assert!(!read(&[("ratelimit-limit", "100;w=21600")]).unwrap().is_down_to(10, Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn what_was_said_in_an_earlier_window_counts_no_more() {
        let quota = read(&[("ratelimit-remaining", "0;w=60")]).unwrap();
        assert!(quota.is_down_to(0, Timestamp::from_second(59).unwrap()));
        assert!(!quota.is_down_to(0, Timestamp::from_second(60).unwrap()));
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
