//! What a COPY takes: the selected files of each source, and the content of all of them.
//!
//! The content has no times, and leaves out what the copy overrides: the owner with `--chown`,
//! the mode with an octal `--chmod`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kiln_core::digest::{ContentId, FieldHasher, FileDigest};
use kiln_core::file_list::{self, FileKind, FileState};
use kiln_core::glob::Glob;
use kiln_core::pattern::{MatchState, Patterns};
use kiln_core::plan::{CopyOp, ModeChange, Parents};
use kiln_store::layer::LastSymlink;

use crate::error::StepError;
use crate::source_tree::{MatchError, Node, NodeKind, SourceTree, Unresolved, has_wildcard, join};

/// One match of a source: a file, or a directory whose contents are copied.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    /// Last part of the path as it was named: what a file is called in a directory.
    pub(crate) name: Vec<u8>,
    /// The file or directory itself, links followed.
    pub(crate) root: Node,
    /// What is below a directory, parents first; paths are relative to it.
    pub(crate) below: Vec<Node>,
    /// Directories among `below` that no pattern selects: they are on the way to what is.
    pub(crate) passed: BTreeSet<Vec<u8>>,
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
        tree.hash(std::slice::from_mut(&mut one.root))?;
        hash_below(tree, one)?;
    }
    Ok(selected)
}

/// Paths below are relative to the root, the tree's own are needed to hash.
fn hash_below(tree: &SourceTree, selected: &mut Selected) -> Result<(), StepError> {
    let relative: Vec<Vec<u8>> = selected.below.iter().map(|node| node.path.clone()).collect();
    for node in &mut selected.below {
        node.path = join(&selected.root.path, &node.path);
    }
    let hashed = tree.hash(&mut selected.below);
    for (node, path) in selected.below.iter_mut().zip(relative) {
        node.path = path;
    }
    Ok(hashed?)
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
        let skip = if resolved.is_empty() { 0 } else { resolved.len() + 1 };
        filter(relative(tree.walk(&resolved), skip), excludes, None)
    } else {
        (Vec::new(), BTreeSet::new())
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
        if literal && (is_link || !one.below.iter().any(|node| node.path == wanted)) {
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
    let skip = if resolved.is_empty() { 0 } else { resolved.len() + 1 };
    let all = match root.kind {
        NodeKind::Directory => relative(tree.walk(&resolved), skip),
        _ => Vec::new(),
    };
    // Nothing is no pattern, so that nothing matches.
    let (below, passed) = if pattern.is_empty() {
        (Vec::new(), BTreeSet::new())
    } else {
        let glob = Glob::ignore(pattern)
            .map_err(|error| StepError::failed("copy-failed", error.to_string()))?;
        filter(all, excludes, Some(&glob))
    };
    let name = pivot.rsplit(|byte| *byte == b'/').next().unwrap_or(pivot).to_vec();
    Ok(Selected { name, root, below, passed })
}

fn relative(mut nodes: Vec<Node>, skip: usize) -> Vec<Node> {
    for node in &mut nodes {
        node.path.drain(..skip);
    }
    nodes
}

/// Keeps what is included and not excluded. A directory that is neither stays when something
/// below it does; those are named apart.
fn filter(
    nodes: Vec<Node>,
    excludes: &Patterns,
    include: Option<&Glob>,
) -> (Vec<Node>, BTreeSet<Vec<u8>>) {
    let mut passed = BTreeSet::new();
    if excludes.is_empty() && include.is_none() {
        return (nodes, passed);
    }
    // What matched for each directory on the way to the node at hand.
    let mut above: Vec<(Vec<u8>, MatchState, bool)> = Vec::new();
    let mut waiting: Vec<Node> = Vec::new();
    let mut kept = Vec::new();
    for node in nodes {
        while above.last().is_some_and(|(directory, ..)| !is_below(&node.path, directory)) {
            above.pop();
        }
        let path = String::from_utf8_lossy(&node.path).into_owned();
        let root = MatchState::root();
        let parent = above.last().map_or(&root, |(_, state, _)| state);
        let (excluded, state) = excludes.matches_in(&path, parent);
        let parent_included = above.last().is_some_and(|(.., included)| *included);
        let included = include.is_none_or(|glob| parent_included || glob.matches(&path));
        if node.kind == NodeKind::Directory {
            above.push((node.path.clone(), state, included));
        }
        waiting.retain(|directory| is_below(&node.path, &directory.path));
        if included && !excluded {
            passed.extend(waiting.iter().map(|directory| directory.path.clone()));
            kept.append(&mut waiting);
            kept.push(node);
        } else if node.kind == NodeKind::Directory {
            waiting.push(node);
        }
    }
    (kept, passed)
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
        for node in &one.below {
            hasher.field(&node.path);
            if one.passed.contains(&node.path) {
                hasher.field("passed");
            }
            add_node(&mut hasher, node, copy);
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
    let mut files: Vec<(Cow<'_, [u8]>, FileState<'_>)> = Vec::new();
    for one in selected {
        let root = &one.root.path;
        files.push((Cow::Borrowed(root), state(&one.root, copy)));
        let last = root.rsplit(|byte| *byte == b'/').next().unwrap_or(root);
        if one.name != last && !one.name.is_empty() {
            // A link that leads here: its name counts, too.
            let kind = FileKind::Symlink(root);
            files.push((Cow::Borrowed(&one.name), FileState { kind, ..state(&one.root, copy) }));
        }
        files.extend(one.below.iter().map(|node| {
            let path = if root.is_empty() {
                Cow::Borrowed(node.path.as_slice())
            } else {
                Cow::Owned(join(root, &node.path))
            };
            (path, state(node, copy))
        }));
    }
    let in_order =
        |pair: &[(Cow<'_, [u8]>, FileState<'_>)]| file_list::order(&pair[0].0, &pair[1].0).is_lt();
    if !files.windows(2).all(in_order) {
        files.sort_by(|left, right| file_list::order(&left.0, &right.0));
        files.dedup_by(|left, right| left.0 == right.0);
    }
    file_list::encode(files)
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
