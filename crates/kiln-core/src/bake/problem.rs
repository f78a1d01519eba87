//! What is wrong with bake files: a diagnostic, and the file that it is about.

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::Span;

/// A mistake in one of several files, or in how they were called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which of the files; `None` if it is about none of them.
    pub file: Option<usize>,
    /// What is wrong.
    pub diagnostic: Diagnostic,
}

impl Problem {
    /// A mistake that is nowhere yet.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let diagnostic = Diagnostic::error(code, Span::default(), message);
        Self { file: None, diagnostic: Diagnostic { span: None, ..diagnostic } }
    }

    /// The same at a place, unless it has one already.
    #[must_use]
    pub(crate) fn at(mut self, place: Place) -> Self {
        if self.file.is_none() {
            self.file = Some(place.file);
            self.diagnostic.span = place.span;
        }
        self
    }

    /// The same with a line of help.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.diagnostic.help = Some(help.into());
        self
    }

    /// The same as a warning.
    #[must_use]
    pub(crate) fn warning(mut self) -> Self {
        self.diagnostic.severity = Severity::Warning;
        self
    }

    /// The same with `did you mean`, if something is near.
    #[must_use]
    pub(crate) fn near(self, near: Option<&str>) -> Self {
        match near {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None => self,
        }
    }
}

/// A file, and a span of it when the parser knows one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) span: Option<Span>,
}
