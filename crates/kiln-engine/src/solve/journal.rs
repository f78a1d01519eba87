//! What is known of the steps of a running build, for its report: keys and contents as they become
//! known, why steps ran, and the builds that they are compared with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kiln_core::cause::Cause;
use kiln_core::digest::{CacheKey, ContentId, FieldHasher, Recipe, StepId};
use kiln_core::event::Outcome;
use kiln_core::plan::{ImageSource, Input, Op, Plan, SourceOp, Step};
use kiln_core::report::{BaseReport, BuildId, BuildReport, Project, StepLog, StepReport, Timeline};
use kiln_core::source::{SourceFile, Span};
use kiln_store::Store;

use super::lock;
use crate::history::Recorded;

/// The steps of a build by number, as far as they are known.
#[derive(Debug)]
pub(crate) struct Journal {
    numbers: BTreeMap<StepId, usize>,
    steps: Mutex<Vec<StepReport>>,
    /// When the first of them could begin, since the start of the build.
    began: Duration,
    /// Builds of the same place, the best to compare with first; looked up when the first step runs.
    earlier: Mutex<Option<Earlier>>,
}

#[derive(Debug)]
struct Earlier {
    ids: Vec<BuildId>,
    builds: BTreeMap<BuildId, Option<Arc<BuildReport>>>,
    /// What they are to be of: the Dockerfile and context, and the target of a bake file.
    of: (Project, Option<String>),
}

impl Journal {
    /// All steps of a plan; nothing is known of them yet but what they are.
    pub(super) fn new(plan: &Plan, dockerfile: &SourceFile, began: Duration) -> Self {
        let order = order(plan);
        let numbers: BTreeMap<StepId, usize> =
            order.iter().enumerate().map(|(number, step)| (step.id, number)).collect();
        let steps = order.iter().map(|step| report(step, &numbers, dockerfile)).collect();
        Self { numbers, steps: Mutex::new(steps), began, earlier: Mutex::default() }
    }

    /// The number of a step.
    pub(super) fn number(&self, id: &StepId) -> usize {
        self.numbers[id]
    }

    /// The steps as they are now.
    pub(super) fn steps(&self) -> MutexGuard<'_, Vec<StepReport>> {
        lock(&self.steps)
    }

    /// The exact key of a step, once it is known.
    pub(crate) fn key(&self, id: &StepId) -> Option<CacheKey> {
        self.steps()[self.number(id)].key
    }

    /// Notes that a step is answered by the cache.
    pub(super) fn note_cached(&self, id: &StepId, key: CacheKey, content: ContentId) {
        let step = &mut self.steps()[self.number(id)];
        (step.key, step.content) = (Some(key), Some(content));
    }

    /// Notes that a step runs, why, and the build that this compares it with.
    pub(super) fn note_start(
        &self,
        id: &StepId,
        key: CacheKey,
        (causes, compared_with): (&[Cause], Option<BuildId>),
    ) {
        let step = &mut self.steps()[self.number(id)];
        step.key = Some(key);
        step.causes = causes.to_vec();
        step.compared_with = compared_with;
    }

    /// Notes what a step made.
    pub(super) fn note_content(&self, id: &StepId, content: ContentId) {
        self.steps()[self.number(id)].content = Some(content);
    }

    /// Earlier builds of this place, the best to compare with first. A history that cannot be read
    /// is none.
    pub(super) fn earlier(&self, store: &Store, now: Recorded<'_>) -> Vec<BuildId> {
        let mut earlier = lock(&self.earlier);
        let known = earlier.get_or_insert_with(|| {
            let project = now.project();
            Earlier {
                ids: store.history().comparable(&project, &now.place()).unwrap_or_default(),
                builds: BTreeMap::new(),
                of: (project, now.target()),
            }
        });
        known.ids.clone()
    }

    /// One of them with its steps: those that this build may have, too.
    pub(super) fn earlier_build(&self, store: &Store, id: BuildId) -> Option<Arc<BuildReport>> {
        let mut earlier = lock(&self.earlier);
        let Earlier { builds, of: (project, target), .. } = earlier.as_mut()?;
        let read = || {
            let build = store.history().build(id).ok().flatten()?;
            Some(Arc::new(build.narrowed(project, target.as_deref())))
        };
        builds.entry(id).or_insert_with(read).clone()
    }

    /// The steps with what the events say of them.
    pub(crate) fn reports(&self, timeline: &Timeline) -> (Vec<StepReport>, Vec<StepLog>) {
        let mut logs = Vec::new();
        let mut steps = self.steps().clone();
        let mut ends = vec![self.began; steps.len()];
        for (id, number) in &self.numbers {
            if let Some(lane) = timeline.step(id) {
                ends[*number] = lane.ended();
            }
        }
        for (id, number) in &self.numbers {
            let step = &mut steps[*number];
            match timeline.step(id) {
                Some(lane) => {
                    step.started_ms = lane.started.as_millis() as u64;
                    step.duration_ms = lane.duration.as_millis() as u64;
                    let inputs = step.inputs.iter().flatten().map(|input| ends[*input as usize]);
                    let ready = inputs.max().unwrap_or(self.began);
                    step.waited_ms = lane.started.saturating_sub(ready).as_millis() as u64;
                    step.usage = lane.usage;
                    step.outcome = Some(lane.outcome.clone().unwrap_or(Outcome::Canceled));
                    if !lane.log.is_empty() {
                        logs.push((*number as u32, lane.log.clone()));
                    }
                }
                // Images are there, or are fetched where their files are looked at.
                None if step.content.is_some() => step.outcome = Some(Outcome::Cached),
                None => {}
            }
        }
        (steps, logs)
    }
}

