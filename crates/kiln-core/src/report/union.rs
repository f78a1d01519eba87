//! The steps of several targets as those of one build: what `kiln bake` did.
//!
//! Each target has a plan of its own. What several of them have is done by one and found by the others;
//! here it is one step, as the one that did it tells it. So a cache that had nothing is not said to have had
//! what this very build made.

use std::collections::BTreeMap;

use super::{Project, StepReport};
use crate::digest::Recipe;
use crate::event::Outcome;

/// A step's position in [`BuildReport::steps`](super::BuildReport::steps), and the end of what it wrote.
pub type StepLog = (u32, Vec<u8>);

/// What one target did.
#[derive(Clone, Debug, Default)]
pub struct TargetSteps {
    /// What it was built of.
    pub project: Project,
    /// All steps of its plan.
    pub steps: Vec<StepReport>,
    /// What they wrote.
    pub logs: Vec<StepLog>,
}

/// All steps of all targets, each once, in the order of the targets and after their inputs; and what they
/// wrote.
pub fn union(targets: Vec<TargetSteps>) -> (Vec<StepReport>, Vec<StepLog>) {
    let mut merged = Merged::default();
    let mut logs = BTreeMap::new();
    for (number, target) in targets.into_iter().enumerate() {
        let mut places = vec![None; target.steps.len()];
        for position in 0..target.steps.len() {
            merged.place((number as u32, &target), position, &mut places);
        }
        for (position, log) in target.logs {
            if let Some(place) = places[position as usize] {
                logs.entry(place).or_insert(log);
            }
        }
    }
    (merged.steps, logs.into_iter().collect())
}

/// The steps of the targets so far.
#[derive(Default)]
struct Merged {
    steps: Vec<StepReport>,
    /// Where those are that may be the same.
    alike: BTreeMap<Recipe, Vec<(usize, Project)>>,
}

impl Merged {
    /// Adds a step of a target, its inputs first; where it is now is noted in `places`.
    fn place(
        &mut self,
        (number, target): (u32, &TargetSteps),
        position: usize,
        places: &mut [Option<u32>],
    ) {
        if places[position].is_some() {
            return;
        }
        let mut step = target.steps[position].clone();
        for input in &mut step.inputs {
            if let Some(below) = input.map(|input| input as usize) {
                self.place((number, target), below, places);
                *input = places[below];
            }
        }
        step.targets = vec![number];
        let alike = self.alike.entry(step.recipe).or_default();
        let is_known = |(known, project): &&(usize, Project)| {
            is_same(&self.steps[*known], &step, *project == target.project)
        };
        let known = alike.iter().find(is_known).map(|(known, _)| *known);
        places[position] = Some(known.unwrap_or(self.steps.len()) as u32);
        if let Some(known) = known {
            add(&mut self.steps[known], step);
        } else {
            alike.push((self.steps.len(), target.project.clone()));
            self.steps.push(step);
        }
    }
}

/// Whether two steps of the same recipe are one: by their keys, whatever they are of. As long as one has
/// none, they have to stand on the same steps of the same files.
fn is_same(one: &StepReport, other: &StepReport, is_same_project: bool) -> bool {
    match (one.key.zip(other.key), &one.base) {
        (Some((one, other)), _) => one == other,
        (None, Some(_)) => one.base == other.base,
        (None, None) => is_same_project && one.inputs == other.inputs,
    }
}

/// Adds what another target says of the same step.
fn add(known: &mut StepReport, mut step: StepReport) {
    let targets = [std::mem::take(&mut known.targets), std::mem::take(&mut step.targets)].concat();
    if rank(&step) > rank(known) {
        *known = step;
    }
    known.targets = targets;
}

/// How much a step has to tell.
fn rank(step: &StepReport) -> u8 {
    match step.outcome {
        None => 0,
        Some(Outcome::Canceled) => 1,
        Some(Outcome::Cached) => 2,
        Some(Outcome::Done | Outcome::Unchanged | Outcome::Failed(_)) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::named;
    use super::*;
    use crate::digest::CacheKey;

    fn step(name: &str, recipe: u8, inputs: &[u32], outcome: Outcome) -> StepReport {
        StepReport {
            recipe: Recipe::from_bytes([recipe; 32]),
            inputs: inputs.iter().copied().map(Some).collect(),
            key: Some(CacheKey::from_bytes([recipe; 32])),
            outcome: Some(outcome),
            ..named(name)
        }
    }

    fn target(dockerfile: &str, steps: Vec<StepReport>, logs: Vec<StepLog>) -> TargetSteps {
        let project = Project { context: "/app".into(), dockerfile: dockerfile.into() };
        TargetSteps { project, steps, logs }
    }

    /// `NAME inputs of targets: outcome`, line by line.
    fn shown(steps: &[StepReport]) -> String {
        let line = |step: &StepReport| {
            let inputs: Vec<u32> = step.inputs.iter().flatten().copied().collect();
            format!("{} {inputs:?} of {:?}: {:?}\n", step.name, step.targets, step.outcome.as_ref())
        };
        steps.iter().map(line).collect()
    }

    #[test]
    fn what_several_targets_have_is_one_step() {
        use Outcome::{Cached, Canceled, Done};
        let waits = vec![
            step("deps", 1, &[], Cached),
            step("test", 2, &[0], Done),
            step("report", 3, &[1], Canceled),
        ];
        let works = vec![
            step("app", 5, &[1, 2], Done),
            step("other", 4, &[], Done),
            step("deps", 1, &[], Done),
        ];
        // The same text over other files.
        let mut other_files = step("deps", 1, &[], Done);
        other_files.key = Some(CacheKey::from_bytes([9; 32]));
        // Another project, where the same was done.
        let mut elsewhere = step("deps", 1, &[], Cached);
        elsewhere.line = Some(7);
        let files = |name: &str| StepReport { key: None, ..step(name, 8, &[], Done) };
        let (steps, logs) = union(vec![
            target("a", waits, vec![(1, b"tests\n".to_vec())]),
            target("a", works, vec![(0, b"app\n".to_vec()), (2, b"deps\n".to_vec())]),
            target("a", vec![other_files], Vec::new()),
            target("b", vec![elsewhere, files("context")], Vec::new()),
            target("c", vec![files("context")], vec![(0, b"c\n".to_vec())]),
        ]);
        insta::assert_snapshot!(shown(&steps), @r#"
        deps [] of [0, 1, 3]: Some(Done)
        test [0] of [0]: Some(Done)
        report [1] of [0]: Some(Canceled)
        other [] of [1]: Some(Done)
        app [3, 0] of [1]: Some(Done)
        deps [] of [2]: Some(Done)
        context [] of [3]: Some(Done)
        context [] of [4]: Some(Done)
        "#);
        let logs: Vec<(u32, &str)> =
            logs.iter().map(|(step, log)| (*step, std::str::from_utf8(log).unwrap())).collect();
        assert_eq!(logs, [(0, "deps\n"), (1, "tests\n"), (4, "app\n"), (7, "c\n")]);
    }

    #[test]
    fn who_did_not_get_so_far_says_less() {
        let mut never = step("deps", 1, &[], Outcome::Done);
        (never.key, never.outcome) = (None, None);
        let cached = step("deps", 1, &[], Outcome::Cached);
        let (steps, _) = union(vec![
            target("a", vec![never.clone()], Vec::new()),
            target("a", vec![cached], Vec::new()),
            target("a", vec![never], Vec::new()),
        ]);
        assert_eq!(shown(&steps), "deps [] of [0, 1, 2]: Some(Cached)\n");
    }
}
