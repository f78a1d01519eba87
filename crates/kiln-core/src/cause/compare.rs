//! Two builds side by side: which step of the one is which of the other, and where their file
//! systems part.
//!
//! Steps are at the same place when they stand in the same stage, and either say the same, in the
//! same order, or are as many of a kind (RUN, COPY) between two that do. What has no place is new
//! or gone.

use super::{Cause, StepChange};
use crate::report::StepReport;

/// Longest lists that are compared step by step; a chain has at most some hundreds.
const LIMIT: usize = 2000;

/// The steps of an older build and of the one that runs.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// Of the older one.
    pub then: &'a [StepReport],
    /// Of the one that runs; those that are not done have no content yet.
    pub now: &'a [StepReport],
}

/// A place where two chains of steps hold different files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The step of the build that runs; `None` if it is gone.
    pub now: Option<usize>,
    /// What it means.
    pub cause: Cause,
}

impl Comparison<'_> {
    /// The step of the older build at the place of step `at`.
    pub fn counterpart(&self, at: usize) -> Option<usize> {
        let step = &self.now[at];
        let stage = |steps: &[StepReport], stage: &str| -> Vec<usize> {
            let all = steps.iter().enumerate();
            let same = all.filter(|(_, other)| other.stage() == stage && other.is_instruction());
            same.map(|(number, _)| number).collect()
        };
        let now = stage(self.now, step.stage());
        let then = stage(self.then, step.stage());
        if then.is_empty() || !step.is_instruction() {
            return self.only_one_like(step);
        }
        let pairs = self.align((&then, &now));
        let paired = pairs.iter().find(|(_, now)| *now == Some(at)).and_then(|(then, _)| *then);
        // What was moved stands alone on both sides.
        let alone = pairs.iter().filter(|(_, now)| now.is_none()).filter_map(|(then, _)| *then);
        let mut moved = alone.filter(|then| self.then[*then].is_same_instruction(step));
        paired.or_else(|| moved.next().filter(|_| moved.next().is_none()))
    }

    /// A stage may have got another name.
    fn only_one_like(&self, step: &StepReport) -> Option<usize> {
        let mut alike = self.then.iter().enumerate().filter(|(_, old)| old.text() == step.text());
        match (alike.next(), alike.next()) {
            (Some((number, _)), None) => Some(number),
            _ => None,
        }
    }

    /// Why a file system that stands on step `now` is not the one that stood on step `then`: the
    /// steps of its chain that hold something else, lowest first. A step that ran only because of
    /// others that are named is left out, unless `every` is asked for.
    pub fn differences(
        &self,
        (then, now): (Option<u32>, Option<u32>),
        stage: &str,
        extent: Extent,
    ) -> Vec<Difference> {
        let (then, now) = (chain(self.then, then), chain(self.now, now));
        let mut found: Vec<Difference> = Vec::new();
        for pair in self.align((&then, &now)) {
            if let Some(difference) = self.difference(pair, (&then, &now), stage)
                && (extent == Extent::Every || !self.follows(pair, &found))
            {
                found.push(difference);
            }
        }
        found
    }

    fn difference(
        &self,
        pair: (Option<usize>, Option<usize>),
        (chain_then, chain_now): (&[usize], &[usize]),
        stage: &str,
    ) -> Option<Difference> {
        let step = |step: &StepReport, change| Cause::Step {
            instruction: step.text().to_owned(),
            line: step.line,
            stage: (step.stage() != stage)
                .then(|| step.stage().to_owned())
                .filter(|s| !s.is_empty()),
            change,
            files: None,
        };
        let (now, cause) = match pair {
            (Some(then), Some(now)) => {
                let (old, new) = (&self.then[then], &self.now[now]);
                if old.content == new.content {
                    return None;
                }
                let cause = match (&old.base, &new.base) {
                    (Some(before), Some(after)) if before.reference == after.reference => {
                        Cause::BaseMoved {
                            reference: after.reference.clone(),
                            before: before.manifest.to_string(),
                            after: after.manifest.to_string(),
                        }
                    }
                    (Some(before), Some(after)) => Cause::BaseReplaced {
                        before: before.reference.clone(),
                        after: after.reference.clone(),
                    },
                    _ if old.is_same_instruction(new) => step(new, StepChange::OtherFiles),
                    _ => step(new, StepChange::Changed),
                };
                (Some(now), cause)
            }
            (None, Some(now)) => {
                let new = &self.now[now];
                let is_moved = chain_then.iter().any(|then| self.then[*then].recipe == new.recipe);
                let change = if is_moved { StepChange::Moved } else { StepChange::Added };
                (Some(now), step(new, change))
            }
            (Some(then), None) => {
                let old = &self.then[then];
                if chain_now.iter().any(|now| self.now[*now].recipe == old.recipe) {
                    // It is named where it stands now.
                    return None;
                }
                let Cause::Step { instruction, stage, change, files, .. } =
                    step(old, StepChange::Removed)
                else {
                    return None;
                };
                // Its line is one of a Dockerfile that is no more.
                (None, Cause::Step { instruction, line: None, stage, change, files })
            }
            (None, None) => return None,
        };
        Some(Difference { now, cause })
    }

    /// Whether the step of a pair did what it did because of what was found below it.
    fn follows(&self, (then, now): (Option<usize>, Option<usize>), below: &[Difference]) -> bool {
        let (Some(_), Some(now)) = (then, now) else { return false };
        let causes = &self.now[now].causes;
        let is_named = |cause: &Cause| match cause {
            Cause::Step { instruction, line, files: None, .. } => below.iter().any(|found| {
                matches!(&found.cause, Cause::Step { instruction: known, line: at, .. }
                    if known == instruction && at == line)
            }),
            Cause::BaseMoved { .. } | Cause::BaseReplaced { .. } => {
                below.iter().any(|found| found.cause == *cause)
            }
            _ => false,
        };
        !causes.is_empty() && causes.iter().all(is_named)
    }

    /// Pairs of steps at the same place, in order, with those that have none.
    fn align(&self, (then, now): (&[usize], &[usize])) -> Vec<(Option<usize>, Option<usize>)> {
        let (old, new) = (|at: usize| &self.then[then[at]], |at: usize| &self.now[now[at]]);
        let is_same = |a: usize, b: usize| old(a).is_same_instruction(new(b));
        let mut pairs = Vec::new();
        let mut done = (0, 0);
        let ends = [(then.len(), now.len())];
        for (a, b) in matches((then.len(), now.len()), is_same).into_iter().chain(ends) {
            pairs.extend(self.changed((&then[done.0..a], &now[done.1..b])));
            if (a, b) != (then.len(), now.len()) {
                pairs.push((Some(then[a]), Some(now[b])));
            }
            done = (a + 1, b + 1);
        }
        pairs
    }

    /// Pairs of what stands between two matches: where there are as many of a kind as there were,
    /// they are the same ones, changed.
    fn changed(&self, (then, now): (&[usize], &[usize])) -> Vec<(Option<usize>, Option<usize>)> {
        let of_kind = |steps: &[StepReport], numbers: &[usize], keyword: &str| -> Vec<usize> {
            let same = |number: &&usize| steps[**number].keyword() == keyword;
            numbers.iter().filter(same).copied().collect()
        };
        let partner = |number: usize| {
            let keyword = self.now[number].keyword();
            let (old, new) = (of_kind(self.then, then, keyword), of_kind(self.now, now, keyword));
            let position = new.iter().position(|other| *other == number)?;
            (old.len() == new.len()).then(|| old[position])
        };
        let found: Vec<_> = now.iter().map(|number| (partner(*number), Some(*number))).collect();
        let is_paired = |number: &usize| found.iter().any(|(then, _)| *then == Some(*number));
        let gone = then.iter().filter(|number| !is_paired(number));
        gone.map(|number| (Some(*number), None)).chain(found.clone()).collect()
    }
}

