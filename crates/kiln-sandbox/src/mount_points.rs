//! Mount points in the root file system: made before the command, gone from the layer after it.
//!
//! [`MountPoints::make`] walks each destination through the joined root file system (detached, with nothing mounted on
//! it), resolving symlinks itself: an absolute link starts again at this root, `..` never leads above it. What is missing
//! is created; directories 0755, files empty. The directory above gets its times back, so the command sees it unchanged.
//!
//! [`MountPoints::remove`] works on the upper directory once the command is gone: a mount point goes when it is still
//! empty, whatever its mode and owner are now (as with BuildKit), and a directory that is in the upper directory *only because* a mount point was made in it goes when it is empty
//! and its mode, owner, times and attributes are still those of the layer below. So what is left is exactly what the
//! command did: an entry that equals the one below is no difference.
//!
//! `/proc`, `/sys` and `/dev`, and the working directory, stay: `BuildKit` leaves them too.
//!
//! A destination below an earlier mount is not in the root file system at all: the child makes it there.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::error::Error;
use crate::setup::names;

/// As many links as the kernel follows on one path.
const MAX_LINKS: usize = 40;

/// What is to be made at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A directory to mount on.
    Directory,
    /// A file to mount on.
    File,
    /// A directory to mount on, which stays in the layer.
    Special,
    /// The working directory: stays in the layer, with its owner.
    Owned { uid: u32, gid: u32 },
}

/// What was made in an upper directory on behalf of mounts.
#[derive(Debug)]
pub(crate) struct MountPoints {
    upper: PathBuf,
    made: Vec<Made>,
    /// Directories that a mount point was made in, as they were before; parents before children.
    parents: Vec<Parent>,
    /// Resolved destinations so far: what lies below is not looked at.
    mounted: Vec<PathBuf>,
}

#[derive(Debug)]
struct Made {
    path: PathBuf,
    entry: Entry,
}

#[derive(Debug)]
struct Parent {
    path: PathBuf,
    before: Metadata,
    /// Whether the upper directory had it already.
    in_upper: bool,
}

/// What makes a directory entry differ, besides its children.
#[derive(Debug, PartialEq, Eq)]
struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    modified: (i64, u64),
    attributes: Vec<(OsString, Vec<u8>)>,
}

impl MountPoints {
    /// For the root file system whose upper directory this is.
    pub(crate) fn new(upper: &Path) -> Self {
        Self { upper: upper.to_owned(), made: Vec::new(), parents: Vec::new(), mounted: Vec::new() }
    }

    /// Makes what is missing of `destination` below `root`.
    pub(crate) fn make(
        &mut self,
        root: BorrowedFd<'_>,
        destination: &Path,
        entry: Entry,
    ) -> Result<(), Error> {
        let mut walk = Walk {
            root,
            path: PathBuf::from("/"),
            directories: Vec::new(),
            remaining: names(destination)?.into_iter().map(OsStr::to_owned).collect(),
            links: 0,
        };
        self.walk(&mut walk, entry).map_err(|source| match entry {
            Entry::Owned { .. } => Error::WorkingDirectory { path: destination.to_owned(), source },
            _ => Error::MountPoint { path: destination.to_owned(), source },
        })
    }

    /// Declares that `destination` is a mount from here on.
    pub(crate) fn cover(&mut self, resolved: PathBuf) {
        self.mounted.push(resolved);
    }

