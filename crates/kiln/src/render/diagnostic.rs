//! Messages about what went wrong: what, where, why, and what to do next.
//!
//! ```text
//! error[run-failed]: `npm ci` exited with code 1
//!   --> Dockerfile:7:1   stage `build`, step 3 of 6
//!  7 | RUN npm ci
//!    | ^^^^^^^^^^
//!   why: npm error code E401
//!  help: mount the token with `--mount=type=secret`
//! ```
//!
//! A span of several lines shows its first ones and says how many more there are. Nothing here
//! writes: everything is a list of lines.

use kiln_core::diagnostic::{Diagnostic, Severity};
use kiln_core::source::{SourceFile, Span};

use super::format::count;
use super::style::{Role, Style};
use super::text::{expand_tabs, truncate, width};
use crate::failure::Failure;
use crate::session::StepFailure;

/// Lines of a span that are shown before the rest is only counted.
const SHOWN_LINES: usize = 4;
/// Columns of a source line that are shown.
const SHOWN_COLUMNS: usize = 200;

/// One message, whatever it is about.
struct Message<'a> {
    severity: Severity,
    code: Option<&'a str>,
    text: &'a str,
    place: Option<(&'a SourceFile, Span)>,
    context: Option<String>,
    why: &'a [String],
    help: Option<&'a str>,
}

impl<'a> Message<'a> {
    fn error(code: Option<&'a str>, text: &'a str) -> Self {
        Self {
            severity: Severity::Error,
            code,
            text,
            place: None,
            context: None,
            why: &[],
            help: None,
        }
    }
}

/// The lines that tell the user why a command failed. Nothing for what was already shown.
pub(crate) fn failure_lines(failure: &Failure, style: Style) -> Vec<String> {
    let text = failure.to_string();
    match failure {
        Failure::Usage { help, .. } => {
            let message = Message { help: help.as_deref(), ..Message::error(None, &text) };
            lines(&message, style)
        }
        Failure::Input { code, help, .. } => {
            let message = Message { help: help.as_deref(), ..Message::error(Some(code), &text) };
            lines(&message, style)
        }
        Failure::Environment { help, .. } => {
            let message =
                Message { help: help.as_deref(), ..Message::error(Some("environment"), &text) };
            lines(&message, style)
        }
        Failure::File { .. } => lines(&Message::error(Some("file"), &text), style),
        Failure::Invalid { source_file, diagnostics } => {
            diagnostics_lines(source_file, diagnostics, style)
        }
        Failure::Step { source_file, failure } => step_lines(source_file, failure, style),
        Failure::Interrupted => vec!["interrupted".to_owned()],
        Failure::Problems { .. } => Vec::new(),
    }
}

/// All diagnostics of one text, in order, with blank lines between them.
pub(crate) fn diagnostics_lines(
    source_file: &SourceFile,
    diagnostics: &[Diagnostic],
    style: Style,
) -> Vec<String> {
    let mut all = Vec::new();
    for diagnostic in diagnostics {
        if !all.is_empty() {
            all.push(String::new());
        }
        let message = Message {
            severity: diagnostic.severity,
            place: diagnostic.span.map(|span| (source_file, span)),
            // A message about the whole file still says which file.
            context: diagnostic.span.is_none().then(|| source_file.name().to_owned()),
            help: diagnostic.help.as_deref(),
            ..Message::error(Some(diagnostic.code), &diagnostic.message)
        };
        all.extend(lines(&message, style));
    }
    all
}

fn step_lines(source_file: &SourceFile, failure: &StepFailure, style: Style) -> Vec<String> {
    let StepFailure { stage, step, steps, .. } = failure;
    let message = Message {
        place: Some((source_file, failure.span)),
        context: Some(match stage.as_str() {
            "" => format!("step {step} of {steps}"),
            _ => format!("stage `{stage}`, step {step} of {steps}"),
        }),
        why: &failure.last_output,
        help: failure.help.as_deref(),
        ..Message::error(Some(failure.code), &failure.message)
    };
    lines(&message, style)
}

fn lines(message: &Message<'_>, style: Style) -> Vec<String> {
    let mut lines = head(message, style);
    match (&message.place, &message.context) {
        (Some((source_file, span)), context) => {
            lines.extend(excerpt(source_file, *span, context.as_deref(), style));
        }
        (None, Some(context)) => {
            let arrow = style.paint(Role::Frame, "  -->");
            lines.push(format!("{arrow} {context}"));
        }
        (None, None) => {}
    }
    let why = message.why.iter().map(|line| expand_tabs(line));
    lines.extend(labelled("  why:", Role::Strong, why, style));
    let help = message.help.unwrap_or_default().lines().map(str::to_owned);
    lines.extend(labelled(" help:", Role::Help, help, style));
    lines
}

