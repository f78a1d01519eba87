//! The merged view of a chain of layers, from their indexes alone: what an overlay mount of them
//! would show.
//!
//! A directory that several layers have shows the metadata of the topmost one and the names of
//! all of them, down to the first layer where it is opaque, deleted or something else. The root shows
//! the metadata of the topmost layer that says something of it, which archives rarely do. Nothing
//! is built up front: a look-up goes down the path and keeps, for each layer that still takes
//! part, the range of its entries beneath the directory, which are neighbours in the index.

use std::ops::Range;
use std::sync::Arc;

use kiln_core::digest::ContentId;

use super::content::{ContentHasher, Ignored};
use super::index::{Entry, EntryKind, LayerIndex};
use super::path::{components, join, parent, path_order};

/// How many symbolic links a path may lead through.
const SYMLINKS_MAX: usize = 255;

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such file.
    #[error("`/{}` does not exist", String::from_utf8_lossy(path))]
    NotFound {
        /// Where it would be: links followed as far as there is something, the rest as given.
        path: Vec<u8>,
    },
    /// It leads through too many symbolic links.
    #[error("`/{}` leads through too many symbolic links", String::from_utf8_lossy(path))]
    Loop {
        /// The path as given.
        path: Vec<u8>,
    },
}

/// What happens with a symbolic link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastSymlink {
    /// It is followed.
    Follow,
    /// It is the result.
    Keep,
}

/// A chain of layers as one file system.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    layers: Vec<Arc<LayerIndex>>,
}

/// The part of one layer that lies beneath a directory.
#[derive(Debug, Clone)]
struct Part {
    layer: usize,
    range: Range<usize>,
}

/// A file of the merged view.
#[derive(Debug, Clone)]
struct Node<'a> {
    entry: &'a Entry,
    layer: usize,
    /// For a directory: where its children are, topmost layer first.
    parts: Vec<Part>,
}

impl Tree {
    /// The view of `layers`, lowest first.
    pub fn new(layers: Vec<Arc<LayerIndex>>) -> Self {
        Self { layers }
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Arc<LayerIndex>] {
        &self.layers
    }

