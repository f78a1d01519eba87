//! Texts that a user wrote, and places in them.
//!
//! A [`Span`] is a byte range; which text it belongs to is known from where it stands.
//! Lines and columns are computed only to be shown.

use std::sync::Arc;

/// A byte range `start..end` of a source text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The range `start..end`; both are byte offsets of one text.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

/// A line and a column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A text with the name under which messages show it.
#[derive(Clone, Debug)]
pub struct SourceFile {
    name: String,
    text: Arc<str>,
    line_starts: Vec<u32>,
    replaced: Vec<u32>,
}

impl SourceFile {
    /// A source called `name` (a path, or something like `<stdin>`) that holds `text`.
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts =
            std::iter::once(0).chain(starts.map(|(offset, _)| offset as u32 + 1)).collect();
        Self { name: name.into(), text, line_starts, replaced: Vec::new() }
    }

    /// A source of bytes: each one that is no part of UTF-8 is read as U+FFFD.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(bytes.len());
        let mut replaced = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            for _ in chunk.invalid() {
                replaced.push(text.len() as u32);
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Self { replaced, ..Self::new(name, text) }
    }

    /// Where in the text bytes were read as U+FFFD, in order.
    pub fn replaced(&self) -> &[u32] {
        &self.replaced
    }

    /// The name that messages show.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span; empty if the span is not of this source.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// Where a byte offset stands; past the end counts as the end.
    pub fn position(&self, offset: u32) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1] as usize;
        let end = (offset as usize).clamp(start, self.text.len());
        let column = self.text.get(start..end).map_or(1, |before| before.chars().count() + 1);
        Position { line, column }
    }

    /// The text of a line (from 1) without its line end; empty past the last.
    pub fn line(&self, line: usize) -> &str {
        let Some(start) = line.checked_sub(1).and_then(|index| self.line_starts.get(index)) else {
            return "";
        };
        let rest = &self.text[*start as usize..];
        rest.split('\n').next().unwrap_or("").trim_end_matches('\r')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_replaced_one_by_one() {
        let source = SourceFile::from_bytes("f", b"caf\xe9\nx\xf0\x9f\x98");
        assert_eq!(source.text(), "caf\u{fffd}\nx\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(source.replaced(), [3, 8, 11, 14]);
        assert_eq!(SourceFile::from_bytes("f", "é".as_bytes()).replaced(), [0u32; 0]);
    }

    #[test]
    fn positions_count_characters() {
        let source = SourceFile::new("f", "ab\nüx\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(5), Position { line: 2, column: 2 });
        assert_eq!(source.position(99).line, 3);
        assert_eq!(source.line(2), "üx");
        assert_eq!(source.line(9), "");
    }
}
