//! Everything that a person (or a program) sees: the only writer of standard output and error.
//!
//! Each part turns values into lines without writing them; `terminal` writes.

pub(crate) mod bench;
pub(crate) mod diagnostic;
pub(crate) mod explain;
pub(crate) mod format;
pub(crate) mod index;
pub(crate) mod init;
pub(crate) mod lint;
pub(crate) mod lock;
pub(crate) mod progress;
pub(crate) mod report;
mod sarif;
pub(crate) mod style;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod text;

use std::panic::PanicHookInfo;

use crate::config::Config;
use crate::failure::Failure;
use style::Style;

/// The style for standard error.
pub(crate) fn stderr_style(config: &Config) -> Style {
    if terminal::stderr_is_terminal() && !config.no_color() { Style::Color } else { Style::Plain }
}

/// The style for standard output.
pub(crate) fn stdout_style(config: &Config) -> Style {
    if terminal::stdout_is_terminal() && !config.no_color() { Style::Color } else { Style::Plain }
}

/// Writes lines to standard output.
pub(crate) fn print_lines(lines: &[String]) {
    terminal::stdout(&joined(lines));
}

/// Writes a document to standard output, as it is.
pub(crate) fn print_document(bytes: &[u8]) {
    terminal::stdout(&String::from_utf8_lossy(bytes));
}

/// Writes lines to standard error.
pub(crate) fn note_lines(lines: &[String]) {
    terminal::stderr(&joined(lines));
}

/// Shows why a command failed.
pub(crate) fn show_failure(failure: &Failure, config: &Config) {
    note_lines(&diagnostic::failure_lines(failure, stderr_style(config)));
}

/// Shows clap's own message: help and version on standard output, errors on standard error.
pub(crate) fn show_clap(error: &clap::Error, config: &Config) {
    let text = error.render();
    if error.use_stderr() {
        match stderr_style(config) {
            Style::Color => terminal::stderr(&text.ansi().to_string()),
            Style::Plain => terminal::stderr(&text.to_string()),
        }
    } else if terminal::stdout_is_terminal() && !config.no_color() {
        terminal::stdout(&text.ansi().to_string());
    } else {
        terminal::stdout(&text.to_string());
    }
}

/// Gives the terminal back as it was.
pub(crate) fn restore_terminal() {
    terminal::restore();
}

/// Panics become a message that says what to report; `main` turns them into exit code 70.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        terminal::restore();
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = info.location().map(ToString::to_string);
        let what = text.unwrap_or("a panic without a message");
        note_lines(&diagnostic::bug_lines(what, place.as_deref(), Style::Plain));
    }));
}

fn joined(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        text.push_str(line);
        text.push('\n');
        text
    })
}
