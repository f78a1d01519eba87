//! Cutting a logical line: keyword, flags, the rest; the rest into words.
//!
//! Two cutters exist, as instructions differ. ENV, LABEL and ARG keep quoted blanks inside a
//! word; FROM, COPY, ADD, EXPOSE and VOLUME cut at every blank. Neither removes quotes: expansion
//! does that later. Flags lose their quotes and escapes here.

use std::ops::Range;

use super::instruction::{Flag, Word};
use super::lines::{LogicalLine, trim};

/// Blanks between words outside of quotes. Other Unicode blanks are part of a word.
pub(super) const BLANKS: [char; 5] = ['\t', '\x0b', '\x0c', '\r', ' '];

/// Blanks around flags: those of ASCII.
fn is_blank(c: char) -> bool {
    BLANKS.contains(&c) || c == '\n'
}

/// A logical line, or the trigger inside an ONBUILD line, in its three parts.
pub(super) struct Command {
    /// The instruction's name.
    pub(super) keyword: Range<usize>,
    /// `--flags` before the first other word.
    pub(super) flags: Vec<Flag>,
    /// What follows, without blanks around it.
    pub(super) rest: Range<usize>,
}

impl Command {
    /// Cuts a range of a logical line.
    pub(super) fn new(line: &LogicalLine, range: Range<usize>, escape: char) -> Self {
        let text = line.text();
        let range = trim(text, range);
        let name_end =
            text[range.clone()].find(BLANKS).map_or(range.end, |length| range.start + length);
        let mut cutter = FlagCutter { line, escape, end: range.end };
        let (flags, rest) = cutter.cut(name_end);
        Self { keyword: range.start..name_end, flags, rest: trim(text, rest..range.end) }
    }
}

struct FlagCutter<'a> {
    line: &'a LogicalLine,
    escape: char,
    end: usize,
}

impl FlagCutter<'_> {
    /// The flags from `at` on, and where they end.
    fn cut(&mut self, mut at: usize) -> (Vec<Flag>, usize) {
        let text = &self.line.text()[..self.end];
        let mut flags = Vec::new();
        loop {
            at = self.end - text[at..].trim_start_matches(is_blank).len();
            if !text[at..].starts_with("--") {
                return (flags, at);
            }
            let (flag, end) = self.flag(at);
            at = end;
            match flag {
                Some(flag) => flags.push(flag),
                None => return (flags, at),
            }
        }
    }

    /// The flag at `start` without quotes and escapes, `None` for a bare `--`; and its end.
    fn flag(&self, start: usize) -> (Option<Flag>, usize) {
        let text = &self.line.text()[..self.end];
        let mut quote = None;
        let mut word = String::new();
        // Where the value begins: in the word, in the line.
        let mut value_at = None;
        let mut chars = text[start..].char_indices();
        let mut end = self.end;
        while let Some((offset, mut c)) = chars.next() {
            if quote == Some(c) {
                quote = None;
                continue;
            }
            if quote.is_none() {
                if is_blank(c) {
                    end = start + offset;
                    break;
                }
                if c == '\'' || c == '"' {
                    quote = Some(c);
                    continue;
                }
            }
            if c == self.escape {
                match chars.next() {
                    Some((_, escaped)) => c = escaped,
                    None => break,
                }
            }
            word.push(c);
            if c == '=' && value_at.is_none() {
                let next = chars.clone().next().map_or(text.len(), |(o, _)| start + o);
                value_at = Some((word.len(), next));
            }
        }
        if word == "--" {
            return (None, end);
        }
        let name_end = value_at.map_or(word.len(), |(after, _)| after - 1);
        let flag = Flag {
            name: word.get(2..name_end).unwrap_or("").to_owned(),
            value: value_at.map(|(after, source)| Word {
                text: word[after..].to_owned(),
                span: self.line.span(source.min(end)..end),
            }),
            span: self.line.span(start..end),
        };
        (Some(flag), end)
    }
}

/// The words of a range, cut at every blank.
pub(super) fn blank_separated(line: &LogicalLine, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (offset, c) in line.text()[range.clone()].char_indices() {
        let at = range.start + offset;
        if BLANKS.contains(&c) {
            words.extend(start.take().map(|start| start..at));
        } else {
            start.get_or_insert(at);
        }
    }
    words.extend(start.map(|start| start..range.end));
    words
}

/// The words of a range, cut at blanks outside of quotes; quotes and escapes stay.
///
/// An escape character at the very end belongs to no word.
pub(super) fn quoted_words(
    line: &LogicalLine,
    range: Range<usize>,
    escape: char,
) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut quote: Option<char> = None;
    let mut start: Option<usize> = None;
    let mut end = range.end;
    let mut chars = line.text()[range.clone()].char_indices();
    while let Some((offset, c)) = chars.next() {
        let at = range.start + offset;
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
            continue;
        }
        if c == escape && quote != Some('\'') {
            if chars.next().is_none() {
                end = at;
                break;
            }
            start.get_or_insert(at);
            continue;
        }
        start.get_or_insert(at);
        if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '\'' || c == '"') {
            quote = Some(c);
        }
    }
    words.extend(start.map(|start| start..end));
    words
}
