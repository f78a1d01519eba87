//! The inputs of a step: what enters its key, and what it works on.
//!
//! Files of a context enter by the content of exactly those that are selected. Files of another
//! stage enter in two ways: first by that stage as a whole, which costs nothing; only when that
//! key is not known, by the content of the selected files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_core::cache_key::{InputContent, KeyPart, KeyParts};
use kiln_core::digest::ContentId;
use kiln_core::plan::{CopyFrom, CopyOp, ExecOp, FileOp, Link, MountKind, Op, Step};
use kiln_sandbox::mount_detached;
use kiln_store::Layer;
use kiln_store::layer::{LastSymlink, scan};

use super::{Solved, Solver, record_of};
use crate::error::StepError;
use crate::missing::explain;
use crate::op::copy::Copier;
use crate::op::root::Root;
use crate::selection::{self, Selected, select};
use crate::snapshot::Snapshot;
use crate::source_tree::{NodeKind, SourceTree};

/// The role of what a step works over.
pub(super) const ROOT: &str = "the file system so far";

/// The role of all files of a context.
const CONTEXT: &str = "files of the context";

/// How the role of some of them ends.
const OF_CONTEXT: &str = "` of the context";

/// Whether a part of a key with this name is that of an input other than the root: what roles are
/// made of below.
pub(super) fn is_input_role(name: &str) -> bool {
    name == CONTEXT || name.starts_with('`') || name.starts_with("the stage that")
}

/// Whether a part of a key with this name is files of a context.
pub(crate) fn is_of_context(name: &str) -> bool {
    name == CONTEXT || (name.starts_with('`') && name.ends_with(OF_CONTEXT))
}

/// The key of files of a context as a layer.
pub(crate) fn context_key(content: &ContentId) -> KeyParts {
    let part = |name: &str, value: String| KeyPart { name: name.to_owned(), value };
    KeyParts(vec![
        part("operation", "context files".to_owned()),
        part("content", content.to_string()),
    ])
}

/// Files that a step takes of one of its inputs.
#[derive(Clone, Debug)]
pub(super) struct Taken<'a> {
    /// Of which.
    pub(super) input: usize,
    /// The source as it is written.
    pub(super) path: &'a str,
    selected: &'a [Selected],
    copy: Option<&'a CopyOp>,
}

impl Taken<'_> {
    /// The list of them (`kiln_core::file_list`).
    pub(super) fn list(&self) -> Vec<u8> {
        match self.copy {
            Some(copy) => selection::list(self.selected, copy),
            None => selection::list(self.selected, &CopyOp::plain(Vec::new())),
        }
    }
}

/// The results of a step's inputs, with the files that the step takes of them.
#[derive(Debug)]
pub(crate) struct StepInputs {
    solved: Vec<Solved>,
    op: Op,
    /// Matches of each copied source, once they are known.
    copied: Vec<Option<Vec<Selected>>>,
    all_copied: Vec<Vec<Selected>>,
    /// Selected files of bind mounts by mount, once they are known.
    bound: BTreeMap<usize, Selected>,
}

impl StepInputs {
    /// `solved` are the results of the step's inputs, in order.
    pub(crate) fn new(step: &Step, solved: Vec<Solved>) -> Self {
        let sources = match &step.op {
            Op::File(FileOp::Copy(copy)) => inputs_of(copy).count(),
            _ => 0,
        };
        let copied = vec![None; sources];
        let op = step.op.clone();
        Self { solved, op, copied, all_copied: Vec::new(), bound: BTreeMap::new() }
    }

    /// The file system that the step works over.
    pub(crate) fn root(&self) -> &Snapshot {
        match self.solved.first() {
            Some(Solved::Snapshot(snapshot)) => snapshot,
            _ => unreachable!("the first input of a step is a file system"),
        }
    }

    /// Its merged view.
    pub(crate) fn root_tree(&self, solver: &Solver<'_>) -> Result<SourceTree, StepError> {
        Ok(solver.tree(self.root())?)
    }

