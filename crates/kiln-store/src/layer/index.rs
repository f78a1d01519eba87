//! The index of a layer: what it holds, as a value.
//!
//! Entries are sorted by [`path_order`], and form a tree: the first entry is the root directory
//! with the empty path, every other entry's parent is a directory of the same layer, and a hard
//! link's target is a regular file that comes before it. Whiteouts have neither owner, mode,
//! attributes nor time (on disk they all share one inode); symbolic links have the mode 0777.
//!
//! An entry may be *unchanged*: the file is as in the layers below, and here only because another
//! name of it is new. Later steps of a build see the link; archives leave the entry out.
//!
//! A directory may be *implied*: an archive named something in it, but not the directory itself.
//! Its metadata is then made up (0755, root, time 0) and hides that of the layer below, until
//! [`adopt`](super::adopt) gives it the right ones.

use std::collections::BTreeMap;

use kiln_core::digest::{ContentId, FieldHasher, FileDigest};

use super::path::{is_clean, parent, path_order};
use crate::layer_error::LayerError;

/// A point in time as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 UTC, negative before.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// One file of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the layer's root, `/`-separated, without `.`, `..` or a leading slash; the
    /// root is empty.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission, set-id and sticky bits: at most `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Extended attributes that belong to the layer; overlayfs's own and the host's are not here.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory {
        /// Whether it hides the directory of the same path in lower layers.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// Length.
        size_bytes: u64,
        /// Digest of its bytes.
        digest: FileDigest,
    },
    /// Another name of a regular file of the same layer.
    HardLink {
        /// The file's path in the layer.
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// What it says, uninterpreted.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket; archives cannot hold one.
    Socket,
    /// The mark that lower layers' file or directory of this path is deleted.
    Whiteout,
}

impl EntryKind {
    /// Whether it is a directory.
    pub const fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

/// The sorted entries of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerIndex {
    pub(super) entries: Vec<Entry>,
    /// Positions in `entries`, ascending.
    pub(super) implied: Vec<usize>,
    /// Positions in `entries`, ascending.
    pub(super) unchanged: Vec<usize>,
}

impl LayerIndex {
    /// An index of `entries`, in any order. Whiteouts lose what they cannot have, symbolic links
    /// get the mode 0777.
    ///
    /// # Errors
    /// [`LayerError::InvalidEntry`] when they do not form a tree as the module's head says.
    pub fn from_entries(entries: Vec<Entry>) -> Result<Self, LayerError> {
        Self::with_implied(entries, &mut [])
    }

    /// The same with the paths of implied directories, which are sorted.
    pub(super) fn with_implied(
        mut entries: Vec<Entry>,
        implied: &mut [Vec<u8>],
    ) -> Result<Self, LayerError> {
        // Sorting takes memory even of what is sorted.
        if !entries.is_sorted_by(|left, right| path_order(&left.path, &right.path).is_le()) {
            entries.sort_by(|left, right| path_order(&left.path, &right.path));
        }
        entries.iter_mut().for_each(normalize);
        let mut index = Self { entries, implied: Vec::new(), unchanged: Vec::new() };
        index.check()?;
        implied.sort_by(|left, right| path_order(left, right));
        index.implied = implied.iter().filter_map(|path| index.position(path)).collect();
        Ok(index)
    }

