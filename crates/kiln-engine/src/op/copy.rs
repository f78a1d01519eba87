//! COPY and ADD of files: selected nodes into a root file system.
//!
//! Rules are those of BuildKit's copy (fsutil): an existing destination directory keeps its mode
//! and owner, directories below it take those of the source; directories made on the way get 0755 (or an octal `--chmod`) and `--chown`; a file
//! replaces a file or link, never a directory; a directory never replaces anything else.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_core::digest::FileDigest;
use kiln_core::mode::{self, FileType};
use kiln_core::plan::{CopyOp, ModeChange};
use kiln_store::layer::{Origin, SourceDirectory};
use rustix::io::Errno;

use super::destination::{Destination, Kind, NewFile};
use super::root::{Attributes, RootError, lossy, parent};
use crate::selection::Selected;
use crate::source_tree::{Node, NodeKind, as_path, join};

/// Copies into one root file system.
#[derive(Debug)]
pub(crate) struct Copier<'a, D> {
    root: &'a D,
    copy: &'a CopyOp,
    /// `--chown`, resolved.
    owner: Option<(u32, u32)>,
    devices: Devices,
}

/// Where files below a directory that is copied come from.
struct Origins<'a> {
    /// That directory's path in its tree.
    root: &'a [u8],
    /// The directories on disk, and that directory in each of them.
    known: Vec<(Arc<SourceDirectory>, Arc<SourceDirectory>)>,
}

impl Origins<'_> {
    /// The origin of a node whose path relative to the directory begins at `start` of what it is
    /// copied to.
    fn of(&mut self, node: &Node, start: u32) -> Origin {
        // What has other names may come to be held by one of those.
        if node.held_by.is_some() || node.link_group.is_some() {
            return node.bytes();
        }
        let known = self.known.iter().find(|(top, _)| Arc::ptr_eq(top, &node.directory));
        if let Some((_, below)) = known {
            return Origin::Same(Arc::clone(below), start);
        }
        let top = &node.directory;
        let path = top.path.join(as_path(self.root));
        let below = Arc::new(SourceDirectory { path, keeper: top.keeper });
        self.known.push((Arc::clone(top), Arc::clone(&below)));
        Origin::Same(below, start)
    }
}

/// What happens to device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Devices {
    /// They are made, all as character devices; if that is not allowed, the copy fails.
    Make,
    /// They are left out where only real root may make them.
    MakeIfAllowed,
}

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// In the destination.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A directory where a file should be, or the other way round.
    #[error("cannot copy {what} over {path}: {reason}")]
    Kind {
        /// `a directory` or `a file`.
        what: &'static str,
        /// Path in the destination.
        path: String,
        /// `it is a directory`, `it is not a directory`.
        reason: &'static str,
    },
}

impl<'a, D: Destination> Copier<'a, D> {
    pub(crate) fn new(root: &'a D, copy: &'a CopyOp, owner: Option<(u32, u32)>) -> Self {
        Self { root, copy, owner, devices: Devices::Make }
    }

    /// The same with another rule for device nodes.
    pub(crate) fn with_devices(self, devices: Devices) -> Self {
        Self { devices, ..self }
    }

    /// What directories made on the way get.
    pub(crate) fn made(&self) -> Attributes {
        let mode = match self.copy.mode {
            Some(ModeChange::Absolute(mode)) => mode & 0o777,
            _ => 0o755,
        };
        Attributes {
            mode: Some(mode),
            owner: Some(self.owner.unwrap_or((0, 0))),
            mtime: self.copy.epoch.map(|epoch| (epoch, 0)),
        }
    }

    /// Copies one match of a source to the destination of the instruction.
    pub(crate) fn copy(&self, selected: &Selected) -> Result<(), CopyError> {
        let destination = self.copy.destination.as_bytes();
        let directory = if destination.ends_with(b"/") { destination } else { parent(destination) };
        let directory = self.root.canonical(directory)?;
        self.root.make_directories(&directory, &self.made())?;
        let mut target = self.root.canonical(destination)?;
        let existing = self.root.kind(&target)?;
        if selected.root.kind == NodeKind::Directory {
            match existing {
                None => self.root.make_directories(&target, &self.made())?,
                Some(Kind::Directory) => {}
                Some(Kind::Other) => return Err(Self::not_a_directory(&target)),
            }
            return self.copy_contents(selected, &target);
        }
        if existing == Some(Kind::Directory) {
            target = join(&target, &selected.name);
        } else {
            self.root.make_directories(parent(&target), &self.made())?;
        }
        let root = &selected.root;
        self.copy_node((root, root.bytes()), &target, &mut HashMap::new())
    }

    /// Writes an inline file to the destination of the instruction.
    pub(crate) fn write(&self, name: &str, contents: &str) -> Result<(), CopyError> {
        let destination = self.copy.destination.as_bytes();
        let directory = if destination.ends_with(b"/") { destination } else { parent(destination) };
        let directory = self.root.canonical(directory)?;
        self.root.make_directories(&directory, &self.made())?;
        let mut target = self.root.canonical(destination)?;
        if self.root.kind(&target)? == Some(Kind::Directory) {
            target = join(&target, name.as_bytes());
        }
        self.make_room(&target)?;
        let file = NewFile::Regular {
            size_bytes: contents.len() as u64,
            digest: FileDigest::of(contents.as_bytes()),
            origin: Origin::Bytes(contents.as_bytes().to_vec()),
        };
        self.root.make_file(&target, &file)?;
        let attributes = Attributes {
            mode: Some(self.mode(0o644, FileType::File)),
            owner: Some(self.owner.unwrap_or((0, 0))),
            mtime: self.copy.epoch.map(|epoch| (epoch, 0)),
        };
        Ok(self.root.set_attributes(&target, &attributes)?)
    }

