//! What `kiln init` says: what it found and why, and what became of each file.

use similar::TextDiff;

use super::style::{Role, Style};
use super::table::{Align, table};
use crate::generate::{File, INCLUDED, Project};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was not there.
    Written,
    /// It was there and differed, and `--force` was given.
    Replaced,
    /// It is what would be written.
    Unchanged,
    /// It differs, and stays.
    Kept,
}

/// A file and what became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Its path.
    pub(crate) path: &'static str,
    /// What became of it.
    pub(crate) fate: Fate,
}

/// All that is said.
pub(crate) fn lines(
    project: &Project,
    outcomes: &[Outcome],
    notes: &[String],
    style: Style,
) -> Vec<String> {
    let rows: Vec<Vec<String>> = project
        .findings
        .iter()
        .map(|found| vec![found.what.to_owned(), found.value.clone(), found.why.clone()])
        .collect();
    let header = [("", Align::Left), ("", Align::Left), ("", Align::Left)];
    let mut lines = vec![style.paint(Role::Strong, &format!("{}: a Python project", project.name))];
    lines.extend(table(&header, &rows).into_iter().skip(1).map(|line| format!("  {line}")));
    lines.push(String::new());
    for outcome in outcomes {
        let (word, role) = match outcome.fate {
            Fate::Written => ("wrote", Role::Good),
            Fate::Replaced => ("replaced", Role::Warning),
            Fate::Unchanged => ("unchanged", Role::Faint),
            Fate::Kept => ("kept", Role::Warning),
        };
        let more = match (outcome.fate, outcome.path) {
            (Fate::Kept, _) => {
                "  (yours differs: `--diff` shows how, `--force` replaces it)".to_owned()
            }
            (Fate::Written | Fate::Replaced, "Dockerfile") => {
                format!("  ({} stages)", project.stages.len())
            }
            _ => String::new(),
        };
        lines.push(format!(
            "  {} {}{more}",
            style.paint(role, &format!("{word:<9}")),
            outcome.path
        ));
    }
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(
            notes.iter().map(|note| format!("{} {note}", style.paint(Role::Warning, "note:"))),
        );
    }
    if outcomes.iter().any(|outcome| outcome.fate == Fate::Written) {
        lines.push(String::new());
        let is_included = outcomes.iter().any(|outcome| outcome.path == INCLUDED);
        let (make, help) = if is_included {
            (format!("make -f {INCLUDED}"), "docker-help")
        } else {
            ("make".to_owned(), "help")
        };
        lines.push(format!(
            "{} `{make} docker-build-all` builds every stage, `{make} {help}` says what else there is",
            style.paint(Role::Help, "next:")
        ));
    }
    lines
}

/// How a file would change, as a unified diff.
pub(crate) fn diff(file: &File, old: Option<&str>, style: Style) -> Vec<String> {
    let before = if old.is_some() { format!("a/{}", file.path) } else { "/dev/null".to_owned() };
    let diff = TextDiff::from_lines(old.unwrap_or_default(), &file.text);
    let mut unified = diff.unified_diff();
    let text = unified.header(&before, &format!("b/{}", file.path)).to_string();
    let paint = |line: &str| match line.as_bytes().first() {
        Some(b'+') => style.paint(Role::Good, line),
        Some(b'-') => style.paint(Role::Error, line),
        Some(b'@') => style.paint(Role::Frame, line),
        _ => line.to_owned(),
    };
    text.lines().map(paint).collect()
}
