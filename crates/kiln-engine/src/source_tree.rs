//! Where copies and mounts take files from: a build context or a snapshot, seen in one way.
//!
//! Only metadata is looked at; the bytes of a file are read through [`Node::file`]. Paths are
//! relative to the tree's root, `/`-separated, without a leading slash; the root is empty.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_core::digest::FileDigest;
use kiln_core::glob::{BadPattern, Glob};
use kiln_store::layer::{
    Entry, EntryKind, Keeper, LastSymlink, Origin, ResolveError, SourceDirectory, Timestamp, Tree,
};

use crate::context::{Context, ContextFiles};
use crate::error::BuildError;

/// A tree of files to copy from.
#[derive(Clone, Debug)]
pub(crate) enum SourceTree {
    /// The files of a context that are not ignored.
    Context(Arc<Context>),
    /// A snapshot, all layers unpacked.
    Snapshot {
        /// Its indexes merged.
        tree: Arc<Tree>,
        /// The directories of its layers, lowest first.
        layers: Arc<Vec<Arc<SourceDirectory>>>,
    },
}

/// Files of a tree, in order.
#[derive(Clone, Debug)]
pub(crate) enum Files {
    /// As they are.
    Nodes(Vec<Node>),
    /// Of a context, which may have very many: nodes are made when they are looked at.
    Context(ContextFiles),
}

/// One file of a tree.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Path in the tree.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: NodeKind,
    /// 07777
    pub(crate) mode: u32,
    /// Owner; 0 in a context.
    pub(crate) uid: u32,
    /// Group; 0 in a context.
    pub(crate) gid: u32,
    /// Last modification.
    pub(crate) mtime: Timestamp,
    /// `security.capability`; contexts have none.
    pub(crate) capability: Option<Vec<u8>>,
    /// The directory that its bytes are in.
    pub(crate) directory: Arc<SourceDirectory>,
    /// Their path beneath that, if it is not the node's own.
    pub(crate) held_by: Option<Vec<u8>>,
    /// Equal for names of one inode; `None` when it surely has no other.
    pub(crate) link_group: Option<Vec<u8>>,
}

impl Node {
    /// Where its bytes are on disk.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path.join(as_path(self.path_beneath()))
    }

    /// Where its bytes are, for a file.
    pub(crate) fn bytes(&self) -> Origin {
        Origin::File(Arc::clone(&self.directory), self.path_beneath().into())
    }

    fn path_beneath(&self) -> &[u8] {
        self.held_by.as_deref().unwrap_or(&self.path)
    }

    /// The root of a snapshot without layers.
    fn empty_root() -> Self {
        let directory = SourceDirectory { path: PathBuf::new(), keeper: Keeper::Store };
        Self {
            path: Vec::new(),
            kind: NodeKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            capability: None,
            directory: Arc::new(directory),
            held_by: None,
            link_group: None,
        }
    }
}

impl Files {
    /// No files.
    pub(crate) const fn none() -> Self {
        Self::Nodes(Vec::new())
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Nodes(nodes) => nodes.len(),
            Self::Context(files) => files.len(),
        }
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Cow<'_, Node>> {
        let (nodes, of_context) = match self {
            Self::Nodes(nodes) => (&nodes[..], None),
            Self::Context(files) => (&[][..], Some(files.iter().map(Cow::Owned))),
        };
        nodes.iter().map(Cow::Borrowed).chain(of_context.into_iter().flatten())
    }

    /// Those at these positions, which ascend.
    pub(crate) fn only(self, positions: &[usize]) -> Self {
        match self {
            Self::Nodes(nodes) => {
                let mut wanted = positions.iter().copied().peekable();
                let numbered = nodes.into_iter().enumerate();
                let kept = numbered.filter(|(at, _)| wanted.next_if_eq(at).is_some());
                Self::Nodes(kept.map(|(_, node)| node).collect())
            }
            Self::Context(files) => Self::Context(files.only(positions)),
        }
    }

    /// Fills in digests that are not known yet (those of a context's files).
    pub(crate) fn hash(&mut self) -> Result<(), BuildError> {
        match self {
            Self::Nodes(_) => Ok(()),
            Self::Context(files) => files.hash(),
        }
    }
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file; a context's files are hashed only when they are selected.
    File {
        /// Length.
        size_bytes: u64,
        /// Of its bytes.
        digest: Option<FileDigest>,
    },
    /// A link with its target.
    Symlink(Vec<u8>),
    /// A device: character or not, major, minor.
    Device {
        /// Character device, else block device.
        character: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// Nothing is there.
    #[error("no such file or directory")]
    NotFound,
    /// Too many links.
    #[error("too many links")]
    Loop,
}

