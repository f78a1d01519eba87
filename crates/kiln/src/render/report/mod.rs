//! How builds perform, for people and for summaries of CI.

mod page;

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_core::event::Outcome;
use kiln_core::performance::{
    CauseSummary, Judgement, KindSummary, Performance, Rate, StepSummary,
};
use kiln_core::report::{BuildReport, StepReport};
use serde_json::{Value, json};

use super::bench::BenchTable;
use super::format::{count, duration, size};
use super::progress::one_line;
use super::style::{Role, Style};
use super::table::{Align, table};
use super::text::truncate;
pub(crate) use page::page;

/// Rows of each table.
const ROWS: usize = 8;
/// Columns of an instruction.
const INSTRUCTION_COLUMNS: usize = 56;
/// Builds of a sparkline.
const SPARKS: usize = 30;

fn ms(milliseconds: u64) -> String {
    duration(Duration::from_millis(milliseconds))
}

fn percent(rate: Rate) -> String {
    format!("{:.0}%", rate.percent())
}

/// Times as bars of a line, the last ones; the scale is logarithmic, as builds differ by so much.
#[expect(clippy::cast_precision_loss, reason = "eight heights")]
fn sparkline(times: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &times[times.len().saturating_sub(SPARKS)..];
    let height = |time: u64| ((time + 1) as f64).ln();
    let lowest = shown.iter().copied().min().map_or(0.0, height);
    let highest = shown.iter().copied().max().map_or(0.0, height);
    let bar = |time: &u64| {
        let span = highest - lowest;
        let part = if span < 0.05 { 0.5 } else { (height(*time) - lowest) / span };
        BARS[(part * 7.0).round() as usize]
    };
    shown.iter().map(bar).collect()
}

fn kind_rows(kinds: &[KindSummary]) -> Vec<Vec<String>> {
    let row = |summary: &KindSummary| {
        vec![
            summary.kind.name().to_owned(),
            summary.durations_ms.len().to_string(),
            ms(summary.median_ms),
            summary.durations_ms.last().copied().map(ms).unwrap_or_default(),
            sparkline(&summary.durations_ms),
        ]
    };
    kinds.iter().map(row).collect()
}

const KIND_HEADER: [(&str, Align); 5] = [
    ("BUILDS", Align::Left),
    ("COUNT", Align::Right),
    ("MEDIAN", Align::Right),
    ("LAST", Align::Right),
    ("TREND", Align::Left),
];

fn stage_rows(performance: &Performance) -> Vec<Vec<String>> {
    let named = performance.stages.iter().filter(|stage| !stage.stage.is_empty());
    let row = |stage: &kiln_core::performance::StageSummary| {
        vec![
            one_line(&stage.stage),
            stage.rate.steps.to_string(),
            percent(stage.rate),
            ms(stage.spent_ms),
        ]
    };
    named.map(row).collect()
}

const STAGE_HEADER: [(&str, Align); 4] = [
    ("STAGE", Align::Left),
    ("STEPS", Align::Right),
    ("HIT RATE", Align::Right),
    ("SPENT", Align::Right),
];

fn step_rows(steps: &[StepSummary]) -> Vec<Vec<String>> {
    let row = |step: &StepSummary| {
        let name = match step.stage.as_str() {
            "" => without_flags(&one_line(&step.instruction)),
            stage => {
                format!("[{}] {}", one_line(stage), without_flags(&one_line(&step.instruction)))
            }
        };
        vec![
            truncate(&name, INSTRUCTION_COLUMNS),
            (step.rate.steps - step.rate.cached).to_string(),
            percent(step.rate),
            ms(step.median_ms),
        ]
    };
    steps.iter().filter(|step| step.median_ms > 0).take(ROWS).map(row).collect()
}

/// An instruction without its flags: `RUN --mount=type=cache,target=/c make` is `RUN make`.
pub(crate) fn without_flags(instruction: &str) -> String {
    let mut words = instruction.split(' ');
    let keyword = words.next().unwrap_or_default();
    let rest: Vec<&str> =
        words.skip_while(|word| word.starts_with("--") || word.is_empty()).collect();
    format!("{keyword} {}", rest.join(" "))
}

const STEP_HEADER: [(&str, Align); 4] = [
    ("SLOWEST STEPS", Align::Left),
    ("RAN", Align::Right),
    ("HIT RATE", Align::Right),
    ("MEDIAN", Align::Right),
];

