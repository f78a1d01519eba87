//! The order of steps: whatever has its inputs runs, the longest way to the end first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use kiln_core::digest::StepId;
use kiln_core::event::Outcome;
use kiln_core::plan::{Input, Plan, Step};

use super::{Solved, Solver, lock};
use crate::error::{BuildError, StepError, StepFailure};
use crate::snapshot::Snapshot;

/// How often a waiting thread looks whether the build was canceled.
const CANCEL_POLL: Duration = Duration::from_millis(30);

/// A step that is done.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// Its result.
    pub(crate) solved: Solved,
    /// How it came about.
    pub(crate) outcome: Outcome,
    /// When, since the start of the build.
    pub(crate) at: Duration,
}

/// What the threads share.
#[derive(Default)]
struct Board {
    done: BTreeMap<StepId, Done>,
    /// Steps whose inputs are done, by distance to the end.
    ready: BTreeSet<(usize, StepId)>,
    running: usize,
    failure: Option<BuildError>,
}

/// Solves all steps of the plan.
pub(crate) fn solve(solver: &Solver<'_>) -> Result<BTreeMap<StepId, Done>, BuildError> {
    let plan = solver.plan;
    let heights = heights(plan);
    let mut board = Board::default();
    for step in plan.steps.values().filter(|step| is_ready(step, &board.done)) {
        board.ready.insert((heights[&step.id], step.id));
    }
    let board = Mutex::new(board);
    let changed = Condvar::new();
    // One more than may have work: there is always one that sees a cancel.
    let threads = solver.request.parallelism.clamp(1, plan.steps.len().max(1)) + 1;
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| work(solver, &heights, (&board, &changed)));
        }
        work(solver, &heights, (&board, &changed));
    });
    let board = board.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match board.failure {
        Some(failure) => Err(failure),
        None if board.done.len() < plan.steps.len() => Err(BuildError::Canceled),
        None => Ok(board.done),
    }
}

fn work(
    solver: &Solver<'_>,
    heights: &BTreeMap<StepId, usize>,
    (board, changed): (&Mutex<Board>, &Condvar),
) {
    loop {
        let next = {
            let mut state = lock(board);
            loop {
                if solver.is_canceled() {
                    solver.stop();
                }
                let over = state.failure.is_some() || solver.is_canceled();
                if over || (state.ready.is_empty() && state.running == 0) {
                    changed.notify_all();
                    return;
                }
                if state.running < solver.request.parallelism.max(1)
                    && let Some((_, id)) = state.ready.pop_last()
                {
                    state.running += 1;
                    break id;
                }
                state = changed
                    .wait_timeout(state, CANCEL_POLL)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .0;
            }
        };
        let step = &solver.plan.steps[&next];
        let inputs = inputs(step, &lock(board).done);
        let result = solver.step(step, inputs);
        let mut state = lock(board);
        state.running -= 1;
        match result {
            Ok((solved, outcome)) => {
                state.done.insert(next, Done { solved, outcome, at: solver.elapsed() });
                for step in dependents(solver.plan, next) {
                    if is_ready(step, &state.done) {
                        state.ready.insert((heights[&step.id], step.id));
                    }
                }
            }
            Err(error) => {
                let failure = failure(step, error);
                // The first real failure is the one to show; those after it were canceled by it.
                if state.failure.is_none() {
                    state.failure = Some(failure);
                }
                solver.stop();
            }
        }
        changed.notify_all();
    }
}

fn failure(step: &Step, error: StepError) -> BuildError {
    match error {
        StepError::Build(error) => error,
        StepError::Failed { code, message, last_output, help } => {
            BuildError::Step(Box::new(StepFailure {
                code,
                message,
                span: step.span,
                name: step.name.clone(),
                last_output,
                help,
            }))
        }
    }
}

fn inputs(step: &Step, done: &BTreeMap<StepId, Done>) -> Vec<Solved> {
    step.inputs
        .iter()
        .map(|input| match input {
            Input::Scratch => Solved::Snapshot(Snapshot::default()),
            Input::Step(id) => done[id].solved.clone(),
        })
        .collect()
}

fn is_ready(step: &Step, done: &BTreeMap<StepId, Done>) -> bool {
    !done.contains_key(&step.id)
        && step.inputs.iter().all(|input| match input {
            Input::Scratch => true,
            Input::Step(id) => done.contains_key(id),
        })
}

pub(super) fn dependents(plan: &Plan, id: StepId) -> impl Iterator<Item = &Step> {
    plan.steps.values().filter(move |step| step.inputs.contains(&Input::Step(id)))
}

/// For each step, how many steps the longest way from it to a target has.
fn heights(plan: &Plan) -> BTreeMap<StepId, usize> {
    fn height(plan: &Plan, id: StepId, known: &mut BTreeMap<StepId, usize>) -> usize {
        if let Some(height) = known.get(&id) {
            return *height;
        }
        let above: Vec<StepId> = dependents(plan, id).map(|step| step.id).collect();
        let height = above.into_iter().map(|id| height(plan, id, known) + 1).max().unwrap_or(0);
        known.insert(id, height);
        height
    }
    let mut known = BTreeMap::new();
    for id in plan.steps.keys() {
        height(plan, *id, &mut known);
    }
    known
}

#[cfg(test)]
mod tests {
    use kiln_core::dockerfile::parse;
    use kiln_core::oci::Platform;
    use kiln_core::plan::{Facts, PlanRequest, Planning, PlatformChoice, ResultLayout};
    use kiln_core::source::SourceFile;

    use super::*;

    fn plan(text: &str) -> Plan {
        let (dockerfile, diagnostics) = parse(&SourceFile::new("Dockerfile", text));
        assert!(diagnostics.is_empty());
        let request = PlanRequest {
            targets: Vec::new(),
            platforms: vec![Platform::host()],
            platform_choice: PlatformChoice::Implied,
            layout: ResultLayout::Plain,
            build_platform: Platform::host(),
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            context: None,
            named_contexts: BTreeMap::new(),
            run: kiln_core::plan::RunOptions::default(),
            no_cache_stages: BTreeSet::new(),
            entitlements: BTreeSet::new(),
            epoch: None,
        };
        match kiln_core::plan::plan(&dockerfile, &request, &Facts::default()) {
            Ok(Planning::Ready(plan)) => plan,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_longest_way_to_the_end_comes_first() {
        let plan = plan(
            "FROM scratch AS long\nCOPY a /\nCOPY b /\nCOPY c /\n\
             FROM scratch AS short\nCOPY d /\n\
             FROM scratch\nCOPY --from=long /a /\nCOPY --from=short /d /\n",
        );
        let heights = heights(&plan);
        let height = |text: &str| {
            let step = plan.steps.values().find(|step| step.name.ends_with(text)).unwrap();
            heights[&step.id]
        };
        assert_eq!([height("COPY a /"), height("COPY b /"), height("COPY c /")], [4, 3, 2]);
        assert_eq!([height("COPY d /"), height("COPY --from=long /a /")], [1, 1]);
        assert_eq!(height("COPY --from=short /d /"), 0);
        let first = plan.steps.values().filter(|step| is_ready(step, &BTreeMap::new()));
        let mut first: Vec<usize> = first.map(|step| heights[&step.id]).collect();
        first.sort_unstable();
        assert_eq!(first, [5], "only the context has no inputs");
    }
}
