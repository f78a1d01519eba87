//! Which files of a context a build wants: BuildKit's client sends no others, and a COPY does not
//! find what was not sent.
//!
//! Wanted is what any instruction of the build names as a source, links followed one by one. A
//! path without wildcards always finds what it names, so that this matters for the rest only:
//! `COPY dir/*.md /x/` without a match succeeds when something else of `dir` is wanted, and fails
//! when nothing is; a link that a wildcard finds may lead to what nobody wants.
//!
//! Source: the follow-links rule of tonistiigi/fsutil.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use kiln_core::glob::{BadPattern, Glob};
use kiln_core::plan::{CopyFrom, FileOp, Input, MountKind, Op, Plan, Step};

use crate::context::Context;
use crate::source_tree::{NodeKind, has_wildcard, join};

/// What a build wants of a context.
#[derive(Debug, Default)]
pub(crate) struct WantedFiles {
    /// Sources as written, relative to the context; `None` when everything is wanted.
    sources: Option<Vec<String>>,
    /// They and what links among them lead to, compiled when somebody asks.
    globs: OnceLock<Result<Vec<Glob>, BadPattern>>,
}

impl WantedFiles {
    /// What the steps of a plan take of the context that `step` brings in.
    pub(crate) fn of(plan: &Plan, step: &Step) -> Self {
        let mut sources = Vec::new();
        let from =
            |user: &Step, input: usize| user.inputs.get(input) == Some(&Input::Step(step.id));
        for user in plan.steps.values() {
            match &user.op {
                Op::File(FileOp::Copy(copy)) => {
                    for source in &copy.sources {
                        if let CopyFrom::Input { input, path } = source
                            && from(user, *input)
                        {
                            sources.push(clean(path));
                        }
                    }
                }
                Op::Exec(exec) => {
                    for mount in &exec.mounts {
                        if let MountKind::Bind { input, source, .. }
                        | MountKind::Cache { seed: Some((input, source)), .. } = &mount.kind
                            && from(user, *input)
                        {
                            sources.push(clean(source));
                        }
                    }
                }
                _ => {}
            }
        }
        let everything = sources.iter().any(String::is_empty);
        Self { sources: (!everything).then_some(sources), globs: OnceLock::new() }
    }

    /// Whether the file at `path`, which has no links in it, or something below it is wanted.
    ///
    /// # Errors
    /// When one of the sources is no valid pattern.
    pub(crate) fn includes(&self, path: &[u8], context: &Context) -> Result<bool, BadPattern> {
        let Some(sources) = &self.sources else { return Ok(true) };
        let globs = self.globs.get_or_init(|| {
            let mut found = BTreeSet::new();
            for source in sources {
                follow(source, context, &mut found);
            }
            // A link to the root: everything.
            let all = found.contains("").then(|| Glob::ignore("**"));
            all.into_iter().chain(found.iter().map(|source| Glob::ignore(source))).collect()
        });
        let globs = globs.as_ref().map_err(BadPattern::clone)?;
        let matches = |path: &[u8]| {
            let path = String::from_utf8_lossy(path);
            globs.iter().any(|glob| glob.matches(&path))
        };
        let mut ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        Ok(path.is_empty()
            || matches(path)
            || ends.any(|(end, _)| matches(&path[..end]))
            || context.below(path).iter().any(|entry| matches(&entry.path)))
    }
}

/// A source without slashes at its ends, `.` and `..`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Adds a source and, where it meets a link, what the link leads to.
fn follow(source: &str, context: &Context, found: &mut BTreeSet<String>) {
    let parts: Vec<&str> = source.split('/').collect();
    for end in 1..=parts.len() {
        let current = parts[..end].join("/");
        let targets = link_targets(&current, context);
        let is_last = end == parts.len();
        if (is_last || !targets.is_empty()) && !found.insert(current) {
            return;
        }
        if !targets.is_empty() {
            let rest = parts[end..].join("/");
            for target in targets {
                follow(&clean(&format!("{target}/{rest}")), context, found);
            }
            return;
        }
    }
}

/// Where the link at `path` leads; all links that match, if its last part is a wildcard.
fn link_targets(path: &str, context: &Context) -> Vec<String> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let target = |path: &[u8]| match context.node(path)?.kind {
        NodeKind::Symlink(target) => {
            let target = String::from_utf8_lossy(&target).into_owned();
            let absolute = target.starts_with('/');
            Some(if absolute { clean(&target) } else { clean(&format!("{directory}/{target}")) })
        }
        _ => None,
    };
    if !has_wildcard(name) {
        return target(path.as_bytes()).into_iter().collect();
    }
    let Ok(glob) = Glob::path(name) else { return Vec::new() };
    let mut names = context.children(directory.as_bytes());
    names.retain(|name| glob.matches(&String::from_utf8_lossy(name)));
    names.iter().filter_map(|name| target(&join(directory.as_bytes(), name))).collect()
}
