//! The order of steps: whatever has its inputs runs, the longest way to the end first.
//!
//! While all comes from the cache, one thread does it all, and a way is as long as it has steps.
//! Once a step has to run, others help, and a way takes the time that its steps took last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, Once};
use std::time::Duration;

use kiln_core::digest::StepId;
use kiln_core::event::Outcome;
use kiln_core::plan::{Input, Op, Plan, SourceOp, Step};

use super::behind::{Behind, PackJob};
use super::{LEAST_PARALLEL, Solved, Solver, lock};
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
    ready: BTreeSet<(u64, StepId)>,
    /// The distances of all.
    heights: BTreeMap<StepId, u64>,
    /// Whether these are times.
    is_timed: bool,
    /// Whether one thread does it all so far.
    is_alone: bool,
    running: usize,
    /// Layers that outputs will need, packed when nothing else is to be done.
    to_pack: VecDeque<PackJob>,
    /// What the OCI file begins with, as far as that is known, to be copied after that.
    to_copy: Option<Snapshot>,
    is_packing: bool,
    failure: Option<BuildError>,
}

impl Board {
    fn new(plan: &Plan) -> Self {
        let mut board = Self { heights: heights(plan, |_| 1), is_alone: true, ..Self::default() };
        for step in plan.steps.values().filter(|step| is_ready(step, &board.done)) {
            board.ready.insert((board.heights[&step.id], step.id));
        }
        board
    }

    /// Goes over to times.
    fn time(&mut self, heights: BTreeMap<StepId, u64>) {
        let ready = std::mem::take(&mut self.ready).into_iter();
        self.ready = ready.map(|(_, id)| (heights[&id], id)).collect();
        (self.heights, self.is_timed) = (heights, true);
    }

    /// Takes the step to be done next. Alone, contexts come last: reading one takes a while, and
    /// helpers may be called before.
    fn take_ready(&mut self, plan: &Plan) -> Option<StepId> {
        let is_quick = |(_, id): &&(u64, StepId)| {
            !matches!(plan.steps[id].op, Op::Source(SourceOp::Context { .. }))
        };
        let quick = self.is_alone.then(|| self.ready.iter().rev().find(is_quick).copied());
        let (_, id) = match quick.flatten() {
            Some(found) => self.ready.take(&found)?,
            None => self.ready.pop_last()?,
        };
        Some(id)
    }

    fn put(&mut self, plan: &Plan, id: StepId, done: Done) {
        self.done.insert(id, done);
        for step in dependents(plan, id) {
            if is_ready(step, &self.done) {
                self.ready.insert((self.heights[&step.id], step.id));
            }
        }
    }
}

/// Solves all steps of the plan.
pub(crate) fn solve(solver: &Solver<'_>) -> Result<BTreeMap<StepId, Done>, BuildError> {
    let plan = solver.plan;
    let board = Mutex::new(Board::new(plan));
    let changed = Condvar::new();
    let behind = Behind::of(solver);
    let is_joined = Once::new();
    std::thread::scope(|scope| {
        let (board, changed, behind) = (&board, &changed, &behind);
        let call_helpers = || {
            is_joined.call_once(|| {
                lock(board).is_alone = false;
                // One for packing, and one that is idle and sees a cancel.
                let threads = solver.parallelism().min(plan.steps.len()) + 2;
                for _ in 1..threads {
                    let tell = || changed.notify_all();
                    scope.spawn(move || work(solver, behind, (board, changed), &tell));
                }
            });
            changed.notify_all();
        };
        work(solver, behind, (board, changed), &call_helpers);
    });
    let board = board.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match board.failure {
        Some(failure) => Err(failure),
        None if board.done.len() < plan.steps.len() => Err(BuildError::Canceled),
        None => Ok(board.done),
    }
}

/// What a thread does next.
enum Work {
    Step(StepId),
    Pack(PackJob),
    Copy(Snapshot),
}

fn work(
    solver: &Solver<'_>,
    behind: &Behind,
    (board, changed): (&Mutex<Board>, &Condvar),
    call_helpers: &dyn Fn(),
) {
    while let Some(work) = next(solver, (board, changed)) {
        match work {
            Work::Step(id) => run(solver, id, (board, behind), call_helpers),
            Work::Pack(job) => {
                job.run(solver);
                lock(board).is_packing = false;
            }
            Work::Copy(snapshot) => {
                if let Some(early) = &solver.early_archive {
                    early.advance(solver, &snapshot);
                }
                lock(board).is_packing = false;
            }
        }
        if !lock(board).is_alone {
            changed.notify_all();
        }
    }
}

/// Waits for work; `None` when there will be none.
fn next(solver: &Solver<'_>, (board, changed): (&Mutex<Board>, &Condvar)) -> Option<Work> {
    let mut state = lock(board);
    loop {
        if solver.is_canceled() {
            solver.stop();
        }
        if solver.has_run() && !state.is_timed {
            state.time(timed_heights(solver));
        }
        let over = state.failure.is_some() || solver.is_canceled();
        if over || (state.ready.is_empty() && state.running == 0) {
            changed.notify_all();
            return None;
        }
        if (state.running < LEAST_PARALLEL || state.running < solver.parallelism())
            && let Some(id) = state.take_ready(solver.plan)
        {
            state.running += 1;
            return Some(Work::Step(id));
        }
        // One at a time, which bounds memory.
        if !state.is_packing
            && let Some(job) = state.to_pack.pop_front()
        {
            state.is_packing = true;
            return Some(Work::Pack(job));
        }
        // Where nothing runs the file is most likely up to date.
        if !state.is_packing
            && solver.has_run()
            && let Some(snapshot) = state.to_copy.take()
        {
            state.is_packing = true;
            return Some(Work::Copy(snapshot));
        }
        state = changed
            .wait_timeout(state, CANCEL_POLL)
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .0;
    }
}

