//! Parser directives: `# syntax=`, `# escape=`, `# check=` above everything else.
//!
//! The first line that is no directive ends them: a blank line, an ordinary comment, a key that
//! is not known. Keys have no case; a key stands only once.

use super::instruction::Directives;
use super::lines::Line;
use crate::diagnostic::Diagnostic;
use crate::source::{Span, Spanned};

/// Reads directives off the top of a Dockerfile.
#[derive(Default)]
pub(super) struct DirectiveReader {
    directives: Directives,
    seen: Vec<&'static str>,
    done: bool,
}

impl DirectiveReader {
    /// What has been read.
    pub(super) fn directives(&self) -> &Directives {
        &self.directives
    }

    /// Gives the directives away.
    pub(super) fn finish(self) -> Directives {
        self.directives
    }

    /// Looks at the next line; whether it is a directive (one that stands twice is one, too).
    /// After a line that is none, no other is.
    pub(super) fn read(&mut self, line: Line<'_>, diagnostics: &mut Vec<Diagnostic>) -> bool {
        if self.done {
            return false;
        }
        let Some((key, value)) = split(line) else {
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
        match key {
            "syntax" => self.directives.syntax = Some(value),
            "check" => self.directives.check = Some(value),
            _ => self.set_escape(&value, diagnostics),
        }
        true
    }

    fn set_escape(&mut self, value: &Spanned<String>, diagnostics: &mut Vec<Diagnostic>) {
        match value.value.as_str() {
            "\\" => self.directives.escape = '\\',
            "`" => self.directives.escape = '`',
            other => diagnostics.push(Diagnostic::error(
                "bad-escape",
                value.span,
                format!("invalid escape token '{other}': it must be ` or \\"),
            )),
        }
    }
}

/// Key and value of a directive line.
fn split(line: Line<'_>) -> Option<(&'static str, Spanned<String>)> {
    let comment = line.content().trim_start().strip_prefix('#')?.trim_start();
    let (key, value) = comment.split_once('=')?;
    let key = key.trim_end_matches(regex_blank);
    let known = ["syntax", "escape", "check"];
    let key = known.into_iter().find(|name| name.eq_ignore_ascii_case(key))?;
    let trimmed = value.trim_matches(regex_blank);
    if trimmed.is_empty() {
        return None;
    }
    let content_end = line.start + line.content().len();
    let start = content_end - value.trim_start_matches(regex_blank).len();
    Some((
        key,
        Spanned { value: trimmed.to_owned(), span: Span::new(start, start + trimmed.len()) },
    ))
}

/// What `\s` of a regular expression is in Go.
fn regex_blank(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ')
}
