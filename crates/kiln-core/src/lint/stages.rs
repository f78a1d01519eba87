//! Names of stages, comments that describe them, and which stages a target needs.

use std::collections::BTreeSet;

use super::scope::Walked;
use super::{Findings, LintRequest};
use crate::diagnostic::{Diagnostic, Severity, did_you_mean};
use crate::dockerfile::{
    Copy, Dockerfile, Instruction, InstructionKind, RESERVED_STAGE_NAMES, comments_before, flags,
    parse_mount_with,
};
use crate::source::{SourceFile, Span};

pub(super) fn check(dockerfile: &Dockerfile, source: &SourceFile, findings: &mut Findings<'_>) {
    let mut seen = BTreeSet::new();
    for stage in &dockerfile.stages {
        let from = &stage.from;
        let Some(name) = &from.name else { continue };
        let lower = name.value.to_lowercase();
        if RESERVED_STAGE_NAMES.contains(&lower.as_str()) {
            let message =
                format!("Stage name should not use the same name as reserved stage {lower:?}");
            findings.add_to_file("ReservedStageName", name.span, from.span, message);
        }
        if !seen.insert(lower.clone()) {
            let message = format!("Duplicate stage name {lower:?}, stage names should be unique");
            findings.add_to_file("DuplicateStageName", name.span, from.span, message);
        }
        check_description("FROM", &[&lower], (source, from.span), findings);
    }
    let instructions = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    for instruction in dockerfile.global_args.iter().chain(instructions) {
        if let InstructionKind::Arg(declarations) = &instruction.kind {
            let names: Vec<&str> = declarations.iter().map(|it| it.name.text.as_str()).collect();
            check_description("ARG", &names, (source, instruction.span), findings);
        }
    }
}

/// The comment right above ARG and FROM begins with the name that it is about.
fn check_description(
    instruction: &str,
    names: &[&str],
    (source, span): (&SourceFile, Span),
    findings: &mut Findings<'_>,
) {
    let comments = comments_before(source, span.start);
    let Some(last) = comments.last() else { return };
    if names.contains(&last.value.split(' ').next().unwrap_or("")) {
        return;
    }
    let name = if let [name] = names { *name } else { "<arg_key>" };
    let message =
        format!("Comment for {instruction} should follow the format: `# {name} <description>`");
    findings.add("InvalidDefinitionDescription", last.span, span, message);
}

/// The stage before `index` that `name` means: by its name, the last one of several, or by number.
pub(super) fn stage_named(dockerfile: &Dockerfile, name: &str, index: usize) -> Option<usize> {
    let earlier = dockerfile.stages.get(..index)?;
    let named = earlier.iter().rposition(|stage| {
        stage.from.name.as_ref().is_some_and(|own| own.value.eq_ignore_ascii_case(name))
    });
    named.or_else(|| name.parse::<usize>().ok().filter(|number| *number < index))
}

/// The error about the first target that is no stage.
pub(super) fn missing_target(
    dockerfile: &Dockerfile,
    request: &LintRequest<'_>,
) -> Option<Diagnostic> {
    let count = dockerfile.stages.len();
    let missing =
        request.targets.iter().find(|target| stage_named(dockerfile, target, count).is_none())?;
    let names = dockerfile.stages.iter().filter_map(|stage| stage.from.name.as_ref());
    let near = did_you_mean(missing, names.map(|name| name.value.as_str()));
    Some(Diagnostic {
        code: "unknown-target",
        severity: Severity::Error,
        message: format!("target stage `{missing}` could not be found"),
        span: None,
        help: near.map(|near| format!("did you mean `{near}`?")),
    })
}

/// Which stages are judged.
pub(super) struct Graph {
    judged: Vec<usize>,
}

impl Graph {
    /// All stages, or those that the targets need.
    pub(super) fn new(dockerfile: &Dockerfile, walked: &[Walked<'_>], targets: &[String]) -> Self {
        let count = dockerfile.stages.len();
        if targets.is_empty() {
            return Self { judged: (0..count).collect() };
        }
        let mut wanted = vec![false; count];
        for target in targets {
            if let Some(index) = stage_named(dockerfile, target, count) {
                wanted[index] = true;
            }
        }
        // What a stage needs stands before it.
        for index in (0..count).rev() {
            if wanted[index] {
                for needed in needs(dockerfile, &walked[index], index) {
                    wanted[needed] = true;
                }
            }
        }
        Self { judged: (0..count).filter(|index| wanted[*index]).collect() }
    }

    /// Their numbers, in order.
    pub(super) fn judged(&self) -> impl Iterator<Item = usize> + '_ {
        self.judged.iter().copied()
    }
}

/// The stages that a stage needs: the one below it, and those that it names.
pub(super) fn needs(dockerfile: &Dockerfile, walked: &Walked<'_>, index: usize) -> Vec<usize> {
    let instructions = walked.with_triggers().map(|(_, instruction, _)| instruction);
    let names: Vec<String> = instructions.flat_map(named_in).collect();
    let named = names.iter().filter_map(|name| stage_named(dockerfile, name, index));
    walked.base_stage.into_iter().chain(named).collect()
}

fn named_in(instruction: &Instruction) -> Vec<String> {
    match &instruction.kind {
        InstructionKind::Copy(copy) => copy_from(copy).map(str::to_owned).into_iter().collect(),
        InstructionKind::Run(run) => flags::texts(&run.flags, "mount")
            .filter_map(|word| parse_mount_with(&word.text, &mut |raw| Ok(raw.to_owned())).ok())
            .filter_map(|mount| mount.from)
            .collect(),
        _ => Vec::new(),
    }
}

/// `--from` of COPY.
pub(super) fn copy_from(copy: &Copy) -> Option<&str> {
    flags::text(&copy.flags, "from").map(|word| word.text.as_str())
}
