//! Rules about single instructions, and about those that stand twice.

use super::scope::{Origin, Scope, Walked};
use super::{Findings, LintRequest, rewrites};
use crate::dockerfile::{
    CommandLine, Copy, CopySource, Instruction, InstructionKind, KeyValue, Word, expand_words,
    flags,
};
use crate::plan::clean_path;
use crate::source::Span;

/// Judges the instructions of a stage.
pub(super) fn check(walked: &Walked<'_>, findings: &mut Findings<'_>, request: &LintRequest<'_>) {
    let mut workdir_seen = walked.workdir_below;
    for (origin, instruction, scope) in walked.with_triggers() {
        findings.judge(origin, walked);
        let at = instruction.span;
        match &instruction.kind {
            InstructionKind::Maintainer(author) => {
                let message = "Maintainer instruction is deprecated in favor of using label";
                let fix = rewrites::maintainer(findings.source, instruction, author);
                findings.add("MaintainerDeprecated", at, at, message.to_owned()).fix(fix);
            }
            InstructionKind::Env(pairs) => {
                legacy(instruction, pairs, walked.escape, findings);
                for pair in pairs {
                    secret("ENV", &pair.key, at, findings);
                }
            }
            InstructionKind::Label(pairs) => {
                legacy(instruction, pairs, walked.escape, findings);
            }
            InstructionKind::Arg(declarations) => {
                for declaration in declarations {
                    secret("ARG", &declaration.name, at, findings);
                }
            }
            InstructionKind::Cmd(CommandLine::Shell { .. })
            | InstructionKind::Entrypoint(CommandLine::Shell { .. })
                if !scope.has_shell =>
            {
                let message = format!(
                    "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                    instruction.keyword.value
                );
                findings.add("JSONArgsRecommended", at, at, message);
            }
            InstructionKind::Workdir(word) => {
                let path = scope.text(&word.text, walked.escape);
                if !workdir_seen && !path.starts_with('/') {
                    let message = format!(
                        "Relative workdir {path:?} can have unexpected results if the base image changes"
                    );
                    let below = scope.workdir_of_base.as_deref();
                    let plain = rewrites::plain(findings.source, word);
                    let fix = plain.zip(below).map(|(path, below)| {
                        rewrites::Fix::replace(word.span, clean_path(below, path))
                    });
                    findings.add("WorkdirRelativePath", word.span, at, message).fix(fix);
                }
                workdir_seen = true;
            }
            InstructionKind::Expose(words) => expose(words, &scope, (walked.escape, at), findings),
            InstructionKind::Copy(copy) => {
                ignored("Copy", copy, (&scope, walked.escape, at), findings, request);
            }
            InstructionKind::Add(copy) => {
                ignored("Add", copy, (&scope, walked.escape, at), findings, request);
            }
            _ => {}
        }
    }
    findings.judge(Origin::Stage, walked);
    repeated(walked, findings);
}

/// All but the last CMD, ENTRYPOINT and HEALTHCHECK of a stage do nothing.
fn repeated(walked: &Walked<'_>, findings: &mut Findings<'_>) {
    for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let mut previous: Option<&Instruction> = None;
        let instructions = walked.with_triggers().map(|(_, instruction, _)| instruction);
        for instruction in instructions.filter(|it| it.keyword.value.eq_ignore_ascii_case(name)) {
            if let Some(previous) = previous {
                let message = format!(
                    "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                    instruction.keyword.value
                );
                let at = (previous.span, previous.span);
                let name = "MultipleInstructionsDisallowed";
                // The comment that counts is the one above the later instruction.
                findings.add_unless(name, at, instruction.span, message);
            }
            previous = Some(instruction);
        }
    }
}

fn legacy(
    instruction: &Instruction,
    pairs: &[KeyValue],
    escape: char,
    findings: &mut Findings<'_>,
) {
    let name = &instruction.keyword.value;
    for pair in pairs.iter().filter(|pair| pair.legacy) {
        let message = format!(
            "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
        );
        let span = pair.key.span.to(pair.value.span);
        let fix = rewrites::legacy_pair(findings.source, pair, name, escape);
        findings.add("LegacyKeyValueFormat", span, instruction.span, message).fix(fix);
    }
}

const SECRET_WORDS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const HARMLESS_WORDS: [&str; 3] = ["public", "file", "version"];

/// Whether a variable of this name is likely to hold what nobody should see.
pub fn is_secret_name(name: &str) -> bool {
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET_WORDS) && !has(&HARMLESS_WORDS)
}

fn secret(instruction: &str, name: &Word, at: Span, findings: &mut Findings<'_>) {
    if is_secret_name(&name.text) {
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} {:?})",
            name.text
        );
        findings.add("SecretsUsedInArgOrEnv", name.span, at, message);
    }
}

fn expose(words: &[Word], scope: &Scope, (escape, at): (char, Span), findings: &mut Findings<'_>) {
    for word in words {
        let Ok(expanded) = expand_words(&word.text, escape, &|name| scope.value(name)) else {
            continue;
        };
        for port in expanded.words {
            if let Some((_, protocol)) = port.rsplit_once('/')
                && protocol != protocol.to_lowercase()
            {
                let message =
                    format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                let fix = rewrites::lower_protocol(findings.source, word);
                findings.add("ExposeProtoCasing", word.span, at, message).fix(fix);
            }
            if port.contains(':') {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                );
                let fix = rewrites::container_port(findings.source, word);
                findings.add("ExposeInvalidFormat", word.span, at, message).fix(fix);
            }
        }
    }
}

/// Whether a source is no path of a context: a URL, a git repository.
fn is_remote(source: &str) -> bool {
    source.contains("://") || source.starts_with("git@")
}

/// A path without `.`, doubled slashes and `..` that a part before it answers.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let absolute = path.starts_with('/');
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

fn ignored(
    command: &str,
    copy: &Copy,
    (scope, escape, at): (&Scope, char, Span),
    findings: &mut Findings<'_>,
    request: &LintRequest<'_>,
) {
    let Some(patterns) = request.ignored else { return };
    // With exceptions a directory may be ignored while something in it is not.
    let exceptions = patterns.texts().any(|pattern| pattern.starts_with('!'));
    if exceptions || flags::text(&copy.flags, "from").is_some() {
        return;
    }
    for source in &copy.sources {
        let CopySource::Path(word) = source else { continue };
        let text = scope.text(&word.text, escape);
        if is_remote(&text) {
            continue;
        }
        let path = cleaned(&text);
        let hit = match path.as_str() {
            // The root itself is not left out by a pattern, unless all that is in it is.
            "." | "/" => {
                patterns.texts().any(|pattern| matches!(pattern.as_str(), "*" | "**" | "**/*"))
            }
            path => patterns.matches(path),
        };
        if hit {
            let message =
                format!("Attempting to {command} file {path:?} that is excluded by .dockerignore");
            findings.add("CopyIgnoredFile", word.span, at, message);
        }
    }
}
