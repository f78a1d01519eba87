//! What a COPY takes: the selected files of each source, and the content of all of them.
//!
//! The content has no times, and leaves out what the copy overrides: the owner with `--chown`,
//! the mode with an octal `--chmod`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kiln_core::digest::{ContentId, FieldHasher, FileDigest};
use kiln_core::file_list::{self, FileKind, FileList, FileState};
use kiln_core::glob::Glob;
use kiln_core::pattern::{MatchState, Patterns};
use kiln_core::plan::{CopyOp, ModeChange, Parents};
use kiln_store::layer::LastSymlink;

use crate::error::StepError;
use crate::source_tree::{
    Files, MatchError, Node, NodeKind, SourceTree, Unresolved, has_wildcard, join,
};

/// One match of a source: a file, or a directory whose contents are copied.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    /// Last part of the path as it was named: what a file is called in a directory.
    pub(crate) name: Vec<u8>,
    /// The file or directory itself, links followed.
    pub(crate) root: Node,
    /// What is below a directory, parents first.
    pub(crate) below: Files,
    /// Directories among `below` that no pattern selects: they are on the way to what is. Paths are
    /// relative to the root.
    pub(crate) passed: BTreeSet<Vec<u8>>,
}

impl Selected {
    /// The path of a node of `below`, relative to the root.
    pub(crate) fn relative<'a>(&self, node: &'a Node) -> &'a [u8] {
        &node.path[start_below(&self.root.path)..]
    }
}

/// Where the relative path begins in paths below a directory.
fn start_below(directory: &[u8]) -> usize {
    if directory.is_empty() { 0 } else { directory.len() + 1 }
}

/// The files that one source of a copy selects, digests filled in.
///
/// # Errors
/// When a source without wildcards is not there, or a pattern is not valid.
pub(crate) fn select(
    tree: &SourceTree,
    path: &str,
    copy: &CopyOp,
) -> Result<Vec<Selected>, StepError> {
    let excludes = Patterns::new(copy.excludes.clone())
        .map_err(|error| StepError::failed("copy-failed", format!("--exclude: {error}")))?;
    let mut selected = match copy.parents {
        Parents::Keep => select_parents(tree, path, &excludes)?,
        Parents::Drop => {
            let paths = tree.matches(path).map_err(|error| no_match(path, &error))?;
            let roots = paths.iter().map(|found| {
                let one = select_root(tree, found, &excludes)?;
                let is_link = has_wildcard(path) && one.root.path != *found;
                if is_link
                    && !tree.is_wanted(&one.root.path).map_err(|error| no_match(path, &error))?
                {
                    return Err(not_found(found, &Unresolved::NotFound));
                }
                Ok(one)
            });
            roots.collect::<Result<Vec<_>, _>>()?
        }
    };
    for one in &mut selected {
        tree.hash(&mut one.root)?;
        one.below.hash()?;
    }
    Ok(selected)
}

fn no_match(path: &str, error: &MatchError) -> StepError {
    StepError::failed("copy-failed", format!("{path}: {error}"))
}

fn not_found(path: &[u8], error: &Unresolved) -> StepError {
    let path = String::from_utf8_lossy(path);
    match error {
        Unresolved::Loop => {
            StepError::failed("copy-failed", format!("`/{path}`: too many links in the path"))
        }
        Unresolved::NotFound => StepError::failed(
            "copy-failed",
            format!("`/{path}`: not found (no such file or directory)"),
        ),
    }
}

fn select_root(tree: &SourceTree, path: &[u8], excludes: &Patterns) -> Result<Selected, StepError> {
    let resolved =
        tree.resolve(path, LastSymlink::Follow).map_err(|error| not_found(path, &error))?;
    let root = tree.node(&resolved).ok_or_else(|| not_found(path, &Unresolved::NotFound))?;
    let (below, passed) = if root.kind == NodeKind::Directory {
        filter((tree.walk(&resolved), start_below(&resolved)), excludes, None)
    } else {
        (Files::none(), BTreeSet::new())
    };
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).to_vec();
    Ok(Selected { name, root, below, passed })
}

