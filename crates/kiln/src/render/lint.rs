//! What `kiln check` and its like found, as text and as buildx's JSON; the diffs of `--fix`; and the
//! tables of `--call=outline` and `--call=targets`.

use kiln_core::lint::{Family, LintReport, Outline, OutlineNeed, Target, Warning};
use kiln_core::source::{SourceFile, Span};
use serde_json::{Value, json};
use similar::TextDiff;

use super::diagnostic::diagnostics_lines;
use super::format::count;
use super::style::{Role, Style};
use super::table::{Align, table};
use crate::commands::check::{Judged, ReportFormat};

/// The result of files that were judged, in a format.
pub(crate) fn report_lines(judged: &[Judged], format: ReportFormat, style: Style) -> Vec<String> {
    match format {
        ReportFormat::Text => text_lines(judged, style),
        ReportFormat::Json => json_lines(judged),
        ReportFormat::Sarif => super::sarif::sarif_lines(judged),
    }
}

/// For people: how many, then each with its line.
fn text_lines(judged: &[Judged], style: Style) -> Vec<String> {
    let errors: usize = judged.iter().map(|it| it.errors.len()).sum();
    let number: usize = judged.iter().map(|it| it.report.warnings.len()).sum();
    let is_clean = |it: &&Judged| it.errors.is_empty() && it.report.warnings.is_empty();
    let dirty = judged.len() - judged.iter().filter(is_clean).count();
    let place = match judged.len() {
        1 => String::new(),
        files => format!(" in {dirty} of {files} files"),
    };
    let head = match (errors, number) {
        (0, 0) => return vec!["Check complete, no warnings found.".to_owned()],
        (0, 1) => format!("Check complete, 1 warning has been found{place}!"),
        (0, number) => format!("Check complete, {number} warnings have been found{place}!"),
        (errors, 0) => format!("Check failed: {}{place}.", count(errors, "error")),
        (errors, number) => {
            let (errors, warnings) = (count(errors, "error"), count(number, "warning"));
            format!("Check failed: {errors}, {warnings}{place}.")
        }
    };
    let mut lines = vec![head];
    for judged in judged {
        let mut all = judged.errors.clone();
        all.extend(judged.report.warnings.iter().map(Warning::diagnostic));
        if !all.is_empty() {
            lines.push(String::new());
            lines.extend(diagnostics_lines(&judged.source_file, &all, style));
        }
    }
    // What does not parse is not rewritten.
    let sound = judged.iter().filter(|it| it.errors.is_empty());
    let fixable = sound.flat_map(|it| &it.report.warnings);
    let fixable = fixable.filter(|warning| warning.fix.is_some()).count();
    if fixable > 0 {
        let text = format!("{fixable} of them can be fixed with `kiln check --fix`.");
        lines.extend([String::new(), text]);
    }
    lines
}

/// A unified diff of a file before and after its fixes.
pub(crate) fn diff_lines(before: &SourceFile, after: &str, style: Style) -> Vec<String> {
    let name = before.name();
    let diff = TextDiff::from_lines(before.text(), after);
    let unified = diff.unified_diff().context_radius(2).header(name, name).to_string();
    let paint = |line: &str| {
        let role = match line.as_bytes().first() {
            _ if line.starts_with("--- ") || line.starts_with("+++ ") => Role::Strong,
            Some(b'+') => Role::Help,
            Some(b'-') => Role::Error,
            Some(b'@') => Role::Frame,
            _ => return line.to_owned(),
        };
        style.paint(role, line)
    };
    unified.lines().map(paint).collect()
}

/// `Fixed 3 problems in 2 files.`
pub(crate) fn fixed_lines(verb: &str, problems: usize, files: usize) -> Vec<String> {
    vec![match problems {
        0 => "Nothing to fix.".to_owned(),
        _ => format!("{verb} {} in {}.", count(problems, "problem"), count(files, "file")),
    }]
}

/// After a build: ` 2 warnings found`, and each on a line. Nothing if there are none. As with
/// buildx, only BuildKit's rules speak up unasked.
pub(crate) fn summary_lines(source: &SourceFile, report: &LintReport) -> Vec<String> {
    let warnings = report.warnings.iter().filter(|warning| warning.rule.family == Family::BuildKit);
    let warnings: Vec<&Warning> = warnings.collect();
    let number = warnings.len();
    if number == 0 {
        return Vec::new();
    }
    let head = format!(" {} found (`kiln check` shows more):", count(number, "warning"));
    let each = warnings.into_iter().map(|warning| {
        let line = source.position(warning.instruction.start).line;
        format!(" - {}: {} (line {line})", warning.rule.name, warning.message)
    });
    std::iter::once(String::new()).chain([head]).chain(each).collect()
}

/// A JSON document, indented.
pub(super) fn pretty(document: &Value) -> Vec<String> {
    vec![format!("{document:#}")]
}

