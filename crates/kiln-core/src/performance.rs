//! What the builds of a project took over time: the fold of their reports that `kiln report` shows, and the
//! budgets that it is held to.
//!
//! A build is *cached* when the cache had all of its steps, *clean* when it had none, and an *edit* else; a
//! build that failed or was canceled counts for nothing but itself. Times are medians, so that one busy
//! moment of the machine is no news.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::event::Outcome;
use crate::report::{BuildId, BuildReport, ImageReport, StepReport};

/// So many of the last builds of a kind are what a budget is held against.
pub const JUDGED: usize = 5;

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
    /// Its targets; none is the last stage.
    pub targets: Vec<String>,
    /// The commit that it was of.
    pub commit: Option<String>,
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
                targets: build.place.targets.clone(),
                commit: build.commit.as_ref().map(|commit| commit.id.clone()),
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
        critical_path: ran.map(|build| critical_path(&build.steps)).unwrap_or_default(),
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

fn stages(builds: &[&BuildReport]) -> Vec<StageSummary> {
    let mut stages: BTreeMap<&str, StageSummary> = BTreeMap::new();
    for step in builds.iter().flat_map(|build| &build.steps).filter(|step| is_counted(step)) {
        let stage = stages.entry(step.stage()).or_insert_with(|| StageSummary {
            stage: step.stage().to_owned(),
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

fn steps(builds: &[&BuildReport]) -> Vec<StepSummary> {
    let mut steps: BTreeMap<(&str, &str), (Rate, Vec<u64>)> = BTreeMap::new();
    for step in builds.iter().flat_map(|build| &build.steps).filter(|step| is_counted(step)) {
        let (rate, runs) = steps.entry((step.stage(), step.text())).or_default();
        rate.add(is_cached(step));
        if !is_cached(step) {
            runs.push(step.duration_ms);
        }
    }
    let summary = |((stage, text), (rate, runs)): ((&str, &str), (Rate, Vec<u64>))| StepSummary {
        stage: stage.to_owned(),
        instruction: text.to_owned(),
        rate,
        spent_ms: runs.iter().sum(),
        median_ms: median(runs),
    };
    let mut steps: Vec<StepSummary> = steps.into_iter().map(summary).collect();
    steps.sort_by_key(|step| std::cmp::Reverse((step.median_ms, step.spent_ms)));
    steps
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
fn critical_path(steps: &[StepReport]) -> Vec<PathStep> {
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
            let (started_ms, duration_ms) = (step.started_ms, step.duration_ms);
            path.push(PathStep { name: step.name.clone(), started_ms, duration_ms });
        }
        at = done[position].1;
    }
    path.reverse();
    path
}

/// What builds may take; what is `None` is not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// A clean build.
    pub clean: Option<Duration>,
    /// A cached build.
    pub cached: Option<Duration>,
    /// Steps that the cache has, in hundredths.
    pub hit_rate: Option<f64>,
    /// Bytes of the files of an image.
    pub image_bytes: Option<u64>,
    /// Layers of an image.
    pub layers: Option<usize>,
}

impl Budget {
    /// The team's own, when nothing is said: clean in 3 minutes, cached in a second, 95 % of steps cached.
    pub const USUAL: Self = Self {
        clean: Some(Duration::from_mins(3)),
        cached: Some(Duration::from_secs(1)),
        hit_rate: Some(95.0),
        image_bytes: None,
        layers: None,
    };
}

/// What a budget says of a number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// The key of the budget.
    pub key: &'static str,
    /// What was found; `None` if there is nothing to judge yet.
    pub found: Option<f64>,
    /// What is allowed, in the same unit: milliseconds, hundredths, bytes, layers.
    pub limit: f64,
    /// Of how many builds.
    pub builds: usize,
}

impl Judgement {
    /// Whether it is kept; what is not known yet is.
    pub fn is_kept(&self) -> bool {
        match self.found {
            None => true,
            Some(found) if self.key == "hit-rate" => found >= self.limit,
            Some(found) => found <= self.limit,
        }
    }
}

/// Holds builds against a budget: the medians of the last [`JUDGED`] clean and cached builds, the hit rate of
/// all builds that were not clean, and the last images.
#[expect(clippy::cast_precision_loss, reason = "sizes are compared, not counted")]
pub fn judge(performance: &Performance, budget: &Budget) -> Vec<Judgement> {
    let mut judgements = Vec::new();
    for (key, kind, limit) in
        [("clean", Kind::Clean, budget.clean), ("cached", Kind::Cached, budget.cached)]
    {
        let Some(limit) = limit else { continue };
        let of_kind = performance.kinds.iter().find(|summary| summary.kind == kind);
        judgements.push(Judgement {
            key,
            found: of_kind.map(|summary| summary.median_ms as f64),
            limit: limit.as_secs_f64() * 1000.0,
            builds: of_kind.map_or(0, |summary| summary.durations_ms.len().min(JUDGED)),
        });
    }
    if let Some(limit) = budget.hit_rate {
        // A clean build is meant to have no hits.
        let judged: Vec<&BuildLine> = performance
            .builds
            .iter()
            .filter(|line| matches!(line.kind, Kind::Edit | Kind::Cached))
            .collect();
        let mut rate = Rate::default();
        for line in &judged {
            rate.steps += line.rate.steps;
            rate.cached += line.rate.cached;
        }
        let found = (rate.steps > 0).then(|| rate.percent());
        judgements.push(Judgement { key: "hit-rate", found, limit, builds: judged.len() });
    }
    let images = &performance.images;
    let of_images = [
        (
            "image-size",
            budget.image_bytes.map(|limit| limit as f64),
            images.iter().map(|image| image.size_bytes as f64).reduce(f64::max),
        ),
        (
            "layers",
            budget.layers.map(|limit| limit as f64),
            images.iter().map(|image| image.layers as f64).reduce(f64::max),
        ),
    ];
    for (key, limit, found) in of_images {
        if let Some(limit) = limit {
            judgements.push(Judgement { key, found, limit, builds: usize::from(found.is_some()) });
        }
    }
    judgements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::{FileChanges, SettingChange};
    use crate::digest::Recipe;
    use crate::report::Place;

    fn step(name: &str, inputs: &[u32], outcome: Outcome, duration_ms: u64) -> StepReport {
        StepReport {
            name: name.to_owned(),
            line: Some(1),
            last_line: Some(1),
            written: 0,
            inputs: inputs.iter().map(|input| Some(*input)).collect(),
            base: None,
            recipe: Recipe::from_bytes([0; 32]),
            key: None,
            content: None,
            outcome: Some(outcome),
            started_ms: 0,
            duration_ms,
            causes: Vec::new(),
            compared_with: None,
        }
    }

    fn build(id: BuildId, duration_ms: u64, steps: Vec<StepReport>) -> BuildReport {
        BuildReport {
            id,
            started_unix_ms: id * 1000,
            duration_ms,
            place: Place::default(),
            command: Vec::new(),
            commit: None,
            images: vec![ImageReport {
                target: "app".to_owned(),
                platform: "linux/amd64".to_owned(),
                id: None,
                steps: steps.len(),
                cached: 0,
                layers: 4,
                size_bytes: 1000 * id,
            }],
            outcome: Outcome::Done,
            steps,
        }
    }

    /// deps, then app and docs upon it, then the whole.
    fn graph(outcomes: [(Outcome, u64); 4]) -> Vec<StepReport> {
        let [deps, app, docs, all] = outcomes;
        vec![
            step("[deps 1/1] RUN uv sync", &[], deps.0, deps.1),
            step("[app 1/1] RUN make", &[0], app.0, app.1),
            step("[docs 1/1] RUN docs", &[0], docs.0, docs.1),
            step("[all 1/1] COPY a b", &[1, 2], all.0, all.1),
        ]
    }

    fn builds() -> Vec<BuildReport> {
        use Outcome::{Cached, Done};
        let clean =
            |id, ms| build(id, ms, graph([(Done, 9000), (Done, 700), (Done, 2000), (Done, 20)]));
        let mut edit = build(3, 800, graph([(Cached, 0), (Done, 700), (Cached, 0), (Done, 10)]));
        edit.steps[1].causes = vec![Cause::Setting {
            name: "build-arg VERSION".to_owned(),
            before: None,
            after: None,
            change: SettingChange::Changed,
        }];
        edit.steps[3].causes = vec![Cause::Step {
            instruction: "RUN make".to_owned(),
            line: None,
            stage: None,
            change: crate::cause::StepChange::OtherFiles,
            files: None::<FileChanges>,
        }];
        let cached = |id| build(id, 8, graph([(Cached, 0), (Cached, 0), (Cached, 0), (Cached, 0)]));
        let mut failed = build(6, 60_000, graph([(Done, 1), (Done, 1), (Done, 1), (Done, 1)]));
        failed.outcome = Outcome::Failed("no".to_owned());
        vec![clean(1, 12_000), clean(2, 14_000), edit, cached(4), cached(5), failed]
    }

    #[test]
    fn builds_are_sorted_by_what_the_cache_had() {
        let performance = performance(&builds());
        let kinds: Vec<_> = performance.builds.iter().map(|line| line.kind).collect();
        use Kind::{Cached, Clean, Edit, Failed};
        assert_eq!(kinds, [Clean, Clean, Edit, Cached, Cached, Failed]);
        let medians: Vec<_> =
            performance.kinds.iter().map(|summary| (summary.kind, summary.median_ms)).collect();
        assert_eq!(medians, [(Clean, 14_000), (Edit, 800), (Cached, 8), (Failed, 60_000)]);
        assert_eq!(performance.rate, Rate { steps: 20, cached: 10 });
        assert_eq!(performance.images[0].size_bytes, 5000);
    }

    #[test]
    fn what_costs_most_comes_first() {
        let performance = performance(&builds());
        let stages: Vec<_> =
            performance.stages.iter().map(|stage| (&*stage.stage, stage.spent_ms)).collect();
        assert_eq!(stages, [("deps", 18_000), ("docs", 4000), ("app", 2100), ("all", 50)]);
        let slowest = &performance.steps[0];
        assert_eq!((&*slowest.instruction, slowest.median_ms), ("RUN uv sync", 9000));
        assert_eq!(slowest.rate, Rate { steps: 5, cached: 3 });
        let causes: Vec<_> =
            performance.causes.iter().map(|cause| (cause.builds, cause.cost_ms)).collect();
        // What ran because of the step that ran for the argument is the argument's cost, too.
        assert_eq!(causes, [(1, 710)]);
        assert!(performance.causes[0].cause.contains("VERSION"));
    }

    #[test]
    fn the_critical_path_is_the_longest_chain() {
        let all = builds();
        let names = |steps: &[StepReport]| -> Vec<String> {
            critical_path(steps).into_iter().map(|step| step.name).collect()
        };
        let clean = ["[deps 1/1] RUN uv sync", "[docs 1/1] RUN docs", "[all 1/1] COPY a b"];
        assert_eq!(names(&all[0].steps), clean);
        assert_eq!(names(&all[2].steps), ["[app 1/1] RUN make", "[all 1/1] COPY a b"]);
        assert_eq!(performance(&all).critical_path.len(), 2, "of the last build that ran");
    }

    #[test]
    fn budgets_are_held_against_medians() {
        let performance = performance(&builds());
        let budget = Budget { image_bytes: Some(4999), layers: Some(4), ..Budget::USUAL };
        let judged: Vec<_> = judge(&performance, &budget)
            .into_iter()
            .map(|judgement| (judgement.key, judgement.found, judgement.is_kept()))
            .collect();
        assert_eq!(
            judged,
            [
                ("clean", Some(14_000.0), true),
                ("cached", Some(8.0), true),
                ("hit-rate", Some(10.0 * 100.0 / 12.0), false),
                ("image-size", Some(5000.0), false),
                ("layers", Some(4.0), true),
            ]
        );
        let nothing = super::performance(&[]);
        assert!(judge(&nothing, &budget).iter().all(Judgement::is_kept));
    }
}
