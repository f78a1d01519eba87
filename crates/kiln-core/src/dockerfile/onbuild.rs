//! ONBUILD lines: the trigger is kept as text, and looked at for what will fail later.
//!
//! Only what the line reader refuses anyway is an error here; a trigger that would be refused
//! when it is used is a warning, as the image that holds it can be built.

use super::instruction::Word;
use super::split::Command;
use super::statement::{Refusal, Statement};
use crate::diagnostic::{Diagnostic, Severity};

/// Errors that a trigger has where it is written.
const TRIGGER_ERRORS: [&str; 2] = ["json-not-strings", "missing-value"];

impl Statement<'_> {
    /// The trigger of ONBUILD: its text with the bodies of its here-documents.
    pub(super) fn trigger(&self, diagnostics: &mut Vec<Diagnostic>) -> Result<Word, Refusal> {
        if self.command.rest.is_empty() {
            return self.at_least_one("ONBUILD");
        }
        let command = Command::new(self.line, self.command.rest.clone(), self.escape);
        let inner = Statement { command: &command, ..*self };
        let refused = match inner.name().trim() {
            "ONBUILD" => Some("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
            name @ ("FROM" | "MAINTAINER") => {
                Some(format!("{name} isn't allowed as an ONBUILD trigger"))
            }
            _ => None,
        };
        if let Some(message) = refused {
            return self.refuse("onbuild-trigger", message);
        }
        let mut found = Vec::new();
        let refusal = inner.kind(&mut found).err();
        for mut diagnostic in found.into_iter().chain(refusal.map(|refusal| *refusal)) {
            if !TRIGGER_ERRORS.contains(&diagnostic.code) {
                diagnostic.severity = Severity::Warning;
            }
            diagnostics.push(diagnostic);
        }
        // Blanks at the end of the line stay, as they do in the image config.
        let start = self.line.trimmed().start + "ONBUILD".len();
        let text = self.line.text()[start..].trim_start_matches(['\t', '\x0c', '\r', ' ']);
        let mut text = text.to_owned();
        for heredoc in self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.body);
            text.push_str(&heredoc.announcement.name);
        }
        Ok(Word { text, span: self.line.span(self.command.rest.clone()) })
    }
}
