//! What is checked of all stages before any is planned, needed or not.
//!
//! As with BuildKit, the FROM lines and the names of `--from` have to make sense everywhere: base
//! names and platforms are expanded and parsed, stage numbers exist, stages do not stand on each
//! other in a circle. Everything else of a stage is looked at only when a target needs it.

use super::planner::{Planner, Stuck};
use super::request::normalize_context_name;
use crate::diagnostic::Diagnostic;
use crate::dockerfile::{Instruction, InstructionKind, parse_mount_with};
use crate::oci::Reference;
use crate::source::Span;

/// A stage that another one uses.
struct Edge {
    from: usize,
    to: usize,
    span: Span,
}

/// How a command names a place to take files from.
struct Mention {
    name: String,
    span: Span,
    numbers: Numbers,
}

/// Whether numbers mean stages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    Stages,
    Names,
}

/// Checks all stages.
pub(super) fn check(planner: &mut Planner<'_>) -> Result<(), Stuck> {
    let mut edges = Vec::new();
    let mut images = Vec::new();
    let globals = planner.globals.clone();
    for (index, stage) in planner.dockerfile.stages.iter().enumerate() {
        let image = planner.base_name(stage)?;
        if let Some(word) = &stage.from.platform {
            planner.parse_platform(word, &globals)?;
        }
        let span = stage.from.image.span;
        match planner.base_stage(&image, index) {
            Some(to) => edges.push(Edge { from: index, to, span }),
            None => images.push((image, span)),
        }
    }
    for (index, stage) in planner.dockerfile.stages.iter().enumerate() {
        for instruction in &stage.instructions {
            for mention in mentions(planner, instruction)? {
                let Mention { name, span, numbers } = mention;
                match (numbers, name.parse::<i64>()) {
                    (Numbers::Stages, Ok(number)) => {
                        let to = planner.stage_number(number, span)?;
                        edges.push(Edge { from: index, to, span });
                    }
                    _ => match planner.stage_anywhere(&name) {
                        Some(to) => edges.push(Edge { from: index, to, span }),
                        None => images.push((name, span)),
                    },
                }
            }
        }
    }
    planner.is_only_stage = planner.dockerfile.stages.len() == 1 && images.len() + edges.len() <= 1;
    check_circles(planner, &edges)?;
    for (image, span) in images {
        planner.parse_reference(&image, span)?;
    }
    Ok(())
}

/// What the `--from` of COPY and the `from` of mounts name.
fn mentions(planner: &mut Planner<'_>, instruction: &Instruction) -> Result<Vec<Mention>, Stuck> {
    let mut found = Vec::new();
    match &instruction.kind {
        InstructionKind::Copy(copy) => {
            for flag in copy.flags.iter().filter(|flag| flag.name == "from") {
                let Some(word) = &flag.value else { continue };
                let name = super::copy::from_name(planner, word)?;
                if !name.is_empty() {
                    found.push(Mention { name, span: flag.span, numbers: Numbers::Stages });
                }
            }
        }
        InstructionKind::Run(run) => {
            for flag in run.flags.iter().filter(|flag| flag.name == "mount") {
                let Some(word) = &flag.value else { continue };
                // Mistakes in other options are told where the mount is planned.
                let mount = parse_mount_with(&word.text, &mut |value| Ok(value.to_owned()));
                if let Some(name) = mount.ok().and_then(|mount| mount.from) {
                    found.push(Mention { name, span: flag.span, numbers: Numbers::Names });
                }
            }
        }
        _ => {}
    }
    Ok(found)
}

/// Only an edge to the stage itself or a later one can close a circle.
fn check_circles(planner: &mut Planner<'_>, edges: &[Edge]) -> Result<(), Stuck> {
    for edge in edges.iter().filter(|edge| edge.to >= edge.from) {
        let mut reached = vec![edge.to];
        let mut next = 0;
        while let Some(stage) = reached.get(next).copied() {
            let further = edges.iter().filter(|e| e.from == stage && !reached.contains(&e.to));
            let further: Vec<usize> = further.map(|e| e.to).collect();
            reached.extend(further);
            next += 1;
        }
        if reached.contains(&edge.from) {
            let name = planner.shown_stage(edge.from);
            let message = format!("circular dependency detected on stage: {name}");
            let help = "a stage can use only the stages before it";
            let error = Diagnostic::error("circular-stages", edge.span, message).with_help(help);
            return planner.fail(error);
        }
    }
    Ok(())
}

impl Planner<'_> {
    /// The last stage of a name, wherever it stands; a context of that name comes first.
    pub(super) fn stage_anywhere(&self, name: &str) -> Option<usize> {
        let context = normalize_context_name(&name.to_lowercase());
        if self.request.named_contexts.contains_key(&context) {
            return None;
        }
        self.dockerfile.stages.iter().rposition(|stage| {
            stage.from.name.as_ref().is_some_and(|known| known.value.eq_ignore_ascii_case(name))
        })
    }

    /// The stage of a number.
    pub(super) fn stage_number(&mut self, number: i64, span: Span) -> Result<usize, Stuck> {
        let count = self.dockerfile.stages.len();
        match usize::try_from(number) {
            Ok(index) if index < count => Ok(index),
            _ => {
                let message = format!(
                    "invalid stage index {number}: the stages have the numbers 0 to {}",
                    count.saturating_sub(1)
                );
                self.fail(Diagnostic::error("unknown-stage", span, message))
            }
        }
    }

    /// The name of a stage, or what takes its place.
    pub(super) fn shown_stage(&self, index: usize) -> String {
        let name = self.dockerfile.stages[index].from.name.as_ref();
        name.map_or_else(|| format!("stage-{index}"), |name| name.value.to_lowercase())
    }

    /// A name as a reference to an image.
    pub(super) fn parse_reference(&mut self, name: &str, span: Span) -> Result<Reference, Stuck> {
        name.parse::<Reference>().or_else(|error| {
            let message = format!("failed to parse stage name {name:?}: {error}");
            self.fail(Diagnostic::error("invalid-reference", span, message))
        })
    }
}
