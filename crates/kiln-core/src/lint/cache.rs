//! kiln's own rules: what makes builds slow, because it is done again without need.

use super::commands::{SimpleCommand, commands};
use super::scope::{Scope, Walked};
use super::stages::copy_from;
use super::tools::{Tool, holds};
use super::{CacheMountContent, Findings, LintRequest, rewrites};
use crate::dockerfile::{
    Copy, CopySource, Instruction, InstructionKind, MountKind, Run, Word, flags, parse_mount_with,
};
use crate::oci::Reference;
use crate::plan::{cache_id, clean_path};
use crate::source::Span;

/// Judges the stage `index`.
pub(super) fn check(
    all: &[Walked<'_>],
    index: usize,
    request: &LintRequest<'_>,
    findings: &mut Findings<'_>,
) {
    let walked = &all[index];
    unpinned_base(walked, findings);
    let own = &walked.stage.instructions;
    for (position, (instruction, scope)) in walked.instructions().enumerate() {
        match &instruction.kind {
            InstructionKind::Run(run) => {
                let commands = commands(run);
                let next = own.get(position + 1);
                apt_update_alone(&commands, (instruction, next, walked.escape), findings);
                let context = (&*scope, walked.escape, instruction.span);
                cache_mounts(run, &commands, context, (request, findings));
            }
            InstructionKind::Copy(copy) => {
                whole_root(copy, (all, index), request, findings, instruction.span);
            }
            _ => {}
        }
    }
    source_before_dependencies(walked, findings);
}

fn unpinned_base(walked: &Walked<'_>, findings: &mut Findings<'_>) {
    if !walked.from_image {
        return;
    }
    let Ok(reference) = walked.base.parse::<Reference>() else { return };
    if reference.digest.is_some() {
        return;
    }
    let from = &walked.stage.from;
    let message = format!("base image `{}` is not pinned by a digest", walked.base);
    findings.add("BaseWithoutDigest", from.image.span, from.span, message);
    if reference.tag.as_deref().is_none_or(|tag| tag == "latest") {
        let message = format!(
            "base image `{}` is whatever `latest` means on the day of the build",
            walked.base
        );
        findings.add("UnpinnedBase", from.image.span, from.span, message);
    }
}

fn apt_update_alone(
    commands: &[SimpleCommand],
    (instruction, next, escape): (&Instruction, Option<&Instruction>, char),
    findings: &mut Findings<'_>,
) {
    let at = instruction.span;
    let apt = || commands.iter().filter(|it| matches!(it.name(), "apt-get" | "apt"));
    let updates = apt().find(|it| it.operands().any(|word| word == "update"));
    // Whatever else apt does after an update uses it; so do scripts that are not seen through.
    let uses = apt().any(|it| it.operands().any(|word| word != "update"))
        || commands.iter().any(|it| matches!(it.name(), "aptitude" | "apt-cache" | "xargs"));
    if let Some(update) = updates.filter(|_| !uses) {
        let message = format!(
            "`{} update` in a RUN of its own: a later install finds the lists that were cached here, however old",
            update.name()
        );
        let fix = next
            .and_then(|next| rewrites::joined_runs(findings.source, (instruction, next), escape));
        findings.add("AptUpdateAlone", at, at, message).fix(fix);
    }
}

fn cache_mounts(
    run: &Run,
    commands: &[SimpleCommand],
    (scope, escape, at): (&Scope, char, Span),
    (request, findings): (&LintRequest<'_>, &mut Findings<'_>),
) {
    let mut tools: Vec<&Tool> = Vec::new();
    for tool in commands.iter().filter_map(Tool::of) {
        if !tools.iter().any(|known| known.name == tool.name) {
            tools.push(tool);
        }
    }
    let directories: Vec<Vec<String>> =
        tools.iter().map(|tool| tool.cache_directories(commands, scope)).collect();
    let mounts: Vec<(&Word, String)> = flags::texts(&run.flags, "mount")
        .filter_map(|word| Some((word, cache_target(word, scope, escape)?)))
        .collect();
    let user = scope.user.as_deref();
    let fits = |target: &str, tool: usize| {
        directories[tool].iter().any(|directory| holds(target, directory, user))
    };
    for (word, target) in &mounts {
        if (0..tools.len()).any(|tool| fits(target, tool)) {
            stayed_empty(word, target, (scope, escape, at), (request, findings));
            continue;
        }
        // A tool that has its mount elsewhere does not need this one.
        let missing = (0..tools.len()).find(|tool| !mounts.iter().any(|(_, at)| fits(at, *tool)));
        if let Some(missing) = missing {
            let name = tools[missing].name;
            let expected = at_known_home(&directories[missing][0], user);
            let message = format!(
                "cache mount `{target}` is not the cache directory of {name}, which is `{expected}`: nothing is kept"
            );
            let fix = rewrites::mount_target(findings.source, word, &expected);
            findings.add("CacheMountNotToolCache", word.span, at, message).fix(fix);
        } else {
            stayed_empty(word, target, (scope, escape, at), (request, findings));
        }
    }
}

/// A cache mount in which builds left nothing.
fn stayed_empty(
    word: &Word,
    target: &str,
    (scope, escape, at): (&Scope, char, Span),
    (request, findings): (&LintRequest<'_>, &mut Findings<'_>),
) {
    let mount = parse_mount_with(&word.text, &mut |raw| Ok(scope.text(raw, escape)));
    let Ok(mount) = mount else { return };
    let id = mount.id.unwrap_or_else(|| cache_id(mount.target.as_deref()));
    if (request.cache_mounts)(&id) == Some(CacheMountContent::Empty) {
        let message = format!("cache mount `{target}` holds nothing after the last build");
        findings.add("CacheMountStayedEmpty", word.span, at, message);
    }
}

fn at_known_home(directory: &str, user: Option<&str>) -> String {
    let name = user.and_then(|user| user.split(':').next()).unwrap_or("root");
    match directory.strip_prefix("~/") {
        Some(rest) if matches!(name, "" | "root" | "0") => format!("/root/{rest}"),
        Some(rest) if !name.bytes().all(|b| b.is_ascii_digit()) => format!("/home/{name}/{rest}"),
        _ => directory.to_owned(),
    }
}

/// The target of a cache mount, absolute.
fn cache_target(word: &Word, scope: &Scope, escape: char) -> Option<String> {
    let mut known = true;
    let mount = parse_mount_with(&word.text, &mut |raw| {
        known &= scope.expand(raw, escape).is_ok_and(|expansion| expansion.unset.is_empty());
        Ok(scope.text(raw, escape))
    });
    let mount = mount.ok().filter(|_| known)?;
    let target = mount.target.filter(|_| mount.kind == MountKind::Cache)?;
    // A home that the shell would fill in, or an argument without a value.
    (!target.contains(['$', '~']))
        .then(|| clean_path(scope.workdir.as_deref().unwrap_or("/"), &target))
}

fn whole_root(
    copy: &Copy,
    (all, index): (&[Walked<'_>], usize),
    request: &LintRequest<'_>,
    findings: &mut Findings<'_>,
    at: Span,
) {
    let Some(from) = copy_from(copy) else { return };
    if request.named_contexts.contains(&from.to_lowercase()) {
        return;
    }
    // A stage from nothing holds only what was put there to be copied.
    let named = all[..index].iter().rposition(|walked| {
        walked.stage.from.name.as_ref().is_some_and(|name| name.value.eq_ignore_ascii_case(from))
    });
    let mut below = named.or_else(|| from.parse().ok().filter(|number| *number < index));
    while let Some(stage) = below {
        if all[stage].base_stage.is_none() && !all[stage].from_image {
            return;
        }
        below = all[stage].base_stage;
    }
    for source in &copy.sources {
        let CopySource::Path(word) = source else { continue };
        if is_whole(&word.text) {
            let message = format!(
                "the whole root of `{from}` is copied: any change in it makes all that follows run again"
            );
            findings.add("CopyWholeRoot", word.span, at, message);
        }
    }
}

/// `.`, `/`, `./`, and the like.
fn is_whole(source: &str) -> bool {
    !source.is_empty() && !source.contains('$') && clean_path("/", source) == "/"
}

/// `COPY . .` and then an install that would need only a list and a lock.
fn source_before_dependencies(walked: &Walked<'_>, findings: &mut Findings<'_>) {
    let mut copied: Option<(Span, Span)> = None;
    let mut installed: Vec<String> = Vec::new();
    for (instruction, _) in walked.instructions() {
        match &instruction.kind {
            InstructionKind::Copy(copy) | InstructionKind::Add(copy)
                if copied.is_none() && copy_from(copy).is_none() =>
            {
                copied = copy.sources.iter().find_map(|source| match source {
                    CopySource::Path(word) if is_whole(&word.text) => {
                        Some((word.span, instruction.span))
                    }
                    _ => None,
                });
            }
            InstructionKind::Run(run) => {
                for command in commands(run).iter().filter(|it| Tool::installs_dependencies(it)) {
                    // What was installed before the copy is only completed after it.
                    let name = command.name().to_owned();
                    if let Some((span, at)) = copied.filter(|_| !installed.contains(&name)) {
                        let shown: Vec<&str> =
                            command.words.iter().take(3).map(String::as_str).collect();
                        let message = format!(
                            "the whole context is copied before `{}`: every edit installs all dependencies again",
                            shown.join(" ")
                        );
                        findings.add("SourceCopiedBeforeDependencies", span, at, message);
                        return;
                    }
                    installed.push(name);
                }
            }
            _ => {}
        }
    }
}