/// Which differences are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Those that do not follow from others.
    Origins,
    /// All of them.
    Every,
}

/// The steps that a file system stands on, lowest first.
fn chain(steps: &[StepReport], top: Option<u32>) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = top;
    while let Some(number) = at
        && let Some(step) = steps.get(number as usize)
        && found.len() <= steps.len()
    {
        found.push(number as usize);
        at = step.inputs.first().copied().flatten();
    }
    found.reverse();
    found
}

/// A longest common subsequence of two lists, as pairs of positions.
fn matches(
    (left, right): (usize, usize),
    is_same: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    let shorter = left.min(right);
    let start = (0..shorter).take_while(|at| is_same(*at, *at)).count();
    let end = (0..shorter - start).take_while(|at| is_same(left - 1 - at, right - 1 - at)).count();
    let mut found: Vec<(usize, usize)> = (0..start).map(|at| (at, at)).collect();
    let (rows, columns) = (left - start - end, right - start - end);
    if rows.max(columns) <= LIMIT {
        found.extend(
            subsequence((rows, columns), |a, b| is_same(start + a, start + b))
                .into_iter()
                .map(|(a, b)| (start + a, start + b)),
        );
    }
    found.extend((0..end).rev().map(|at| (left - 1 - at, right - 1 - at)));
    found
}

fn subsequence(
    (rows, columns): (usize, usize),
    is_same: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    let mut lengths = vec![vec![0u32; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            lengths[row][column] = if is_same(row, column) {
                lengths[row + 1][column + 1] + 1
            } else {
                lengths[row + 1][column].max(lengths[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut found = Vec::new();
    while row < rows && column < columns {
        if is_same(row, column) {
            found.push((row, column));
            (row, column) = (row + 1, column + 1);
        } else if lengths[row + 1][column] >= lengths[row][column + 1] {
            row += 1;
        } else {
            column += 1;
        }
    }
    found
}