    fn copy_contents(&self, selected: &Selected, target: &[u8]) -> Result<(), CopyError> {
        let mut links = HashMap::new();
        let mut directories = Vec::new();
        let mut origins = Origins { root: &selected.root.path, known: Vec::new() };
        self.root.expect(selected.below.len());
        for node in selected.below.iter() {
            let relative = selected.relative(&node);
            let path = join(target, relative);
            if selected.passed.contains(relative) {
                self.pass(&node, &path)?;
                continue;
            }
            let origin = origins.of(&node, (path.len() - relative.len()) as u32);
            self.copy_node((&node, origin), &path, &mut links)?;
            if node.kind == NodeKind::Directory {
                directories.push((path, node));
            }
        }
        // Times last: every file made in a directory changes them.
        for (path, node) in directories.iter().rev() {
            self.set_times(path, node)?;
        }
        if !target.is_empty() && selected.root.mtime != kiln_store::layer::Timestamp::default() {
            self.set_times(target, &selected.root)?;
        }
        Ok(())
    }

    /// A directory on the way to what is copied: one that is there takes the mode of the source,
    /// whatever `--chmod` says, and nothing else; a new one is dated by what comes into it.
    fn pass(&self, node: &Node, path: &[u8]) -> Result<(), CopyError> {
        if self.root.kind(path)? == Some(Kind::Directory) {
            let attributes = Attributes { mode: Some(node.mode), ..Attributes::default() };
            return Ok(self.root.set_attributes(path, &attributes)?);
        }
        self.copy_node((node, Origin::Nowhere), path, &mut HashMap::new())
    }

    fn set_times(&self, path: &[u8], node: &Node) -> Result<(), CopyError> {
        Ok(self.root.set_time(path, node.mtime.seconds, node.mtime.nanoseconds)?)
    }

    fn copy_node(
        &self,
        (node, origin): (&Node, Origin),
        path: &[u8],
        links: &mut HashMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), CopyError> {
        if node.kind == NodeKind::Directory {
            return match self.root.kind(path)? {
                Some(Kind::Directory) => self.finish(node, path),
                Some(Kind::Other) => Err(Self::not_a_directory(path)),
                None => {
                    self.root.make_directory(path)?;
                    self.finish(node, path)
                }
            };
        }
        self.make_room(path)?;
        if let Some(group) = &node.link_group {
            if let Some(first) = links.get(group) {
                return Ok(self.root.link(first, path)?);
            }
            links.insert(group.clone(), path.to_vec());
        }
        let file = match &node.kind {
            NodeKind::Directory => return Ok(()),
            NodeKind::File { size_bytes, digest } => NewFile::Regular {
                size_bytes: *size_bytes,
                digest: digest.expect("selected files are hashed"),
                origin,
            },
            NodeKind::Symlink(target) => NewFile::Symlink(target),
            NodeKind::Device { character, major, minor } => {
                // Sic: BuildKit takes the bits of a socket's type away, and what is left of a block
                // device's is a character device's.
                let character = *character || self.devices == Devices::Make;
                NewFile::Device { character, major: *major, minor: *minor }
            }
            NodeKind::Fifo => NewFile::Fifo,
        };
        match self.root.make_file(path, &file) {
            Err(RootError::Io { source: Errno::PERM, .. })
                if self.devices == Devices::MakeIfAllowed
                    && matches!(file, NewFile::Device { .. }) =>
            {
                return Ok(());
            }
            made => made?,
        }
        self.finish(node, path)
    }

    /// Takes away the file or link that stands where a file goes.
    fn make_room(&self, path: &[u8]) -> Result<(), CopyError> {
        match self.root.kind(path)? {
            None => Ok(()),
            Some(Kind::Directory) => Err(CopyError::Kind {
                what: "a file",
                path: format!("/{}", lossy(path)),
                reason: "it is a directory",
            }),
            Some(Kind::Other) => Ok(self.root.unlink(path)?),
        }
    }

    /// Owner, mode, attributes and time of something that was just made.
    fn finish(&self, node: &Node, path: &[u8]) -> Result<(), CopyError> {
        let is_link = matches!(node.kind, NodeKind::Symlink(_));
        let file_type = match node.kind {
            NodeKind::Directory => FileType::Directory,
            _ => FileType::File,
        };
        let attributes = Attributes {
            mode: (!is_link).then(|| self.mode(node.mode, file_type)),
            owner: Some(self.owner.unwrap_or((node.uid, node.gid))),
            mtime: None,
        };
        self.root.set_attributes(path, &attributes)?;
        if let Some(capability) = &node.capability {
            self.root.set_capability(path, capability)?;
        }
        self.set_times(path, node)
    }

    fn mode(&self, own: u32, file_type: FileType) -> u32 {
        match &self.copy.mode {
            None => own,
            Some(ModeChange::Absolute(mode)) => *mode,
            Some(ModeChange::Symbolic(text)) => mode::apply(text, own, file_type).unwrap_or(own),
        }
    }

    fn not_a_directory(path: &[u8]) -> CopyError {
        CopyError::Kind {
            what: "a directory",
            path: format!("/{}", lossy(path)),
            reason: "it is not a directory",
        }
    }
}
