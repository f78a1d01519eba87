//! What a copy writes to: a mounted root file system, or a list of what would be written.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::digest::FileDigest;
use kiln_store::layer::{Entry, EntryKind, Listing, Origin, Timestamp, Tree, path_order};
use kiln_store::layer_error::LayerError;
use rustix::io::Errno;

use super::changes::Changes;
use super::root::{Attributes, RootError, io, lossy, parent};
use crate::source_tree::join;

/// What is at a path, as far as a copy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// Something that is neither a directory nor another name of a file.
#[derive(Clone, Debug)]
pub(crate) enum NewFile<'a> {
    /// A regular file.
    Regular {
        /// Length.
        size_bytes: u64,
        /// Digest of the bytes.
        digest: FileDigest,
        /// Where they are.
        origin: Origin,
    },
    /// A symbolic link with its target.
    Symlink(&'a [u8]),
    /// A device: character or not, major, minor.
    Device { character: bool, major: u32, minor: u32 },
    /// A named pipe.
    Fifo,
}

/// A root file system that files are put into. Paths are canonical: [`Destination::canonical`]
/// made them.
pub(crate) trait Destination {
    /// Follows links of a path inside the root; parts that do not exist are taken as they are.
    fn canonical(&self, path: &[u8]) -> Result<Vec<u8>, RootError>;
    /// What is at a path, links not followed.
    fn kind(&self, path: &[u8]) -> Result<Option<Kind>, RootError>;
    /// Makes one directory; its attributes are set apart.
    fn make_directory(&self, path: &[u8]) -> Result<(), RootError>;
    /// Makes a file where there is none; its attributes are set apart.
    fn make_file(&self, path: &[u8], file: &NewFile<'_>) -> Result<(), RootError>;
    /// Makes another name for a file.
    fn link(&self, first: &[u8], path: &[u8]) -> Result<(), RootError>;
    /// Removes a file that is no directory.
    fn unlink(&self, path: &[u8]) -> Result<(), RootError>;
    /// Sets owner, mode and time.
    fn set_attributes(&self, path: &[u8], attributes: &Attributes) -> Result<(), RootError>;
    /// Sets the capability of a file.
    fn set_capability(&self, path: &[u8], capability: &[u8]) -> Result<(), RootError>;

    /// Says that about so many files are to come.
    fn expect(&self, _files: usize) {}

    /// Makes a directory and all that are missing above it, with one mode, owner and time.
    fn make_directories(&self, path: &[u8], attributes: &Attributes) -> Result<(), RootError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.chain([path.len()]) {
            let prefix = &path[..end];
            if prefix.is_empty() {
                continue;
            }
            match self.kind(prefix)? {
                Some(Kind::Directory) => {}
                Some(Kind::Other) => return Err(RootError::NotDirectory(lossy(prefix))),
                None => {
                    self.make_directory(prefix)?;
                    self.set_attributes(prefix, attributes)?;
                }
            }
        }
        Ok(())
    }

    /// Sets the modification time; links are not followed.
    fn set_time(&self, path: &[u8], seconds: i64, nanoseconds: u32) -> Result<(), RootError> {
        let attributes =
            Attributes { mtime: Some((seconds, nanoseconds)), ..Attributes::default() };
        self.set_attributes(path, &attributes)
    }
}

/// A destination that only notes what a layer over `below` would hold, as overlayfs would have it:
/// what changes, and the directories above it.
#[derive(Debug)]
pub(crate) struct Listed {
    below: Arc<Tree>,
    now: Timestamp,
    changes: RefCell<Changes>,
}

impl Listed {
    /// Changes over `below`, which has no layers for the empty file system, at the time `now`. The
    /// new layer's root directory has the attributes of the one below.
    pub(crate) fn new(below: Arc<Tree>, now: Timestamp) -> Self {
        let listed = Self { below, now, changes: RefCell::default() };
        let root = match listed.below.lookup(b"") {
            Some((root, _)) => Entry { mtime: now, ..plain_directory(root) },
            None => listed.entry(b"", EntryKind::Directory { opaque: false }, 0o755),
        };
        listed.changes.borrow_mut().insert(root, Origin::Nowhere);
        listed
    }