/// Why a source with wildcards names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MatchError {
    /// It is no pattern.
    #[error(transparent)]
    Bad(#[from] BadPattern),
    /// The directory before the first wildcard is not there.
    #[error("lstat /{0}: {1}")]
    Start(String, Unresolved),
}

impl SourceTree {
    /// A snapshot: the merged view of its layers, and their directories, lowest first.
    pub(crate) fn of_layers(tree: Arc<Tree>, directories: Vec<PathBuf>) -> Self {
        let keeper = Keeper::Store;
        let layers = directories.into_iter().map(|path| Arc::new(SourceDirectory { path, keeper }));
        Self::Snapshot { tree, layers: Arc::new(layers.collect()) }
    }

    /// The file of a path that has no links in it.
    pub(crate) fn node(&self, path: &[u8]) -> Option<Node> {
        match self {
            Self::Context(context) => context.node(path),
            Self::Snapshot { layers, .. } if layers.is_empty() => {
                path.is_empty().then(Node::empty_root)
            }
            Self::Snapshot { tree, layers } => {
                let (entry, position) = tree.lookup(path)?;
                Some(snapshot_node(tree, layers, entry, position))
            }
        }
    }

    /// Follows links of a path, all inside the tree; `..` stops at the root.
    pub(crate) fn resolve(&self, path: &[u8], last: LastSymlink) -> Result<Vec<u8>, Unresolved> {
        match self {
            Self::Context(context) => context.resolve(path, last),
            // Nothing is in it, but its root is there.
            Self::Snapshot { layers, .. } if layers.is_empty() && is_root(path) => Ok(Vec::new()),
            Self::Snapshot { tree, .. } => tree.resolve(path, last).map_err(|error| match error {
                ResolveError::NotFound { .. } => Unresolved::NotFound,
                ResolveError::Loop { .. } => Unresolved::Loop,
            }),
        }
    }

    /// Everything below a directory, parents before children, sorted; without the directory.
    pub(crate) fn walk(&self, directory: &[u8]) -> Files {
        match self {
            Self::Context(context) => Files::Context(ContextFiles::below(context, directory)),
            Self::Snapshot { tree, layers } => {
                let found = tree.walk(directory).filter(|(relative, ..)| !relative.is_empty());
                let mut has_links: Vec<Option<bool>> = vec![None; layers.len()];
                let nodes = found.map(|(_, entry, position)| {
                    let mut node = snapshot_node(tree, layers, entry, position);
                    let index = &tree.layers()[position];
                    if !*has_links[position].get_or_insert_with(|| index.has_links()) {
                        node.link_group = None;
                    }
                    node
                });
                Files::Nodes(nodes.collect())
            }
        }
    }