    fn walk(&mut self, walk: &mut Walk<'_>, entry: Entry) -> io::Result<()> {
        while let Some(name) = walk.remaining.pop_front() {
            if name == ".." {
                walk.directories.pop();
                walk.path.pop();
                continue;
            }
            let path = walk.path.join(&name);
            if self.mounted.contains(&path) {
                // The rest is inside of that mount, which is none of the layer's business.
                return Ok(());
            }
            let last = walk.remaining.is_empty();
            match rustix::fs::statat(walk.directory(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    self.create(walk, &name, if last { entry } else { entry.parent() })?;
                }
                Err(errno) => return Err(errno.into()),
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Symlink => {
                        walk.follow(&name)?;
                        continue;
                    }
                    FileType::Directory if last && entry == Entry::File => {
                        return Err(Errno::ISDIR.into());
                    }
                    FileType::Directory => {}
                    _ if last && entry == Entry::File => {}
                    _ => return Err(Errno::NOTDIR.into()),
                },
            }
            if last && entry == Entry::File {
                walk.path = path;
                break;
            }
            walk.enter(&name)?;
        }
        if !matches!(entry, Entry::Owned { .. }) {
            self.cover(walk.path.clone());
        }
        Ok(())
    }

    fn create(&mut self, walk: &Walk<'_>, name: &OsStr, entry: Entry) -> io::Result<()> {
        let directory = walk.directory();
        let before = rustix::fs::fstat(directory)?;
        self.remember_parent(walk, &before)?;
        let mode = match entry {
            Entry::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644))?);
                0o644
            }
            Entry::Directory | Entry::Special | Entry::Owned { .. } => {
                rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755))?;
                0o755
            }
        };
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        // The process' umask has no say. A set-group-id bit is inherited from the directory, as for everyone.
        let mode = mode | (stat.st_mode & 0o7000);
        if let Entry::Owned { uid, gid } = entry
            && (uid, gid) != (stat.st_uid, stat.st_gid)
        {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(directory, name, Some(uid), Some(gid), flags)?;
        }
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        rustix::fs::futimens(directory, &times(&before))?;
        self.made.push(Made { path: walk.path.join(name), entry });
        Ok(())
    }

    /// The directory at the end of `walk` is about to be copied up.
    fn remember_parent(&mut self, walk: &Walk<'_>, stat: &Stat) -> io::Result<()> {
        if self.parents.iter().any(|parent| parent.path == walk.path)
            || self.made.iter().any(|made| made.path == walk.path)
        {
            return Ok(());
        }
        let mut path = PathBuf::from("/");
        for (depth, name) in walk.path.components().skip(1).enumerate() {
            // Copying a directory up copies those above it up as well.
            let above = path.clone();
            path.push(name);
            if self.parents.iter().any(|parent| parent.path == above)
                || self.made.iter().any(|made| made.path == above)
            {
                continue;
            }
            let directory =
                if depth == 0 { walk.root } else { walk.directories[depth - 1].as_fd() };
            let stat = rustix::fs::fstat(directory)?;
            self.push_parent(above, directory, &stat)?;
        }
        self.push_parent(walk.path.clone(), walk.directory(), stat)
    }

    fn push_parent(
        &mut self,
        path: PathBuf,
        directory: BorrowedFd<'_>,
        stat: &Stat,
    ) -> io::Result<()> {
        let before = Metadata::of(stat, Attributes::of_fd(directory)?);
        let in_upper = rustix::fs::lstat(in_upper(&self.upper, &path)).is_ok();
        self.parents.push(Parent { path, before, in_upper });
        Ok(())
    }

    /// Takes away what is only there because of mounts. The root file system is no longer mounted.
    ///
    /// # Errors
    /// [`Error::MountPoint`] with the path that could not be removed.
    pub(crate) fn remove(self) -> Result<(), Error> {
        for made in self.made.iter().rev() {
            if matches!(made.entry, Entry::Special | Entry::Owned { .. }) {
                continue;
            }
            self.remove_made(made)
                .map_err(|source| Error::MountPoint { path: made.path.clone(), source })?;
        }
        for parent in self.parents.iter().rev() {
            if parent.in_upper {
                continue;
            }
            self.remove_parent(parent)
                .map_err(|source| Error::MountPoint { path: parent.path.clone(), source })?;
        }
        Ok(())
    }

    fn remove_made(&self, made: &Made) -> io::Result<()> {
        let Some((directory, name)) = self.open_parent(&made.path)? else {
            return Ok(());
        };
        let stat = match rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // The command has removed or moved it.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let flags = match (made.entry, FileType::from_raw_mode(stat.st_mode)) {
            (Entry::Directory, FileType::Directory) => AtFlags::REMOVEDIR,
            (Entry::File, FileType::RegularFile) if stat.st_size == 0 => AtFlags::empty(),
            _ => return Ok(()),
        };
        remove_quietly(&directory, &name, flags)
    }

    fn remove_parent(&self, parent: &Parent) -> io::Result<()> {
        let Some((directory, name)) = self.open_parent(&parent.path)? else {
            return Ok(());
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(&directory, &name, flags, Mode::empty()) {
            Ok(opened) => opened,
            // Gone, or replaced by something that is not a directory: a whiteout among others.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let attributes = Attributes::of_fd(opened.as_fd())?;
        if attributes.opaque {
            return Ok(());
        }
        let now = Metadata::of(&rustix::fs::fstat(&opened)?, attributes);
        if now == parent.before {
            remove_quietly(&directory, &name, AtFlags::REMOVEDIR)
        } else {
            Ok(())
        }
    }

    /// Opens the directory that `path` is in, in the upper directory, without following links: the command may have put
    /// some there. `None` when it is no longer there, and for the root itself.
    fn open_parent(&self, path: &Path) -> io::Result<Option<(OwnedFd, OsString)>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = rustix::fs::open(&self.upper, flags, Mode::empty())?;
        for component in parent.components().skip(1) {
            directory =
                match rustix::fs::openat(&directory, component.as_os_str(), flags, Mode::empty()) {
                    Ok(next) => next,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                    Err(errno) => return Err(errno.into()),
                };
        }
        Ok(Some((directory, name.to_owned())))
    }
}

