//! Some builds, and what is said of them.

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
        targets: Vec::new(),
        inputs: inputs.iter().map(|input| Some(*input)).collect(),
        base: None,
        recipe: Recipe::from_bytes([0; 32]),
        key: None,
        content: None,
        outcome: Some(outcome),
        started_ms: 0,
        duration_ms,
        waited_ms: 0,
        usage: None,
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
            cached: steps.iter().filter(|step| is_cached(step)).count(),
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
fn what_runs_used_is_told_of_each_step() {
    let mut builds = builds();
    for (build, cpu, memory) in [(0, 500, None), (1, 700, Some(2000)), (2, 900, Some(1000))] {
        let step = &mut builds[build].steps[1];
        step.waited_ms = cpu / 100;
        step.usage = Some(Usage {
            user_ms: cpu,
            system_ms: 7,
            peak_memory_bytes: memory,
            read_bytes: 0,
            written_bytes: cpu * 10,
        });
    }
    let performance = performance(&builds);
    let step = |text: &str| performance.steps.iter().find(|step| step.instruction == text).unwrap();
    let make = step("RUN make");
    assert_eq!((make.cpu_ms, make.peak_memory_bytes), (Some(707), Some(2000)));
    assert_eq!((make.read_bytes, make.written_bytes, make.waited_ms), (Some(0), Some(7000), 7));
    assert_eq!(step("RUN uv sync").cpu_ms, None, "nobody counted");
    assert_eq!(performance.critical_path[0].waited_ms, 9);
}

#[test]
fn the_critical_path_is_the_longest_chain() {
    let all = builds();
    let names = |build: &BuildReport| -> Vec<String> {
        critical_path(build).into_iter().map(|step| step.name).collect()
    };
    let clean = ["[deps 1/1] RUN uv sync", "[docs 1/1] RUN docs", "[all 1/1] COPY a b"];
    assert_eq!(names(&all[0]), clean);
    assert_eq!(names(&all[2]), ["[app 1/1] RUN make", "[all 1/1] COPY a b"]);
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
            ("cached", None, true),
            ("hit-rate", Some(10.0 * 100.0 / 12.0), false),
            ("image-size", Some(5000.0), false),
            ("layers", Some(4.0), true),
        ]
    );
    let cached = builds().swap_remove(4);
    let more: Vec<_> = builds().into_iter().chain([BuildReport { id: 7, ..cached }]).collect();
    assert_eq!(judge(&super::performance(&more), &budget)[1].found, Some(8.0), "a series");
    let few = judge(&super::performance(&more[2..4]), &budget);
    assert!(few[2].found.is_none() && few[2].builds == 2, "{few:?}");
    // Nine images of which one step of ten ran for each: as the steps are asked for, not as they are done.
    let mut shared = more.clone();
    for build in &mut shared {
        build.images[0] = ImageReport { steps: 90, cached: 87, ..build.images[0].clone() };
    }
    let shared = judge(&super::performance(&shared), &budget);
    assert_eq!(shared[2].found, Some(87.0 * 100.0 / 90.0));
    let nothing = super::performance(&[]);
    assert!(judge(&nothing, &budget).iter().all(Judgement::is_kept));
}
