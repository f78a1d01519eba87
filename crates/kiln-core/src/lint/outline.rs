//! What a Dockerfile offers: its targets, and what a build of one can be given.
//!
//! Descriptions are comments above ARG and FROM that begin with the name: `# VERSION of the app`.

use std::collections::{BTreeMap, BTreeSet};

use super::LintRequest;
use super::scope::{Scope, Walked, global_scope, predefined, walk};
use super::stages::{needs, stage_named};
use crate::dockerfile::{
    ArgDeclaration, Dockerfile, Instruction, InstructionKind, Mount, MountKind, comments_before,
    flags, parse_mount_with,
};
use crate::source::SourceFile;

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in lower case; `None` for a stage without one.
    pub name: Option<String>,
    /// The last one, which is built when none is named.
    pub default: bool,
    /// What the comment above it says.
    pub description: String,
    /// What FROM names, as written.
    pub base: String,
    /// `--platform` of FROM, as written.
    pub platform: Option<String>,
}

/// All stages, in order.
pub fn targets(source: &SourceFile, dockerfile: &Dockerfile) -> Vec<Target> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let stages = dockerfile.stages.iter().enumerate();
    let targets = stages.map(|(index, stage)| {
        let from = &stage.from;
        let name = from.name.as_ref().map(|name| name.value.to_lowercase());
        Target {
            description: name
                .as_ref()
                .map_or_else(String::new, |name| description(source, from.span.start, name)),
            name,
            default: index == last,
            base: from.image.text.clone(),
            platform: from.platform.as_ref().map(|word| word.text.clone()),
        }
    });
    targets.collect()
}

/// What a build of one target can be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The target's name, if it has one.
    pub name: Option<String>,
    /// What the comment above it says.
    pub description: String,
    /// Build arguments in the order of their declarations.
    pub args: Vec<OutlineArg>,
    /// Secrets that are mounted.
    pub secrets: Vec<OutlineNeed>,
    /// SSH agents that are mounted.
    pub ssh: Vec<OutlineNeed>,
    /// Ids of cache mounts.
    pub caches: Vec<String>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the comment above it says.
    pub description: String,
    /// Its value in this build.
    pub value: String,
    /// Where it is declared.
    start: u32,
}

/// Something that must come from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineNeed {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

/// The outline of `target` (the last stage if it is `None`); `None` if there is no such stage.
///
/// Of `request` the build arguments, the platform and what is known of bases count.
pub fn outline(
    source: &SourceFile,
    dockerfile: &Dockerfile,
    target: Option<&str>,
    request: &LintRequest<'_>,
) -> Option<Outline> {
    let count = dockerfile.stages.len();
    let index = match target {
        Some(target) => stage_named(dockerfile, target, count)?,
        None => count.checked_sub(1)?,
    };
    let from = &dockerfile.stages.get(index)?.from;
    let name = from.name.as_ref().map(|name| name.value.to_lowercase());
    let number = [index.to_string()];
    let request = LintRequest { targets: &number, ..*request };
    let walked = walk(dockerfile, &request);
    let mut collected = Collected {
        source,
        dockerfile,
        global: global_scope(dockerfile, &request, true),
        global_args: global_args(source, dockerfile, &request),
        build_args: request.build_args,
        seen: BTreeSet::new(),
        outline: Outline::default(),
    };
    collected.stage(&walked, index);
    let mut outline = collected.outline;
    outline.args.sort_by_key(|arg| arg.start);
    if let Some(name) = &name {
        outline.description = description(source, from.span.start, name);
    }
    outline.name = name;
    Some(outline)
}

/// An argument with the arguments that its default uses.
#[derive(Clone)]
struct Declared {
    arg: OutlineArg,
    uses: BTreeSet<String>,
}

/// The arguments before the first FROM, the last declaration of each.
fn global_args(
    source: &SourceFile,
    dockerfile: &Dockerfile,
    request: &LintRequest<'_>,
) -> BTreeMap<String, Declared> {
    let mut args: BTreeMap<String, Declared> = BTreeMap::new();
    let escape = dockerfile.directives.escape;
    let mut scope = predefined(dockerfile, request, true);
    for instruction in &dockerfile.global_args {
        let InstructionKind::Arg(declarations) = &instruction.kind else { continue };
        for declaration in declarations {
            let name = &declaration.name.text;
            let given = request.build_args.get(name).cloned();
            let default = declaration.default.as_ref().filter(|_| given.is_none());
            let expansion = default.and_then(|word| scope.expand(&word.text, escape).ok());
            let mut uses = expansion.map(|expansion| expansion.used).unwrap_or_default();
            // A default made of the argument's own last value uses what that one used.
            if uses.remove(name)
                && let Some(old) = args.get(name)
            {
                uses.extend(old.uses.iter().cloned());
            }
            let arg = OutlineArg {
                name: name.clone(),
                description: description(source, instruction.span.start, name),
                value: scope.declare(declaration, given, escape).unwrap_or_default(),
                start: declaration.name.span.start,
            };
            args.insert(name.clone(), Declared { arg, uses });
        }
    }
    args
}