    /// Makes sure that the files of what is copied from are there to be read.
    pub(crate) fn unpack_sources(&self, solver: &Solver<'_>) -> Result<(), StepError> {
        for solved in &self.solved[1..] {
            if let Solved::Snapshot(snapshot) = solved {
                solver.layer_dirs(snapshot)?;
            }
        }
        Ok(())
    }

    /// The matches of the copied sources, in order; known after [`Self::selected`].
    pub(crate) fn copied(&self) -> &[Vec<Selected>] {
        &self.all_copied
    }

    /// Lets go of the matches.
    pub(crate) fn forget_copied(&mut self) {
        self.all_copied = Vec::new();
    }

    /// Contents for the key that costs least: snapshots as a whole, files of contexts selected.
    pub(crate) fn whole(&mut self, solver: &Solver<'_>) -> Result<Vec<InputContent>, StepError> {
        self.contents(solver, Depth::Whole)
    }

    /// Contents for the exact key: selected files only. `None` when that is the same key.
    pub(crate) fn selected(
        &mut self,
        solver: &Solver<'_>,
    ) -> Result<Option<Vec<InputContent>>, StepError> {
        let contents = self.contents(solver, Depth::Selected)?;
        self.all_copied = self.copied.drain(..).map(Option::unwrap_or_default).collect();
        Ok(self.has_two_keys().then_some(contents))
    }

    fn contents(
        &mut self,
        solver: &Solver<'_>,
        depth: Depth,
    ) -> Result<Vec<InputContent>, StepError> {
        let mut contents = Vec::new();
        match self.op.clone() {
            Op::File(FileOp::Copy(copy)) => {
                if copy.link == Link::No {
                    contents.push(self.root_content());
                }
                for (position, (input, path)) in inputs_of(&copy).enumerate() {
                    contents.push(self.copy_content(
                        solver,
                        &copy,
                        (position, input, path),
                        depth,
                    )?);
                }
            }
            Op::Exec(exec) => {
                contents.push(self.root_content());
                self.exec_contents(solver, &exec, (depth, &mut contents))?;
            }
            _ => contents.push(self.root_content()),
        }
        Ok(contents)
    }

    fn root_content(&self) -> InputContent {
        InputContent { role: ROOT.to_owned(), content: self.root().content() }
    }

    fn copy_content(
        &mut self,
        solver: &Solver<'_>,
        copy: &CopyOp,
        (position, input, path): (usize, usize, &str),
        depth: Depth,
    ) -> Result<InputContent, StepError> {
        if let (Depth::Whole, Solved::Snapshot(snapshot)) = (depth, &self.solved[input]) {
            return Ok(whole(snapshot, path));
        }
        let selection = selection::of_all_files(path, copy);
        if let (Depth::Whole, Some(selection), Solved::Context(context)) =
            (depth, &selection, &self.solved[input])
            && let Some(content) = context.remembered(selection)?
        {
            return Ok(InputContent { role: self.role(input, path), content: Some(content) });
        }
        if self.copied[position].is_none() {
            let tree = self.tree(solver, input)?;
            self.copied[position] =
                Some(select(&tree, path, copy).map_err(|error| explain(error, &tree, path))?);
        }
        let selected = self.copied[position].as_deref().unwrap_or_default();
        let content = selection::content(selected, copy);
        if let (Some(selection), Solved::Context(context)) = (selection, &self.solved[input]) {
            context.remember(&selection, &content)?;
        }
        Ok(InputContent { role: self.role(input, path), content: Some(content) })
    }

    fn exec_contents(
        &mut self,
        solver: &Solver<'_>,
        exec: &ExecOp,
        (depth, contents): (Depth, &mut Vec<InputContent>),
    ) -> Result<(), StepError> {
        for (index, mount) in exec.mounts.iter().enumerate() {
            let (input, source) = match &mount.kind {
                MountKind::Bind { input, source, .. }
                | MountKind::Cache { seed: Some((input, source)), .. } => (*input, source.as_str()),
                _ => continue,
            };
            if let (Depth::Whole, Solved::Snapshot(snapshot)) = (depth, &self.solved[input]) {
                contents.push(whole(snapshot, source));
                continue;
            }
            if let std::collections::btree_map::Entry::Vacant(slot) = self.bound.entry(index) {
                let tree = tree_of(solver, &self.solved[input])?;
                slot.insert(select_mount(&tree, source)?);
            }
            let content = Some(selection::mount_content(&self.bound[&index]));
            contents.push(InputContent { role: self.role(input, source), content });
        }
        Ok(())
    }