fn head(message: &Message<'_>, style: Style) -> Vec<String> {
    let (word, role) = match message.severity {
        Severity::Error => ("error", Role::Error),
        Severity::Warning => ("warning", Role::Warning),
    };
    let kind = match message.code {
        Some(code) => format!("{word}[{code}]"),
        None => word.to_owned(),
    };
    let mut text = message.text.lines();
    let first = text.next().unwrap_or_default();
    let head =
        format!("{}: {}", style.paint(role, &kind), style.paint(Role::Strong, &expand_tabs(first)));
    std::iter::once(head).chain(text.map(|line| format!("       {}", expand_tabs(line)))).collect()
}

/// A label of six columns before the first line, as many spaces before the others.
fn labelled(
    label: &str,
    role: Role,
    text: impl Iterator<Item = String>,
    style: Style,
) -> Vec<String> {
    text.enumerate()
        .map(|(index, line)| match index {
            0 => format!("{} {line}", style.paint(role, label)),
            _ => format!("       {line}"),
        })
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// `--> file:line:column` and the lines of the span with carets under its first line.
fn excerpt(
    source_file: &SourceFile,
    span: Span,
    context: Option<&str>,
    style: Style,
) -> Vec<String> {
    let start = source_file.position(span.start);
    let last_line = source_file.position(span.end.saturating_sub(1).max(span.start)).line;
    let shown = (last_line - start.line + 1).min(SHOWN_LINES);
    // One line that is left out takes as much room as the note about it.
    let shown = if last_line - start.line == SHOWN_LINES { SHOWN_LINES + 1 } else { shown };
    let digits = (start.line + shown - 1).to_string().len();
    let frame = |text: String| style.paint(Role::Frame, &text);
    let gutter = |number: usize| frame(format!(" {number:>digits$} |"));
    let empty = frame(format!(" {:digits$} |", ""));

    let place = format!("{}:{}:{}", source_file.name(), start.line, start.column);
    let context = context.map(|text| format!("   {text}")).unwrap_or_default();
    let mut lines = vec![format!("{} {place}{context}", frame(format!(" {:digits$}-->", "")))];
    let first = source_file.line(start.line);
    lines.push(trimmed(&gutter(start.line), &show(first)));
    let carets = carets(source_file, span, first);
    lines.push(format!("{empty} {}", style.paint(Role::Error, &carets)));
    for number in start.line + 1..start.line + shown {
        lines.push(trimmed(&gutter(number), &show(source_file.line(number))));
    }
    let hidden = last_line + 1 - start.line - shown;
    if hidden > 0 {
        let note = format!("… {}", count(hidden, "more line"));
        lines.push(format!("{empty} {}", style.paint(Role::Faint, &note)));
    }
    lines
}

fn trimmed(gutter: &str, text: &str) -> String {
    format!("{gutter} {text}").trim_end().to_owned()
}

fn show(line: &str) -> String {
    truncate(&expand_tabs(line), SHOWN_COLUMNS)
}

/// Carets under the part of the span that stands on its first line; at least one.
fn carets(source_file: &SourceFile, span: Span, line: &str) -> String {
    let column = source_file.position(span.start).column - 1;
    let before: String = line.chars().take(column).collect();
    let inside: String = source_file.slice(span).lines().next().unwrap_or("").to_owned();
    let offset = width(&expand_tabs(&before));
    let end = width(expand_tabs(&format!("{before}{inside}")).trim_end());
    let length = end.saturating_sub(offset).max(1);
    let offset = offset.min(SHOWN_COLUMNS);
    let length = length.min(SHOWN_COLUMNS + 1 - offset);
    format!("{}{}", " ".repeat(offset), "^".repeat(length))
}

/// What the panic hook shows.
pub(crate) fn bug_lines(what: &str, place: Option<&str>, style: Style) -> Vec<String> {
    let text = format!("kiln has a bug: {what}");
    let help = format!(
        "please report it with this text and the command that you ran (kiln {})",
        env!("CARGO_PKG_VERSION")
    );
    let message = Message {
        context: place.map(str::to_owned),
        help: Some(&help),
        ..Message::error(Some("bug"), &text)
    };
    lines(&message, style)
}

/// A warning that is about no text.
pub(crate) fn warning_lines(text: &str, style: Style) -> Vec<String> {
    let message = Message { severity: Severity::Warning, ..Message::error(None, text) };
    lines(&message, style)
}

#[cfg(test)]
#[path = "diagnostic_tests.rs"]
mod tests;