/// Runs a step and notes how it ended.
fn run(
    solver: &Solver<'_>,
    id: StepId,
    (board, behind): (&Mutex<Board>, &Behind),
    call_helpers: &dyn Fn(),
) {
    let step = &solver.plan.steps[&id];
    let inputs = inputs(step, &lock(board).done);
    let result = solver.step(step, inputs, call_helpers);
    let mut state = lock(board);
    state.running -= 1;
    match result {
        Ok((solved, outcome)) => {
            state.to_pack.extend(behind.jobs(id, &solved, &outcome));
            if let Some(snapshot) = beginning(solver, id, &solved) {
                let known = state.to_copy.as_ref().map_or(0, |known| known.layers().len());
                if snapshot.layers().len() > known {
                    state.to_copy = Some(snapshot);
                }
            }
            state.put(solver.plan, id, Done { solved, outcome, at: solver.elapsed() });
        }
        Err(error) => {
            let failure = failure(step, error);
            // What runs has its inputs, and need not run again in the next attempt.
            let goes_on = matches!(failure, BuildError::LostLayer { .. });
            // The first real failure is the one to show; those after it were canceled by it.
            if state.failure.is_none() {
                state.failure = Some(failure);
            }
            if !goes_on {
                solver.stop();
            }
        }
    }
}

/// The layers that the OCI file begins with, as far as this step is done.
fn beginning(solver: &Solver<'_>, step: StepId, solved: &Solved) -> Option<Snapshot> {
    let early = solver.early_archive.as_ref()?;
    match solved {
        Solved::Snapshot(snapshot) if early.begins_with(step) => Some(snapshot.clone()),
        _ => None,
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

/// For each step, what the longest way from it to a target costs, itself included.
fn heights(plan: &Plan, cost: impl Fn(&StepId) -> u64) -> BTreeMap<StepId, u64> {
    let mut heights = Heights { plan, cost, known: BTreeMap::new() };
    for id in plan.steps.keys() {
        heights.of(*id);
    }
    heights.known
}

struct Heights<'a, F> {
    plan: &'a Plan,
    cost: F,
    known: BTreeMap<StepId, u64>,
}

impl<F: Fn(&StepId) -> u64> Heights<'_, F> {
    fn of(&mut self, id: StepId) -> u64 {
        if let Some(height) = self.known.get(&id) {
            return *height;
        }
        let above: Vec<StepId> = dependents(self.plan, id).map(|step| step.id).collect();
        let longest = above.into_iter().map(|id| self.of(id)).max().unwrap_or(0);
        let height = longest.saturating_add((self.cost)(&id));
        self.known.insert(id, height);
        height
    }
}

/// Heights in milliseconds, of what steps took last. It is only an order: what can't be looked up
/// is guessed.
fn timed_heights(solver: &Solver<'_>) -> BTreeMap<StepId, u64> {
    let steps: Vec<&Step> = solver.plan.steps.values().collect();
    let recipes: Vec<[u8; 32]> = steps.iter().map(|step| step.recipe).collect();
    let known = solver.engine.store.cache_index().durations(&recipes).unwrap_or_default();
    let costs: BTreeMap<StepId, u64> = steps
        .iter()
        .zip(known.into_iter().chain(std::iter::repeat(None)))
        .map(|(step, known)| (step.id, known.unwrap_or_else(|| guess(step)).max(1)))
        .collect();
    heights(solver.plan, |id| costs[id])
}

/// Milliseconds of a step that has not run before.
fn guess(step: &Step) -> u64 {
    match step.op {
        Op::Exec(_) => 2000,
        Op::File(_) | Op::Source(_) => 50,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use kiln_core::dockerfile::parse;
    use kiln_core::oci::Platform;
    use kiln_core::plan::{Facts, PlanRequest, Planning, PlatformChoice, ResultLayout};
    use kiln_core::source::SourceFile;

    use super::*;

    /// The plan of a Dockerfile that needs no image.
    pub(in crate::solve) fn plan(text: &str) -> Plan {
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
        let heights = heights(&plan, |_| 1);
        let height = |text: &str| {
            let step = plan.steps.values().find(|step| step.name.ends_with(text)).unwrap();
            heights[&step.id]
        };
        assert_eq!([height("COPY a /"), height("COPY b /"), height("COPY c /")], [5, 4, 3]);
        assert_eq!([height("COPY d /"), height("COPY --from=long /a /")], [2, 2]);
        assert_eq!(height("COPY --from=short /d /"), 1);
        let first = plan.steps.values().filter(|step| is_ready(step, &BTreeMap::new()));
        let mut first: Vec<u64> = first.map(|step| heights[&step.id]).collect();
        first.sort_unstable();
        assert_eq!(first, [6], "only the context has no inputs");
    }

    #[test]
    fn a_way_is_as_long_as_its_steps_took() {
        let plan = plan(
            "FROM scratch AS many\nCOPY a /\nCOPY b /\nCOPY c /\nFROM scratch AS slow\nCOPY d /\n\
             FROM scratch\nCOPY --from=many /a /\nCOPY --from=slow /d /\n",
        );
        let is = |id: &StepId, text: &str| plan.steps[id].name.ends_with(text);
        let heights = heights(&plan, |id| if is(id, "COPY d /") { 1000 } else { 10 });
        let height = |text| heights[plan.steps.keys().find(|id| is(id, text)).unwrap()];
        assert_eq!((height("COPY a /"), height("COPY d /")), (50, 1010));
    }
}
