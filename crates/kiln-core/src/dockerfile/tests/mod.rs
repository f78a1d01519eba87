//! Tests of the Dockerfile language, and the text form of a parsed file that they compare.

mod errors;
mod expansion;
mod forms;
mod heredocs;
mod laws;
mod mounts;
mod text_form;

use crate::source::SourceFile;

/// What a Dockerfile says and what is wrong with it, as one text.
fn parsed(text: &str) -> String {
    let source = SourceFile::new("Dockerfile", text);
    let (dockerfile, diagnostics) = super::parse(&source);
    let mut out = text_form::dockerfile(&dockerfile);
    for diagnostic in &diagnostics {
        out.push_str(&text_form::diagnostic(diagnostic, &source));
    }
    out
}

/// Only what is wrong.
fn problems(text: &str) -> String {
    let source = SourceFile::new("Dockerfile", text);
    let (_, diagnostics) = super::parse(&source);
    let lines = diagnostics.iter().map(|diagnostic| text_form::diagnostic(diagnostic, &source));
    lines.collect()
}