    fn root(&self) -> Option<Node<'_>> {
        let mut root: Option<Node<'_>> = None;
        for (layer, index) in self.layers.iter().enumerate().rev() {
            let entry = index.entries.first()?;
            let part = Part { layer, range: 1..index.entries.len() };
            let node = root.get_or_insert_with(|| Node { entry, layer, parts: Vec::new() });
            if self.layers[node.layer].implied.first() == Some(&0) {
                // It says nothing of the root; the next one below may.
                (node.entry, node.layer) = (entry, layer);
            }
            node.parts.push(part);
            if entry.kind == (EntryKind::Directory { opaque: true }) {
                break;
            }
        }
        root
    }

    /// The child `name` of the directory `dir`, whose path has `depth` bytes with its slash.
    fn child<'a>(&'a self, dir: &Node<'a>, depth: usize, name: &[u8]) -> Option<Node<'a>> {
        let mut child = None;
        for part in &dir.parts {
            let entries = &self.layers[part.layer].entries;
            let slice = &entries[part.range.clone()];
            let found = slice.binary_search_by(|entry| path_order(&entry.path[depth..], name));
            let Ok(found) = found else { continue };
            let position = part.range.start + found;
            let end = subtree_end(entries, position, part.range.end);
            if merge(&mut child, &entries[position], part.layer, position + 1..end).is_break() {
                break;
            }
        }
        child
    }

    /// All children of the directory `dir`, by name.
    fn children_of<'a>(&'a self, dir: &Node<'a>, depth: usize) -> Vec<Node<'a>> {
        let mut cursors = dir.parts.clone();
        let mut children = Vec::new();
        loop {
            let first = |part: &Part| {
                let entry = self.layers[part.layer].entries.get(part.range.start)?;
                (!part.range.is_empty()).then(|| &entry.path[depth..])
            };
            let Some(name) = cursors.iter().filter_map(first).min() else {
                return children;
            };
            let (mut child, mut hidden) = (None, false);
            for part in &mut cursors {
                let entries = &self.layers[part.layer].entries;
                let position = part.range.start;
                if part.range.is_empty() || &entries[position].path[depth..] != name {
                    continue;
                }
                let end = subtree_end(entries, position, part.range.end);
                part.range.start = end;
                let range = position + 1..end;
                hidden =
                    hidden || merge(&mut child, &entries[position], part.layer, range).is_break();
            }
            children.extend(child);
            cursors.retain(|part| !part.range.is_empty());
        }
    }

    /// The file at the clean path `path`; links are not followed, not even in parents.
    fn node(&self, path: &[u8]) -> Option<Node<'_>> {
        let mut node = self.root()?;
        let mut depth = 0;
        for name in components(path) {
            node = self.child(&node, depth, name)?;
            depth += name.len() + 1;
        }
        Some(node)
    }

    /// The entry at `path` and the position of its layer, counted from the lowest. No symbolic
    /// link is followed.
    pub fn lookup(&self, path: &[u8]) -> Option<(&Entry, usize)> {
        self.node(path).map(|node| (node.entry, node.layer))
    }

    /// The regular file that holds the bytes of `entry` of the layer at `layer`: another entry
    /// for a hard link, `entry` itself for anything else.
    pub fn file<'a>(&'a self, entry: &'a Entry, layer: usize) -> &'a Entry {
        self.layers.get(layer).map_or(entry, |index| index.follow_link(entry))
    }

    /// Where `path` leads when symbolic links are followed inside the tree; `..` stops at its
    /// root. The result exists and has no link in it, except the last one if it is kept.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] and [`ResolveError::Loop`].
    pub fn resolve(&self, path: &[u8], last: LastSymlink) -> Result<Vec<u8>, ResolveError> {
        let lost = || ResolveError::NotFound { path: super::path::clean(path) };
        let mut nodes = vec![self.root().ok_or_else(lost)?];
        let mut resolved: Vec<u8> = Vec::new();
        let mut todo: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                resolved.truncate(parent(&resolved).len());
                nodes.truncate(nodes.len().saturating_sub(1).max(1));
                continue;
            }
            let depth = depth_of(&resolved);
            let Some(child) = self.child(&nodes[nodes.len() - 1], depth, &name) else {
                todo.push(name);
                let rest: Vec<u8> =
                    todo.iter().rev().flat_map(|n| [&n[..], b"/"].concat()).collect();
                let path = super::path::clean(&join(&resolved, &rest));
                return Err(ResolveError::NotFound { path });
            };
            match &child.entry.kind {
                EntryKind::Symlink { target }
                    if last == LastSymlink::Follow || !todo.is_empty() =>
                {
                    links += 1;
                    if links > SYMLINKS_MAX {
                        return Err(ResolveError::Loop { path: path.to_vec() });
                    }
                    if target.starts_with(b"/") {
                        resolved.clear();
                        nodes.truncate(1);
                    }
                    todo.extend(components(target).rev().map(<[u8]>::to_vec));
                }
                _ => {
                    resolved = join(&resolved, &name);
                    nodes.push(child);
                }
            }
        }
        Ok(resolved)
    }

    /// The names in the directory at `dir`, sorted; nothing when there is no such directory.
    pub fn children(&self, dir: &[u8]) -> Vec<&[u8]> {
        let Some(node) = self.node(dir) else {
            return Vec::new();
        };
        let depth = depth_of(&node.entry.path);
        self.children_of(&node, depth).iter().map(|child| &child.entry.path[depth..]).collect()
    }

    /// The file at `path` and, if it is a directory, all that lies beneath it, by
    /// [`path_order`]; nothing when there is no such file.
    pub fn walk(&self, path: &[u8]) -> Walk<'_> {
        let stack: Vec<Node<'_>> = self.node(path).into_iter().collect();
        let depth = stack.first().map_or(0, |start| depth_of(&start.entry.path));
        Walk { tree: self, depth, stack, plain: None }
    }

    /// The content digest of the files and whole subtrees at `paths`, whose own names do not
    /// count.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] for a path that is not there.
    pub fn content_of<P: AsRef<[u8]>>(
        &self,
        paths: &[P],
        ignored: Ignored,
    ) -> Result<ContentId, ResolveError> {
        let mut hasher = ContentHasher::new(ignored);
        hasher.begin(paths.len());
        for path in paths {
            let mut walk = self.walk(path.as_ref()).peekable();
            if walk.peek().is_none() {
                return Err(ResolveError::NotFound { path: path.as_ref().to_vec() });
            }
            for (relative, entry, layer) in walk {
                hasher.add(relative, entry, &self.layers[layer]);
            }
        }
        Ok(hasher.finish())
    }

    /// The paths that match `pattern`, component by component, sorted by [`path_order`].
    ///
    /// Components before the first one with a meta character (`*`, `?`, `[`, `\`) are looked up
    /// and links in them followed; from there on `matches(pattern, name)` decides and links are
    /// not followed. Without a meta character the result is the path itself, if it exists.
    pub fn glob(&self, pattern: &[u8], matches: &dyn Fn(&[u8], &[u8]) -> bool) -> Vec<Vec<u8>> {
        let names: Vec<&[u8]> = components(pattern).collect();
        let is_meta = |name: &&[u8]| name.iter().any(|byte| b"*?[\\".contains(byte));
        let literal = names.iter().position(is_meta).unwrap_or(names.len());
        if literal == names.len() {
            return self.resolve(pattern, LastSymlink::Keep).into_iter().collect();
        }
        let base = self.resolve(&names[..literal].join(&b'/'), LastSymlink::Follow);
        let Some((base, node)) =
            base.ok().and_then(|base| self.node(&base).map(|node| (base, node)))
        else {
            return Vec::new();
        };
        let mut found = vec![(base, node)];
        for pattern in &names[literal..] {
            let mut next = Vec::new();
            for (dir, node) in found {
                let depth = depth_of(&dir);
                for child in self.children_of(&node, depth) {
                    if matches(pattern, &child.entry.path[depth..]) {
                        next.push((child.entry.path.clone(), child));
                    }
                }
            }
            found = next;
        }
        found.into_iter().map(|(path, _)| path).collect()
    }
}

