//! Variables that are used and not defined, and what FROM is made of.

use std::borrow::Cow;

use super::scope::{Origin, Scope, Walked, global_scope};
use super::{Findings, LintRequest, rewrites};
use crate::dockerfile::{
    Copy, CopySource, Dockerfile, Expansion, InstructionKind, Word, expand_body, parse_mount_with,
};
use crate::oci::{Platform, Reference};
use crate::source::Span;

/// Rules about FROM.
pub(super) fn check_from(
    dockerfile: &Dockerfile,
    request: &LintRequest<'_>,
    findings: &mut Findings<'_>,
) {
    let escape = dockerfile.directives.escape;
    let global = global_scope(dockerfile, request, true);
    let defaults = global_scope(dockerfile, request, false);
    for stage in &dockerfile.stages {
        let from = &stage.from;
        check_default(&from.image, from.span, (&defaults, escape), findings);
        if let Ok(expansion) = global.expand(&from.image.text, escape) {
            undeclared(&expansion, (from.image.span, from.span), &global, findings);
        }
        let Some(platform) = &from.platform else { continue };
        let Ok(expansion) = global.expand(&platform.text, escape) else { continue };
        undeclared(&expansion, (platform.span, from.span), &global, findings);
        let only_target = expansion.unset.is_empty()
            && expansion.used.len() == 1
            && expansion.used.contains("TARGETPLATFORM");
        if only_target && Some(&expansion.text) == global.value("TARGETPLATFORM").as_ref() {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                platform.text
            );
            let fix = rewrites::without_platform(findings.source, from);
            findings.add("RedundantTargetPlatform", platform.span, from.span, message).fix(fix);
        }
        let name = from.name.as_ref().map_or("", |name| name.value.as_str()).to_lowercase();
        check_constant(&expansion, &name, (platform.span, from.span), findings);
    }
}

fn check_default(
    image: &Word,
    instruction: Span,
    (defaults, escape): (&Scope, char),
    findings: &mut Findings<'_>,
) {
    let Ok(expansion) = defaults.expand(&image.text, escape) else { return };
    if expansion.text.parse::<Reference>().is_err() {
        let message = format!(
            "Default value for ARG {} results in empty or invalid base image name",
            image.text
        );
        findings.add_to_file("InvalidDefaultArgInFrom", image.span, instruction, message);
    }
}

fn undeclared(
    expansion: &Expansion,
    (span, instruction): (Span, Span),
    global: &Scope,
    findings: &mut Findings<'_>,
) {
    for name in expansion.unset.iter().filter(|name| !global.knows(name)) {
        let near = suggest(name, global.names());
        let near = near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
        let message = format!("FROM argument '{name}' is not declared{near}");
        findings.add("UndefinedArgInFrom", span, instruction, message);
    }
}

fn check_constant(
    expansion: &Expansion,
    stage_name: &str,
    (span, instruction): (Span, Span),
    findings: &mut Findings<'_>,
) {
    if !expansion.used.is_empty() || !expansion.unset.is_empty() {
        return;
    }
    let Ok(platform) = expansion.text.parse::<Platform>() else { return };
    // A stage that is named after its platform is there for it.
    if stage_name.contains(&platform.os) || stage_name.contains(&platform.architecture) {
        return;
    }
    let message =
        format!("FROM --platform flag should not use constant value {:?}", expansion.text);
    findings.add("FromPlatformFlagConstDisallowed", span, instruction, message);
}

/// Variables that popular base images define: with a base of which nothing is known, their use is
/// no mistake.
const OFTEN_DEFINED: [&str; 24] = [
    "CARGO_HOME",
    "GEM_HOME",
    "GOLANG_VERSION",
    "GOPATH",
    "GOROOT",
    "HOME",
    "HOSTNAME",
    "JAVA_HOME",
    "JAVA_VERSION",
    "LANG",
    "LC_ALL",
    "MAVEN_HOME",
    "NGINX_VERSION",
    "NODE_VERSION",
    "PG_MAJOR",
    "PG_VERSION",
    "PHP_INI_DIR",
    "PHP_VERSION",
    "PYTHON_VERSION",
    "RUBY_VERSION",
    "RUSTUP_HOME",
    "RUST_VERSION",
    "USER",
    "YARN_VERSION",
];

