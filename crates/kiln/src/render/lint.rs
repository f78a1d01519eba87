//! What `kiln check` and its like found: as text, as buildx's JSON, as SARIF 2.1.0; and the tables
//! of `--call=outline` and `--call=targets`.

use kiln_core::diagnostic::Diagnostic;
use kiln_core::lint::{Family, LintReport, Outline, OutlineNeed, RULES, Target, Warning};
use kiln_core::source::{SourceFile, Span};
use serde_json::{Value, json};

use super::diagnostic::diagnostics_lines;
use super::format::count;
use super::style::Style;
use super::table::{Align, table};
use crate::commands::check::{Judged, ReportFormat};

/// For people: how many, then each with its line.
pub(crate) fn text_lines(judged: &Judged, style: Style) -> Vec<String> {
    let number = judged.report.warnings.len();
    let mut all = judged.errors.clone();
    all.extend(judged.report.warnings.iter().map(Warning::diagnostic));
    let head = match (judged.errors.len(), number) {
        (0, 0) => return vec!["Check complete, no warnings found.".to_owned()],
        (0, 1) => "Check complete, 1 warning has been found!".to_owned(),
        (0, number) => format!("Check complete, {number} warnings have been found!"),
        (errors, 0) => format!("Check failed: {}.", count(errors, "error")),
        (errors, number) => {
            format!("Check failed: {}, {}.", count(errors, "error"), count(number, "warning"))
        }
    };
    let mut lines = vec![head, String::new()];
    lines.extend(diagnostics_lines(&judged.source_file, &all, style));
    lines
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

fn pretty(document: &Value) -> Vec<String> {
    vec![format!("{document:#}")]
}

/// The lines of a span, as buildx has them: characters are not told.
fn location(source: &SourceFile, span: Span) -> Value {
    let line = |offset| json!({ "line": source.position(offset).line, "character": 0 });
    let last = span.end.saturating_sub(1).max(span.start);
    json!({ "ranges": [{ "start": line(span.start), "end": line(last) }] })
}

/// buildx's JSON, with the page of each rule as its `url`.
pub(crate) fn json_lines(judged: &Judged) -> Vec<String> {
    let source = &judged.source_file;
    let warnings = judged.report.warnings.iter().map(|warning| {
        json!({
            "ruleName": warning.rule.name,
            "description": warning.rule.description,
            "url": warning.rule.page(),
            "detail": warning.message,
            "location": location(source, warning.instruction),
        })
    });
    let mut document = json!({
        "warnings": warnings.collect::<Vec<_>>(),
        "sources": [{ "filename": source.name(), "language": "Dockerfile" }],
    });
    if let Some(error) = judged.errors.first() {
        document["buildError"] = json!({
            "message": error.message,
            "location": location(source, error.span.unwrap_or_default()),
        });
    }
    pretty(&document)
}

/// SARIF 2.1.0: columns count characters from 1, ends are exclusive.
pub(crate) fn sarif_lines(judged: &Judged) -> Vec<String> {
    let rules = RULES.iter().map(|rule| {
        json!({
            "id": rule.name,
            "shortDescription": { "text": rule.description },
            "help": { "text": format!("{} ({})", rule.fix, rule.page()) },
        })
    });
    let errors = judged.errors.iter().map(|error| sarif_result(judged, error, "error"));
    let warnings = judged.report.warnings.iter().map(Warning::diagnostic);
    let warnings = warnings.map(|warning| sarif_result(judged, &warning, "warning"));
    let results: Vec<Value> = errors.chain(warnings).collect();
    pretty(&json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "kiln",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn sarif_result(judged: &Judged, diagnostic: &Diagnostic, level: &str) -> Value {
    let source = &judged.source_file;
    let span = diagnostic.span.unwrap_or_default();
    let (start, end) = (source.position(span.start), source.position(span.end));
    json!({
        "ruleId": diagnostic.code,
        "level": level,
        "message": { "text": diagnostic.message },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": source.name() },
            "region": {
                "startLine": start.line,
                "startColumn": start.column,
                "endLine": end.line,
                "endColumn": end.column,
            },
        }}],
    })
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
