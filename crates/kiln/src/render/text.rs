//! Text that fits a terminal: no control characters, and as wide as it should be.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns between tab stops.
const TAB_WIDTH: usize = 4;

/// Columns that `text` takes; escape sequences are not expected in it.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text` cut to at most `columns`, with `…` as its last character when something was cut.
pub(crate) fn truncate(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > columns {
            break;
        }
        cut.push(character);
    }
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// `text` with its tabs as spaces up to the next tab stop, and other control characters as `?`.
pub(crate) fn expand_tabs(text: &str) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut column = 0;
    for character in text.chars() {
        if character == '\t' {
            let spaces = TAB_WIDTH - column % TAB_WIDTH;
            expanded.extend(std::iter::repeat_n(' ', spaces));
            column += spaces;
        } else {
            let shown = if is_unsafe(character) { '?' } else { character };
            expanded.push(shown);
            column += shown.width().unwrap_or(0);
        }
    }
    expanded
}

/// A line that a command wrote, as it may be shown: escape sequences gone, what a carriage
/// return overwrote gone, other control characters gone, tabs kept.
pub(crate) fn sanitize(line: &str) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let last = line.rsplit('\r').find(|part| !part.is_empty());
    let mut clean = String::new();
    let mut rest = last.unwrap_or("").chars();
    while let Some(character) = rest.next() {
        match character {
            '\x1b' => skip_escape(&mut rest),
            '\x08' => {
                clean.pop();
            }
            '\t' => clean.push('\t'),
            character if is_unsafe(character) => {}
            character => clean.push(character),
        }
    }
    clean
}

/// Skips what follows an ESC: a CSI or OSC sequence to its end, or one character.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    match rest.next() {
        Some('[') => {
            // Parameters and intermediates are 0x20..0x3f, the final byte is 0x40..0x7e.
            rest.find(|character| !(' '..='?').contains(character));
        }
        Some(']' | 'P' | '^' | '_' | 'X') => {
            while let Some(character) = rest.next() {
                if character == '\x07' || (character == '\x1b' && rest.next().is_some()) {
                    break;
                }
            }
        }
        Some('(' | ')' | '#' | '%') => {
            rest.next();
        }
        _ => {}
    }
}

/// Control characters, and those that change the direction of what follows.
fn is_unsafe(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes of a stream, cut into lines. Bytes that are no UTF-8 become `U+FFFD`.
#[derive(Clone, Debug, Default)]
pub(crate) struct LineBuffer {
    pending: Vec<u8>,
}

/// A line that does not end is shown in pieces of this size.
const LONGEST_LINE_BYTES: usize = 16 * 1024;

impl LineBuffer {
    /// Takes bytes; gives the lines that are whole now, without their ends.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.pending.len() >= LONGEST_LINE_BYTES {
                lines.extend(self.finish());
            }
        }
        lines
    }

    /// What is left without a line end, if anything.
    pub(crate) fn finish(&mut self) -> Option<String> {
        if self.pending.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.pending);
        Some(sanitize(&String::from_utf8_lossy(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cut_text_is_never_too_wide() {
        assert_eq!(truncate("hello", 5), "hello");
        assert_eq!(truncate("hello", 4), "hel…");
        assert_eq!(truncate("漢字漢字", 5), "漢字…");
        assert_eq!(truncate("漢字漢字", 4), "漢…");
        assert_eq!(truncate("hello", 0), "");
    }

    #[test]
    fn logs_cannot_play_with_the_terminal() {
        assert_eq!(sanitize("\x1b[1;31mred\x1b[0m\x07!"), "red!");
        assert_eq!(sanitize("\x1b]0;title\x07shown"), "shown");
        assert_eq!(sanitize("\x1b]0;title\x1b\\shown"), "shown");
        assert_eq!(sanitize("\x1b[2J\x1b[Hx\x1b(B"), "x");
        assert_eq!(sanitize(" 10%\r 50%\r100%\r\n"), "100%");
        assert_eq!(sanitize("a\tb\u{202e}c"), "a\tbc");
        assert_eq!(sanitize("ab\x08c"), "ac");
    }

    #[test]
    fn lines_are_whole_wherever_they_are_cut() {
        let mut buffer = LineBuffer::default();
        assert_eq!(buffer.push(b"one\ntw"), ["one"]);
        assert_eq!(buffer.push(b"o\n\xc3"), ["two"]);
        assert_eq!(buffer.push(b"\xa4\n\n"), ["ä", ""]);
        assert_eq!(buffer.finish(), None);
        buffer.push(b"rest");
        assert_eq!(buffer.finish().as_deref(), Some("rest"));
    }

    #[test]
    fn tabs_reach_the_next_stop() {
        assert_eq!(expand_tabs("a\tb\x1b"), "a   b?");
        assert_eq!(expand_tabs("漢\tb"), "漢  b");
    }

    proptest! {
        #[test]
        fn nothing_shown_holds_a_control_character(text in any::<String>(), columns in 0usize..40) {
            let shown = expand_tabs(&sanitize(&text));
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert!(width(&truncate(&shown, columns)) <= columns);
        }

        #[test]
        fn cuts_in_the_stream_change_nothing(bytes in any::<Vec<u8>>(), cut in 0usize..64) {
            let whole = LineBuffer::default().push(&[&bytes[..], b"\n"].concat());
            let mut buffer = LineBuffer::default();
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            let mut parts = buffer.push(a);
            parts.extend(buffer.push(b));
            parts.extend(buffer.push(b"\n"));
            prop_assert_eq!(whole, parts);
        }
    }
}
