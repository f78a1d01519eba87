//! COPY and ADD of files: selected nodes into a root file system.
//!
//! Rules are those of BuildKit's copy (fsutil): an existing destination directory keeps its mode
//! and owner, directories below it take those of the source; directories made on the way get 0755 (or an octal `--chmod`) and `--chown`; a file
//! replaces a file or link, never a directory; a directory never replaces anything else.

use std::collections::HashMap;

use kiln_core::mode::{self, FileType};
use kiln_core::plan::{CopyOp, ModeChange, Unpack};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::root::{Attributes, Root, RootError, io, is_directory, lossy, parent};
use super::unpack::{self, UnpackError};
use crate::selection::Selected;
use crate::source_tree::{Node, NodeKind, as_path, join};

/// Copies into one root file system.
#[derive(Debug)]
pub(crate) struct Copier<'a> {
    root: &'a Root,
    copy: &'a CopyOp,
    /// `--chown`, resolved.
    owner: Option<(u32, u32)>,
    devices: Devices,
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
    /// An archive.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
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
    /// The source's bytes.
    #[error("read {path}: {source}")]
    Read {
        /// Path of the source.
        path: String,
        /// Why.
        source: Errno,
    },
}

impl<'a> Copier<'a> {
    pub(crate) fn new(root: &'a Root, copy: &'a CopyOp, owner: Option<(u32, u32)>) -> Self {
        Self { root, copy, owner, devices: Devices::Make }
    }

    /// The same with another rule for device nodes.
    pub(crate) fn with_devices(self, devices: Devices) -> Self {
        Self { devices, ..self }
    }

    /// What directories made on the way get.
    fn made(&self) -> Attributes {
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
        if self.copy.unpack == Unpack::Yes
            && let NodeKind::File { .. } = selected.root.kind
            && let Some(archive) = unpack::open(&selected.root.origin)?
        {
            let directory = self.root.canonical(destination)?;
            let made = Attributes { mode: Some(0o755), ..self.made() };
            self.root.make_directories(&directory, &made)?;
            let from = (self.owner, selected.root.origin.as_path());
            return Ok(unpack::extract(self.root, &directory, archive, from)?);
        }
        let directory = if destination.ends_with(b"/") { destination } else { parent(destination) };
        let directory = self.root.canonical(directory)?;
        self.root.make_directories(&directory, &self.made())?;
        let mut target = self.root.canonical(destination)?;
        let existing = self.root.stat(&target)?;
        if selected.root.kind == NodeKind::Directory {
            match existing {
                None => self.root.make_directories(&target, &self.made())?,
                Some(stat) if is_directory(&stat) => {}
                Some(_) => return Err(Self::not_a_directory(&target)),
            }
            return self.copy_contents(selected, &target);
        }
        if existing.is_some_and(|stat| is_directory(&stat)) {
            target = join(&target, &selected.name);
        } else {
            self.root.make_directories(parent(&target), &self.made())?;
        }
        self.copy_node(&selected.root, &target, &mut HashMap::new())
    }

