//! Comments that describe what follows them.
//!
//! Lints read them (`# check=skip=…` above an instruction), and so does the outline of a file
//! (`# NAME what it is for` above ARG and FROM).

use super::directive::DirectiveReader;
use super::lines::Lines;
use crate::source::{SourceFile, Span, Spanned};

/// The comments above the instruction that begins at byte `start`, without their first character
/// and blanks, in order: an indented comment keeps its `#`, which makes it no check (as BuildKit).
/// Blank lines between do not matter; an empty comment ends the search, as do directives.
pub fn comments_before(source: &SourceFile, start: u32) -> Vec<Spanned<String>> {
    let text = source.text();
    let first = directives_end(text);
    let above = text.get(first..start as usize).unwrap_or("");
    let mut end = first + above.rfind('\n').map_or(0, |at| at + 1);
    let mut comments = Vec::new();
    while end > first {
        let line_start = text[first..end - 1].rfind('\n').map_or(first, |at| first + at + 1);
        let line = &text[line_start..end];
        end = line_start;
        if line.trim().is_empty() {
            continue;
        }
        if !line.trim_start().starts_with('#') {
            break;
        }
        let first = line.chars().next().map_or(0, char::len_utf8);
        let comment = line[first..].trim();
        if comment.is_empty() {
            break;
        }
        let at = line_start + first + line[first..].find(comment).unwrap_or(0);
        comments
            .push(Spanned { value: comment.to_owned(), span: Span::new(at, at + comment.len()) });
    }
    comments.reverse();
    comments
}

/// Where the directives at the top end.
fn directives_end(text: &str) -> usize {
    let mut reader = DirectiveReader::default();
    let mut ignored = Vec::new();
    let mut end = 0;
    for line in Lines::new(text) {
        if !reader.read(line, &mut ignored) {
            break;
        }
        end = line.start + line.raw.len();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stand_above() {
        let text = "# syntax=x\n# lost\n#\n# a b\n\n  #c\nARG a\n# d\nFROM é # no\nRUN x\n";
        let source = SourceFile::new("f", text);
        let before = |what: &str| {
            let start = text.find(what).expect("stands there") as u32;
            let comments = comments_before(&source, start);
            for comment in &comments {
                assert_eq!(source.slice(comment.span), comment.value);
            }
            let values: Vec<String> = comments.into_iter().map(|it| it.value).collect();
            values.join("|")
        };
        assert_eq!(before("ARG"), "a b|#c");
        assert_eq!(before("FROM"), "d");
        assert_eq!(before("RUN"), "");
        assert_eq!(comments_before(&source, 0), []);
        assert_eq!(comments_before(&source, 9999), []);
    }
}
