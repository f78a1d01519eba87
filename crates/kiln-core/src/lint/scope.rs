//! A light walk through variables: what each instruction sees.
//!
//! It knows what the file, the build arguments and, where somebody knows it, the base image
//! define. Words that cannot be expanded stay as they are: the planner refuses them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::stages::stage_named;
use super::{BaseFacts, LintRequest};
use crate::dockerfile::{
    ArgDeclaration, Dockerfile, Expansion, Instruction, InstructionKind, Stage, WordError, expand,
    parse_trigger,
};
use crate::oci::Platform;
use crate::plan::{clean_path, normalize_context_name};
use crate::source::Span;

/// Bytes of a value that are kept.
const VALUE_LIMIT: usize = 4096;

/// What is defined at a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Variables with values: ENV, and ARG with a value.
    values: BTreeMap<String, String>,
    /// Names of ARG, with a value or not.
    declared: BTreeSet<String>,
    /// The base image is one of which nothing is known.
    pub(super) unknown_base: bool,
    /// `USER`, once it was written.
    pub(super) user: Option<String>,
    /// `WORKDIR`, once it was written.
    pub(super) workdir: Option<String>,
    /// A SHELL was written, or the base has one.
    pub(super) has_shell: bool,
    /// The platform of the base image, if it has only one.
    pub(super) base_platform: Option<Platform>,
    /// WORKDIR of the image below all stages, if that is known.
    pub(super) workdir_of_base: Option<String>,
    /// ONBUILD of the base image.
    image_triggers: Vec<String>,
}

impl Scope {
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    /// Whether a name is defined or declared.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.declared.contains(name)
    }

    /// All names that have a value.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    pub(super) fn expand(&self, word: &str, escape: char) -> Result<Expansion, WordError> {
        expand(word, escape, &|name| self.value(name))
    }

    /// The word after expansion, or as it is.
    pub(super) fn text(&self, word: &str, escape: char) -> String {
        self.expand(word, escape).map_or_else(|_| word.to_owned(), |expansion| expansion.text)
    }

    /// Declares an ARG; its value is the build argument's, or its default after expansion.
    pub(super) fn declare(
        &mut self,
        declaration: &ArgDeclaration,
        build_arg: Option<String>,
        escape: char,
    ) -> Option<String> {
        let name = &declaration.name.text;
        let default = declaration.default.as_ref();
        let value = build_arg.or_else(|| default.map(|word| self.text(&word.text, escape)));
        if let Some(value) = &value {
            self.set(name, value.clone());
        }
        self.declared.insert(name.clone());
        value
    }

    /// Values that double with every line (`ENV A=$A$A`) are cut.
    fn set(&mut self, name: &str, mut value: String) {
        value.truncate(value.floor_char_boundary(VALUE_LIMIT));
        self.values.insert(name.to_owned(), value);
    }
}

/// A stage with what each of its instructions sees.
pub(super) struct Walked<'a> {
    pub(super) stage: &'a Stage,
    pub(super) escape: char,
    /// What FROM names after expansion.
    pub(super) base: String,
    /// `--platform` of FROM, if it is one.
    pub(super) platform: Option<Platform>,
    /// The stage that FROM names.
    pub(super) base_stage: Option<usize>,
    /// Whether FROM names an image of a registry or a store (no stage, no context, no scratch).
    pub(super) from_image: bool,
    /// Whether an absolute or any other WORKDIR was written in a stage below.
    pub(super) workdir_below: bool,
    /// What ONBUILD of the base says, each as if it stood at FROM.
    triggers: Vec<Instruction>,
    /// Where the stage begins, before the triggers.
    pub(super) start: Scope,
    /// Where its own instructions begin.
    own_start: Scope,
    global: Rc<Scope>,
    build_args: &'a BTreeMap<String, String>,
}

/// Where an instruction that is judged was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the stage.
    Stage,
    /// Behind an ONBUILD of the stage's base.
    Trigger,
}

