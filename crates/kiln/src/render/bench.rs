//! What `kiln bench` shows: progress while it measures, and what came of it.

use std::time::Duration;

use kiln_core::benchmark::{Benchmark, KILN, Measured, ScenarioReport};

use super::format::{duration, size};
use super::progress::one_line;
use super::style::{Role, Style};
use super::table::{Align, table};
use super::text::truncate;
use super::{note_lines, stderr_style, terminal};
use crate::config::Config;

/// Progress: one line in place on a terminal, else a line for each build.
#[derive(Debug)]
pub(crate) struct Meter {
    is_live: bool,
    style: Style,
}

impl Meter {
    /// At standard error.
    pub(crate) fn new(config: &Config) -> Self {
        let is_live = terminal::stderr_is_terminal() && !config.is_dumb_terminal();
        Self { is_live, style: stderr_style(config) }
    }

    /// What is done now.
    pub(crate) fn show(&self, text: &str) {
        if self.is_live {
            let text = truncate(text, terminal::size().0.saturating_sub(1));
            terminal::stderr(&format!("\r\x1b[K{}", self.style.paint(Role::Faint, &text)));
        }
    }

    /// A build of a scenario by a builder that was measured.
    pub(crate) fn done(&self, (scenario, builder): (&str, &str), took: Duration) {
        if !self.is_live {
            let took = time(took.as_secs_f64() * 1000.0);
            note_lines(&[format!("{scenario:<16}{builder:<9}{took:>8}")]);
        }
    }

    /// A builder that is not measured any further.
    pub(crate) fn fault(&self, builder: &str, message: &str, said: &[String]) {
        self.clear();
        let title = format!("{builder}: {message}");
        let said = said.iter().map(|line| format!("  {}", one_line(line)));
        let title = self.style.paint(Role::Error, &title);
        note_lines(&std::iter::once(title).chain(said).collect::<Vec<_>>());
    }

    /// Leaves nothing behind.
    pub(crate) fn clear(&self) {
        if self.is_live {
            terminal::stderr("\r\x1b[K");
        }
    }
}

/// A time in milliseconds with the digits that it needs: `8.7ms`, `0.31s`, `12.3s`.
fn time(milliseconds: f64) -> String {
    if milliseconds < 99.95 {
        return format!("{milliseconds:.1}ms");
    }
    duration(Duration::from_secs_f64(milliseconds / 1000.0))
}

fn ratio(ratio: f64) -> String {
    if ratio < 9.95 { format!("{ratio:.1}×") } else { format!("{ratio:.0}×") }
}

const HEADER: [(&str, Align); 8] = [
    ("SCENARIO", Align::Left),
    ("BUILDER", Align::Left),
    ("RUNS", Align::Right),
    ("MEDIAN", Align::Right),
    ("LEAST", Align::Right),
    ("MOST", Align::Right),
    ("BESIDE KILN", Align::Right),
    ("STEPS RUN", Align::Right),
];
/// Builders, with the titles of their columns.
const BUILDERS: [(&str, &str); 4] =
    [(KILN, "KILN"), ("docker", "DOCKER"), ("buildkit", "BUILDKIT"), ("buildah", "BUILDAH")];
/// The column of [`HEADER`] with ratios.
const COMPARED: usize = 6;

