//! Rewrites of what rules found, where one is safe.
//!
//! A [`Fix`] is a few [`Edit`]s of the text that belong together. It changes nothing about the
//! image but what its rule is about: where that cannot be told from the text, a warning has none.
//!
//! [`fix`] applies all fixes of a file, and again what the changed file asks for, until nothing is
//! left. Of two that touch the same place the second waits for the next round. A file that does
//! not parse is not changed, and a change after which it would not parse any more is not made.

use super::{LintRequest, lint};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::parse;
use crate::source::{SourceFile, Span};

/// Rounds until what still asks for a change is left alone.
const MAX_ROUNDS: usize = 8;

/// One replacement in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What goes.
    pub span: Span,
    /// What comes in its place.
    pub text: String,
}

/// Edits that are made together; they do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// The edits, in any order.
    pub edits: Vec<Edit>,
}

impl Fix {
    /// One replacement.
    pub(super) fn replace(span: Span, text: impl Into<String>) -> Self {
        Self { edits: vec![Edit { span, text: text.into() }] }
    }
}

/// A file after its fixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The whole text.
    pub text: String,
    /// The rules whose warnings were fixed, one for each, in the order of the work.
    pub rules: Vec<&'static str>,
}

/// Applies the fixes of all warnings.
///
/// The error is that of [`lint`].
pub fn fix(source: &SourceFile, request: &LintRequest<'_>) -> Result<Fixed, Diagnostic> {
    let mut fixed = Fixed { text: source.text().to_owned(), rules: Vec::new() };
    for _ in 0..MAX_ROUNDS {
        let now = SourceFile::new(source.name(), fixed.text.as_str());
        let (dockerfile, parsed) = parse(&now);
        if parsed.iter().any(Diagnostic::is_error) {
            break;
        }
        let report = lint(&now, &dockerfile, &parsed, request)?;
        let fixes = report.warnings.iter().filter_map(|it| Some((it.rule.name, it.fix.as_ref()?)));
        let (text, rules) = apply(&fixed.text, fixes);
        let (_, diagnostics) = parse(&SourceFile::new(source.name(), text.as_str()));
        if rules.is_empty() || text == fixed.text || diagnostics.iter().any(Diagnostic::is_error) {
            break;
        }
        fixed.text = text;
        fixed.rules.extend(rules);
    }
    Ok(fixed)
}

/// The text after the fixes that do not touch each other, and the rules that had a fix made.
fn apply<'a>(
    text: &str,
    fixes: impl Iterator<Item = (&'static str, &'a Fix)>,
) -> (String, Vec<&'static str>) {
    let mut edits: Vec<&Edit> = Vec::new();
    let mut rules = Vec::new();
    for (rule, fix) in fixes {
        let free = |edit: &Edit| {
            let (start, end) = (edit.span.start, edit.span.end);
            edits.iter().all(|made| end < made.span.start || made.span.end < start)
        };
        if fix.edits.iter().all(free) {
            edits.extend(&fix.edits);
            rules.push(rule);
        }
    }
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.span.start));
    let mut text = text.to_owned();
    for edit in edits {
        text.replace_range(edit.span.start as usize..edit.span.end as usize, &edit.text);
    }
    (text, rules)
}