impl Walked<'_> {
    /// The stage's own instructions, each with what it sees.
    pub(super) fn instructions(&self) -> impl Iterator<Item = (&Instruction, Rc<Scope>)> {
        self.with_scopes(&self.own_start, &self.stage.instructions)
    }

    /// The triggers of the base, and then the stage's own instructions.
    pub(super) fn with_triggers(&self) -> impl Iterator<Item = (Origin, &Instruction, Rc<Scope>)> {
        let triggers = self.with_scopes(&self.start, &self.triggers);
        let triggers = triggers.map(|(trigger, scope)| (Origin::Trigger, trigger, scope));
        triggers.chain(self.instructions().map(|(own, scope)| (Origin::Stage, own, scope)))
    }

    /// Only one scope exists at a time, so that memory does not grow with instructions times
    /// variables.
    fn with_scopes<'b>(
        &'b self,
        start: &'b Scope,
        instructions: &'b [Instruction],
    ) -> impl Iterator<Item = (&'b Instruction, Rc<Scope>)> {
        let mut scope = Rc::new(start.clone());
        let mut previous: Option<&Instruction> = None;
        instructions.iter().map(move |instruction| {
            if let Some(previous) = previous.replace(instruction) {
                let context = (&*self.global, self.build_args, self.escape);
                apply(previous, Rc::make_mut(&mut scope), context);
            }
            (instruction, Rc::clone(&scope))
        })
    }
}

/// The arguments before the first FROM: with the build arguments, or with defaults only.
pub(super) fn global_scope(
    dockerfile: &Dockerfile,
    request: &LintRequest<'_>,
    given: bool,
) -> Scope {
    let mut scope = predefined(dockerfile, request, given);
    for instruction in &dockerfile.global_args {
        let InstructionKind::Arg(declarations) = &instruction.kind else { continue };
        for declaration in declarations {
            let build_arg = request.build_args.get(&declaration.name.text).filter(|_| given);
            scope.declare(declaration, build_arg.cloned(), dockerfile.directives.escape);
        }
    }
    scope
}

/// The arguments that need no declaration before the first FROM.
pub(super) fn predefined(dockerfile: &Dockerfile, request: &LintRequest<'_>, given: bool) -> Scope {
    let mut scope = Scope::default();
    let host = Platform::host();
    for (prefix, platform) in [("BUILD", &host), ("TARGET", request.platform)] {
        scope.set(&format!("{prefix}PLATFORM"), platform.to_string());
        scope.set(&format!("{prefix}OS"), platform.os.clone());
        scope.set(&format!("{prefix}OSVERSION"), String::new());
        scope.set(&format!("{prefix}ARCH"), platform.architecture.clone());
        let variant = platform.variant.clone().unwrap_or_default();
        scope.set(&format!("{prefix}VARIANT"), variant);
    }
    scope.set("TARGETSTAGE", target_stage(dockerfile, request));
    if given {
        for name in scope.values.keys().cloned().collect::<Vec<_>>() {
            if let Some(value) = request.build_args.get(&name) {
                scope.set(&name, value.clone());
            }
        }
    }
    scope
}

/// The name of the stage that is built: the last one's if none was asked for.
fn target_stage(dockerfile: &Dockerfile, request: &LintRequest<'_>) -> String {
    let count = dockerfile.stages.len();
    let index = match request.targets.first() {
        Some(target) => stage_named(dockerfile, target, count),
        None => count.checked_sub(1),
    };
    let name = index.and_then(|index| dockerfile.stages[index].from.name.as_ref());
    name.map(|name| name.value.to_lowercase()).unwrap_or_default()
}

/// The triggers that a stage on `base` begins with.
fn triggers(base: Option<&Stage>, image: &[String], at: Span) -> Vec<Instruction> {
    let own = base.into_iter().flat_map(|stage| &stage.instructions);
    let own = own.filter_map(|instruction| match &instruction.kind {
        InstructionKind::Onbuild(trigger) => Some(trigger.text.as_str()),
        _ => None,
    });
    let texts = image.iter().map(String::as_str).chain(own);
    // What cannot be read is the planner's to tell.
    let parsed = texts.filter_map(|text| parse_trigger(text, '\\').ok());
    parsed.map(|trigger| Instruction { span: at, ..trigger }).collect()
}