    /// The same index with the entries of `paths` marked as unchanged; paths that it does not have
    /// are passed over.
    #[must_use]
    pub fn with_unchanged<'a>(mut self, paths: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.unchanged = paths.into_iter().filter_map(|path| self.position(path)).collect();
        self.unchanged.sort_unstable();
        self
    }

    /// Checks what the module's head promises.
    pub(super) fn check(&self) -> Result<(), LayerError> {
        let Some(root) = self.entries.first() else {
            return Err(LayerError::entry(b"", "the root directory is missing"));
        };
        if !root.path.is_empty() || !root.kind.is_directory() {
            return Err(LayerError::entry(&root.path, "the first entry is not the root directory"));
        }
        let mut directories: Vec<&[u8]> = vec![b""];
        for pair in self.entries.windows(2) {
            let (previous, entry) = (&pair[0], &pair[1]);
            let invalid = |reason| Err(LayerError::entry(&entry.path, reason));
            if !path_order(&previous.path, &entry.path).is_lt() {
                return invalid("it is out of order or there twice");
            }
            if !is_clean(&entry.path) {
                return invalid("its path is not clean");
            }
            let dir = parent(&entry.path);
            while directories.len() > 1 && directories.last() != Some(&dir) {
                directories.pop();
            }
            if directories.last() != Some(&dir) {
                return invalid("its parent is no directory of the layer");
            }
            if entry.kind.is_directory() {
                directories.push(&entry.path);
            }
            if entry.mode > 0o7777 || entry.mtime.nanoseconds >= 1_000_000_000 {
                return invalid("its mode or time is out of range");
            }
            if let EntryKind::HardLink { target } = &entry.kind {
                self.check_link(entry, target)?;
            }
        }
        Ok(())
    }

    fn check_link(&self, entry: &Entry, target: &[u8]) -> Result<(), LayerError> {
        let file = self.find(target).map(|file| &file.kind);
        if matches!(file, Some(EntryKind::File { .. })) && path_order(target, &entry.path).is_lt() {
            return Ok(());
        }
        Err(LayerError::entry(&entry.path, "it links to no file that comes before it"))
    }

    /// All entries, by [`path_order`]; the root directory is first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether some file of the layer has more than one name.
    pub fn has_links(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.kind, EntryKind::HardLink { .. }))
    }

    /// The entry of `path`, if the layer has one; symbolic links are not followed.
    pub fn find(&self, path: &[u8]) -> Option<&Entry> {
        self.position(path).map(|position| &self.entries[position])
    }

    pub(super) fn position(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| path_order(&entry.path, path)).ok()
    }

    /// The regular file that `entry` is another name of, or `entry` itself.
    pub fn follow_link<'a>(&'a self, entry: &'a Entry) -> &'a Entry {
        match &entry.kind {
            EntryKind::HardLink { target } => self.find(target).unwrap_or(entry),
            _ => entry,
        }
    }

    /// The same layer, knowing nothing of its root directory: what lies below says what that is like.
    #[must_use]
    pub fn with_implied_root(mut self) -> Self {
        if self.implied.first() != Some(&0) {
            self.implied.insert(0, 0);
        }
        self
    }

    /// Whether the entry of `path` is unchanged; see the module's head.
    pub fn is_unchanged(&self, path: &[u8]) -> bool {
        !self.unchanged.is_empty()
            && self.position(path).is_some_and(|at| self.unchanged.binary_search(&at).is_ok())
    }

    /// Sum of the sizes of all regular files, each inode once.
    pub fn size_bytes(&self) -> u64 {
        let sizes = self.entries.iter().map(|entry| match entry.kind {
            EntryKind::File { size_bytes, .. } => size_bytes,
            _ => 0,
        });
        sizes.sum()
    }

    /// Directories that the archive did not name; see the module's head.
    pub fn implied(&self) -> impl Iterator<Item = &Entry> {
        self.implied.iter().map(|position| &self.entries[*position])
    }

    /// Identity of what the layer holds: everything but times.
    pub fn content_id(&self) -> ContentId {
        let mut hasher = FieldHasher::new("kiln layer content 1");
        ContentId::from_bytes(hasher.field(self.encode_content()).finish())
    }

    /// Digest over path and mtime of those entries whose mtime lies outside `window` (both ends
    /// belong to it), or of all entries: the times that a command has set on purpose rather than
    /// by running now. Whiteouts have no time.
    pub fn times_digest(&self, window: Option<(Timestamp, Timestamp)>) -> ContentId {
        let outside =
            |mtime: Timestamp| window.is_none_or(|(first, last)| mtime < first || mtime > last);
        let mut hasher = FieldHasher::new("kiln layer times 1");
        for entry in &self.entries {
            if !matches!(entry.kind, EntryKind::Whiteout) && outside(entry.mtime) {
                hasher
                    .field(&entry.path)
                    .number(entry.mtime.seconds.cast_unsigned())
                    .number(entry.mtime.nanoseconds.into());
            }
        }
        ContentId::from_bytes(hasher.finish())
    }
}

/// Takes out what has no meaning for the kind of the entry.
fn normalize(entry: &mut Entry) {
    match entry.kind {
        EntryKind::Symlink { .. } => entry.mode = 0o777,
        EntryKind::Whiteout => {
            *entry = Entry {
                path: std::mem::take(&mut entry.path),
                kind: EntryKind::Whiteout,
                mode: 0,
                uid: 0,
                gid: 0,
                mtime: Timestamp::default(),
                xattrs: BTreeMap::new(),
            };
        }
        _ => {}
    }
}
