//! The content of selected files, as one digest.
//!
//! What counts: path relative to the selection, type, mode, owner, link target, extended
//! attributes, bytes. What does not: times, the layer a file comes from, and whether two names
//! share an inode.

use kiln_core::digest::{ContentId, FieldHasher};

use super::index::{Entry, EntryKind, LayerIndex};

/// What is left out of a content digest, because it is overwritten anyway (`--chmod`,
/// `--chown`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ignored {
    /// Modes.
    pub mode: bool,
    /// Owners and groups.
    pub owner: bool,
}

/// Takes the digest of files in the order in which they are added.
#[derive(Debug, Clone)]
pub struct ContentHasher {
    hasher: FieldHasher,
    ignored: Ignored,
}

impl ContentHasher {
    /// A hasher that has seen nothing.
    pub fn new(ignored: Ignored) -> Self {
        let mut hasher = FieldHasher::new("kiln files 1");
        hasher.number(ignored.mode.into()).number(ignored.owner.into());
        Self { hasher, ignored }
    }

    /// Begins a selection of which `count` roots follow; keeps `a/b` and `a`, `b` apart.
    pub fn begin(&mut self, count: usize) {
        self.hasher.number(count as u64);
    }

    /// Adds `entry` of `layer` under the path `relative`.
    pub fn add(&mut self, relative: &[u8], entry: &Entry, layer: &LayerIndex) {
        let hasher = &mut self.hasher;
        hasher.field(relative);
        if !self.ignored.mode {
            hasher.number(entry.mode.into());
        }
        if !self.ignored.owner {
            hasher.number(entry.uid.into()).number(entry.gid.into());
        }
        hasher.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            hasher.field(name).field(value);
        }
        match &layer.follow_link(entry).kind {
            EntryKind::Directory { .. } => hasher.field("directory"),
            EntryKind::File { size_bytes, digest } => {
                hasher.field("file").number(*size_bytes).field(digest.as_bytes())
            }
            EntryKind::HardLink { target } => hasher.field("link").field(target),
            EntryKind::Symlink { target } => hasher.field("symlink").field(target),
            EntryKind::CharDevice { major, minor } => {
                hasher.field("character").number((*major).into()).number((*minor).into())
            }
            EntryKind::BlockDevice { major, minor } => {
                hasher.field("block").number((*major).into()).number((*minor).into())
            }
            EntryKind::Fifo => hasher.field("fifo"),
            EntryKind::Socket => hasher.field("socket"),
            EntryKind::Whiteout => hasher.field("whiteout"),
        };
    }

    /// The digest of all that was added.
    pub fn finish(&self) -> ContentId {
        ContentId::from_bytes(self.hasher.finish())
    }
}
