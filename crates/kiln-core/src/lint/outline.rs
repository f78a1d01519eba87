//! What a Dockerfile offers: its targets, and what a build of one can be given.
//!
//! Descriptions are comments above ARG and FROM that begin with the name: `# VERSION of the app`.

use std::collections::BTreeMap;

use super::LintRequest;
use super::scope::{Scope, Walked, global_scope, walk};
use super::stages::{Graph, stage_named};
use crate::dockerfile::{
    Dockerfile, InstructionKind, Mount, MountKind, comments_before, flags, parse_mount_with,
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
/// Of `request` the build arguments and the platform count.
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
    let global = global_scope(dockerfile, &request, true);
    let mut collected = Collected { source, args: BTreeMap::new(), outline: Outline::default() };
    for stage in Graph::new(dockerfile, &request).judged() {
        collected.stage(&walked[stage], &global);
    }
    collected.globals(dockerfile, &global);
    let Collected { args, mut outline, .. } = collected;
    outline.args = args.into_values().flatten().collect();
    outline.args.sort_by_key(|arg| arg.start);
    if let Some(name) = &name {
        outline.description = description(source, from.span.start, name);
    }
    outline.name = name;
    Some(outline)
}

struct Collected<'a> {
    source: &'a SourceFile,
    /// `None` is an argument whose global declaration is still to be found.
    args: BTreeMap<String, Option<OutlineArg>>,
    outline: Outline,
}

impl Collected<'_> {
    fn stage(&mut self, walked: &Walked<'_>, global: &Scope) {
        let from = &walked.stage.from;
        for word in std::iter::once(&from.image).chain(&from.platform) {
            self.uses(&word.text, walked.escape, global);
        }
        for (instruction, scope) in walked.instructions() {
            match &instruction.kind {
                InstructionKind::Arg(declarations) => {
                    for declaration in declarations {
                        let name = &declaration.name.text;
                        if declaration.default.is_none() && global.knows(name) {
                            self.args.entry(name.clone()).or_insert(None);
                            continue;
                        }
                        let arg = OutlineArg {
                            name: name.clone(),
                            description: description(self.source, instruction.span.start, name),
                            value: walked.end.value(name).unwrap_or_default(),
                            start: declaration.name.span.start,
                        };
                        self.args.insert(name.clone(), Some(arg));
                    }
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
    }

    fn uses(&mut self, word: &str, escape: char, global: &Scope) {
        let Ok(expansion) = global.expand(word, escape) else { return };
        for name in expansion.used.iter().chain(&expansion.unset) {
            if global.declares(name) {
                self.args.entry(name.clone()).or_insert(None);
            }
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
        let name = mount.id.clone().unwrap_or(default);
        match needs.iter_mut().find(|need| need.name == name) {
            Some(known) => known.required |= mount.required,
            None => needs.push(OutlineNeed { name, required: mount.required }),
        }
    }

    /// Finds the declarations of global arguments, and of those that their defaults use.
    fn globals(&mut self, dockerfile: &Dockerfile, global: &Scope) {
        // A default uses only what stands before it.
        for instruction in dockerfile.global_args.iter().rev() {
            let InstructionKind::Arg(declarations) = &instruction.kind else { continue };
            for declaration in declarations.iter().rev() {
                let name = &declaration.name.text;
                let Some(None) = self.args.get(name) else { continue };
                let arg = OutlineArg {
                    name: name.clone(),
                    description: description(self.source, instruction.span.start, name),
                    value: global.value(name).unwrap_or_default(),
                    start: declaration.name.span.start,
                };
                self.args.insert(name.clone(), Some(arg));
                if let Some(default) = &declaration.default {
                    self.uses(&default.text, dockerfile.directives.escape, global);
                }
            }
        }
    }
}

/// What the comments above an instruction say about `name`.
fn description(source: &SourceFile, start: u32, name: &str) -> String {
    let comments = comments_before(source, start);
    let mut about = comments.iter().filter_map(|comment| {
        let rest = comment.value.get(..name.len()).filter(|it| it.eq_ignore_ascii_case(name))?;
        comment.value[rest.len()..].strip_prefix(' ')
    });
    about.next().unwrap_or_default().trim().to_owned()
}
