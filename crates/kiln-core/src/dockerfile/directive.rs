//! Parser directives: `# syntax=`, `# escape=`, `# check=` above everything else.
//!
//! The first line that is no directive ends them: a blank line, an ordinary comment, a key that
//! is not known. Keys have no case; a key stands only once.
//!
//! `escape` belongs to the parser, which may find its lines indented. `syntax` and `check` are
//! looked for by themselves, as BuildKit does: their lines are not indented, a first line `#!…` is
//! passed over, and `syntax` may also stand behind `//`.

use super::instruction::Directives;
use super::lines::{Line, Lines};
use crate::diagnostic::Diagnostic;
use crate::source::{Span, Spanned};

/// Reads the lines of directives off the top of a Dockerfile.
#[derive(Default)]
pub(super) struct DirectiveReader {
    escape: Option<char>,
    seen: Vec<&'static str>,
    done: bool,
}

impl DirectiveReader {
    /// What all of them say, once the lines of `text` have been read.
    pub(super) fn finish(&self, text: &str) -> Directives {
        let written = |key| detect(text, key, "#");
        Directives {
            syntax: written("syntax").or_else(|| detect(text, "syntax", "//")),
            escape: self.escape(),
            check: written("check"),
        }
    }

    /// The escape character of what follows.
    pub(super) fn escape(&self) -> char {
        self.escape.unwrap_or('\\')
    }

    /// Looks at the next line; whether it is a directive (one that stands twice is one, too).
    /// After a line that is none, no other is.
    pub(super) fn read(&mut self, line: Line<'_>, diagnostics: &mut Vec<Diagnostic>) -> bool {
        if self.done {
            return false;
        }
        let content = line.content();
        let indentation = content.len() - content.trim_start().len();
        let Some((key, value)) = split(&content[indentation..], line.start + indentation, "#")
        else {
            self.done = true;
            return false;
        };
        if self.seen.contains(&key) {
            diagnostics.push(Diagnostic::error(
                "duplicate-directive",
                value.span,
                format!("only one {key} parser directive can be used"),
            ));
            return true;
        }
        self.seen.push(key);
        if key == "escape" {
            self.set_escape(&value, diagnostics);
        }
        true
    }

    fn set_escape(&mut self, value: &Spanned<String>, diagnostics: &mut Vec<Diagnostic>) {
        match value.value.as_str() {
            "\\" => self.escape = Some('\\'),
            "`" => self.escape = Some('`'),
            other => {
                let message = format!("invalid escape token '{other}' does not match ` or \\");
                diagnostics.push(Diagnostic::error("bad-escape", value.span, message));
            }
        }
    }
}

/// The value of the first directive `key` whose line begins with the comment sign `sign`.
fn detect(text: &str, key: &str, sign: &str) -> Option<Spanned<String>> {
    let mut lines = Lines::new(text).peekable();
    lines.next_if(|line| line.raw.starts_with("#!"));
    let directives = lines.map_while(|line| split(line.content(), line.start, sign));
    directives.into_iter().find(|(found, _)| *found == key).map(|(_, value)| value)
}

/// Key and value of a directive whose line begins at byte `start`.
fn split(content: &str, start: usize, sign: &str) -> Option<(&'static str, Spanned<String>)> {
    let comment = content.strip_prefix(sign)?.trim_start();
    let (key, value) = comment.split_once('=')?;
    let key = key.trim_end_matches(regex_blank);
    let known = ["syntax", "escape", "check"];
    let key = known.into_iter().find(|name| name.eq_ignore_ascii_case(key))?;
    let trimmed = value.trim_matches(regex_blank);
    if trimmed.is_empty() {
        return None;
    }
    let start = start + content.len() - value.trim_start_matches(regex_blank).len();
    Some((
        key,
        Spanned { value: trimmed.to_owned(), span: Span::new(start, start + trimmed.len()) },
    ))
}

/// What `\s` of a regular expression is in Go.
fn regex_blank(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ')
}