/// `--parents`: what stands before the pivot may have wildcards; each match is taken by itself.
fn select_parents(
    tree: &SourceTree,
    path: &str,
    excludes: &Patterns,
) -> Result<Vec<Selected>, StepError> {
    let (above, pattern) = path.split_once("/./").unwrap_or(("", path));
    let pivots = tree.matches(above).map_err(|error| no_match(above, &error))?;
    let literal = !has_wildcard(above) && !has_wildcard(pattern);
    let mut found = Vec::new();
    for pivot in pivots {
        let one = select_below(tree, &pivot, (pattern, excludes))?;
        let wanted = pattern.trim_end_matches('/').as_bytes();
        // A pivot that is a link itself is followed for wildcards only (BuildKit).
        let is_link = tree.resolve(&pivot, LastSymlink::Keep).as_ref() != Ok(&one.root.path);
        if literal && (is_link || !one.below.iter().any(|node| one.relative(&node) == wanted)) {
            return Err(not_found(&join(&pivot, pattern.as_bytes()), &Unresolved::NotFound));
        }
        found.push(one);
    }
    Ok(found)
}

/// All below a pivot that the pattern matches, with the directories above it. A pivot that is a
/// file is taken whole.
fn select_below(
    tree: &SourceTree,
    pivot: &[u8],
    (pattern, excludes): (&str, &Patterns),
) -> Result<Selected, StepError> {
    let resolved =
        tree.resolve(pivot, LastSymlink::Follow).map_err(|error| not_found(pivot, &error))?;
    let root = tree.node(&resolved).ok_or_else(|| not_found(pivot, &Unresolved::NotFound))?;
    if !tree.is_wanted(&resolved).map_err(|error| no_match(pattern, &error))? {
        return Err(not_found(pivot, &Unresolved::NotFound));
    }
    // Nothing is no pattern, so that nothing matches.
    let (below, passed) = if pattern.is_empty() || root.kind != NodeKind::Directory {
        (Files::none(), BTreeSet::new())
    } else {
        let glob = Glob::ignore(pattern)
            .map_err(|error| StepError::failed("copy-failed", error.to_string()))?;
        filter((tree.walk(&resolved), start_below(&resolved)), excludes, Some(&glob))
    };
    let name = pivot.rsplit(|byte| *byte == b'/').next().unwrap_or(pivot).to_vec();
    Ok(Selected { name, root, below, passed })
}