/// Walks all stages.
pub(super) fn walk<'a>(dockerfile: &'a Dockerfile, request: &LintRequest<'a>) -> Vec<Walked<'a>> {
    let escape = dockerfile.directives.escape;
    let global = Rc::new(global_scope(dockerfile, request, true));
    let mut ends: Vec<Scope> = Vec::new();
    let mut walked = Vec::new();
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let base = global.text(&stage.from.image.text, escape);
        let platform = stage.from.platform.as_ref();
        let platform = platform.and_then(|word| global.text(&word.text, escape).parse().ok());
        // FROM of a name with capitals means an image, as with BuildKit.
        let named = (base == base.to_lowercase()).then(|| stage_named(dockerfile, &base, index));
        let base_stage = named.flatten();
        let context = request.named_contexts.contains(&normalize_context_name(&base));
        let from_image = base_stage.is_none() && !context && base != "scratch";
        let mut scope = match base_stage {
            Some(below) => ends[below].clone(),
            None => base_scope(&base, from_image || context, request),
        };
        let of_image = std::mem::take(&mut scope.image_triggers);
        let below = base_stage.map(|below| &dockerfile.stages[below]);
        let triggers = triggers(below, &of_image, stage.from.span);
        let workdir_below = scope.workdir.is_some();
        let start = scope.clone();
        for trigger in &triggers {
            apply(trigger, &mut scope, (&*global, request.build_args, escape));
        }
        let own_start = scope.clone();
        for instruction in &stage.instructions {
            apply(instruction, &mut scope, (&*global, request.build_args, escape));
        }
        ends.push(scope);
        walked.push(Walked {
            stage,
            escape,
            base,
            platform,
            base_stage,
            from_image,
            workdir_below,
            triggers,
            start,
            own_start,
            global: Rc::clone(&global),
            build_args: request.build_args,
        });
    }
    walked
}

fn base_scope(base: &str, is_image: bool, request: &LintRequest<'_>) -> Scope {
    let mut scope = Scope::default();
    // Every image has one, if only BuildKit's default.
    scope.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    if !is_image {
        scope.workdir_of_base = Some("/".to_owned());
        return scope;
    }
    match (request.base)(base) {
        Some(BaseFacts { environment, shell, platform, triggers, workdir }) => {
            scope.workdir_of_base = Some(clean_path("/", &workdir));
            scope.base_platform = platform;
            scope.image_triggers = triggers;
            for variable in &environment {
                let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
                scope.set(name, value.to_owned());
            }
            scope.has_shell = !shell.is_empty();
        }
        None => scope.unknown_base = true,
    }
    scope
}

/// What an instruction changes.
fn apply(
    instruction: &Instruction,
    scope: &mut Scope,
    (global, build_args, escape): (&Scope, &BTreeMap<String, String>, char),
) {
    match &instruction.kind {
        InstructionKind::Env(pairs) => {
            let text = |word: &str| scope.text(word, escape);
            let pairs: Vec<(String, String)> =
                pairs.iter().map(|pair| (text(&pair.key.text), text(&pair.value.text))).collect();
            for (name, value) in pairs {
                scope.set(&name, value);
            }
        }
        InstructionKind::Arg(declarations) => {
            for declaration in declarations {
                let name = declaration.name.text.as_str();
                let default = declaration.default.as_ref();
                let default = default.map(|word| scope.text(&word.text, escape));
                let value = build_args.get(name).cloned().or(default);
                if let Some(value) = value.or_else(|| global.value(name)) {
                    scope.set(name, value);
                }
                scope.declared.insert(name.to_owned());
            }
        }
        InstructionKind::User(word) => scope.user = Some(scope.text(&word.text, escape)),
        InstructionKind::Workdir(word) => {
            let path = scope.text(&word.text, escape);
            let old = scope.workdir.as_deref().unwrap_or("/");
            scope.workdir = Some(clean_path(old, &path));
        }
        InstructionKind::Shell(_) => scope.has_shell = true,
        _ => {}
    }
}