impl Entry {
    /// What a missing directory on the way is made as.
    fn parent(self) -> Self {
        match self {
            Self::Directory | Self::File => Self::Directory,
            Self::Special | Self::Owned { .. } => self,
        }
    }
}

/// A path being resolved below a root.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// Where the walk stands, without links.
    path: PathBuf,
    /// The directories of `path`, below the root.
    directories: Vec<OwnedFd>,
    remaining: VecDeque<OsString>,
    links: usize,
}

impl Walk<'_> {
    fn directory(&self) -> BorrowedFd<'_> {
        self.directories.last().map_or(self.root, AsFd::as_fd)
    }

    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(self.directory(), name, flags, Mode::empty())?;
        self.directories.push(directory);
        self.path.push(name);
        Ok(())
    }

    /// Puts the target of the link `name` before the rest of the path.
    fn follow(&mut self, name: &OsStr) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(self.directory(), name, Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.directories.clear();
            self.path = PathBuf::from("/");
        }
        for component in target.components().rev() {
            match component {
                std::path::Component::Normal(_) | std::path::Component::ParentDir => {
                    self.remaining.push_front(component.as_os_str().to_owned());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A directory's extended attributes without overlayfs' own.
struct Attributes {
    pairs: Vec<(OsString, Vec<u8>)>,
    /// Whether it hides what lies below.
    opaque: bool,
}

impl Attributes {
    fn of_fd(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mut attributes = Self { pairs: Vec::new(), opaque: false };
        let mut names = vec![0_u8; 64 * 1024];
        let length = match rustix::fs::flistxattr(directory, names.as_mut_slice()) {
            Ok(length) => length,
            Err(Errno::NOTSUP) => return Ok(attributes),
            Err(errno) => return Err(errno.into()),
        };
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let name = OsStr::from_bytes(name);
            if name == "user.overlay.opaque" || name == "trusted.overlay.opaque" {
                attributes.opaque = true;
            }
            let bytes = name.as_bytes();
            if bytes.starts_with(b"user.overlay.") || bytes.starts_with(b"trusted.overlay.") {
                continue;
            }
            let mut value = vec![0_u8; 64 * 1024];
            let length = rustix::fs::fgetxattr(directory, name, value.as_mut_slice())?;
            value.truncate(length);
            attributes.pairs.push((name.to_owned(), value));
        }
        attributes.pairs.sort();
        Ok(attributes)
    }
}

impl Metadata {
    fn of(stat: &Stat, attributes: Attributes) -> Self {
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            attributes: attributes.pairs,
        }
    }
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec {
            tv_sec: stat.st_mtime as _,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

fn in_upper(upper: &Path, path: &Path) -> PathBuf {
    upper.join(path.strip_prefix("/").unwrap_or(path))
}

/// Removes `name` if it is empty, leaving the directory's times as they are.
fn remove_quietly(directory: &OwnedFd, name: &OsStr, flags: AtFlags) -> io::Result<()> {
    let before = rustix::fs::fstat(directory)?;
    match rustix::fs::unlinkat(directory, name, flags) {
        Ok(()) => Ok(rustix::fs::futimens(directory, &times(&before))?),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
