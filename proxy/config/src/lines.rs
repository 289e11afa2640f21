//! Finds the line of a field in a document's text, by indentation. A help for the reader, not a parser: where
//! the text is written in a way that it does not see through, the nearest parent's line is the answer.

use std::ops::Range;

use crate::split::is_content;

/// The line of a field such as `spec.rules[2].repository`, from 0 at the text's beginning; of the deepest
/// parent that is found; of the first line with content otherwise.
pub(crate) fn line_of(text: &str, path: &str) -> usize {
    let lines = text.lines().collect::<Vec<_>>();
    let mut found = lines.iter().position(|l| is_content(l)).unwrap_or(0);
    let mut within = 0..lines.len();
    let mut rest = path;
    while !rest.is_empty() {
        let (line, children, after) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((index, after)) => {
                let Some((line, children)) = item(&lines, within, index.parse().unwrap_or(0)) else { break };
                (line, children, after)
            }
            None => {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let named =
                    |end: usize| key(&lines, within.clone(), &rest[..end]).map(|(l, c)| (l, c, &rest[end..]));
                // A key may itself have dots.
                let Some(hit) = named(end).or_else(|| named(rest.len())) else { break };
                hit
            }
        };
        (found, within) = (line, children);
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    found
}

/// The line of a key among the direct children in a range of lines, and the range of what belongs to it.
fn key(lines: &[&str], within: Range<usize>, name: &str) -> Option<(usize, Range<usize>)> {
    let keys = || within.clone().filter_map(|at| key_at(lines[at]).map(|(indent, key)| (at, indent, key)));
    let (_, indent, _) = keys().next()?;
    let (at, ..) = keys().find(|(_, i, key)| *i == indent && *key == name)?;
    let end = (at + 1..within.end).find(|l| {
        let own = indentation(lines[*l]);
        is_content(lines[*l]) && (own < indent || own == indent && !lines[*l].trim_start().starts_with('-'))
    });
    Some((at, at + 1..end.unwrap_or(within.end)))
}

/// The line of a list's item, and the range of what belongs to it, its own line among it.
fn item(lines: &[&str], within: Range<usize>, index: usize) -> Option<(usize, Range<usize>)> {
    let first = within.clone().find(|at| is_content(lines[*at]))?;
    let indent = indentation(lines[first]);
    let dashes = lines[first].trim_start().starts_with('-');
    let mut items = within.clone().filter(|at| {
        let text = lines[*at].trim_start();
        let begins = if dashes { text.starts_with('-') } else { !text.starts_with(['}', ']']) };
        is_content(lines[*at]) && indentation(lines[*at]) == indent && begins
    });
    let at = items.nth(index)?;
    Some((at, at..items.next().unwrap_or(within.end)))
}

/// Indentation and name of the key that a line begins with; the dash of a list item counts as indentation.
fn key_at(line: &str) -> Option<(usize, &str)> {
    let mut text = line.trim_start_matches("---").trim_start();
    while let Some(rest) = text.strip_prefix("- ") {
        text = rest.trim_start();
    }
    let indent = line.len() - text.len();
    let key = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').filter(|(_, rest)| rest.trim_start().starts_with(':'))?.0,
        None => {
            let end = text.find(": ").or_else(|| text.trim_end().strip_suffix(':').map(str::len))?;
            text[..end].trim_end()
        }
    };
    Some((indent, key))
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "---\n# c\nkind: X\nmetadata: {name: a}\nspec:\n  inner:\n    url: no\n  url: yes\n  rules:\n  - name: a\n    action: b\n  -\n    name: c\n    repository: d\n  \"q\":\n    - - x\nlast: 1\n";

    #[test]
    fn fields_of_block_style_are_found() {
        for (path, line) in [
            ("", 2),
            ("kind", 2),
            ("metadata.name", 3),
            ("spec.url", 7),
            ("spec.inner.url", 6),
            ("spec.missing", 4),
            ("spec.rules[0].name", 9),
            ("spec.rules[0].action", 10),
            ("spec.rules[1].repository", 13),
            ("spec.rules[7].name", 8),
            ("spec.q", 14),
            ("last", 16),
        ] {
            assert_eq!(line_of(BLOCK, path), line, "{path}");
        }
    }

    #[test]
    fn fields_of_indented_json_are_found() {
        let text = "{\n  \"kind\": \"X\",\n  \"spec\": {\n    \"rules\": [\n      {\n        \"name\": \"a\"\n      },\n      {\n        \"name\": \"b\"\n      }\n    ]\n  }\n}\n";
        assert_eq!(line_of(text, "spec.rules[1].name"), 8);
    }

    #[test]
    fn keys_with_dots_are_found() {
        assert_eq!(line_of("stringData:\n  a: 1\n  signing.k1: 2\n", "stringData.signing.k1"), 2);
    }
}