    /// Writes an inline file to the destination of the instruction.
    pub(crate) fn write(&self, name: &str, contents: &str) -> Result<(), CopyError> {
        let destination = self.copy.destination.as_bytes();
        let directory = if destination.ends_with(b"/") { destination } else { parent(destination) };
        let directory = self.root.canonical(directory)?;
        self.root.make_directories(&directory, &self.made())?;
        let mut target = self.root.canonical(destination)?;
        if self.root.stat(&target)?.is_some_and(|stat| is_directory(&stat)) {
            target = join(&target, name.as_bytes());
        }
        self.make_room(&target)?;
        let file = self.create(&target)?;
        write_all(&file, contents.as_bytes()).map_err(|error| io("write", &target, error))?;
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
        for node in &selected.below {
            let path = join(target, &node.path);
            if selected.passed.contains(&node.path) {
                self.pass(node, &path)?;
                continue;
            }
            self.copy_node(node, &path, &mut links)?;
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
        if self.root.stat(path)?.is_some_and(|stat| is_directory(&stat)) {
            let attributes = Attributes { mode: Some(node.mode), ..Attributes::default() };
            return Ok(self.root.set_attributes(path, &attributes)?);
        }
        self.copy_node(node, path, &mut HashMap::new())
    }

    fn set_times(&self, path: &[u8], node: &Node) -> Result<(), CopyError> {
        Ok(self.root.set_time(path, node.mtime.seconds, node.mtime.nanoseconds)?)
    }

    fn copy_node(
        &self,
        node: &Node,
        path: &[u8],
        links: &mut HashMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), CopyError> {
        if node.kind == NodeKind::Directory {
            return match self.root.stat(path)? {
                Some(stat) if is_directory(&stat) => self.finish(node, path),
                Some(_) => Err(Self::not_a_directory(path)),
                None => {
                    self.root.make_directory(path)?;
                    self.finish(node, path)
                }
            };
        }
        self.make_room(path)?;
        if let Some(group) = &node.link_group {
            if let Some(first) = links.get(group) {
                let fd = self.root.fd();
                let flags = rustix::fs::AtFlags::empty();
                return rustix::fs::linkat(fd, as_path(first), fd, as_path(path), flags)
                    .map_err(|error| io("link", path, error).into());
            }
            links.insert(group.clone(), path.to_vec());
        }
        match &node.kind {
            NodeKind::File { size_bytes, .. } => self.copy_bytes(node, path, *size_bytes)?,
            NodeKind::Symlink(target) => {
                rustix::fs::symlinkat(as_path(target), self.root.fd(), as_path(path))
                    .map_err(|error| io("link", path, error))?;
            }
            NodeKind::Device { character, major, minor } => {
                let file_type = match self.devices {
                    // Sic: BuildKit takes the bits of a socket's type away, and what is left of a
                    // block device's is a character device's.
                    Devices::Make => rustix::fs::FileType::CharacterDevice,
                    Devices::MakeIfAllowed if *character => rustix::fs::FileType::CharacterDevice,
                    Devices::MakeIfAllowed => rustix::fs::FileType::BlockDevice,
                };
                let device = rustix::fs::makedev(*major, *minor);
                match self.make_special(path, file_type, device) {
                    Err(CopyError::Root(RootError::Io { source: Errno::PERM, .. }))
                        if self.devices == Devices::MakeIfAllowed =>
                    {
                        return Ok(());
                    }
                    made => made?,
                }
            }
            NodeKind::Fifo => self.make_special(path, rustix::fs::FileType::Fifo, 0)?,
            NodeKind::Directory => {}
        }
        self.finish(node, path)
    }

    fn make_special(
        &self,
        path: &[u8],
        file_type: rustix::fs::FileType,
        device: u64,
    ) -> Result<(), CopyError> {
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(self.root.fd(), as_path(path), file_type, mode, device)
            .map_err(|error| io("create", path, error).into())
    }

    /// Takes away the file or link that stands where a file goes.
    fn make_room(&self, path: &[u8]) -> Result<(), CopyError> {
        match self.root.stat(path)? {
            None => Ok(()),
            Some(stat) if is_directory(&stat) => Err(CopyError::Kind {
                what: "a file",
                path: format!("/{}", lossy(path)),
                reason: "it is a directory",
            }),
            Some(_) => Ok(self.root.unlink(path)?),
        }
    }

    fn create(&self, path: &[u8]) -> Result<std::os::fd::OwnedFd, CopyError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(self.root.fd(), as_path(path), flags, Mode::from_raw_mode(0o600))
            .map_err(|error| io("create", path, error).into())
    }

    /// In the kernel when it can: reflink or `copy_file_range`.
    fn copy_bytes(&self, node: &Node, path: &[u8], size_bytes: u64) -> Result<(), CopyError> {
        if size_bytes == 0 {
            self.create(path)?;
            return Ok(());
        }
        let read_error =
            |source| CopyError::Read { path: node.origin.display().to_string(), source };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let from = rustix::fs::open(&node.origin, flags, Mode::empty()).map_err(read_error)?;
        let to = self.create(path)?;
        if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
            return Ok(());
        }
        let mut copied: u64 = 0;
        while copied < size_bytes {
            let rest = usize::try_from(size_bytes - copied).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(&from, None, &to, None, rest) {
                Ok(0) => break,
                Ok(count) => copied += count as u64,
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
                    if copied == 0 =>
                {
                    return copy_in_user_space(&from, &to).map_err(|error| match error {
                        UserSpaceError::Read(error) => read_error(error),
                        UserSpaceError::Write(error) => io("write", path, error).into(),
                    });
                }
                Err(error) => return Err(io("write", path, error).into()),
            }
        }
        Ok(())
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

/// Which side of a copy failed.
enum UserSpaceError {
    Read(Errno),
    Write(Errno),
}

fn copy_in_user_space(
    from: &std::os::fd::OwnedFd,
    to: &std::os::fd::OwnedFd,
) -> Result<(), UserSpaceError> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match rustix::io::read(from, &mut buffer).map_err(UserSpaceError::Read)? {
            0 => return Ok(()),
            count => write_all(to, &buffer[..count]).map_err(UserSpaceError::Write)?,
        }
    }
}

fn write_all(file: &std::os::fd::OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = rustix::io::write(file, bytes)?;
        bytes = &bytes[count..];
    }
    Ok(())
}
