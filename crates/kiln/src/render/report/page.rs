//! A report as one HTML page: no script, nothing that is loaded from elsewhere, light and dark.

use std::fmt::Write as _;

use kiln_core::performance::{BuildLine, Judgement, Kind};

use super::tables::{Table, ms, percent, tables};
use super::{Reported, judged};
use crate::render::format::{count, size};
use crate::render::table::Align;

/// Builds in the chart.
const CHARTED: usize = 60;
/// The chart, in its own units.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 240.0;
/// Room for the scale, and below the bars.
const LEFT: f64 = 52.0;
const BELOW: f64 = 18.0;

/// The page.
pub(crate) fn page(report: &Reported<'_>) -> String {
    let performance = report.performance;
    let mut html = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.push_str("<title>Build performance</title>\n<style>\n");
    html.push_str(include_str!("style.css"));
    html.push_str("</style>\n<main>\n");
    let builds = count(performance.builds.len(), "build");
    let place = escaped(report.dockerfile);
    let _ = writeln!(
        html,
        "<header><h1>Build performance</h1><div class=\"faint\"><span class=\"mono\">{place}</span>, {builds}</div></header>"
    );
    cards(&mut html, report);
    budgets(&mut html, report.judgements);
    card(&mut html, "How long builds took", &chart(&performance.builds));
    for table in tables(report) {
        card(&mut html, table.title, &table_body(&table));
    }
    html.push_str("</main>\n</html>\n");
    html
}

fn card(html: &mut String, title: &str, body: &str) {
    let _ = writeln!(html, "<section class=\"card\"><h2>{title}</h2>\n{body}</section>");
}

/// The numbers to see first.
fn cards(html: &mut String, report: &Reported<'_>) {
    let performance = report.performance;
    html.push_str("<div class=\"cards\">\n");
    let mut number = |id: &str, value: &str, what: &str| {
        let value = escaped(value);
        let _ = writeln!(
            html,
            "<div class=\"card\"><b id=\"{id}\">{value}</b><span class=\"faint\">{what}</span></div>"
        );
    };
    number("hit-rate", &percent(performance.rate), "of steps cached");
    for summary in performance.kinds.iter().filter(|summary| summary.kind != Kind::Failed) {
        let name = summary.kind.name();
        number(name, &ms(summary.median_ms), &format!("{name} build, median"));
    }
    if let Some(image) = performance.images.iter().max_by_key(|image| image.size_bytes) {
        number("image-size", &size(image.size_bytes), &count(image.layers, "layer"));
    }
    if let Some(context) = &report.contents.context {
        let files = count(context.files, "file");
        number("context-size", &size(context.size_bytes), &format!("context, {files}"));
    }
    html.push_str("</div>\n");
}

fn budgets(html: &mut String, judgements: &[Judgement]) {
    let mut body = String::from("<table>\n");
    for judgement in judgements {
        let [key, found, limit] = judged(judgement);
        let (class, word) = match (judgement.found, judgement.is_kept()) {
            (None, _) => ("faint", "too few builds yet"),
            (_, true) => ("kept", "kept"),
            (_, false) => ("broken", "not kept"),
        };
        let _ = writeln!(
            body,
            "<tr><td>{key}</td><td class=\"number\">{found}</td><td class=\"number faint\">{limit}</td><td class=\"{class}\">{word}</td></tr>"
        );
    }
    body.push_str("</table>\n");
    if !judgements.is_empty() {
        card(html, "Budgets", &body);
    }
}

fn table_body(Table { header, rows, .. }: &Table) -> String {
    let class = |align: &Align| match align {
        Align::Left => "",
        Align::Right => " class=\"number\"",
    };
    let mut html = String::from("<table>\n<tr>");
    for (title, align) in header {
        let _ = write!(html, "<th{}>{}</th>", class(align), super::capitalized(title));
    }
    html.push_str("</tr>\n");
    for row in rows {
        html.push_str("<tr>");
        for (cell, (_, align)) in row.iter().zip(header) {
            let _ = write!(html, "<td{}>{}</td>", class(align), escaped(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    html
}

/// Bars of the last builds, on a logarithmic scale from a millisecond on.
#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
fn chart(builds: &[BuildLine]) -> String {
    let shown = &builds[builds.len().saturating_sub(CHARTED)..];
    let longest = shown.iter().map(|build| build.duration_ms).max().unwrap_or(1).max(10);
    let scale = |ms: u64| (ms.max(1) as f64).log10() / (longest as f64).log10();
    let floor = HEIGHT - BELOW;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Durations of builds\">\n"
    );
    let mut decade = 1;
    while decade <= longest {
        let y = floor - scale(decade) * (floor - 12.0);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"0\" y=\"{:.1}\">{}</text>",
            y + 4.0,
            ms(decade)
        );
        decade *= 10;
    }
    let step = (WIDTH - LEFT) / shown.len().max(1) as f64;
    let width = (step * 0.7).min(40.0);
    for (position, build) in shown.iter().enumerate() {
        let height = (scale(build.duration_ms) * (floor - 12.0)).max(2.0);
        let x = LEFT + position as f64 * step + (step - width) / 2.0;
        let _ = writeln!(
            svg,
            "<rect class=\"{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"><title>b{}: {}, {}, {} cached</title></rect>",
            build.kind.name(),
            floor - height,
            build.id,
            build.kind.name(),
            ms(build.duration_ms),
            percent(build.rate),
        );
    }
    svg.push_str("</svg>\n<div class=\"legend faint\">");
    for kind in [Kind::Clean, Kind::Edit, Kind::Cached, Kind::Failed] {
        let name = kind.name();
        let _ = write!(svg, "<span style=\"--of: var(--{name})\">{name}</span>");
    }
    svg.push_str("</div>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