/// Uses of undefined variables in a stage.
pub(super) fn check_stage(
    walked: &Walked<'_>,
    request: &LintRequest<'_>,
    findings: &mut Findings<'_>,
) {
    let escape = walked.escape;
    check_base_platform(walked, request, findings);
    for (origin, instruction, scope) in walked.with_triggers() {
        findings.judge(origin, walked);
        let mut uses = Uses { scope: Cow::Borrowed(&*scope), escape, found: Vec::new() };
        match &instruction.kind {
            InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
                for pair in pairs {
                    uses.word(&pair.key);
                    uses.word(&pair.value);
                }
            }
            InstructionKind::Add(copy) | InstructionKind::Copy(copy) => uses.copy(copy),
            InstructionKind::Arg(declarations) => {
                // Each declaration sees those before it on its line.
                for declaration in declarations {
                    let given = request.build_args.get(&declaration.name.text).cloned();
                    if let Some(default) = declaration.default.as_ref().filter(|_| given.is_none())
                    {
                        uses.word(default);
                    }
                    uses.scope.to_mut().declare(declaration, given, escape);
                }
            }
            InstructionKind::User(word)
            | InstructionKind::Workdir(word)
            | InstructionKind::StopSignal(word) => uses.word(word),
            InstructionKind::Volume(words) => words.iter().for_each(|word| uses.word(word)),
            InstructionKind::Run(run) => {
                for flag in run.flags.iter().filter(|flag| flag.name == "mount") {
                    uses.mount(flag.value.as_ref());
                }
            }
            _ => {}
        }
        for (message, span) in uses.found {
            findings.add("UndefinedVar", span, instruction.span, message);
        }
    }
    findings.judge(Origin::Stage, walked);
}

/// An image of one platform under a stage for another one.
fn check_base_platform(
    walked: &Walked<'_>,
    request: &LintRequest<'_>,
    findings: &mut Findings<'_>,
) {
    let Some(actual) = walked.start.base_platform.as_ref().filter(|_| walked.from_image) else {
        return;
    };
    let from = &walked.stage.from;
    let expected = match &from.platform {
        None => Some(request.platform.clone()),
        Some(_) => walked.platform.clone(),
    };
    let Some(expected) = expected else { return };
    if (&expected.os, &expected.architecture) != (&actual.os, &actual.architecture) {
        let message = format!(
            "Base image {} was pulled with platform \"{actual}\", expected \"{expected}\" for current build",
            walked.base
        );
        findings.add_to_file("InvalidBaseImagePlatform", from.image.span, from.span, message);
    }
}

/// Collects names that are used and have no value.
struct Uses<'a> {
    scope: Cow<'a, Scope>,
    escape: char,
    /// What is said of each, and where it stands.
    found: Vec<(String, Span)>,
}

impl Uses<'_> {
    fn word(&mut self, word: &Word) {
        if let Ok(expansion) = self.scope.expand(&word.text, self.escape) {
            self.add(&expansion, word.span);
        }
    }

    fn add(&mut self, expansion: &Expansion, span: Span) {
        for name in expansion.unset.iter().filter(|name| !self.scope.knows(name)) {
            if self.scope.unknown_base && OFTEN_DEFINED.contains(&name.as_str()) {
                continue;
            }
            let near = suggest(name, self.scope.names());
            let near = near.map_or_else(String::new, |near| format!(" (did you mean ${near}?)"));
            self.found.push((format!("Usage of undefined variable '${name}'{near}"), span));
        }
    }

    fn copy(&mut self, copy: &Copy) {
        let expanded = ["chown", "chmod", "checksum"];
        for flag in copy.flags.iter().filter(|flag| expanded.contains(&flag.name.as_str())) {
            flag.value.iter().for_each(|word| self.word(word));
        }
        for source in &copy.sources {
            match source {
                CopySource::Path(word) => self.word(word),
                CopySource::Heredoc(heredoc, span) if heredoc.expand => {
                    let value = |name: &str| self.scope.value(name);
                    if let Ok(expansion) = expand_body(&heredoc.body, '\\', &value) {
                        self.add(&expansion, *span);
                    }
                }
                CopySource::Heredoc(..) => {}
            }
        }
        self.word(&copy.destination);
    }

    fn mount(&mut self, value: Option<&Word>) {
        let Some(word) = value else { return };
        let mut all = Vec::new();
        // What is wrong with the mount itself is the planner's to tell.
        let _ = parse_mount_with(&word.text, &mut |raw| {
            let expansion = self.scope.expand(raw, self.escape);
            let text = expansion.as_ref().map_or_else(|_| raw.to_owned(), |it| it.text.clone());
            all.extend(expansion);
            Ok(text)
        });
        for expansion in &all {
            self.add(expansion, word.span);
        }
    }
}

/// The defined name that was meant, as BuildKit finds it: fewer than three letters are other,
/// missing or too many, and case counts.
fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut limit = 3;
    for candidate in known {
        let distance = edits(name, candidate);
        if distance == 0 {
            return None;
        }
        if distance < limit {
            (best, limit) = (Some(candidate), distance);
        }
    }
    best
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for j in 0..b.len() {
            let substituted = diagonal + usize::from(b[j] != letter);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
