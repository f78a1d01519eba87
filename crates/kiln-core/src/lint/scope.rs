//! A light walk through variables: what each instruction sees.
//!
//! It knows what the file, the build arguments and, where somebody knows it, the base image
//! define. Words that cannot be expanded stay as they are: the planner refuses them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::stages::stage_named;
use super::{BaseFacts, LintRequest};
use crate::dockerfile::{
    Dockerfile, Expansion, Instruction, InstructionKind, Stage, WordError, expand,
};
use crate::oci::Platform;
use crate::plan::clean_path;

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

    /// Whether there is an ARG of this name.
    pub(super) fn declares(&self, name: &str) -> bool {
        self.declared.contains(name)
    }

    pub(super) fn expand(&self, word: &str, escape: char) -> Result<Expansion, WordError> {
        expand(word, escape, &|name| self.value(name))
    }

    /// The word after expansion, or as it is.
    pub(super) fn text(&self, word: &str, escape: char) -> String {
        self.expand(word, escape).map_or_else(|_| word.to_owned(), |expansion| expansion.text)
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
    /// Where the stage begins.
    pub(super) start: Scope,
    /// Where it ends.
    pub(super) end: Scope,
    global: Rc<Scope>,
    build_args: &'a BTreeMap<String, String>,
}

impl<'a> Walked<'a> {
    /// The instructions, each with what it sees. Only one scope exists at a time, so that memory
    /// does not grow with instructions times variables.
    pub(super) fn instructions(&self) -> impl Iterator<Item = (&'a Instruction, Rc<Scope>)> {
        let mut scope = Rc::new(self.start.clone());
        let mut previous: Option<&Instruction> = None;
        self.stage.instructions.iter().map(move |instruction| {
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
    scope.set("TARGETSTAGE", request.targets.first().cloned().unwrap_or_default());
    if given {
        for name in scope.values.keys().cloned().collect::<Vec<_>>() {
            if let Some(value) = request.build_args.get(&name) {
                scope.set(&name, value.clone());
            }
        }
    }
    for instruction in &dockerfile.global_args {
        let InstructionKind::Arg(declarations) = &instruction.kind else { continue };
        for declaration in declarations {
            let name = &declaration.name.text;
            scope.declared.insert(name.clone());
            let build_arg = request.build_args.get(name).filter(|_| given).cloned();
            let default = declaration.default.as_ref();
            let value = build_arg.or_else(|| {
                default.map(|word| scope.text(&word.text, dockerfile.directives.escape))
            });
            if let Some(value) = value {
                scope.set(name, value);
            }
        }
    }
    scope
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
        let base_stage = stage_named(dockerfile, &base, index);
        let context = request.named_contexts.contains(&base.to_lowercase());
        let from_image = base_stage.is_none() && !context && base != "scratch";
        let mut scope = match base_stage {
            Some(below) => ends[below].clone(),
            None => base_scope(&base, from_image || context, request),
        };
        let workdir_below = scope.workdir.is_some();
        let start = scope.clone();
        for instruction in &stage.instructions {
            apply(instruction, &mut scope, (&*global, request.build_args, escape));
        }
        ends.push(scope.clone());
        walked.push(Walked {
            stage,
            escape,
            base,
            platform,
            base_stage,
            from_image,
            workdir_below,
            start,
            end: scope,
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
        return scope;
    }
    match (request.base)(base) {
        Some(BaseFacts { environment, shell, platform }) => {
            scope.base_platform = platform;
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
