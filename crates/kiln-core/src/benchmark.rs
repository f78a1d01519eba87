//! What `kiln bench` measured: builds of one project in several scenarios, by kiln and by others, in turn
//! on one machine. The document is kept in the history as it is written: fields are added, none changes.

pub mod edits;
pub mod takers;

use serde::{Deserialize, Serialize};

use crate::performance::Rate;
use crate::report::{Commit, Place};

/// [`Benchmark::version`] of what this program writes.
pub const VERSION: u32 = 1;

/// The builder that the others are compared with.
pub const KILN: &str = "kiln";

/// A run of `kiln bench`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Benchmark {
    /// [`VERSION`]
    pub version: u32,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// What was built; the context is the user's, of which a copy was built.
    pub place: Place,
    /// The words of the command, without what is secret.
    pub command: Vec<String>,
    /// The commit of the context's repository, if it is in one.
    pub commit: Option<Commit>,
    /// Where.
    pub machine: Machine,
    /// By what, kiln first.
    pub builders: Vec<BuilderReport>,
    /// What was measured.
    pub scenarios: Vec<ScenarioReport>,
}

/// What figures depend on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Processors that the builds may use.
    pub cores: usize,
    /// Memory.
    pub memory_bytes: u64,
    /// Release of Linux.
    pub kernel: String,
    /// Load of the last minute, when it began.
    pub load: f64,
    /// How much of all processors was busy with something else before a build: the most there was.
    pub busy_percent: f64,
}

/// A builder that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuilderReport {
    /// `kiln`, `docker`, `buildkit` or `buildah`.
    pub name: String,
    /// As it says it.
    pub version: String,
    /// What its figures hold, and what not.
    pub notes: Vec<String>,
    /// Why it was not measured to the end: the last lines that it wrote.
    pub error: Option<String>,
}

/// What changes between two builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Nothing was ever built.
    Clean,
    /// Nothing has changed.
    Cached,
    /// A line of a source.
    SourceEdit,
    /// A line of a file that names dependencies.
    DependencyEdit,
}

impl Scenario {
    /// All, in the order in which they are measured: each finds what the one before it has built.
    pub const ALL: [Self; 4] = [Self::Clean, Self::Cached, Self::SourceEdit, Self::DependencyEdit];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Cached => "cached",
            Self::SourceEdit => "source-edit",
            Self::DependencyEdit => "dependency-edit",
        }
    }
}

/// A scenario, with what each builder took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioReport {
    /// Which.
    pub scenario: Scenario,
    /// What that is here, for people.
    pub what: String,
    /// Files that a line was added to before each build, as paths of the context.
    pub edited: Vec<String>,
    /// What a builder took; none of one that failed before.
    pub results: Vec<Measured>,
}

/// Builds of a scenario by one builder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// [`BuilderReport::name`]
    pub builder: String,
    /// From the start of the process to its end, in the order measured.
    pub times_ms: Vec<f64>,
    /// The middle one of them, or of an even number what is between the two.
    pub median_ms: f64,
    /// The quickest.
    pub least_ms: f64,
    /// The slowest.
    pub most_ms: f64,
    /// How many times as long as kiln's median; `None` of kiln's own, and where there is none.
    pub ratio: Option<f64>,
    /// Steps of the last build, and how many of them the cache had; known of kiln alone.
    pub steps: Option<Rate>,
}

impl Measured {
    /// Of times in milliseconds; there is at least one.
    pub fn new(builder: &str, times_ms: &[f64]) -> Self {
        let times_ms: Vec<f64> = times_ms.iter().map(|time| rounded(*time)).collect();
        Self {
            builder: builder.to_owned(),
            median_ms: rounded(median(&times_ms)),
            least_ms: times_ms.iter().copied().fold(f64::INFINITY, f64::min),
            most_ms: times_ms.iter().copied().fold(0.0, f64::max),
            times_ms,
            ratio: None,
            steps: None,
        }
    }
}

impl ScenarioReport {
    /// What a builder took.
    pub fn of(&self, builder: &str) -> Option<&Measured> {
        self.results.iter().find(|measured| measured.builder == builder)
    }

    /// Fills in [`Measured::ratio`].
    pub fn compare(&mut self) {
        let Some(own) = self.of(KILN).map(|measured| measured.median_ms) else { return };
        for measured in self.results.iter_mut().filter(|measured| measured.builder != KILN) {
            measured.ratio = (own > 0.0).then(|| rounded(measured.median_ms / own));
        }
    }
}

impl Benchmark {
    /// Whether so much else ran on the machine that figures say less.
    pub fn was_busy(&self) -> bool {
        self.machine.busy_percent >= BUSY_PERCENT
    }
}

/// From here on a machine is busy.
const BUSY_PERCENT: f64 = 20.0;

/// The middle one of some numbers, or what is between the two in the middle; 0 of none.
fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// With two decimals: a clock of microseconds says no more about a process.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let medians = [vec![], vec![5.0], vec![9.0, 1.0, 2.0], vec![4.0, 1.0, 3.0, 100.0]];
        let shown = medians.map(|numbers| median(&numbers).to_string());
        assert_eq!(shown, ["0", "5", "2", "3.5"]);
    }

    #[test]
    fn others_are_compared_with_kiln() {
        let mut report = ScenarioReport {
            scenario: Scenario::Cached,
            what: String::new(),
            edited: Vec::new(),
            results: vec![
                Measured::new("docker", &[601.234, 599.999]),
                Measured::new(KILN, &[9.0, 8.0, 12.5]),
            ],
        };
        report.compare();
        let docker = report.of("docker").unwrap();
        assert_eq!((docker.least_ms, docker.median_ms, docker.most_ms), (600.0, 600.62, 601.23));
        assert_eq!(docker.ratio, Some(66.74));
        assert_eq!(report.of(KILN).unwrap().ratio, None);
    }

    #[test]
    fn names_are_those_of_the_document() {
        let written = serde_json::to_string(&Scenario::ALL).unwrap();
        let names: Vec<String> = Scenario::ALL.map(|one| format!("\"{}\"", one.name())).into();
        assert_eq!(written, format!("[{}]", names.join(",")));
    }
}