/// Keeps what is included and not excluded, by paths from `start` on. A directory that is neither
/// stays when something below it does; those are named apart.
fn filter(
    (files, start): (Files, usize),
    excludes: &Patterns,
    include: Option<&Glob>,
) -> (Files, BTreeSet<Vec<u8>>) {
    let mut passed = BTreeSet::new();
    if excludes.is_empty() && include.is_none() {
        return (files, passed);
    }
    // What matched for each directory on the way to the node at hand.
    let mut above: Vec<(Vec<u8>, MatchState, bool)> = Vec::new();
    let mut waiting: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut kept = Vec::new();
    for (position, node) in files.iter().enumerate() {
        let relative = &node.path[start..];
        while above.last().is_some_and(|(directory, ..)| !is_below(relative, directory)) {
            above.pop();
        }
        let path = String::from_utf8_lossy(relative);
        let root = MatchState::root();
        let parent = above.last().map_or(&root, |(_, state, _)| state);
        let (excluded, state) = excludes.matches_in(&path, parent);
        let parent_included = above.last().is_some_and(|(.., included)| *included);
        let included = include.is_none_or(|glob| parent_included || glob.matches(&path));
        if node.kind == NodeKind::Directory {
            above.push((relative.to_vec(), state, included));
        }
        waiting.retain(|(_, directory)| is_below(relative, directory));
        if included && !excluded {
            for (position, directory) in waiting.drain(..) {
                kept.push(position);
                passed.insert(directory);
            }
            kept.push(position);
        } else if node.kind == NodeKind::Directory {
            waiting.push((position, relative.to_vec()));
        }
    }
    (files.only(&kept), passed)
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// What decides over the content of a source that is named without wildcards, apart from the files
/// of the context; `None` where more does.
pub(crate) fn of_all_files(path: &str, copy: &CopyOp) -> Option<[u8; 32]> {
    if has_wildcard(path) || copy.parents == Parents::Keep {
        return None;
    }
    let mut hasher = FieldHasher::new("kiln selection of all files 1");
    hasher.field(path).list(&copy.excludes);
    hasher.number(u64::from(copy.owner.is_some()));
    hasher.number(u64::from(matches!(copy.mode, Some(ModeChange::Absolute(_)))));
    Some(hasher.finish())
}

/// The content of what one source selects, for the key of a copy.
pub(crate) fn content(selected: &[Selected], copy: &CopyOp) -> ContentId {
    let mut hasher = FieldHasher::new("kiln selection 1");
    hasher.number(selected.len() as u64);
    for one in selected {
        hasher.field(&one.name).number(one.below.len() as u64);
        add_node(&mut hasher, &one.root, copy);
        for node in one.below.iter() {
            let path = one.relative(&node);
            hasher.field(path);
            if one.passed.contains(path) {
                hasher.field("passed");
            }
            add_node(&mut hasher, &node, copy);
        }
    }
    ContentId::from_bytes(hasher.finish())
}

/// The content of a mounted subtree: nothing is overridden.
pub(crate) fn mount_content(selected: &Selected) -> ContentId {
    content(std::slice::from_ref(selected), &CopyOp::plain(Vec::new()))
}

fn add_node(hasher: &mut FieldHasher, node: &Node, copy: &CopyOp) {
    match &node.kind {
        NodeKind::Directory => hasher.field("directory"),
        NodeKind::File { size_bytes: _, digest } => {
            hasher.field("file").optional(digest.as_ref().map(|digest| *digest.as_bytes()))
        }
        NodeKind::Symlink(target) => hasher.field("link").field(target),
        NodeKind::Device { character, major, minor } => hasher
            .field(if *character { "character device" } else { "block device" })
            .number(u64::from(*major))
            .number(u64::from(*minor)),
        NodeKind::Fifo => hasher.field("fifo"),
    };
    if !matches!(copy.mode, Some(ModeChange::Absolute(_))) {
        hasher.number(u64::from(node.mode));
    }
    if copy.owner.is_none() {
        hasher.number(u64::from(node.uid)).number(u64::from(node.gid));
    }
    hasher.optional(node.capability.as_ref());
}

/// The same files as a list (`kiln_core::file_list`), by their paths in the tree: what differs in
/// the content differs in it.
pub(crate) fn list(selected: &[Selected], copy: &CopyOp) -> Vec<u8> {
    let mut list = FileList::default();
    if let [one] = selected
        && link_name(one).is_none()
    {
        // One directory and what is in it is in order already, and may be very much.
        list.add(&one.root.path, &state(&one.root, copy));
        for node in one.below.iter() {
            list.add(&node.path, &state(&node, copy));
        }
        return list.finish();
    }
    let below: Vec<Vec<Cow<'_, Node>>> =
        selected.iter().map(|one| one.below.iter().collect()).collect();
    let mut files: Vec<(&[u8], FileState<'_>)> = Vec::new();
    for (one, below) in selected.iter().zip(&below) {
        files.push((&one.root.path, state(&one.root, copy)));
        if let Some(name) = link_name(one) {
            let kind = FileKind::Symlink(&one.root.path);
            files.push((name, FileState { kind, ..state(&one.root, copy) }));
        }
        files.extend(below.iter().map(|node| (&node.path[..], state(node, copy))));
    }
    files.sort_by(|left, right| file_list::order(left.0, right.0));
    files.dedup_by(|left, right| left.0 == right.0);
    for (path, state) in files {
        list.add(path, &state);
    }
    list.finish()
}

/// The name of the link that leads to what was selected: it counts, too.
fn link_name(one: &Selected) -> Option<&[u8]> {
    let root = &one.root.path;
    let last = root.rsplit(|byte| *byte == b'/').next().unwrap_or(root);
    (one.name != last && !one.name.is_empty()).then_some(&one.name)
}

fn state<'a>(node: &'a Node, copy: &CopyOp) -> FileState<'a> {
    let kind = match &node.kind {
        NodeKind::Directory => FileKind::Directory,
        NodeKind::File { digest, .. } => {
            FileKind::File(digest.unwrap_or(FileDigest::from_bytes([0; 32])))
        }
        NodeKind::Symlink(target) => FileKind::Symlink(target),
        NodeKind::Device { character, major, minor } => {
            FileKind::Device { character: *character, major: *major, minor: *minor }
        }
        NodeKind::Fifo => FileKind::Fifo,
    };
    let keeps_mode = !matches!(copy.mode, Some(ModeChange::Absolute(_)));
    FileState {
        kind,
        mode: keeps_mode.then_some(node.mode),
        owner: if copy.owner.is_none() { (node.uid, node.gid) } else { (0, 0) },
        capability: node.capability.as_deref(),
    }
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
