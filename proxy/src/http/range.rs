//! `Range` on blobs (RFC 9110 §14).

use http_range_header::{EndPosition, StartPosition, parse_range_header};

/// What a `Range` header asks of a body of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slice {
    Whole,
    /// From the first byte to one past the last.
    Part(u64, u64),
    /// Malformed, or outside the body.
    Unsatisfiable,
}

/// Reads a `Range` header. Units that we do not know are ignored, as the RFC says; so are several ranges at once,
/// which no registry client sends and which would cost more than the whole.
pub(super) fn slice(header: Option<&str>, size: u64) -> Slice {
    let Some(header) = header else { return Slice::Whole };
    let unit = header.split('=').next().unwrap_or_default().trim();
    if header.contains('=') && !unit.eq_ignore_ascii_case("bytes") {
        return Slice::Whole;
    }
    let Ok(parsed) = parse_range_header(header) else { return Slice::Unsatisfiable };
    let [range] = parsed.ranges.as_slice() else { return Slice::Whole };
    // A suffix longer than the body is the whole body, and so is an end beyond it (RFC 9110 §14.1.2).
    let (start, last) = match (range.start, range.end) {
        (StartPosition::Index(start), EndPosition::Index(last)) => (start, last),
        (StartPosition::Index(start), EndPosition::LastByte) => (start, u64::MAX),
        (StartPosition::FromLast(0), _) => return Slice::Unsatisfiable,
        (StartPosition::FromLast(length), _) => (size.saturating_sub(length), u64::MAX),
    };
    let end = last.saturating_add(1).min(size);
    if start < end { Slice::Part(start, end) } else { Slice::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        assert_eq!(slice(None, 10), Slice::Whole);
        assert_eq!(slice(Some("bytes=0-4"), 10), Slice::Part(0, 5));
        assert_eq!(slice(Some("bytes=5-"), 10), Slice::Part(5, 10));
        assert_eq!(slice(Some("bytes=-3"), 10), Slice::Part(7, 10));
        assert_eq!(slice(Some("bytes=0-99"), 10), Slice::Part(0, 10));
        assert_eq!(slice(Some("bytes=-99"), 10), Slice::Part(0, 10));
        assert_eq!(slice(Some("items=0-4"), 10), Slice::Whole);
        assert_eq!(slice(Some("bytes=0-1,4-5"), 10), Slice::Whole);
    }

    #[test]
    fn what_is_malformed_or_outside_cannot_be_met() {
        for header in [
            "bytes=10-",
            "bytes=5-4",
            "bytes=",
            "bytes=a-b",
            "bytes",
            "bytes=-",
            "bytes=99999999999999999999-",
            "bytes=-0",
        ] {
            assert_eq!(slice(Some(header), 10), Slice::Unsatisfiable, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(header in "\\PC{0,60}", size: u64) {
            let _ = slice(Some(&header), size);
        }

        #[test]
        fn a_part_is_inside_the_body(start in 0u64..200, end in 0u64..200, size in 0u64..100) {
            if let Slice::Part(from, to) = slice(Some(&format!("bytes={start}-{end}")), size) {
                prop_assert!(from < to && to <= size);
            }
        }
    }
}
