//! The tables of a report, which all its forms show.

use std::time::Duration;

use kiln_core::performance::{
    CauseSummary, KindSummary, PathStep, Performance, Rate, StageSummary, StepSummary,
};
use kiln_core::report::{ContextContents, LayerContents};

use super::Reported;
use crate::render::bench::bench_table;
use crate::render::format::{duration, size};
use crate::render::progress::one_line;
use crate::render::table::Align;
use crate::render::text::truncate;

/// Rows of each table.
const ROWS: usize = 8;
/// Files that are named of a layer, if they are at least a twentieth of it.
const LAYER_FILES: usize = 3;
/// Columns of an instruction.
pub(super) const INSTRUCTION_COLUMNS: usize = 56;
/// Builds of a sparkline.
const SPARKS: usize = 30;

/// One of them.
pub(super) struct Table {
    /// What stands above it, where its header does not say it.
    pub(super) title: &'static str,
    pub(super) header: Vec<(&'static str, Align)>,
    pub(super) rows: Vec<Vec<String>>,
}

/// All that have something to say, in order.
pub(super) fn tables(report: &Reported<'_>) -> Vec<Table> {
    let performance = report.performance;
    let context = report.contents.context.as_ref();
    let table = |title, header: &[(&'static str, Align)], rows| Table {
        title,
        header: header.to_vec(),
        rows,
    };
    let (bench_header, bench_rows) = bench_table(report.benchmarks);
    let path = "Critical path of the last build that ran something";
    let mut tables = vec![
        table("Kinds of builds", &KIND_HEADER, kind_rows(&performance.kinds)),
        table("Stages", &STAGE_HEADER, stage_rows(performance)),
        table("Slowest steps", &STEP_HEADER, step_rows(&performance.steps)),
        table("What made steps run", &CAUSE_HEADER, cause_rows(&performance.causes)),
        table("Benchmarks", &bench_header, bench_rows),
        table(path, &PATH_HEADER, path_rows(performance)),
        table("Layers of the last images", &LAYER_HEADER, layer_rows(&report.contents.layers)),
        table(
            "Largest files of the context",
            &FILE_HEADER,
            context.map(file_rows).unwrap_or_default(),
        ),
    ];
    tables.retain(|table| !table.rows.is_empty());
    tables
}

pub(super) fn ms(milliseconds: u64) -> String {
    duration(Duration::from_millis(milliseconds))
}

pub(super) fn percent(rate: Rate) -> String {
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
    let row = |stage: &StageSummary| {
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
            step.cpu_ms.map(ms).unwrap_or_default(),
            step.peak_memory_bytes.map(size).unwrap_or_default(),
            step.written_bytes.filter(|bytes| *bytes > 0).map(size).unwrap_or_default(),
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

const STEP_HEADER: [(&str, Align); 7] = [
    ("SLOWEST STEPS", Align::Left),
    ("RAN", Align::Right),
    ("HIT RATE", Align::Right),
    ("MEDIAN", Align::Right),
    ("CPU", Align::Right),
    ("MEMORY", Align::Right),
    ("WRITTEN", Align::Right),
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

/// The chain that the last build which ran something waited for.
fn path_rows(performance: &Performance) -> Vec<Vec<String>> {
    let row = |step: &PathStep| {
        vec![
            truncate(&one_line(&step.name), INSTRUCTION_COLUMNS),
            ms(step.duration_ms),
            if step.waited_ms > 0 { ms(step.waited_ms) } else { String::new() },
        ]
    };
    performance.critical_path.iter().map(row).collect()
}

const PATH_HEADER: [(&str, Align); 3] = [
    ("CRITICAL PATH OF THE LAST BUILD THAT RAN SOMETHING", Align::Left),
    ("TOOK", Align::Right),
    ("WAITED", Align::Right),
];

/// The largest layers, with their largest files.
fn layer_rows(layers: &[LayerContents]) -> Vec<Vec<String>> {
    let mut layers: Vec<&LayerContents> = layers.iter().collect();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.size_bytes));
    let rows = layers.into_iter().take(ROWS).flat_map(|layer| {
        let all = layer.size_bytes.unwrap_or(0);
        let text = without_flags(&one_line(&layer.instruction));
        let own = vec![
            truncate(text.trim(), INSTRUCTION_COLUMNS),
            layer.files.map(|files| files.to_string()).unwrap_or_default(),
            layer.size_bytes.map_or_else(|| "not here".to_owned(), size),
        ];
        let large = layer.largest.iter().filter(move |file| file.size_bytes * 20 >= all.max(1));
        let files = large.take(LAYER_FILES).map(|file| {
            let path = truncate(&one_line(&file.path), INSTRUCTION_COLUMNS - 2);
            vec![format!("└ {path}"), String::new(), size(file.size_bytes)]
        });
        std::iter::once(own).chain(files)
    });
    rows.collect()
}

const LAYER_HEADER: [(&str, Align); 3] =
    [("LAYERS OF THE LAST IMAGES", Align::Left), ("FILES", Align::Right), ("SIZE", Align::Right)];

fn file_rows(context: &ContextContents) -> Vec<Vec<String>> {
    let row = |file: &kiln_core::report::SizedFile| {
        vec![truncate(&one_line(&file.path), INSTRUCTION_COLUMNS), size(file.size_bytes)]
    };
    context.largest.iter().take(ROWS).map(row).collect()
}

const FILE_HEADER: [(&str, Align); 2] =
    [("LARGEST FILES OF THE CONTEXT", Align::Left), ("SIZE", Align::Right)];

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
}
