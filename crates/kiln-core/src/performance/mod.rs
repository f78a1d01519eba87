//! What the builds of a project took over time: the fold of their reports that `kiln report` shows, and the
//! budgets that it is held to.
//!
//! A build is *cached* when the cache had all of its steps, *clean* when it had none, and an *edit* else; a
//! build that failed or was canceled counts for nothing but itself. Times are medians, so that one busy
//! moment of the machine is no news.

mod budget;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::event::{Outcome, Usage};
use crate::report::{BuildId, BuildReport, Commit, ImageReport, StepReport};

pub use budget::{Budget, Judgement, judge};

/// So many of the last builds of a kind are what a budget is held against.
pub const JUDGED: usize = 5;

/// Fewer builds than this are no series, as on a machine of CI that begins with nothing: neither the hit rate
/// nor the time of cached builds, which there come from elsewhere, is judged by them.
pub const SERIES: usize = 3;

/// What a build was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The cache had nothing.
    Clean,
    /// The cache had a part.
    Edit,
    /// The cache had all.
    Cached,
    /// It failed, or was canceled.
    Failed,
}

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Edit => "edit",
            Self::Cached => "cached",
            Self::Failed => "failed",
        }
    }
}

/// Builds of one project.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Performance {
    /// The builds, the oldest first.
    pub builds: Vec<BuildLine>,
    /// Those of each kind that there is.
    pub kinds: Vec<KindSummary>,
    /// Steps and hits of all builds that did not fail.
    pub rate: Rate,
    /// The stages, the one that took longest first.
    pub stages: Vec<StageSummary>,
    /// The steps, the slowest first.
    pub steps: Vec<StepSummary>,
    /// What made steps run, what cost most first.
    pub causes: Vec<CauseSummary>,
    /// The chain of steps that the last build which ran something waited for, the first one first.
    pub critical_path: Vec<PathStep>,
    /// The images of the last build that did not fail.
    pub images: Vec<ImageReport>,
}

/// A build in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuildLine {
    /// Its number.
    pub id: BuildId,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// What it was.
    pub kind: Kind,
    /// How long it took.
    pub duration_ms: u64,
    /// Its steps.
    pub rate: Rate,
    /// The same as each of its images asked for them: a step that several share counts for each.
    #[serde(skip)]
    pub asked: Rate,
    /// Its targets; none is the last stage.
    pub targets: Vec<String>,
    /// The commit that it was of.
    pub commit: Option<String>,
    /// Whether files were not as they are in that commit; `None` if that is not known.
    pub dirty: Option<bool>,
}

/// Steps, and how many of them the cache had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Steps that were asked for.
    pub steps: usize,
    /// Those that the cache had.
    pub cached: usize,
}

impl Rate {
    /// In hundredths; all of nothing.
    #[expect(clippy::cast_precision_loss, reason = "counts of steps")]
    pub fn percent(self) -> f64 {
        if self.steps == 0 { 100.0 } else { self.cached as f64 * 100.0 / self.steps as f64 }
    }

    fn add(&mut self, is_cached: bool) {
        self.steps += 1;
        self.cached += usize::from(is_cached);
    }
}

/// Builds of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindSummary {
    /// Which.
    pub kind: Kind,
    /// How long each took, the oldest first.
    pub durations_ms: Vec<u64>,
    /// The median of the last [`JUDGED`].
    pub median_ms: u64,
}

/// A stage over all builds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageSummary {
    /// Its name; empty if there is only one.
    pub stage: String,
    /// Its steps.
    pub rate: Rate,
    /// How long its steps ran in all.
    pub spent_ms: u64,
}

/// A step over all builds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepSummary {
    /// Its stage.
    pub stage: String,
    /// Its instruction.
    pub instruction: String,
    /// How often it was asked for, and was cached.
    pub rate: Rate,
    /// The median of its runs.
    pub median_ms: u64,
    /// How long it ran in all.
    pub spent_ms: u64,
    /// The median of what its runs waited for once their inputs were there.
    pub waited_ms: u64,
    /// The median of the processor time of its runs; `None` if it is not known of any.
    pub cpu_ms: Option<u64>,
    /// The most memory that one process of its runs had; `None` if that is not known of any.
    pub peak_memory_bytes: Option<u64>,
    /// The median of what its runs read from disks.
    pub read_bytes: Option<u64>,
    /// The median of what its runs wrote to disks.
    pub written_bytes: Option<u64>,
}

/// Something that made steps run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CauseSummary {
    /// What, as `kiln explain` says it.
    pub cause: String,
    /// In how many builds.
    pub builds: usize,
    /// How long the steps took that ran for it, and those that ran because of these.
    pub cost_ms: u64,
}