/// How many bytes the paths of a directory's children share: its own and a slash.
fn depth_of(dir: &[u8]) -> usize {
    if dir.is_empty() { 0 } else { dir.len() + 1 }
}

/// Where the entries beneath the one at `position` end; `limit` bounds the search. Steps double,
/// as most directories are small.
fn subtree_end(entries: &[Entry], position: usize, limit: usize) -> usize {
    let dir = &entries[position];
    if !dir.kind.is_directory() {
        return position + 1;
    }
    let beneath = |entry: &Entry| super::path::is_beneath(&entry.path, &dir.path);
    let (mut inside, mut step) = (position, 1);
    while inside + step < limit && beneath(&entries[inside + step]) {
        inside += step;
        step *= 2;
    }
    let end = limit.min(inside + step);
    inside + 1 + entries[inside + 1..end].partition_point(beneath)
}

/// Adds what a lower layer has at a path to what the layers above have there; break when still
/// lower layers do not matter.
fn merge<'a>(
    node: &mut Option<Node<'a>>,
    entry: &'a Entry,
    layer: usize,
    range: Range<usize>,
) -> std::ops::ControlFlow<()> {
    use std::ops::ControlFlow::{Break, Continue};
    match (&entry.kind, &mut *node) {
        (EntryKind::Whiteout, _) => Break(()),
        (EntryKind::Directory { opaque }, _) => {
            let node = node.get_or_insert_with(|| Node { entry, layer, parts: Vec::new() });
            node.parts.push(Part { layer, range });
            if *opaque { Break(()) } else { Continue(()) }
        }
        (_, None) => {
            *node = Some(Node { entry, layer, parts: Vec::new() });
            Break(())
        }
        (_, Some(_)) => Break(()),
    }
}

/// The iterator that [`Tree::walk`] returns: path relative to its start (empty for the start
/// itself), entry, position of its layer.
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    /// Length of the start's path with its slash.
    depth: usize,
    stack: Vec<Node<'a>>,
    /// A directory that only one layer has: its entries are the walk.
    plain: Option<Part>,
}

impl<'a> Iterator for Walk<'a> {
    type Item = (&'a [u8], &'a Entry, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let relative = |entry: &'a Entry| entry.path.get(self.depth..).unwrap_or_default();
        if let Some(part) = &mut self.plain {
            let entries = &self.tree.layers[part.layer].entries;
            for entry in &entries[part.range.clone()] {
                part.range.start += 1;
                if entry.kind != EntryKind::Whiteout {
                    return Some((relative(entry), entry, part.layer));
                }
            }
            self.plain = None;
        }
        let node = self.stack.pop()?;
        if let [part] = &node.parts[..] {
            self.plain = Some(part.clone());
        } else {
            let depth = depth_of(&node.entry.path);
            self.stack.extend(self.tree.children_of(&node, depth).into_iter().rev());
        }
        Some((relative(node.entry), node.entry, node.layer))
    }
}