    /// The result of an input.
    pub(super) fn solved(&self, input: usize) -> &Solved {
        &self.solved[input]
    }

    /// What the step takes besides its root, in the order of its exact key's parts; known after
    /// [`Self::selected`].
    pub(super) fn taken(&self) -> Vec<Taken<'_>> {
        match &self.op {
            Op::File(FileOp::Copy(copy)) => inputs_of(copy)
                .zip(&self.all_copied)
                .map(|((input, path), selected)| Taken { input, path, selected, copy: Some(copy) })
                .collect(),
            Op::Exec(_) => {
                let mounts = self.bound.iter().map(|(index, selected)| {
                    let (input, path) = self.mount_source(*index);
                    let selected = std::slice::from_ref(selected);
                    Taken { input, path, selected, copy: None }
                });
                mounts.collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether files are taken of something that was built, which enters the key in two ways.
    pub(super) fn has_two_keys(&self) -> bool {
        self.solved[1..].iter().any(|solved| matches!(solved, Solved::Snapshot(_)))
    }

    /// What an input is, in words.
    fn role(&self, input: usize, path: &str) -> String {
        let path = path.trim_start_matches('/');
        match &self.solved[input] {
            Solved::Context(_) if path.is_empty() => CONTEXT.to_owned(),
            Solved::Context(_) => format!("`{path}{OF_CONTEXT}"),
            Solved::Snapshot(_) => format!("`/{path}` of another stage"),
        }
    }

    fn tree(&self, solver: &Solver<'_>, input: usize) -> Result<SourceTree, StepError> {
        tree_of(solver, &self.solved[input])
    }

    /// What a bind mount shows: layers, lowest first, and a path in them.
    pub(crate) fn mounted(
        &self,
        solver: &Solver<'_>,
        index: usize,
    ) -> Result<(Vec<PathBuf>, PathBuf), StepError> {
        let (input, source) = self.mount_source(index);
        match &self.solved[input] {
            Solved::Snapshot(snapshot) => {
                Ok((solver.layer_dirs(snapshot)?, PathBuf::from(source.trim_start_matches('/'))))
            }
            Solved::Context(_) => {
                let selected = &self.bound[&index];
                let layer = context_layer(solver, selected)?;
                let selector = match selected.root.kind {
                    NodeKind::Directory => PathBuf::new(),
                    _ => PathBuf::from("file"),
                };
                Ok((vec![layer.fs.clone()], selector))
            }
        }
    }

    fn mount_source(&self, index: usize) -> (usize, &str) {
        let Op::Exec(exec) = &self.op else { unreachable!("only RUN has mounts") };
        match &exec.mounts[index].kind {
            MountKind::Bind { input, source, .. }
            | MountKind::Cache { seed: Some((input, source)), .. } => (*input, source),
            _ => unreachable!("only binds and seeds have a source"),
        }
    }

    /// What a cache mount is filled with; `None` if it begins empty.
    pub(crate) fn seed_content(
        &self,
        solver: &Solver<'_>,
        index: usize,
    ) -> Result<Option<ContentId>, StepError> {
        let Op::Exec(exec) = &self.op else { unreachable!("only RUN has mounts") };
        let MountKind::Cache { seed: Some((input, source)), .. } = &exec.mounts[index].kind else {
            return Ok(None);
        };
        let selected = select_mount(&self.tree(solver, *input)?, source)?;
        Ok(Some(selection::mount_content(&selected)))
    }

    /// Fills a new cache mount with what its `from` names.
    pub(crate) fn seed(
        &self,
        solver: &Solver<'_>,
        index: usize,
        directory: &Path,
    ) -> Result<(), StepError> {
        let (input, source) = self.mount_source(index);
        self.unpack_sources(solver)?;
        let selected = select_mount(&self.tree(solver, input)?, source)?;
        write_to(directory, &selected)
    }
}

/// How exact a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Whole,
    Selected,
}

fn inputs_of(copy: &CopyOp) -> impl Iterator<Item = (usize, &str)> {
    copy.sources.iter().filter_map(|source| match source {
        CopyFrom::Input { input, path } => Some((*input, path.as_str())),
        CopyFrom::Inline { .. } => None,
    })
}

fn whole(snapshot: &Snapshot, path: &str) -> InputContent {
    InputContent {
        role: format!("the stage that `{path}` is taken from"),
        content: snapshot.content(),
    }
}

fn tree_of(solver: &Solver<'_>, solved: &Solved) -> Result<SourceTree, StepError> {
    match solved {
        Solved::Context(context) => Ok(SourceTree::Context(Arc::clone(context))),
        Solved::Snapshot(snapshot) => Ok(solver.tree(snapshot)?),
    }
}

/// A file or directory to mount. The empty file system has a root, too.
fn select_mount(tree: &SourceTree, source: &str) -> Result<Selected, StepError> {
    let resolved = tree.resolve(source.trim_start_matches('/').as_bytes(), LastSymlink::Follow);
    let found = resolved.ok().and_then(|path| {
        let text = String::from_utf8(path).ok()?;
        select(tree, &format!("/{}", escape(&text)), &CopyOp::plain(Vec::new())).ok()
    });
    let selected = found.and_then(|mut found| (found.len() == 1).then(|| found.remove(0)));
    selected.ok_or_else(|| {
        let message = format!("mount source `{source}`: not found (no such file or directory)");
        explain(StepError::failed("mount-failed", message), tree, source)
    })
}

/// A path as a pattern that matches it alone.
fn escape(path: &str) -> String {
    if !path.contains(['*', '?', '[']) {
        // Without wildcards, a path is meant letter by letter.
        return path.to_owned();
    }
    let mut escaped = String::new();
    for character in path.chars() {
        match character {
            '*' | '?' | '[' => escaped.extend(['[', character, ']']),
            '\\' => escaped.push_str("\\\\"),
            character => escaped.push(character),
        }
    }
    escaped
}

/// Selected files of a context as a layer, so that they can be mounted; made once for a content.
fn context_layer(solver: &Solver<'_>, selected: &Selected) -> Result<Arc<Layer>, StepError> {
    let content: ContentId = selection::mount_content(selected);
    let parts = context_key(&content);
    let key = parts.key();
    let store = &solver.engine.store;
    let _lock = store.lock_step(&key, &solver.stopped)?;
    if let Some(record) = solver.lookup(&key)?
        && let Some(layer) = store.layers().by_id(&record.result.layer)?
    {
        return Ok(Arc::new(layer));
    }
    let working = store.layers().begin()?;
    write_to(&working.upper, selected)?;
    let index = scan(&working.upper)?;
    let id = index.content_id();
    let layer = store.layers().commit(working, &index.encode(), id, id)?;
    let recipe = *key.as_bytes();
    let record = record_of(&layer, (recipe, parts), "context files");
    store.cache_index().record(key, &record)?;
    Ok(Arc::new(layer))
}

/// Writes selected files to a directory: a directory's contents, or one `file`.
fn write_to(directory: &Path, selected: &Selected) -> Result<(), StepError> {
    let root = mount_detached(&[directory.to_owned()], None)
        .map(Root)
        .map_err(|error| StepError::failed("mount-failed", error.to_string()))?;
    let mut copy = CopyOp::plain(Vec::new());
    if selected.root.kind != NodeKind::Directory {
        "/file".clone_into(&mut copy.destination);
    }
    Ok(Copier::new(&root, &copy, None).copy(selected)?)
}