    /// All that the layer holds. Of the names of a file the first one in order holds it.
    ///
    /// # Errors
    /// [`LayerError::InvalidEntry`] when it is no tree.
    pub(crate) fn into_listing(self) -> Result<Listing, LayerError> {
        let mut changes = self.changes.into_inner();
        let mut names: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for entry in changes.entries() {
            if let EntryKind::HardLink { target } = &entry.kind {
                names.entry(target.clone()).or_default().push(entry.path.clone());
            }
        }
        for (held_by, mut names) in names {
            let Some((file, origin)) = changes.remove(&held_by) else { continue };
            names.push(held_by);
            names.sort_by(|left, right| path_order(left, right));
            let first = names[0].clone();
            for name in names {
                let held = name == first;
                let link = EntryKind::HardLink { target: first.clone() };
                let kind = if held { file.kind.clone() } else { link };
                let origin = if held { origin.clone() } else { Origin::Nowhere };
                changes.insert(Entry { path: name, kind, ..file.clone() }, origin);
            }
        }
        let (entries, origins) = changes.into_parts();
        Listing::new(entries, origins)
    }

    fn entry(&self, path: &[u8], kind: EntryKind, mode: u32) -> Entry {
        Entry {
            path: path.to_vec(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: self.now,
            xattrs: BTreeMap::new(),
        }
    }

    /// Puts something into a directory, which is then part of the layer, with those above it.
    fn add(&self, path: &[u8], kind: EntryKind, origin: Origin) {
        self.copy_up(parent(path));
        let mut changes = self.changes.borrow_mut();
        if let Some(directory) = changes.entry_mut(parent(path)) {
            directory.mtime = self.now;
        }
        changes.insert(self.entry(path, kind, 0o600), origin);
    }

    /// Makes a directory of a lower layer a part of this one, with those above it.
    fn copy_up(&self, path: &[u8]) {
        let mut at = path;
        while self.changes.borrow().entry(at).is_none() {
            let Some((lower, _)) = self.below.lookup(at) else { return };
            let entry = Entry { path: at.to_vec(), ..plain_directory(lower) };
            self.changes.borrow_mut().insert(entry, Origin::Nowhere);
            at = parent(at);
        }
    }

    /// Applies a change to the entry at `path`; a directory of a lower layer becomes one of this.
    fn change(&self, path: &[u8], change: impl FnOnce(&mut Entry)) {
        self.copy_up(path);
        let mut changes = self.changes.borrow_mut();
        let first = match changes.entry(path) {
            Some(Entry { kind: EntryKind::HardLink { target }, .. }) => target.clone(),
            _ => path.to_vec(),
        };
        if let Some(entry) = changes.entry_mut(&first) {
            change(entry);
        }
    }

    /// Lets another name of the file at `path` take its place, if it has one.
    fn pass_on(changes: &mut Changes, path: &[u8]) {
        let Some((removed, origin)) = changes.remove(path) else { return };
        if !matches!(removed.kind, EntryKind::File { .. }) {
            return;
        }
        let links = changes.entries().filter(
            |entry| matches!(&entry.kind, EntryKind::HardLink { target } if target == path),
        );
        let mut links: Vec<Vec<u8>> = links.map(|entry| entry.path.clone()).collect();
        links.sort();
        let mut links = links.into_iter();
        let Some(heir) = links.next() else { return };
        for link in links {
            if let Some(entry) = changes.entry_mut(&link) {
                entry.kind = EntryKind::HardLink { target: heir.clone() };
            }
        }
        changes.remove(&heir);
        changes.insert(Entry { path: heir, ..removed }, origin);
    }
}

/// A directory as overlayfs copies it up.
fn plain_directory(entry: &Entry) -> Entry {
    let kind = match entry.kind {
        EntryKind::Directory { .. } => EntryKind::Directory { opaque: false },
        ref other => other.clone(),
    };
    Entry { kind, ..entry.clone() }
}

impl Destination for Listed {
    fn canonical(&self, path: &[u8]) -> Result<Vec<u8>, RootError> {
        // Links of this layer lead somewhere too; there are few, and mostly none on the way.
        let mut pending: Vec<Vec<u8>> = parts(path);
        let mut resolved: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                resolved.truncate(parent(&resolved).len());
                continue;
            }
            let next = join(&resolved, &part);
            let target = match self.changes.borrow().entry(&next) {
                Some(Entry { kind: EntryKind::Symlink { target }, .. }) => Some(target.clone()),
                Some(_) => None,
                None => match self.below.lookup(&next) {
                    Some((Entry { kind: EntryKind::Symlink { target }, .. }, _)) => {
                        Some(target.clone())
                    }
                    _ => None,
                },
            };
            let Some(target) = target else {
                resolved = next;
                continue;
            };
            links += 1;
            if links > super::root::LINK_LIMIT {
                return Err(io("follow", &next, Errno::LOOP));
            }
            if target.first() == Some(&b'/') {
                resolved.clear();
            }
            pending.extend(parts(&target));
        }
        Ok(resolved)
    }

    fn kind(&self, path: &[u8]) -> Result<Option<Kind>, RootError> {
        let kind_of = |entry: &Entry| {
            if entry.kind.is_directory() { Kind::Directory } else { Kind::Other }
        };
        if let Some(entry) = self.changes.borrow().entry(path) {
            return Ok(Some(kind_of(entry)));
        }
        if let Some((entry, _)) = self.below.lookup(path) {
            return Ok(Some(kind_of(entry)));
        }
        match self.kind(parent(path))? {
            Some(Kind::Other) => Err(RootError::NotDirectory(lossy(parent(path)))),
            _ => Ok(None),
        }
    }

    fn expect(&self, files: usize) {
        self.changes.borrow_mut().reserve(files);
    }

    fn make_directory(&self, path: &[u8]) -> Result<(), RootError> {
        self.add(path, EntryKind::Directory { opaque: false }, Origin::Nowhere);
        Ok(())
    }

    fn make_file(&self, path: &[u8], file: &NewFile<'_>) -> Result<(), RootError> {
        let (kind, origin) = match file {
            NewFile::Regular { size_bytes, digest, origin } => {
                let kind = EntryKind::File { size_bytes: *size_bytes, digest: *digest };
                (kind, origin.clone())
            }
            NewFile::Symlink(target) => {
                (EntryKind::Symlink { target: target.to_vec() }, Origin::Nowhere)
            }
            // What overlayfs would take for a deletion cannot be made where one is mounted.
            NewFile::Device { character: true, major: 0, minor: 0 } => {
                return Err(io("create", path, Errno::IO));
            }
            NewFile::Device { character: true, major, minor } => {
                (EntryKind::CharDevice { major: *major, minor: *minor }, Origin::Nowhere)
            }
            NewFile::Device { character: false, major, minor } => {
                (EntryKind::BlockDevice { major: *major, minor: *minor }, Origin::Nowhere)
            }
            NewFile::Fifo => (EntryKind::Fifo, Origin::Nowhere),
        };
        self.add(path, kind, origin);
        Ok(())
    }

    fn link(&self, first: &[u8], path: &[u8]) -> Result<(), RootError> {
        let kind = match self.changes.borrow().entry(first) {
            Some(entry) => match &entry.kind {
                EntryKind::File { .. } => EntryKind::HardLink { target: first.to_vec() },
                other => other.clone(),
            },
            None => return Err(io("link", path, Errno::NOENT)),
        };
        self.add(path, kind, Origin::Nowhere);
        Ok(())
    }

    fn unlink(&self, path: &[u8]) -> Result<(), RootError> {
        // What comes in its place hides what is below.
        Self::pass_on(&mut self.changes.borrow_mut(), path);
        Ok(())
    }

    fn set_attributes(&self, path: &[u8], attributes: &Attributes) -> Result<(), RootError> {
        self.change(path, |entry| {
            if let Some((uid, gid)) = attributes.owner {
                (entry.uid, entry.gid) = (uid, gid);
            }
            if let Some(mode) = attributes.mode {
                entry.mode = mode & 0o7777;
            }
            if let Some((seconds, nanoseconds)) = attributes.mtime {
                entry.mtime = Timestamp { seconds, nanoseconds };
            }
        });
        Ok(())
    }

    fn set_capability(&self, path: &[u8], capability: &[u8]) -> Result<(), RootError> {
        self.change(path, |entry| {
            entry.xattrs.insert(b"security.capability".to_vec(), capability.to_vec());
        });
        Ok(())
    }
}

/// The parts of a path, last first.
pub(super) fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").rev().map(<[u8]>::to_vec).collect()
}