struct Collected<'a> {
    source: &'a SourceFile,
    dockerfile: &'a Dockerfile,
    global: Scope,
    global_args: BTreeMap<String, Declared>,
    build_args: &'a BTreeMap<String, String>,
    /// Stages that were looked at.
    seen: BTreeSet<usize>,
    outline: Outline,
}

impl Collected<'_> {
    /// Collects a stage, then the one below it, then those that it names: of several arguments of
    /// one name the first one that is found counts.
    fn stage(&mut self, all: &[Walked<'_>], index: usize) {
        if !self.seen.insert(index) {
            return;
        }
        let walked = &all[index];
        let from = &walked.stage.from;
        let mut args = self.global_args.clone();
        let mut used = BTreeSet::new();
        for word in std::iter::once(&from.image).chain(&from.platform) {
            let expansion = self.global.expand(&word.text, walked.escape);
            used.extend(expansion.map(|expansion| expansion.used).unwrap_or_default());
        }
        for (_, instruction, scope) in walked.with_triggers() {
            match &instruction.kind {
                InstructionKind::Arg(declarations) => {
                    self.args(instruction, declarations, (&scope, walked.escape), &mut args);
                    used.extend(declarations.iter().map(|it| it.name.text.clone()));
                }
                InstructionKind::Run(run) => {
                    for word in flags::texts(&run.flags, "mount") {
                        let mount = parse_mount_with(&word.text, &mut |raw| {
                            Ok(scope.text(raw, walked.escape))
                        });
                        if let Ok(mount) = mount {
                            self.mount(&mount);
                        }
                    }
                }
                _ => {}
            }
        }
        let mut waiting: Vec<String> = used.iter().cloned().collect();
        while let Some(name) = waiting.pop() {
            let new = args.get(&name).into_iter().flat_map(|declared| &declared.uses);
            waiting.extend(new.filter(|name| used.insert((*name).clone())).cloned());
        }
        for name in &used {
            let known = self.outline.args.iter().any(|arg| arg.name == *name);
            self.outline.args.extend(args.get(name).filter(|_| !known).map(|it| it.arg.clone()));
        }
        for needed in needs(self.dockerfile, walked, index) {
            self.stage(all, needed);
        }
    }

    fn args(
        &self,
        instruction: &Instruction,
        declarations: &[ArgDeclaration],
        (scope, escape): (&Scope, char),
        args: &mut BTreeMap<String, Declared>,
    ) {
        // A line's later arguments see its earlier ones.
        let mut scope = scope.clone();
        for declaration in declarations {
            let name = &declaration.name.text;
            let given = self.build_args.get(name).cloned();
            let inherits = declaration.default.is_none() && given.is_none();
            if inherits && self.global.value(name).is_some() {
                continue;
            }
            let value = scope.declare(declaration, given, escape);
            let arg = OutlineArg {
                name: name.clone(),
                description: description(self.source, instruction.span.start, name),
                value: value.unwrap_or_default(),
                start: declaration.name.span.start,
            };
            args.insert(name.clone(), Declared { arg, uses: BTreeSet::new() });
        }
    }

    fn mount(&mut self, mount: &Mount) {
        let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let target = mount.target.as_deref();
        let needs = match mount.kind {
            MountKind::Secret => &mut self.outline.secrets,
            MountKind::Ssh => &mut self.outline.ssh,
            MountKind::Cache => {
                let id = mount.id.as_deref().or(target).unwrap_or_default().to_owned();
                if !self.outline.caches.contains(&id) {
                    self.outline.caches.push(id);
                }
                return;
            }
            _ => return,
        };
        let default = if mount.kind == MountKind::Ssh {
            "default".to_owned()
        } else {
            target.map_or_else(String::new, last)
        };
        let source = mount.source.clone().filter(|_| mount.kind == MountKind::Secret);
        let name = source.or_else(|| mount.id.clone()).unwrap_or(default);
        // Of several mounts the first one says whether it is required.
        if !needs.iter().any(|need| need.name == name) {
            needs.push(OutlineNeed { name, required: mount.required });
        }
    }
}

/// What the comments above an instruction say about `name`.
fn description(source: &SourceFile, start: u32, name: &str) -> String {
    let comments = comments_before(source, start);
    let mut about =
        comments.iter().filter_map(|comment| comment.value.strip_prefix(name)?.strip_prefix(' '));
    about.next().unwrap_or_default().trim().to_owned()
}
