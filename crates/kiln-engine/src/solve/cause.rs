//! Why a step runs: what differs from the last build of the same Dockerfile and context.
//!
//! The steps of both builds are laid side by side (`kiln_core::cause`). Where the step of the older
//! build had another operation, its settings are compared; where it stood on another file system,
//! the steps below it; where it took other files, those files, by the lists that are kept beside
//! results. What cannot be known (a record was pruned) is said so, never guessed.

use std::collections::BTreeMap;

use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::cause::{
    Cause, Comparison, Difference, Extent, FileChange, FileChanges, Naming, SettingChange, settings,
};
use kiln_core::digest::ContentId;
use kiln_core::event::Outcome;
use kiln_core::file_list;
use kiln_core::plan::{Input, Op, SourceOp, Step};
use kiln_core::report::{BuildId, BuildReport, StepReport};
use kiln_store::CacheRecord;

use super::inputs::{ROOT, Taken, is_input_role};
use super::{Solved, Solver, StepInputs};
use crate::request::CacheUse;
use crate::snapshot::{Snapshot, SnapshotLayer};

/// What a step is about to be made of.
pub(super) struct Ingredients<'a> {
    pub(super) step: &'a Step,
    /// The parts of its exact key.
    pub(super) parts: &'a KeyParts,
    /// Lists of the files that it takes, by their content.
    pub(super) lists: &'a [(ContentId, Vec<u8>)],
}

/// The files that a step takes, by their content in its exact key.
pub(super) fn lists(inputs: &StepInputs, exact: &KeyParts) -> Vec<(ContentId, Vec<u8>)> {
    let taken = inputs.taken();
    let pairs = taken.iter().zip(taken_parts(exact));
    pairs.filter_map(|(taken, part)| Some((part.value.parse().ok()?, taken.list()))).collect()
}

/// The step of an earlier build that a step is compared with.
struct Past<'a> {
    steps: &'a [StepReport],
    /// Its number there.
    number: usize,
    /// Its record, if the store still has it.
    record: Option<CacheRecord>,
}

impl Past<'_> {
    fn step(&self) -> &StepReport {
        &self.steps[self.number]
    }
}

/// A step that the last build did not finish, or one to compare with.
enum Found {
    Unfinished(Cause, BuildId),
    Finished(std::sync::Arc<BuildReport>, usize),
    /// Neither, though there are builds to compare with (or not).
    Nothing {
        has_builds: bool,
    },
}

