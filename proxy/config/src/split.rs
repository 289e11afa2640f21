//! A stream of YAML documents, taken apart by lines before any of it is parsed: bad YAML in one document must
//! not lose the others. `---` at the start of a line ends a document wherever it stands (YAML 1.2.2, 9.1).

/// The text of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    /// Line of the text's beginning in the file, from 1.
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

/// The documents of a text, without empty ones.
pub(crate) fn split(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut chunks, mut start, mut line, mut at) = (Vec::new(), 0, 1, 0);
    for (number, part) in text.split_inclusive('\n').enumerate() {
        if is_marker(part, "---") || is_marker(part, "...") {
            chunks.push(Chunk { line, text: &text[start..at] });
            (start, line) = (at, number + 1);
        }
        at += part.len();
    }
    chunks.push(Chunk { line, text: &text[start..] });
    chunks.retain(|c| c.text.lines().any(is_content));
    chunks
}

/// Whether a line belongs to what a document says: neither blank, comment, directive nor a bare marker.
pub(crate) fn is_content(line: &str) -> bool {
    let rest = ["---", "..."].iter().find(|m| is_marker(line, m)).map_or(line, |m| &line[m.len()..]);
    let rest = rest.trim();
    !rest.is_empty() && !rest.starts_with('#') && !line.starts_with('%')
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_lines_and_empty_ones_are_dropped() {
        let chunks =
            split("# head\n---\na: 1\n---\n\n# nothing\n--- {b: 2}\n...\n%YAML 1.2\n---\nc: |\n  --- x\n");
        let lines = chunks.iter().map(|c| (c.line, c.text)).collect::<Vec<_>>();
        assert_eq!(lines, [(2, "---\na: 1\n"), (7, "--- {b: 2}\n"), (10, "---\nc: |\n  --- x\n")]);
    }
}
