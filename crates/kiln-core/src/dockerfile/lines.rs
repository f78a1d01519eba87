//! Physical lines, and the logical lines that continuations make of them.
//!
//! A logical line knows where each of its bytes came from, so every word cut out of it has a
//! span although line ends, comments and escape characters are gone from its text.
//!
//! Rules: a line goes on when its last character but blanks is the escape character and the one
//! before is not; comment lines and blank lines inside a continuation are dropped; only the
//! first line loses its indentation.

use std::ops::Range;

use super::instruction::Word;
use crate::source::Span;

/// The lines of a text with their line ends, in order.
pub(super) struct Lines<'a> {
    text: &'a str,
    offset: usize,
}

/// One line with its line end.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// Byte offset of its first byte.
    pub(super) start: usize,
    /// Its text, line end included.
    pub(super) raw: &'a str,
}

impl<'a> Lines<'a> {
    /// Reads `text` after a byte order mark, if it has one.
    pub(super) fn new(text: &'a str) -> Self {
        let offset = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self { text, offset }
    }

    /// One past the last line that was read, its line end left out.
    pub(super) fn content_end(&self) -> usize {
        self.text[..self.offset].trim_end_matches(['\r', '\n']).len()
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = &self.text[self.offset..];
        let raw = rest.split_inclusive('\n').next()?;
        let start = self.offset;
        self.offset += raw.len();
        Some(Line { start, raw })
    }
}

impl<'a> Line<'a> {
    /// The text without its line end.
    pub(super) fn content(&self) -> &'a str {
        self.raw.trim_end_matches(['\r', '\n'])
    }

    /// Whether its first character but blanks is `#`.
    pub(super) fn is_comment(&self) -> bool {
        self.content().trim_start().starts_with('#')
    }
}

/// An instruction's text on one line.
#[derive(Default)]
pub(super) struct LogicalLine {
    text: String,
    /// Where each piece begins: in `text`, in the source.
    pieces: Vec<(usize, usize)>,
    /// The first blank line found inside a continuation.
    pub(super) blank: Option<Span>,
}

impl LogicalLine {
    /// Reads the logical line that begins with `first` (neither blank nor a comment).
    pub(super) fn read(first: Line<'_>, lines: &mut Lines<'_>, escape: char) -> Self {
        let mut logical = Self::default();
        let content = first.content();
        let indented = content.len() - content.trim_start().len();
        let mut continued = logical.push(&content[indented..], first.start + indented, escape);
        while continued {
            let Some(line) = lines.next() else { break };
            if line.is_comment() {
                continue;
            }
            let content = line.content();
            if content.trim_start().is_empty() {
                let here = Span::new(line.start, line.start + content.len());
                logical.blank.get_or_insert(here);
                continue;
            }
            continued = logical.push(content, line.start, escape);
        }
        logical
    }

    /// Appends a line; whether the escape character at its end asks for another one.
    fn push(&mut self, content: &str, source: usize, escape: char) -> bool {
        let kept = without_continuation(content, escape);
        self.pieces.push((self.text.len(), source));
        self.text.push_str(kept.unwrap_or(content));
        kept.is_some()
    }

    /// The joined text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The range of the text without the blanks around it.
    pub(super) fn trimmed(&self) -> Range<usize> {
        trim(&self.text, 0..self.text.len())
    }

    /// Where a range of the text stands in the source.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let start = self.source(range.start);
        if range.is_empty() {
            return Span::new(start, start);
        }
        Span::new(start, self.source(range.end - 1) + 1)
    }

    /// A range of the text as a word.
    pub(super) fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.text[range.clone()].to_owned(), span: self.span(range) }
    }

    fn source(&self, offset: usize) -> usize {
        let after = self.pieces.partition_point(|(start, _)| *start <= offset);
        // Of empty pieces that share a start the last one holds the text.
        self.pieces
            .get(after.saturating_sub(1))
            .map_or(0, |(start, source)| source + (offset - start))
    }
}

/// The line without its continuation character, or `None` if it has none.
fn without_continuation(content: &str, escape: char) -> Option<&str> {
    let kept = content.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!kept.ends_with(escape)).then_some(kept)
}

/// The range without the blanks (of Unicode) at both ends.
pub(super) fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let end = range.start + part.trim_end().len();
    let start = range.end - part.trim_start().len();
    if start >= end { range.start..range.start } else { start..end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str) -> LogicalLine {
        let mut lines = Lines::new(text);
        let first = lines.next().expect("a line");
        LogicalLine::read(first, &mut lines, '\\')
    }

    #[test]
    fn continuations_are_joined_and_located() {
        let line = logical("  RUN a\\ \t\r\n# no\n\n  b \\\\\nRUN c");
        assert_eq!(line.text(), "RUN a  b \\\\");
        assert_eq!(line.span(4..5), Span::new(6, 7));
        assert_eq!(line.span(7..8), Span::new(20, 21));
        assert_eq!(line.blank, Some(Span::new(17, 17)));
    }

    #[test]
    fn an_escape_alone_on_its_line_continues() {
        assert_eq!(logical("ENV E hello\\\n\\\nworld").text(), "ENV E helloworld");
        assert_eq!(logical("ENV E hello\\\n \\\nworld").text(), "ENV E hello world");
        assert_eq!(logical("RUN x \\").text(), "RUN x ");
    }
}