/// A step on the critical path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathStep {
    /// As progress shows it.
    pub name: String,
    /// When it began, since the build did.
    pub started_ms: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// How long it waited before that, once its inputs were there.
    pub waited_ms: u64,
}

/// Whether a step is one that the cache may have: an instruction, no base image.
fn is_counted(step: &StepReport) -> bool {
    step.is_instruction() && step.base.is_none() && step.outcome.is_some()
}

fn is_cached(step: &StepReport) -> bool {
    step.outcome == Some(Outcome::Cached)
}

/// What a build was, with its steps.
fn rate_of(build: &BuildReport) -> Rate {
    let mut rate = Rate::default();
    for step in build.steps.iter().filter(|step| is_counted(step)) {
        rate.add(is_cached(step));
    }
    rate
}

/// What the images of a build asked for; of one without images, its steps.
fn asked_of(build: &BuildReport, rate: Rate) -> Rate {
    let mut asked = Rate::default();
    for image in &build.images {
        asked.steps += image.steps;
        asked.cached += image.cached;
    }
    if asked.steps == 0 { rate } else { asked }
}

fn kind_of(build: &BuildReport, rate: Rate) -> Kind {
    match &build.outcome {
        Outcome::Failed(_) | Outcome::Canceled => Kind::Failed,
        _ if rate.cached == rate.steps => Kind::Cached,
        _ if rate.cached == 0 => Kind::Clean,
        _ => Kind::Edit,
    }
}

/// The performance of these builds, which are of one project, with their steps, in any order.
pub fn performance(builds: &[BuildReport]) -> Performance {
    let mut builds: Vec<&BuildReport> = builds.iter().collect();
    builds.sort_by_key(|build| build.id);
    let lines: Vec<BuildLine> = builds
        .iter()
        .map(|build| {
            let rate = rate_of(build);
            BuildLine {
                id: build.id,
                started_unix_ms: build.started_unix_ms,
                kind: kind_of(build, rate),
                duration_ms: build.duration_ms,
                rate,
                asked: asked_of(build, rate),
                targets: build.place.targets.clone(),
                commit: build.commit.as_ref().map(|commit| commit.id.clone()),
                dirty: build.commit.as_ref().and_then(Commit::is_dirty),
            }
        })
        .collect();
    let whole: Vec<&BuildReport> = builds
        .iter()
        .zip(&lines)
        .filter(|(_, line)| line.kind != Kind::Failed)
        .map(|(build, _)| *build)
        .collect();
    let mut rate = Rate::default();
    for line in lines.iter().filter(|line| line.kind != Kind::Failed) {
        rate.steps += line.rate.steps;
        rate.cached += line.rate.cached;
    }
    let ran = whole.iter().rev().find(|build| build.steps.iter().any(|step| step.duration_ms > 0));
    Performance {
        kinds: kinds(&lines),
        rate,
        stages: stages(&whole),
        steps: steps(&whole),
        causes: causes(&whole),
        critical_path: ran.map(|build| critical_path(build)).unwrap_or_default(),
        images: whole.last().map(|build| build.images.clone()).unwrap_or_default(),
        builds: lines,
    }
}

/// The middle one of some times; of an even number, the greater of two.
fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

fn kinds(lines: &[BuildLine]) -> Vec<KindSummary> {
    let mut durations: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
    for line in lines {
        durations.entry(line.kind).or_default().push(line.duration_ms);
    }
    let summary = |(kind, durations_ms): (Kind, Vec<u64>)| {
        let last = durations_ms.iter().rev().take(JUDGED).copied().collect();
        KindSummary { kind, median_ms: median(last), durations_ms }
    };
    durations.into_iter().map(summary).collect()
}

/// The steps that count, with the names of their stages.
fn counted<'a>(builds: &'a [&BuildReport]) -> impl Iterator<Item = (Cow<'a, str>, &'a StepReport)> {
    builds.iter().flat_map(|build| {
        let counted = build.steps.iter().filter(|step| is_counted(step));
        counted.map(|step| (build.step_stage(step), step))
    })
}

fn stages(builds: &[&BuildReport]) -> Vec<StageSummary> {
    let mut stages: BTreeMap<Cow<'_, str>, StageSummary> = BTreeMap::new();
    for (name, step) in counted(builds) {
        let stage = stages.entry(name.clone()).or_insert_with(|| StageSummary {
            stage: name.into_owned(),
            rate: Rate::default(),
            spent_ms: 0,
        });
        stage.rate.add(is_cached(step));
        stage.spent_ms += step.duration_ms;
    }
    let mut stages: Vec<StageSummary> = stages.into_values().collect();
    stages.sort_by_key(|stage| std::cmp::Reverse(stage.spent_ms));
    stages
}