/// The steps in the order of the Dockerfile; those of one instruction as they follow each other.
fn order(plan: &Plan) -> Vec<&Step> {
    fn depth(plan: &Plan, id: StepId, known: &mut BTreeMap<StepId, usize>) -> usize {
        if let Some(depth) = known.get(&id) {
            return *depth;
        }
        let mut deepest = 0;
        for input in &plan.steps[&id].inputs {
            if let Input::Step(below) = input {
                deepest = deepest.max(depth(plan, *below, known) + 1);
            }
        }
        known.insert(id, deepest);
        deepest
    }
    let mut known = BTreeMap::new();
    let mut steps: Vec<&Step> = plan.steps.values().collect();
    steps.sort_by_cached_key(|step| (step.span.start, depth(plan, step.id, &mut known), step.id));
    steps
}

fn report(step: &Step, numbers: &BTreeMap<StepId, usize>, dockerfile: &SourceFile) -> StepReport {
    let number = |input: &Input| match input {
        Input::Scratch => None,
        Input::Step(id) => Some(numbers[id] as u32),
    };
    let is_written = step.span != Span::default();
    let line = |offset: u32| is_written.then(|| dockerfile.position(offset).line);
    StepReport {
        name: step.name.clone(),
        line: line(step.span.start),
        // The line end may be part of it.
        last_line: line(step.span.end.saturating_sub(1).max(step.span.start)),
        written: written(step, dockerfile),
        targets: Vec::new(),
        inputs: step.inputs.iter().map(number).collect(),
        base: base(&step.op),
        recipe: Recipe::from_bytes(step.recipe),
        key: None,
        content: None,
        outcome: None,
        started_ms: 0,
        duration_ms: 0,
        waited_ms: 0,
        usage: None,
        causes: Vec::new(),
        compared_with: None,
    }
}

/// See [`StepReport::written`]. What a base image's triggers make is not in the Dockerfile.
fn written(step: &Step, dockerfile: &SourceFile) -> u64 {
    let text = dockerfile.slice(step.span);
    if text.is_empty() || step.name.contains("] ONBUILD ") {
        return 0;
    }
    let hash = FieldHasher::new("kiln instruction 1").field(text).finish();
    u64::from_le_bytes(*hash.first_chunk().expect("a hash has 32 bytes"))
}

fn base(op: &Op) -> Option<BaseReport> {
    let Op::Source(SourceOp::Image { source, manifest, .. }) = op else { return None };
    let reference = match source {
        ImageSource::Reference(reference) => reference.familiar(),
        ImageSource::Layout { context } => context.clone(),
    };
    Some(BaseReport { reference, manifest: *manifest })
}

#[cfg(test)]
mod tests {
    use kiln_core::event::{Activity, EventKind, Pace, Usage};

    use super::super::schedule::tests::plan;
    use super::*;

    #[test]
    fn steps_wait_from_when_their_inputs_are_there() {
        let text = "FROM scratch AS one\nCOPY a /\nFROM one\nCOPY b /\n";
        let (plan, file) = (plan(text), SourceFile::new("Dockerfile", text));
        let at = Duration::from_millis;
        let journal = Journal::new(&plan, &file, at(5));
        let mut timeline = Timeline::default();
        let step =
            |name: &str| *plan.steps.iter().find(|(_, step)| step.name.contains(name)).unwrap().0;
        let usage = Usage { user_ms: 7, ..Usage::default() };
        let spans = [("load build context", 8, 20), ("COPY a", 50, 70), ("COPY b", 71, 90)];
        for (number, (name, started, ended)) in spans.into_iter().enumerate() {
            let id = number as u32;
            let (name, step) = (name.to_owned(), Some(step(name)));
            let pace = Pace::Lasting;
            let activity = Activity { id, name, step, line: None, causes: Vec::new(), pace };
            timeline.handle(at(started), &EventKind::Started(activity));
            if id == 1 {
                timeline.handle(at(started + 1), &EventKind::Used { activity: id, usage });
            }
            let outcome = Outcome::Done;
            timeline.handle(at(ended), &EventKind::Completed { activity: id, outcome });
        }
        let (steps, _) = journal.reports(&timeline);
        let waited = |name: &str| {
            let step = steps.iter().find(|step| step.name.contains(name)).unwrap();
            (step.waited_ms, step.usage)
        };
        assert_eq!(waited("load build context"), (3, None));
        assert_eq!(waited("COPY a"), (30, Some(usage)));
        assert_eq!(waited("COPY b"), (1, None));
    }
}
