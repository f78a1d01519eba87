//! What `kiln check` found as SARIF 2.1.0, which code hosts show beside the lines.
//!
//! Columns count characters from 1, ends are exclusive. A safe rewrite of a warning is its `fixes`.
//! Kiln's own rules are notes: they are about time, not about mistakes.
//!
//! Source: OASIS, Static Analysis Results Interchange Format 2.1.0.

use kiln_core::lint::{Family, Fix, RULES};
use kiln_core::source::{SourceFile, Span};
use serde_json::{Value, json};

use super::lint::pretty;
use crate::commands::check::Judged;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json";

/// The document.
pub(super) fn sarif_lines(judged: &[Judged]) -> Vec<String> {
    let rules = RULES.iter().map(|rule| {
        json!({
            "id": rule.name,
            "shortDescription": { "text": rule.description },
            "help": { "text": format!("{} ({})", rule.fix, rule.page()) },
        })
    });
    let results: Vec<Value> = judged.iter().flat_map(results).collect();
    pretty(&json!({
        "$schema": SCHEMA,
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

fn results(judged: &Judged) -> Vec<Value> {
    let source = &judged.source_file;
    let errors = judged.errors.iter().map(|error| {
        result(source, (error.code, "error"), &error.message, error.span.unwrap_or_default())
    });
    let warnings = judged.report.warnings.iter().map(|warning| {
        let level = match warning.rule.family {
            Family::BuildKit => "warning",
            Family::Cache => "note",
        };
        let name = warning.rule.name;
        let mut result = result(source, (name, level), &warning.message, warning.span);
        result["ruleIndex"] = json!(RULES.iter().position(|rule| rule.name == name));
        if let Some(fix) = &warning.fix {
            result["fixes"] = json!([fixes(source, fix, warning.rule.fix)]);
        }
        result
    });
    errors.chain(warnings).collect()
}

fn result(source: &SourceFile, (rule, level): (&str, &str), message: &str, span: Span) -> Value {
    json!({
        "ruleId": rule,
        "level": level,
        "message": { "text": message },
        "locations": [{ "physicalLocation": {
            "artifactLocation": artifact(source),
            "region": region(source, span),
        }}],
    })
}

fn fixes(source: &SourceFile, fix: &Fix, description: &str) -> Value {
    let replacements = fix.edits.iter().map(|edit| {
        json!({
            "deletedRegion": region(source, edit.span),
            "insertedContent": { "text": edit.text },
        })
    });
    json!({
        "description": { "text": description },
        "artifactChanges": [{
            "artifactLocation": artifact(source),
            "replacements": replacements.collect::<Vec<_>>(),
        }],
    })
}

/// A path as a URI reference: bytes that may not stand in one are escaped.
fn artifact(source: &SourceFile) -> Value {
    let mut uri = String::new();
    for byte in source.name().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    json!({ "uri": uri })
}

fn region(source: &SourceFile, span: Span) -> Value {
    let (start, end) = (source.position(span.start), source.position(span.end));
    json!({
        "startLine": start.line,
        "startColumn": start.column,
        "endLine": end.line,
        "endColumn": end.column,
    })
}
