//! What is questionable in a Dockerfile that builds: BuildKit's rules, and kiln's cache rules.
//!
//! [`lint`] is a pass of its own over the parsed file. It reads no disk and asks no registry: what
//! a base image defines comes from [`LintRequest::base`] if somebody knows it. Every rule stands in
//! [`RULES`] with its name, and has a page `docs/rules/NAME.md`.
//!
//! `# check=skip=A,B;error=true;experimental=C` at the top of the file chooses rules; the build
//! argument `BUILDKIT_DOCKERFILE_CHECK` does so instead of it, and the same comment above an
//! instruction adds to it for that instruction.
//!
//! It does not find errors: a file that does not parse is for the parser to refuse.
//!
//! Source: the rules in the Dockerfile reference, "Build checks".

mod cache;
mod casing;
mod commands;
mod fix;
mod instructions;
mod options;
mod outline;
mod rewrites;
mod rules;
mod scope;
mod stages;
mod tools;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

pub use fix::{Edit, Fix, Fixed, fix};
pub use instructions::is_secret_name;
pub use options::{LintOptions, OptionsError};
pub use outline::{Outline, OutlineArg, OutlineNeed, Target, outline, targets};
pub use rules::{Family, RULES, Rule, rule};

use crate::diagnostic::{Diagnostic, Severity};
use crate::dockerfile::{Dockerfile, comments_before};
use crate::oci::Platform;
use crate::pattern::Patterns;
use crate::source::{SourceFile, Span};

/// What is known of a base image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseFacts {
    /// Its environment, `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Its `SHELL`, if it has one.
    pub shell: Vec<String>,
    /// Its platform, if it has only one.
    pub platform: Option<Platform>,
    /// Its `WorkingDir`; empty means `/`.
    pub workdir: String,
    /// Its `OnBuild`.
    pub triggers: Vec<String>,
}

/// Tells what is known of a base image, by its name as FROM has it after expansion.
pub type BaseLookup<'a> = &'a dyn Fn(&str) -> Option<BaseFacts>;

/// What builds left in a cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMountContent {
    /// No file that holds anything.
    Empty,
    /// Files.
    Files,
}

/// Tells what is in a cache mount, by its id; `None` if no build has used it.
pub type CacheMountLookup<'a> = &'a dyn Fn(&str) -> Option<CacheMountContent>;

/// What a file is judged with.
#[derive(Clone, Copy)]
pub struct LintRequest<'a> {
    /// `--build-arg`
    pub build_args: &'a BTreeMap<String, String>,
    /// `--target`: only these stages and what they need are judged; empty means all.
    pub targets: &'a [String],
    /// Names of `--build-context`, normalised: FROM and `--from` of them mean no image.
    pub named_contexts: &'a BTreeSet<String>,
    /// The platform of the build.
    pub platform: &'a Platform,
    /// `.dockerignore`, if there is one.
    pub ignored: Option<&'a Patterns>,
    /// What is known of base images.
    pub base: BaseLookup<'a>,
    /// What is known of cache mounts.
    pub cache_mounts: CacheMountLookup<'a>,
}

impl std::fmt::Debug for LintRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LintRequest")
            .field("build_args", &self.build_args)
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

/// Something that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: &'static Rule,
    /// What is found here; BuildKit's wording where the rule is BuildKit's.
    pub message: String,
    /// The words that it is about.
    pub span: Span,
    /// The whole instruction.
    pub instruction: Span,
    /// It may be wrong, as it depends on a base image of which nothing is known.
    pub depends_on_base: bool,
    /// A safe rewrite, where there is one.
    pub fix: Option<Fix>,
}

impl Warning {
    /// The warning as a diagnostic, with the rule's fix as its help.
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic {
            code: self.rule.name,
            severity: Severity::Warning,
            message: self.message.clone(),
            span: Some(self.span),
            help: Some(self.rule.fix.to_owned()),
        }
    }
}

/// All that was found, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LintReport {
    /// The warnings.
    pub warnings: Vec<Warning>,
    /// `error=true`: BuildKit's rules end the build. Kiln's own never do.
    pub warnings_are_errors: bool,
}

impl LintReport {
    /// How many warnings are BuildKit's.
    pub fn buildkit_count(&self) -> usize {
        self.warnings.iter().filter(|warning| warning.rule.family == Family::BuildKit).count()
    }

    /// The names of the rules because of which the build must not be done, each once. What depends
    /// on a base image that is not known does not end it.
    pub fn violations(&self) -> Vec<&'static str> {
        let counts = |warning: &&Warning| {
            warning.rule.family == Family::BuildKit && !warning.depends_on_base
        };
        let mut names = Vec::new();
        for warning in self.warnings.iter().filter(counts).filter(|_| self.warnings_are_errors) {
            if !names.contains(&warning.rule.name) {
                names.push(warning.rule.name);
            }
        }
        names
    }
}