fn cause_rows(causes: &[CauseSummary]) -> Vec<Vec<String>> {
    let row = |cause: &CauseSummary| {
        let text = truncate(&one_line(&cause.cause), INSTRUCTION_COLUMNS);
        vec![text, cause.builds.to_string(), ms(cause.cost_ms)]
    };
    causes.iter().take(ROWS).map(row).collect()
}

const CAUSE_HEADER: [(&str, Align); 3] =
    [("WHAT MADE STEPS RUN", Align::Left), ("BUILDS", Align::Right), ("COST", Align::Right)];

/// What a judgement is about, what was found and what is allowed.
fn judged(judgement: &Judgement) -> [String; 3] {
    let value = |number: f64| match judgement.key {
        "clean" | "cached" => duration(Duration::from_secs_f64(number / 1000.0)),
        "hit-rate" => format!("{number:.1}%"),
        "image-size" => size(number as u64),
        _ => format!("{number:.0}"),
    };
    let found = judgement.found.map_or_else(|| "no build yet".to_owned(), value);
    let sign = if judgement.key == "hit-rate" { "≥" } else { "≤" };
    [judgement.key.to_owned(), found, format!("{sign} {}", value(judgement.limit))]
}

/// The lines of a report.
pub(crate) fn text(
    (performance, judgements): (&Performance, &[Judgement]),
    benchmarks: &BenchTable,
    dockerfile: &str,
    style: Style,
) -> Vec<String> {
    let title = format!("{}: {}", one_line(dockerfile), count(performance.builds.len(), "build"));
    let mut lines = vec![
        style.paint(Role::Strong, &title),
        format!(
            "{} of {} cached ({})",
            performance.rate.cached,
            count(performance.rate.steps, "step"),
            percent(performance.rate)
        ),
    ];
    let mut section = |header: &[(&str, Align)], rows: &[Vec<String>]| {
        if !rows.is_empty() {
            lines.push(String::new());
            let mut table = table(header, rows).into_iter();
            lines.extend(table.next().map(|title| style.paint(Role::Faint, &title)));
            lines.extend(table);
        }
    };
    section(&KIND_HEADER, &kind_rows(&performance.kinds));
    section(&STAGE_HEADER, &stage_rows(performance));
    section(&STEP_HEADER, &step_rows(&performance.steps));
    section(&CAUSE_HEADER, &cause_rows(&performance.causes));
    section(&benchmarks.header(), &benchmarks.rows);
    if !performance.critical_path.is_empty() {
        lines.push(String::new());
        lines.push(style.paint(Role::Faint, "CRITICAL PATH of the last build that ran something"));
        for step in &performance.critical_path {
            lines.push(format!(
                "{:>8}  {}",
                ms(step.duration_ms),
                truncate(&one_line(&step.name), INSTRUCTION_COLUMNS + 12)
            ));
        }
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
    lines.push(String::new());
    lines.extend(judgement_lines(judgements, style));
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
pub(crate) fn markdown(
    performance: &Performance,
    judgements: &[Judgement],
    benchmarks: &BenchTable,
) -> Vec<String> {
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
    let budgets: Vec<Vec<String>> = judgements
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
    section(&KIND_HEADER, &kind_rows(&performance.kinds));
    section(&STAGE_HEADER, &stage_rows(performance));
    section(&STEP_HEADER, &step_rows(&performance.steps));
    section(&CAUSE_HEADER, &cause_rows(&performance.causes));
    section(&benchmarks.header(), &benchmarks.rows);
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

/// Two builds, step by step.
pub(crate) struct Comparison<'a> {
    builds: [&'a BuildReport; 2],
    /// The steps of both: instruction, and how it went in each.
    steps: Vec<(String, [Option<&'a StepReport>; 2])>,
}

impl<'a> Comparison<'a> {
    /// Of an earlier and a later build.
    pub(crate) fn of(a: &'a BuildReport, b: &'a BuildReport) -> Self {
        let mut left: BTreeMap<(&str, &str), &StepReport> =
            a.steps.iter().map(|step| ((step.stage(), step.text()), step)).collect();
        let name = |step: &StepReport| match step.stage() {
            "" => step.text().to_owned(),
            stage => format!("[{stage}] {}", step.text()),
        };
        let mut steps: Vec<(String, [Option<&StepReport>; 2])> = b
            .steps
            .iter()
            .map(|step| (name(step), [left.remove(&(step.stage(), step.text())), Some(step)]))
            .collect();
        steps.extend(left.into_values().map(|step| (name(step), [Some(step), None])));
        Self { builds: [a, b], steps }
    }

    /// As JSON.
    pub(crate) fn document(&self) -> Value {
        let side = |step: Option<&StepReport>| {
            step.map(|step| json!({"outcome": step.outcome, "duration_ms": step.duration_ms}))
        };
        let steps = self
            .steps
            .iter()
            .map(|(name, [a, b])| json!({"step": name, "a": side(*a), "b": side(*b)}));
        let build = |build: &BuildReport| {
            json!({
                "build": format!("b{}", build.id),
                "commit": build.commit,
                "duration_ms": build.duration_ms,
                "images": build.images,
            })
        };
        json!({
            "a": build(self.builds[0]),
            "b": build(self.builds[1]),
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}

/// The lines of a comparison: what took another time, or ended otherwise.
pub(crate) fn compared(comparison: &Comparison<'_>, style: Style) -> Vec<String> {
    let [a, b] = comparison.builds;
    let names = [a, b].map(|build| format!("b{}", build.id));
    let header = [
        ("", Align::Left),
        (names[0].as_str(), Align::Right),
        (names[1].as_str(), Align::Right),
        ("CHANGE", Align::Right),
    ];
    let bytes =
        |build: &BuildReport| build.images.iter().map(|image| image.size_bytes).sum::<u64>();
    let layers = |build: &BuildReport| build.images.iter().map(|image| image.layers).sum::<usize>();
    let mut rows = vec![
        row(
            "in all",
            [Some(ms(a.duration_ms)), Some(ms(b.duration_ms))],
            change(a.duration_ms, b.duration_ms),
        ),
        row("image size", [Some(size(bytes(a))), Some(size(bytes(b)))], change(bytes(a), bytes(b))),
        row("layers", [a, b].map(|build| Some(layers(build).to_string())), String::new()),
    ];
    for (name, sides) in &comparison.steps {
        let shown = sides.map(|side| side.map(went));
        if shown[0] == shown[1] {
            continue;
        }
        let both = sides[0].zip(sides[1]);
        let change = both.map_or_else(String::new, |(a, b)| change(a.duration_ms, b.duration_ms));
        rows.push(row(&truncate(&one_line(name), INSTRUCTION_COLUMNS), shown, change));
    }
    let mut lines = table(&header, &rows);
    if let Some(title) = lines.first_mut() {
        *title = style.paint(Role::Faint, title);
    }
    lines
}

fn row(name: &str, sides: [Option<String>; 2], change: String) -> Vec<String> {
    let [a, b] = sides.map(|side| side.unwrap_or_else(|| "-".to_owned()));
    vec![name.to_owned(), a, b, change]
}

fn went(step: &StepReport) -> String {
    match step.outcome {
        None => "-".to_owned(),
        Some(Outcome::Cached) => "cached".to_owned(),
        Some(_) => ms(step.duration_ms),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of three digits")]
fn change(before: u64, after: u64) -> String {
    if before == 0 || before == after {
        return String::new();
    }
    let ratio = after as f64 / before as f64;
    if ratio >= 10.0 { format!("×{ratio:.0}") } else { format!("{:+.0}%", (ratio - 1.0) * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bars() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[5]), "▅");
        assert_eq!(sparkline(&[10, 100, 1000, 10_000]), "▁▃▆█");
        assert_eq!(sparkline(&[1; 100]).chars().count(), SPARKS);
    }

    #[test]
    fn flags_do_not_hide_commands() {
        let shown =
            without_flags("RUN --mount=type=cache,target=/c --network=none uv sync --frozen");
        assert_eq!(shown, "RUN uv sync --frozen");
        assert_eq!(without_flags("COPY a b"), "COPY a b");
    }

    #[test]
    fn changes_are_short() {
        let shown = [(100, 150), (100, 50), (0, 5), (7, 7), (8, 12_000)].map(|(a, b)| change(a, b));
        assert_eq!(shown, ["+50%", "-50%", "", "", "×1500"]);
    }
}