impl Solver<'_> {
    /// Why a step runs, and the build that this is said in comparison with.
    pub(super) fn explain(
        &self,
        made_of: &Ingredients<'_>,
        inputs: &StepInputs,
    ) -> (Vec<Cause>, Option<BuildId>) {
        if self.request.cache == CacheUse::Refresh {
            return (vec![Cause::NoCache], None);
        }
        if self.plan.refreshed.contains(&made_of.step.id) {
            return (vec![Cause::NoCacheFilter], None);
        }
        match self.find_past(made_of) {
            Found::Unfinished(cause, id) => (vec![cause], Some(id)),
            Found::Finished(build, number) => {
                let key = build.steps[number].key;
                if key == Some(made_of.parts.key()) {
                    return (vec![Cause::ResultGone], Some(build.id));
                }
                let cache = self.engine.store.cache_index();
                let record = key.and_then(|key| cache.lookup(&key).ok().flatten());
                let past = Past { steps: &build.steps, number, record };
                let mut causes = self.compare(made_of, inputs, &past);
                if causes.is_empty() {
                    causes.push(Cause::RecordGone);
                }
                (causes, Some(build.id))
            }
            Found::Nothing { has_builds } => {
                let cache = self.engine.store.cache_index();
                let is_new = !matches!(cache.latest_by_recipe(&made_of.step.recipe), Ok(Some(_)));
                let cause = match (is_new, has_builds) {
                    (true, _) => Cause::New,
                    (false, true) => Cause::NotInLastBuild,
                    (false, false) => Cause::NoEarlierBuild,
                };
                (vec![cause], None)
            }
        }
    }

    /// The step at the same place in the last build that got so far.
    fn find_past(&self, made_of: &Ingredients<'_>) -> Found {
        let store = &self.engine.store;
        let ids = self.journal.earlier(store, self.recorded);
        let at = self.journal.number(&made_of.step.id);
        let mut has_builds = false;
        for (age, id) in ids.into_iter().enumerate() {
            let Some(build) = self.journal.earlier_build(store, id) else { continue };
            let now = self.journal.steps();
            let comparison = Comparison { then: &build.steps, now: &now };
            let Some(number) = comparison.counterpart(at) else {
                let stage = now[at].stage();
                has_builds |= build.steps.iter().any(StepReport::is_instruction);
                if build.steps.iter().any(|step| step.is_instruction() && step.stage() == stage) {
                    // It was not part of the last build of its stage.
                    break;
                }
                continue;
            };
            let then = &build.steps[number];
            let is_same = age == 0 && then.key == Some(made_of.parts.key());
            match &then.outcome {
                Some(Outcome::Done | Outcome::Cached | Outcome::Unchanged) => {
                    drop(now);
                    return Found::Finished(build, number);
                }
                Some(Outcome::Failed(_)) if is_same => {
                    return Found::Unfinished(Cause::FailedBefore, id);
                }
                Some(Outcome::Canceled) if is_same => {
                    return Found::Unfinished(Cause::CanceledBefore, id);
                }
                Some(Outcome::Failed(_) | Outcome::Canceled) | None => has_builds = true,
            }
        }
        Found::Nothing { has_builds }
    }

    fn compare(
        &self,
        made_of: &Ingredients<'_>,
        inputs: &StepInputs,
        past: &Past<'_>,
    ) -> Vec<Cause> {
        let then = past.step();
        let mut causes = Vec::new();
        if *then.recipe.as_bytes() != made_of.step.recipe {
            causes.extend(self.changed_instruction(made_of, past));
        }
        let old_root = past.record.as_ref().and_then(|record| part(&record.parts, ROOT, 0));
        let new_root = part(made_of.parts, ROOT, 0);
        if new_root.is_some() && (past.record.is_none() || old_root != new_root) {
            let below = self.differences(made_of, past, (0, Extent::Origins));
            match (below.is_empty(), past.record.is_some()) {
                (true, true) => causes.push(Cause::Content { what: ROOT.to_owned() }),
                _ => causes.extend(below.into_iter().map(|difference| difference.cause)),
            }
        }
        let Some(record) = &past.record else { return causes };
        let kept = self.engine.store.cache_index().sources(&record.result.layer).ok().flatten();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (taken, part_now) in inputs.taken().iter().zip(taken_parts(made_of.parts)) {
            let position = seen.entry(&part_now.name).or_default();
            let older = part(&record.parts, &part_now.name, *position);
            *position += 1;
            // Without an older one it comes with a changed setting, which is told.
            let Some(older) = older.filter(|older| *older != part_now.value) else { continue };
            let lists = Lists {
                then: kept.as_deref().and_then(|kept| file_list::find(kept, &older.parse().ok()?)),
                now: list_of(made_of.lists, &part_now.value),
            };
            let solved = inputs.solved(taken.input);
            causes.extend(self.changed_files((made_of, past), (taken, solved, part_now), lists));
        }
        causes.dedup();
        causes
    }

    /// What differs in what the instruction says.
    fn changed_instruction(&self, made_of: &Ingredients<'_>, past: &Past<'_>) -> Vec<Cause> {
        let Some(record) = &past.record else {
            let now = &self.journal.steps()[self.journal.number(&made_of.step.id)];
            if now.text() == past.step().text() {
                return vec![Cause::RecordGone];
            }
            let (before, after) = (past.step().text().to_owned(), now.text().to_owned());
            return vec![Cause::Setting {
                name: "instruction".to_owned(),
                before: Some(before),
                after: Some(after),
                change: SettingChange::Changed,
            }];
        };
        let arguments = match &made_of.step.op {
            Op::Exec(exec) => exec.arguments.as_slice(),
            _ => &[],
        };
        let naming = Naming { arguments, given: &self.request.plan.build_args };
        let counted = |parts: &KeyParts| taken_parts(parts).count() + root_parts(parts);
        let older = (&record.parts, counted(&record.parts));
        settings(older, (made_of.parts, counted(made_of.parts)), naming)
    }

    /// Where the file system of an input parts from what it was.
    fn differences(
        &self,
        made_of: &Ingredients<'_>,
        past: &Past<'_>,
        (input, extent): (usize, Extent),
    ) -> Vec<Difference> {
        let now = self.journal.steps();
        let step = &now[self.journal.number(&made_of.step.id)];
        let top = |step: &StepReport| step.inputs.get(input).copied().flatten();
        let tops = (top(past.step()), top(step));
        Comparison { then: past.steps, now: &now }.differences(tops, step.stage(), extent)
    }

    /// Files that a step takes and that are not what they were.
    fn changed_files(
        &self,
        (made_of, past): (&Ingredients<'_>, &Past<'_>),
        (taken, solved, part): (&Taken<'_>, &Solved, &KeyPart),
        lists: Lists<'_>,
    ) -> Vec<Cause> {
        let files = lists.differences();
        let Solved::Snapshot(snapshot) = solved else {
            let of = self.named_context(made_of.step, taken.input);
            return vec![match files {
                Some(files) => Cause::Files(FileChanges::new(of, files)),
                None => Cause::Content { what: part.name.clone() },
            }];
        };
        let of = self.origin(made_of.step, taken.input);
        let differences = self.differences(made_of, past, (taken.input, Extent::Every));
        let Some(mut files) = files else {
            // Of several steps that differ, any may be the one.
            return match <[Difference; 1]>::try_from(differences) {
                Ok([only]) => vec![only.cause],
                Err(_) => vec![Cause::Content { what: format!("`{}` of {of}", taken.path) }],
            };
        };
        for file in &mut files {
            file.path.insert(0, '/');
        }
        let mut causes = Vec::new();
        let mut rest = Vec::new();
        let mut of_step: BTreeMap<usize, Vec<FileChange>> = BTreeMap::new();
        for file in files {
            match self.maker(made_of.step, (taken.input, snapshot), &file, &differences) {
                Some(position) => of_step.entry(position).or_default().push(file),
                None => rest.push(file),
            }
        }
        for (position, files) in of_step {
            causes.push(match differences[position].cause.clone() {
                Cause::Step { instruction, line, stage, change, .. } => {
                    let files = Some(FileChanges::new(Some(of.clone()), files));
                    Cause::Step { instruction, line, stage, change, files }
                }
                base => base,
            });
        }
        if !rest.is_empty() {
            causes.push(Cause::Files(FileChanges::new(Some(of), rest)));
        }
        causes
    }

    /// Which of the steps that differ has made a file what it is; `None` if that is not sure.
    fn maker(
        &self,
        step: &Step,
        (input, snapshot): (usize, &Snapshot),
        file: &FileChange,
        differences: &[Difference],
    ) -> Option<usize> {
        if differences.len() == 1 {
            return Some(0);
        }
        let tree = self.index_tree(snapshot).ok()?;
        let (_, layer) = tree.lookup(file.path.trim_matches('/').as_bytes())?;
        // Layers of the image, then one for each step.
        let images = snapshot.layers().iter();
        let images = images.filter(|layer| matches!(layer, SnapshotLayer::Base { .. })).count();
        let mut chain = Vec::new();
        let mut at = step.inputs[input];
        while let Input::Step(id) = at {
            chain.push(id);
            at = self.plan.steps[&id].inputs.first().copied().unwrap_or(Input::Scratch);
        }
        let built = snapshot.layers().len() - images;
        let id = match layer.checked_sub(images) {
            Some(position) => chain.get(built - 1 - position)?,
            None => chain.get(built)?,
        };
        let number = self.journal.number(id);
        differences.iter().position(|difference| difference.now == Some(number))
    }

    /// The named context that an input is.
    fn named_context(&self, step: &Step, input: usize) -> Option<String> {
        let Input::Step(id) = step.inputs[input] else { return None };
        match &self.plan.steps[&id].op {
            Op::Source(SourceOp::Context { name: Some(name) }) => Some(format!("context {name}")),
            _ => None,
        }
    }

    /// What an input is, in words.
    fn origin(&self, step: &Step, input: usize) -> String {
        let steps = self.journal.steps();
        let number = steps[self.journal.number(&step.id)].inputs.get(input).copied().flatten();
        let Some(step) = number.map(|number| &steps[number as usize]) else {
            return "nothing".to_owned();
        };
        match (&step.base, step.stage()) {
            (Some(base), _) => format!("image {}", base.reference),
            (None, "" | "internal") => format!("`{}`", step.text()),
            (None, stage) => format!("stage {stage}"),
        }
    }
}