/// How often a step was asked for, and its runs.
type Runs<'a> = (Rate, Vec<&'a StepReport>);

fn steps(builds: &[&BuildReport]) -> Vec<StepSummary> {
    let mut steps: BTreeMap<(Cow<'_, str>, &str), Runs<'_>> = BTreeMap::new();
    for (stage, step) in counted(builds) {
        let (rate, runs) = steps.entry((stage, step.text())).or_default();
        rate.add(is_cached(step));
        if !is_cached(step) {
            runs.push(step);
        }
    }
    let mut steps: Vec<StepSummary> =
        steps.into_iter().map(|(of, (rate, runs))| step_summary(of, rate, &runs)).collect();
    steps.sort_by_key(|step| std::cmp::Reverse((step.median_ms, step.spent_ms)));
    steps
}

fn step_summary(
    (stage, text): (Cow<'_, str>, &str),
    rate: Rate,
    runs: &[&StepReport],
) -> StepSummary {
    let of_runs = |number: fn(&StepReport) -> u64| runs.iter().map(|step| number(step)).collect();
    let used = |number: fn(&Usage) -> u64| {
        let known: Vec<u64> =
            runs.iter().filter_map(|step| step.usage.as_ref()).map(number).collect();
        (!known.is_empty()).then(|| median(known))
    };
    StepSummary {
        stage: stage.into_owned(),
        instruction: text.to_owned(),
        rate,
        median_ms: median(of_runs(|step| step.duration_ms)),
        spent_ms: runs.iter().map(|step| step.duration_ms).sum(),
        waited_ms: median(of_runs(|step| step.waited_ms)),
        cpu_ms: used(|usage| usage.user_ms + usage.system_ms),
        peak_memory_bytes: runs.iter().filter_map(|step| step.usage?.peak_memory_bytes).max(),
        read_bytes: used(|usage| usage.read_bytes),
        written_bytes: used(|usage| usage.written_bytes),
    }
}

/// What each step ran for in the end: its own cause, or that of a step that it works on.
fn causes(builds: &[&BuildReport]) -> Vec<CauseSummary> {
    let mut causes: BTreeMap<String, CauseSummary> = BTreeMap::new();
    for build in builds {
        let mut roots: Vec<Option<String>> = Vec::new();
        let mut in_build: BTreeMap<String, u64> = BTreeMap::new();
        for (position, step) in build.steps.iter().enumerate() {
            let own = step.causes.iter().find(|cause| !matches!(cause, Cause::Step { .. }));
            let below = || {
                let inputs = step.inputs.iter().flatten().map(|input| *input as usize);
                inputs.filter(|input| *input < position).find_map(|input| roots[input].clone())
            };
            let ran = !is_cached(step) && is_counted(step);
            let root = if ran { own.map(named).or_else(below) } else { None };
            if let Some(root) = &root {
                *in_build.entry(root.clone()).or_default() += step.duration_ms;
            }
            roots.push(root);
        }
        for (cause, cost_ms) in in_build {
            let empty = CauseSummary { cause: cause.clone(), builds: 0, cost_ms: 0 };
            let summary = causes.entry(cause).or_insert(empty);
            summary.builds += 1;
            summary.cost_ms += cost_ms;
        }
    }
    let mut causes: Vec<CauseSummary> = causes.into_values().collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.cost_ms));
    causes
}

/// A cause in a line: with its file if that is one.
fn named(cause: &Cause) -> String {
    match cause.files() {
        Some(files) if files.count() == 1 => cause.to_string(),
        _ => cause.heading(),
    }
}

/// The chain of steps, each the input of the next, that took longest.
fn critical_path(build: &BuildReport) -> Vec<PathStep> {
    let steps = &build.steps;
    // The time until each step was done, and the input that it waited for longest.
    let mut done: Vec<(u64, Option<usize>)> = Vec::new();
    for (position, step) in steps.iter().enumerate() {
        let inputs = step.inputs.iter().flatten().map(|input| *input as usize);
        let last = inputs.filter(|input| *input < position).max_by_key(|input| done[*input].0);
        let before = last.map_or(0, |input| done[input].0);
        done.push((before + step.duration_ms, last));
    }
    let mut at = (0..steps.len()).max_by_key(|step| done[*step].0);
    let mut path = Vec::new();
    while let Some(position) = at {
        let step = &steps[position];
        if step.duration_ms > 0 {
            path.push(PathStep {
                name: build.step_name(step).into_owned(),
                started_ms: step.started_ms,
                duration_ms: step.duration_ms,
                waited_ms: step.waited_ms,
            });
        }
        at = done[position].1;
    }
    path.reverse();
    path
}