    /// Names in a directory, sorted.
    fn children(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Self::Context(context) => context.children(directory),
            Self::Snapshot { tree, .. } => {
                tree.children(directory).into_iter().map(<[u8]>::to_vec).collect()
            }
        }
    }

    /// The paths that a source names, sorted. A path without wildcards is its own match whether
    /// it is there or not; directories before the first wildcard are followed through links, and
    /// have to be there.
    pub(crate) fn matches(&self, pattern: &str) -> Result<Vec<Vec<u8>>, MatchError> {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        let first = parts.iter().position(|part| has_wildcard(part));
        let Some(first) = first else {
            return Ok(vec![parts.join("/").into_bytes()]);
        };
        let globs = parts[first..].iter().map(|part| Glob::path(part));
        let globs = globs.collect::<Result<Vec<_>, _>>()?;
        let start = parts[..first].join("/").into_bytes();
        let lost = |error| MatchError::Start(String::from_utf8_lossy(&start).into_owned(), error);
        let found = self.resolve(&start, LastSymlink::Follow).map_err(lost)?;
        if !self.is_wanted(&found)? {
            return Err(lost(Unresolved::NotFound));
        }
        let mut found = vec![found];
        for glob in globs {
            let mut next = Vec::new();
            for directory in &found {
                let is_directory =
                    self.node(directory).is_some_and(|node| node.kind == NodeKind::Directory);
                if !is_directory {
                    continue;
                }
                for name in self.children(directory) {
                    if glob.matches(&String::from_utf8_lossy(&name)) {
                        next.push(join(directory, &name));
                    }
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// Whether a wildcard may find the file at `path`; see [`crate::wanted`].
    pub(crate) fn is_wanted(&self, path: &[u8]) -> Result<bool, MatchError> {
        match self {
            Self::Context(context) => Ok(context.is_wanted(path)?),
            Self::Snapshot { .. } => Ok(true),
        }
    }

    /// Fills in the digest of a file if it is not known yet.
    pub(crate) fn hash(&self, node: &mut Node) -> Result<(), BuildError> {
        match self {
            Self::Context(context) => context.hash(node),
            Self::Snapshot { .. } => Ok(()),
        }
    }
}

fn snapshot_node(
    tree: &Tree,
    layers: &[Arc<SourceDirectory>],
    entry: &Entry,
    position: usize,
) -> Node {
    let file = tree.file(entry, position);
    let kind = match &file.kind {
        EntryKind::File { size_bytes, digest } => {
            NodeKind::File { size_bytes: *size_bytes, digest: Some(*digest) }
        }
        EntryKind::Symlink { target } => NodeKind::Symlink(target.clone()),
        EntryKind::CharDevice { major, minor } => {
            NodeKind::Device { character: true, major: *major, minor: *minor }
        }
        EntryKind::BlockDevice { major, minor } => {
            NodeKind::Device { character: false, major: *major, minor: *minor }
        }
        EntryKind::Fifo => NodeKind::Fifo,
        // Nobody listens any more: it is copied as an empty file (BuildKit).
        EntryKind::Socket => NodeKind::File { size_bytes: 0, digest: Some(FileDigest::of(b"")) },
        EntryKind::Directory { .. } | EntryKind::HardLink { .. } | EntryKind::Whiteout => {
            NodeKind::Directory
        }
    };
    Node {
        path: entry.path.clone(),
        kind,
        mode: file.mode,
        uid: file.uid,
        gid: file.gid,
        mtime: file.mtime,
        capability: file.xattrs.get(b"security.capability".as_slice()).cloned(),
        directory: Arc::clone(&layers[position]),
        held_by: (file.path != entry.path).then(|| file.path.clone()),
        link_group: matches!(file.kind, EntryKind::File { .. })
            .then(|| [&position.to_le_bytes()[..], &file.path].concat()),
    }
}

/// `directory/name`, where the root is empty.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match (directory.is_empty(), name.is_empty()) {
        (true, _) => name.to_vec(),
        (_, true) => directory.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

/// Bytes of a tree path as a path of the system.
pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn is_root(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|part| matches!(part, b"" | b"." | b".."))
}

/// Whether a text is a pattern rather than a name; `\c` is `c`.
pub(crate) fn has_wildcard(part: &str) -> bool {
    let mut characters = part.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => {
                characters.next();
            }
            _ => {}
        }
    }
    false
}
