//! A build context: the files of a directory that its ignore file lets through.
//!
//! Every file is statted once; only selected files are read, and only when the context index does
//! not know them. Owners are 0:0 and extended attributes are dropped, as BuildKit's client sends
//! files.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kiln_core::pattern::{IgnoreFile, MatchState, Patterns};
use kiln_store::{
    ContextEntry, ContextEntryKind, ContextIndex, LastSymlink, Store, Timestamp, WalkFilter,
    walk_context,
};

use crate::error::{BuildError, FileContext};
use crate::source_tree::{Node, NodeKind, Unresolved, as_path, join};

/// Most links that a path may go through.
const LINK_LIMIT: usize = 255;

/// The files of a context, statted.
#[derive(Debug)]
pub(crate) struct Context {
    root: PathBuf,
    entries: Vec<ContextEntry>,
    index: Mutex<ContextIndex>,
}

impl Context {
    /// Walks `root`. `ignore_file` is the text that goes with the Dockerfile; without one the
    /// directory's own `.dockerignore` counts.
    pub(crate) fn load(
        store: &Store,
        root: &Path,
        ignore_file: Option<&[u8]>,
    ) -> Result<Self, BuildError> {
        let own = root.join(".dockerignore");
        let text = match ignore_file {
            Some(text) => text.to_vec(),
            None => match std::fs::read(&own) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error).at("read", &own),
            },
        };
        let patterns = IgnoreFile::parse(&text)
            .map_err(|error| BuildError::Usage(format!("error reading .dockerignore: {error}")))?;
        let entries = walk_context(root, &Filter(patterns))?;
        let index = Mutex::new(store.context_index(root)?);
        Ok(Self { root: root.to_owned(), entries, index })
    }

    fn position(&self, path: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| kiln_store::path_order(&entry.path, path))
    }

    pub(crate) fn node(&self, path: &[u8]) -> Option<Node> {
        if path.is_empty() {
            return Some(Node {
                path: Vec::new(),
                kind: NodeKind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: Timestamp::default(),
                capability: None,
                origin: self.root.clone(),
                link_group: None,
            });
        }
        self.position(path).ok().and_then(|position| self.to_node(&self.entries[position]))
    }

    fn to_node(&self, entry: &ContextEntry) -> Option<Node> {
        let kind = match &entry.kind {
            ContextEntryKind::Directory => NodeKind::Directory,
            ContextEntryKind::File => {
                NodeKind::File { size_bytes: entry.size_bytes, digest: None }
            }
            ContextEntryKind::Symlink { target } => NodeKind::Symlink(target.clone()),
            ContextEntryKind::Fifo => NodeKind::Fifo,
            ContextEntryKind::CharDevice { major, minor } => {
                NodeKind::Device { character: true, major: *major, minor: *minor }
            }
            ContextEntryKind::BlockDevice { major, minor } => {
                NodeKind::Device { character: false, major: *major, minor: *minor }
            }
            // Sockets are not sent, as with BuildKit.
            ContextEntryKind::Socket => return None,
        };
        let has_names = entry.nlink > 1 && matches!(kind, NodeKind::File { .. });
        Some(Node {
            path: entry.path.clone(),
            kind,
            mode: entry.mode,
            uid: 0,
            gid: 0,
            mtime: entry.mtime,
            capability: None,
            origin: self.root.join(as_path(&entry.path)),
            link_group: has_names
                .then(|| [entry.device.to_le_bytes(), entry.inode.to_le_bytes()].concat()),
        })
    }

    /// The entries below a directory.
    fn below(&self, directory: &[u8]) -> &[ContextEntry] {
        if directory.is_empty() {
            return &self.entries;
        }
        let start = match self.position(directory) {
            Ok(position) => position + 1,
            Err(position) => position,
        };
        let inside = |entry: &ContextEntry| {
            entry.path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        let length = self.entries[start..].partition_point(inside);
        &self.entries[start..start + length]
    }

    pub(crate) fn walk(&self, directory: &[u8]) -> Vec<Node> {
        self.below(directory).iter().filter_map(|entry| self.to_node(entry)).collect()
    }

    pub(crate) fn children(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let skip = if directory.is_empty() { 0 } else { directory.len() + 1 };
        let names = self.below(directory).iter().map(|entry| &entry.path[skip..]);
        names.filter(|name| !name.contains(&b'/')).map(<[u8]>::to_vec).collect()
    }

    /// As [`crate::source_tree::SourceTree::resolve`].
    pub(crate) fn resolve(&self, path: &[u8], last: LastSymlink) -> Result<Vec<u8>, Unresolved> {
        let mut pending: Vec<Vec<u8>> = split(path).rev().map(<[u8]>::to_vec).collect();
        let mut resolved = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                let end = resolved.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                resolved.truncate(end);
                continue;
            }
            let next = join(&resolved, &part);
            let node = self.node(&next).ok_or(Unresolved::NotFound)?;
            let is_last = pending.is_empty();
            match node.kind {
                NodeKind::Symlink(target) if !is_last || last == LastSymlink::Follow => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(Unresolved::Loop);
                    }
                    if target.first() == Some(&b'/') {
                        resolved.clear();
                    }
                    pending.extend(split(&target).rev().map(<[u8]>::to_vec));
                }
                NodeKind::Directory => resolved = next,
                _ if is_last => resolved = next,
                _ => return Err(Unresolved::NotFound),
            }
        }
        Ok(resolved)
    }

    /// Fills in the digests of the files among `nodes`.
    pub(crate) fn hash(&self, nodes: &mut [Node]) -> Result<(), BuildError> {
        let files: Vec<usize> = nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| matches!(node.kind, NodeKind::File { digest: None, .. }))
            .map(|(position, _)| position)
            .collect();
        let entries: Vec<&ContextEntry> = files
            .iter()
            .filter_map(|position| self.position(&nodes[*position].path).ok())
            .map(|position| &self.entries[position])
            .collect();
        let digests = {
            let mut index = self.index.lock().expect("no thread panics with the index locked");
            index.digest_files(&self.root, &entries)?
        };
        for (position, found) in files.into_iter().zip(digests) {
            if let NodeKind::File { digest, .. } = &mut nodes[position].kind {
                *digest = Some(found);
            }
        }
        Ok(())
    }

    /// Writes the context index if something new was hashed.
    pub(crate) fn save_index(&self) -> Result<(), BuildError> {
        let mut index = self.index.lock().expect("no thread panics with the index locked");
        Ok(index.save()?)
    }
}

fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The ignore file as the walk asks it.
struct Filter(Patterns);

impl WalkFilter for Filter {
    type State = MatchState;

    fn root(&self) -> MatchState {
        MatchState::root()
    }

    fn includes(&self, path: &str, parent: &MatchState) -> (bool, MatchState) {
        let (ignored, state) = self.0.matches_in(path, parent);
        (!ignored, state)
    }

    fn may_descend(&self, path: &str) -> bool {
        self.0.may_descend(path)
    }
}