/// The table of all scenarios; a builder alone is compared with none.
fn all_rows(benchmark: &Benchmark) -> (Vec<(&'static str, Align)>, Vec<Vec<String>>) {
    let mut rows: Vec<Vec<String>> = benchmark.scenarios.iter().flat_map(rows).collect();
    let mut header = HEADER.to_vec();
    if benchmark.builders.len() == 1 {
        header.remove(COMPARED);
        for row in &mut rows {
            row.remove(COMPARED);
        }
    }
    (header, rows)
}

fn rows(scenario: &ScenarioReport) -> Vec<Vec<String>> {
    let row = |(number, measured): (usize, &Measured)| {
        let name = if number == 0 { scenario.scenario.name() } else { "" };
        let steps =
            measured.steps.map(|rate| format!("{} of {}", rate.steps - rate.cached, rate.steps));
        vec![
            name.to_owned(),
            measured.builder.clone(),
            measured.times_ms.len().to_string(),
            time(measured.median_ms),
            time(measured.least_ms),
            time(measured.most_ms),
            measured.ratio.map(ratio).unwrap_or_default(),
            steps.unwrap_or_default(),
        ]
    };
    scenario.results.iter().enumerate().map(row).collect()
}

/// Who built, and where.
fn machine_line(benchmark: &Benchmark) -> String {
    let machine = &benchmark.machine;
    let builders = benchmark.builders.iter();
    let builders: Vec<String> = builders
        .map(|builder| format!("{} {}", builder.name, one_line(&builder.version)))
        .collect();
    format!(
        "{}; {}, {} cores, {}, Linux {}, load {:.2}",
        builders.join(", "),
        machine.processor,
        machine.cores,
        size(machine.memory_bytes),
        machine.kernel,
        machine.load
    )
}

/// What one has to know to read the figures.
fn notes(benchmark: &Benchmark) -> Vec<String> {
    let scenarios = benchmark.scenarios.iter();
    let mut notes: Vec<String> = scenarios
        .map(|report| format!("{}: {}", report.scenario.name(), one_line(&report.what)))
        .collect();
    let no_step = |report: &&ScenarioReport| {
        let steps = report.of(KILN).and_then(|measured| measured.steps);
        !report.edited.is_empty() && steps.is_some_and(|rate| rate.cached == rate.steps)
    };
    notes.extend(benchmark.scenarios.iter().filter(no_step).map(|report| {
        format!("{}: the edit made no step run: is it part of the build?", report.scenario.name())
    }));
    for builder in &benchmark.builders {
        if benchmark.scenarios.iter().any(|report| report.of(&builder.name).is_some()) {
            notes.extend(builder.notes.iter().map(|note| one_line(note)));
        }
        let error = builder.error.as_ref().and_then(|error| error.lines().next());
        notes.extend(error.map(|error| {
            format!("{}: {}; it was measured no further", builder.name, one_line(error))
        }));
    }
    notes
}

fn warning(benchmark: &Benchmark) -> Option<String> {
    let busy = benchmark.machine.busy_percent;
    benchmark.was_busy().then(|| {
        format!("up to {busy:.0}% of the machine was busy with something else: ratios say more than times")
    })
}

/// The lines of a benchmark.
pub(crate) fn text(benchmark: &Benchmark, style: Style) -> Vec<String> {
    let mut title = one_line(&benchmark.place.dockerfile);
    if !benchmark.place.targets.is_empty() {
        title = format!("{title}: {}", one_line(&benchmark.place.targets.join(", ")));
    }
    let mut lines = vec![style.paint(Role::Strong, &title), machine_line(benchmark), String::new()];
    let (header, all) = all_rows(benchmark);
    let mut shown = table(&header, &all).into_iter();
    lines.extend(shown.next().map(|header| style.paint(Role::Faint, &header)));
    lines.extend(shown);
    lines.push(String::new());
    lines.extend(notes(benchmark).iter().map(|note| style.paint(Role::Faint, note)));
    lines.extend(
        warning(benchmark).map(|text| style.paint(Role::Warning, &format!("warning: {text}"))),
    );
    lines
}

/// The same as Markdown.
pub(crate) fn markdown(benchmark: &Benchmark) -> Vec<String> {
    let mut lines =
        vec!["## Benchmark".to_owned(), String::new(), format!("{}.", machine_line(benchmark))];
    lines.push(String::new());
    let (header, all) = all_rows(benchmark);
    lines.extend(super::report::markdown_table(&header, &all));
    lines.push(String::new());
    lines.extend(notes(benchmark).into_iter().map(|note| format!("- {note}")));
    lines.extend(warning(benchmark).map(|text| format!("- **{text}**")));
    lines
}

/// The last benchmarks of a project, the newest first, small: a row for each scenario, a column for each
/// builder.
pub(super) fn bench_table(
    benchmarks: &[Benchmark],
) -> (Vec<(&'static str, Align)>, Vec<Vec<String>>) {
    let scenarios = || benchmarks.iter().flat_map(|benchmark| &benchmark.scenarios);
    let is_there = |builder: &str| scenarios().any(|scenario| scenario.of(builder).is_some());
    let builders: Vec<(&str, &str)> =
        BUILDERS.into_iter().filter(|(builder, _)| is_there(builder)).collect();
    let mut rows = Vec::new();
    for benchmark in benchmarks {
        let mut when = date(benchmark.started_unix_ms);
        for scenario in &benchmark.scenarios {
            let cell = |(builder, _): &(&str, &str)| {
                scenario.of(builder).map_or_else(String::new, |measured| {
                    let beside = measured.ratio.map(|times| format!(" ({})", ratio(times)));
                    format!("{}{}", time(measured.median_ms), beside.unwrap_or_default())
                })
            };
            let first = [std::mem::take(&mut when), scenario.scenario.name().to_owned()];
            rows.push(first.into_iter().chain(builders.iter().map(cell)).collect());
        }
    }
    let first = [("BENCHMARK", Align::Left), ("SCENARIO", Align::Left)];
    let header = first.into_iter().chain(builders.iter().map(|(_, title)| (*title, Align::Right)));
    (header.collect(), rows)
}

/// A day and a minute, of the world's clock.
fn date(unix_ms: u64) -> String {
    let time = jiff::Timestamp::from_millisecond(unix_ms as i64).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use kiln_core::benchmark::{BuilderReport, Machine, Scenario, VERSION};
    use kiln_core::performance::Rate;
    use kiln_core::report::Place;

    use super::*;

    fn benchmark() -> Benchmark {
        let builder = |name: &str, version: &str| BuilderReport {
            name: name.to_owned(),
            version: version.to_owned(),
            notes: Vec::new(),
            error: None,
        };
        let scenario = |scenario, edited: &[&str], results: Vec<Measured>| {
            let what = match edited {
                [] => "what it is".to_owned(),
                [path, ..] => format!("a comment in {path}"),
            };
            let edited = edited.iter().map(ToString::to_string).collect();
            let mut report = ScenarioReport { scenario, what, edited, results };
            report.compare();
            report
        };
        let kiln = |times: &[f64], steps, cached| Measured {
            steps: Some(Rate { steps, cached }),
            ..Measured::new(KILN, times)
        };
        Benchmark {
            version: VERSION,
            started_unix_ms: 1_772_445_600_000,
            place: Place {
                context: "/app".to_owned(),
                dockerfile: "/app/Dockerfile".to_owned(),
                targets: vec!["production".to_owned()],
                ..Place::default()
            },
            command: Vec::new(),
            commit: None,
            machine: Machine {
                processor: "Some CPU".to_owned(),
                cores: 2,
                memory_bytes: 25_000_000_000,
                kernel: "6.1.0".to_owned(),
                load: 0.4,
                busy_percent: 34.6,
            },
            builders: vec![
                builder(KILN, "0.5.0"),
                BuilderReport {
                    error: Some("docker ended with exit code 1\nmore".to_owned()),
                    ..builder("docker", "20.10")
                },
            ],
            scenarios: vec![
                scenario(
                    Scenario::Cached,
                    &[],
                    vec![kiln(&[8.0, 9.26, 12.0], 26, 26), Measured::new("docker", &[601.0])],
                ),
                scenario(Scenario::SourceEdit, &["a.py"], vec![kiln(&[320.0], 26, 26)]),
            ],
        }
    }

    #[test]
    fn figures_are_shown_beside_kilns() {
        insta::assert_snapshot!(text(&benchmark(), Style::Plain).join("\n"), @r"
        /app/Dockerfile: production
        kiln 0.5.0, docker 20.10; Some CPU, 2 cores, 25.0GB, Linux 6.1.0, load 0.40

        SCENARIO      BUILDER   RUNS   MEDIAN   LEAST     MOST   BESIDE KILN   STEPS RUN
        cached        kiln         3    9.3ms   8.0ms   12.0ms                   0 of 26
                      docker       1    0.60s   0.60s    0.60s           65×
        source-edit   kiln         1    0.32s   0.32s    0.32s                   0 of 26

        cached: what it is
        source-edit: a comment in a.py
        source-edit: the edit made no step run: is it part of the build?
        docker: docker ended with exit code 1; it was measured no further
        warning: up to 35% of the machine was busy with something else: ratios say more than times
        ");
        insta::assert_snapshot!(markdown(&benchmark())[4..7].join("\n"), @r"
        | Scenario | Builder | Runs | Median | Least | Most | Beside kiln | Steps run |
        | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
        | cached | kiln | 3 | 9.3ms | 8.0ms | 12.0ms |  | 0 of 26 |
        ");
        let mut alone = benchmark();
        alone.builders.truncate(1);
        assert!(!text(&alone, Style::Plain)[3].contains("BESIDE"), "with nobody to compare");
    }

    #[test]
    fn the_last_ones_are_small() {
        let older = Benchmark { started_unix_ms: 1_772_359_200_000, ..benchmark() };
        let (header, rows) = bench_table(&[benchmark(), older]);
        let lines = table(&header, &rows);
        insta::assert_snapshot!(lines.join("\n"), @r"
        BENCHMARK          SCENARIO       KILN        DOCKER
        2026-03-02 10:00   cached        9.3ms   0.60s (65×)
                           source-edit   0.32s
        2026-03-01 10:00   cached        9.3ms   0.60s (65×)
                           source-edit   0.32s
        ");
        assert!(bench_table(&[]).1.is_empty());
    }
}