/// Judges a parsed file; `parsed` are the parser's diagnostics about it.
///
/// The error is a check directive that cannot be read, or a target that is not there.
pub fn lint(
    source: &SourceFile,
    dockerfile: &Dockerfile,
    parsed: &[Diagnostic],
    request: &LintRequest<'_>,
) -> Result<LintReport, Diagnostic> {
    let options = options(dockerfile, request)?;
    let mut findings =
        Findings { source, options, warnings: Vec::new(), unknown_base: false, trigger_at: None };
    for diagnostic in parsed {
        if let (Some(rule), Some(span)) = (rule(diagnostic.code), diagnostic.span) {
            // As with BuildKit it stands where the instruction ends, before its here-documents.
            let (first, last) = ((span.start, span.start), (span.end, span.end));
            let [first, last] = [first, last].map(|(start, end)| Span { start, end });
            let message = "Empty continuation line".to_owned();
            let fix = rewrites::empty_lines(source, span);
            findings.add_to_file(rule.name, first, last, message).fix(fix);
        }
    }
    casing::check(dockerfile, &mut findings);
    stages::check(dockerfile, source, &mut findings);
    if let Some(missing) = stages::missing_target(dockerfile, request) {
        return Err(missing);
    }
    variables::check_from(dockerfile, request, &mut findings);
    let walked = scope::walk(dockerfile, request);
    let graph = stages::Graph::new(dockerfile, &walked, request.targets);
    for index in graph.judged() {
        let stage = &walked[index];
        findings.unknown_base = stage.start.unknown_base;
        variables::check_stage(stage, request, &mut findings);
        instructions::check(stage, &mut findings, request);
        cache::check(&walked, index, request, &mut findings);
    }
    let Findings { options, mut warnings, .. } = findings;
    warnings.sort_by_key(|warning| (warning.instruction.start, warning.span.start));
    Ok(LintReport { warnings, warnings_are_errors: options.error })
}

fn options(dockerfile: &Dockerfile, request: &LintRequest<'_>) -> Result<LintOptions, Diagnostic> {
    if let Some(text) = request.build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
        return LintOptions::parse(text).map_err(|error| Diagnostic {
            code: "bad-check-option",
            severity: Severity::Error,
            message: format!("build argument BUILDKIT_DOCKERFILE_CHECK: {error}"),
            span: None,
            help: None,
        });
    }
    let Some(directive) = &dockerfile.directives.check else {
        return Ok(LintOptions::default());
    };
    // What follows a blank is a remark; not so in the build argument.
    let chosen = directive.value.split(' ').next().unwrap_or_default();
    LintOptions::parse(chosen).map_err(|error| {
        Diagnostic::error("bad-check-option", directive.span, error.to_string())
            .with_help("write `# check=skip=RULE,RULE;error=true;experimental=RULE`")
    })
}

/// Where rules leave what they find.
struct Findings<'a> {
    source: &'a SourceFile,
    options: LintOptions,
    warnings: Vec<Warning>,
    /// The stage at hand is made from an image of which nothing is known.
    unknown_base: bool,
    /// What is judged is a trigger of the base: it is told at this image of this FROM.
    trigger_at: Option<(Span, Span)>,
}

/// A warning that was just added, unless its rule is off.
struct Added<'a>(Option<&'a mut Warning>);

impl Added<'_> {
    /// Gives it a rewrite.
    fn fix(self, fix: Option<Fix>) {
        if let Some(warning) = self.0 {
            warning.fix = fix;
        }
    }
}

/// Rules to which it matters what the base image defines.
const BASE_RULES: [&str; 2] = ["UndefinedVar", "JSONArgsRecommended"];

fn named(name: &str) -> &'static Rule {
    rule(name).expect("rules are added under the names of the table")
}

impl Findings<'_> {
    /// Adds what the rule `name` found at `span` of the instruction at `instruction`, unless the
    /// rule is off there.
    fn add(&mut self, name: &str, span: Span, instruction: Span, message: String) -> Added<'_> {
        self.add_unless(name, (span, instruction), instruction, message)
    }

    /// The same, with the comment above another instruction to turn the rule off.
    fn add_unless(
        &mut self,
        name: &str,
        (span, instruction): (Span, Span),
        skipped_above: Span,
        message: String,
    ) -> Added<'_> {
        if self.trigger_at.is_some() {
            return self.add_to_file(name, span, instruction, message);
        }
        let comments = comments_before(self.source, skipped_above.start);
        // Only the first one counts, even if it cannot be read.
        let local = comments.iter().find_map(|comment| LintOptions::of_comment(&comment.value));
        let options = match local {
            Some(Ok(local)) => &self.options.merged(&local),
            _ => &self.options,
        };
        if !options.is_on(named(name)) {
            return Added(None);
        }
        self.push(named(name), (span, instruction), message)
    }

    /// Adds what a rule found that looks at the whole file: comments above an instruction do not
    /// turn it off there, only the directive does.
    fn add_to_file(
        &mut self,
        name: &str,
        span: Span,
        instruction: Span,
        message: String,
    ) -> Added<'_> {
        if !self.options.is_on(named(name)) {
            return Added(None);
        }
        self.push(named(name), (span, instruction), message)
    }

    /// Says what instructions are judged next.
    fn judge(&mut self, origin: scope::Origin, walked: &scope::Walked<'_>) {
        let from = &walked.stage.from;
        self.trigger_at =
            (origin == scope::Origin::Trigger).then_some((from.image.span, from.span));
    }

    fn push(&mut self, rule: &'static Rule, place: (Span, Span), message: String) -> Added<'_> {
        let (span, instruction) = self.trigger_at.unwrap_or(place);
        let depends_on_base = self.unknown_base && BASE_RULES.contains(&rule.name);
        let fix = None;
        self.warnings.push(Warning { rule, message, span, instruction, depends_on_base, fix });
        // What stands in another stage or image is not rewritten from here.
        Added(self.warnings.last_mut().filter(|_| self.trigger_at.is_none()))
    }
}