/// The lines of a span, as buildx has them: characters are not told.
fn location(source: &SourceFile, span: Span) -> Value {
    let line = |offset| json!({ "line": source.position(offset).line, "character": 0 });
    let last = span.end.saturating_sub(1).max(span.start);
    json!({ "ranges": [{ "start": line(span.start), "end": line(last) }] })
}

/// buildx's JSON, with the page of each rule as its `url`.
fn json_lines(judged: &[Judged]) -> Vec<String> {
    let place = |index: usize, span: Span| {
        let mut location = location(&judged[index].source_file, span);
        if index > 0 {
            location["sourceIndex"] = json!(index);
        }
        location
    };
    let warnings = judged.iter().enumerate().flat_map(|(index, judged)| {
        judged.report.warnings.iter().map(move |warning| (index, warning))
    });
    let warnings = warnings.map(|(index, warning)| {
        json!({
            "ruleName": warning.rule.name,
            "description": warning.rule.description,
            "url": warning.rule.page(),
            "detail": warning.message,
            "location": place(index, warning.instruction),
        })
    });
    let sources = judged
        .iter()
        .map(|judged| json!({ "filename": judged.source_file.name(), "language": "Dockerfile" }));
    let mut document = json!({
        "warnings": warnings.collect::<Vec<_>>(),
        "sources": sources.collect::<Vec<_>>(),
    });
    let errors = judged.iter().enumerate();
    let mut errors = errors.filter_map(|(index, judged)| Some((index, judged.errors.first()?)));
    if let Some((index, error)) = errors.next() {
        document["buildError"] = json!({
            "message": error.message,
            "location": place(index, error.span.unwrap_or_default()),
        });
    } else if let Some(violated) = judged.iter().find(|it| !it.report.violations().is_empty()) {
        let rules = violated.report.violations().join(", ");
        document["buildError"] = json!({ "message": format!("lint violation found for rules: {rules}"), "location": {} });
    }
    pretty(&document)
}

/// `--call=targets`
pub(crate) fn targets_lines(targets: &[Target], format: ReportFormat) -> Vec<String> {
    if format != ReportFormat::Text {
        let targets = targets.iter().map(|target| {
            let mut entry = json!({ "base": target.base });
            if let Some(name) = &target.name {
                entry["name"] = json!(name);
            }
            if target.default {
                entry["default"] = json!(true);
            }
            if !target.description.is_empty() {
                entry["description"] = json!(target.description);
            }
            if let Some(platform) = &target.platform {
                entry["platform"] = json!(platform);
            }
            entry
        });
        return pretty(&json!({ "targets": targets.collect::<Vec<_>>() }));
    }
    let rows = targets.iter().map(|target| {
        let default = if target.default { "(default)" } else { "" };
        let name = target.name.as_deref().unwrap_or_default();
        vec![format!("{name} {default}").trim().to_owned(), target.description.clone()]
    });
    let rows: Vec<_> = rows.collect();
    table(&[("TARGET", Align::Left), ("DESCRIPTION", Align::Left)], &rows)
}

/// `--call=outline`
pub(crate) fn outline_lines(outline: &Outline, format: ReportFormat) -> Vec<String> {
    if format != ReportFormat::Text {
        return pretty(&outline_document(outline));
    }
    let mut lines = Vec::new();
    if outline.name.is_some() || !outline.description.is_empty() {
        let name = outline.name.as_deref().unwrap_or("(default)");
        lines.push(format!("TARGET:      {name}"));
        if !outline.description.is_empty() {
            lines.push(format!("DESCRIPTION: {}", outline.description));
        }
        lines.push(String::new());
    }
    let left = |title| (title, Align::Left);
    if !outline.args.is_empty() {
        let rows = outline.args.iter();
        let rows: Vec<_> = rows
            .map(|arg| vec![arg.name.clone(), arg.value.clone(), arg.description.clone()])
            .collect();
        lines.extend(table(&[left("BUILD ARG"), left("VALUE"), left("DESCRIPTION")], &rows));
        lines.push(String::new());
    }
    for (title, needs) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if needs.is_empty() {
            continue;
        }
        let required = |need: &OutlineNeed| if need.required { "true" } else { "" };
        let rows: Vec<_> =
            needs.iter().map(|need| vec![need.name.clone(), required(need).to_owned()]).collect();
        lines.extend(table(&[left(title), left("REQUIRED")], &rows));
        lines.push(String::new());
    }
    lines
}

fn outline_document(outline: &Outline) -> Value {
    let needs = |needs: &[OutlineNeed]| {
        let needs = needs.iter();
        let needs = needs.map(|need| json!({ "name": need.name, "required": need.required }));
        needs.collect::<Vec<_>>()
    };
    let args = outline
        .args
        .iter()
        .map(|arg| json!({ "name": arg.name, "description": arg.description, "value": arg.value }));
    json!({
        "name": outline.name.as_deref().unwrap_or_default(),
        "description": outline.description,
        "args": args.collect::<Vec<_>>(),
        "secrets": needs(&outline.secrets),
        "ssh": needs(&outline.ssh),
        "cache": outline.caches.iter().map(|id| json!({ "ID": id })).collect::<Vec<_>>(),
    })
}