/// The files of one input, before and now, where they are known.
#[derive(Clone, Copy, Debug)]
struct Lists<'a> {
    then: Option<&'a [u8]>,
    now: Option<&'a [u8]>,
}

impl Lists<'_> {
    /// What differs, if that is known.
    fn differences(&self) -> Option<Vec<FileChange>> {
        let found = file_list::differences(self.then?, self.now?)?;
        (!found.is_empty()).then_some(found)
    }
}

/// The value of the part of a name, of several the one at a position.
fn part<'a>(parts: &'a KeyParts, name: &str, position: usize) -> Option<&'a str> {
    let mut same = parts.0.iter().filter(|part| part.name == name);
    same.nth(position).map(|part| part.value.as_str())
}

fn root_parts(parts: &KeyParts) -> usize {
    parts.0.iter().filter(|part| part.name == ROOT).count()
}

/// The parts of the inputs that come after the root: they stand last.
fn taken_parts(parts: &KeyParts) -> impl Iterator<Item = &KeyPart> {
    let count = parts.0.iter().rev().take_while(|part| is_input_role(&part.name)).count();
    parts.0[parts.0.len() - count..].iter()
}

fn list_of<'a>(lists: &'a [(ContentId, Vec<u8>)], value: &str) -> Option<&'a [u8]> {
    let content: ContentId = value.parse().ok()?;
    lists.iter().find(|(known, _)| *known == content).map(|(_, list)| list.as_slice())
}
