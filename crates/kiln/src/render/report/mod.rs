//! How builds perform, for people and for summaries of CI.

mod comparison;
mod page;
mod tables;

use std::time::Duration;

use kiln_core::benchmark::Benchmark;
use kiln_core::performance::{Judgement, Performance};
use kiln_core::report::Contents;

use super::format::{count, duration, size};
use super::progress::one_line;
use super::style::{Role, Style};
use super::table::{Align, table};
pub(crate) use comparison::{Comparison, compared};
pub(crate) use page::page;
pub(crate) use tables::without_flags;
use tables::{Table, percent, tables};

/// What a report tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported<'a> {
    /// What builds took.
    pub(crate) performance: &'a Performance,
    /// What budgets say of that.
    pub(crate) judgements: &'a [Judgement],
    /// What the last build took and made.
    pub(crate) contents: &'a Contents,
    /// What `kiln bench` measured last, the newest first.
    pub(crate) benchmarks: &'a [Benchmark],
    /// Of which project.
    pub(crate) dockerfile: &'a str,
}

/// `132 files, 1.2MB`
fn context_size(contents: &Contents) -> Option<String> {
    let context = contents.context.as_ref()?;
    Some(format!("{}, {}", count(context.files, "file"), size(context.size_bytes)))
}

/// What a judgement is about, what was found and what is allowed.
fn judged(judgement: &Judgement) -> [String; 3] {
    let value = |number: f64| match judgement.key {
        "clean" | "cached" => duration(Duration::from_secs_f64(number / 1000.0)),
        "hit-rate" => format!("{number:.1}%"),
        "image-size" => size(number as u64),
        _ => format!("{number:.0}"),
    };
    let found = judgement.found.map_or_else(|| "too few builds yet".to_owned(), value);
    let sign = if judgement.key == "hit-rate" { "≥" } else { "≤" };
    [judgement.key.to_owned(), found, format!("{sign} {}", value(judgement.limit))]
}

/// The lines of a report.
pub(crate) fn text(report: &Reported<'_>, style: Style) -> Vec<String> {
    let performance = report.performance;
    let title = one_line(report.dockerfile);
    let title = format!("{title}: {}", count(performance.builds.len(), "build"));
    let mut lines = vec![
        style.paint(Role::Strong, &title),
        format!(
            "{} of {} cached ({})",
            performance.rate.cached,
            count(performance.rate.steps, "step"),
            percent(performance.rate)
        ),
    ];
    for Table { header, rows, .. } in tables(report) {
        lines.push(String::new());
        let mut table = table(&header, &rows).into_iter();
        lines.extend(table.next().map(|title| style.paint(Role::Faint, &title)));
        lines.extend(table);
    }
    if !performance.images.is_empty() {
        lines.push(String::new());
        for image in &performance.images {
            lines.push(format!(
                "{} ({}): {}, {}",
                one_line(&image.target),
                image.platform,
                size(image.size_bytes),
                count(image.layers, "layer")
            ));
        }
    }
    lines.extend(context_size(report.contents).map(|size| format!("context: {size}")));
    lines.push(String::new());
    lines.extend(judgement_lines(report.judgements, style));
    lines
}

/// A line for each budget.
pub(crate) fn judgement_lines(judgements: &[Judgement], style: Style) -> Vec<String> {
    let line = |judgement: &Judgement| {
        let [key, found, limit] = judged(judgement);
        let (mark, role) = match (judgement.found, judgement.is_kept()) {
            (None, _) => ("-", Role::Faint),
            (_, true) => ("✓", Role::Good),
            (_, false) => ("✗", Role::Error),
        };
        style.paint(role, &format!("{mark} budget {key}: {found} ({limit})"))
    };
    judgements.iter().map(line).collect()
}

/// The same as Markdown, for the summary of a job.
pub(crate) fn markdown(report: &Reported<'_>) -> Vec<String> {
    let performance = report.performance;
    let mut lines = vec![
        "## Build performance".to_owned(),
        String::new(),
        format!(
            "{}, {} of {} cached (**{}**)",
            count(performance.builds.len(), "build"),
            performance.rate.cached,
            count(performance.rate.steps, "step"),
            percent(performance.rate)
        ),
    ];
    let mut section = |header: &[(&str, Align)], rows: &[Vec<String>]| {
        if rows.is_empty() {
            return;
        }
        lines.push(String::new());
        lines.extend(markdown_table(header, rows));
    };
    let budgets: Vec<Vec<String>> = report
        .judgements
        .iter()
        .map(|judgement| {
            let [key, found, limit] = judged(judgement);
            let mark = match (judgement.found, judgement.is_kept()) {
                (None, _) => "",
                (_, true) => "✅",
                (_, false) => "❌",
            };
            vec![key, found, limit, mark.to_owned()]
        })
        .collect();
    let budget_header = [
        ("BUDGET", Align::Left),
        ("FOUND", Align::Right),
        ("ALLOWED", Align::Right),
        ("", Align::Left),
    ];
    section(&budget_header, &budgets);
    for Table { header, rows, .. } in tables(report) {
        section(&header, &rows);
    }
    if let Some(size) = context_size(report.contents) {
        lines.extend([String::new(), format!("Context: {size}")]);
    }
    lines
}

/// A table as Markdown.
pub(super) fn markdown_table(header: &[(&str, Align)], rows: &[Vec<String>]) -> Vec<String> {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let cell = |text: &String| text.replace('|', "\\|");
    let align = |(_, align): &(&str, Align)| match align {
        Align::Left => "---".to_owned(),
        Align::Right => "---:".to_owned(),
    };
    let head = line(header.iter().map(|(title, _)| capitalized(title)).collect());
    let rule = line(header.iter().map(align).collect());
    let rows = rows.iter().map(|row| line(row.iter().map(cell).collect()));
    [head, rule].into_iter().chain(rows).collect()
}

fn capitalized(title: &str) -> String {
    let lower = title.to_lowercase();
    let mut characters = lower.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    first.into_iter().chain([characters.collect()]).collect()
}
