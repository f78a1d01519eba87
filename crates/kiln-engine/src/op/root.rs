//! A root file system as a directory descriptor: paths never lead out of it.
//!
//! Paths are canonical when [`Root::canonical`] made them: no part of them is a link. Nobody but
//! the caller changes the tree meanwhile (it is a detached mount), so that a canonical path stays
//! one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use kiln_store::layer::Origin;

use super::destination::{Destination, Kind, NewFile, parts};
use crate::source_tree::{as_path, join};

/// Most links that a path may go through.
pub(crate) const LINK_LIMIT: usize = 255;

/// The action of an error about an owner.
pub(crate) const CHANGE_OWNER: &str = "change the owner of";

/// What went wrong, with the path as the image knows it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// The kernel said no.
    #[error("{action} /{path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Path in the root.
        path: String,
        /// Why.
        source: Errno,
    },
    /// The bytes of a file that is copied.
    #[error("read {path}: {source}")]
    Read {
        /// Path of the file, on the host.
        path: String,
        /// Why.
        source: Errno,
    },
    /// Links that lead nowhere.
    #[error("/{0}: too many links")]
    TooManyLinks(String),
    /// A path needs a directory where there is something else.
    #[error("/{0} is not a directory")]
    NotDirectory(String),
}

/// The root directory.
#[derive(Debug)]
pub(crate) struct Root(pub(crate) OwnedFd);

impl Root {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Follows links of a path inside `start`, a canonical directory: neither links nor `..` lead
    /// out of it. Parts that do not exist are taken as they are. The result begins with `start`.
    pub(crate) fn canonical_below(&self, start: &[u8], path: &[u8]) -> Result<Vec<u8>, RootError> {
        let mut pending = parts(path);
        let mut resolved: Vec<u8> = start.to_vec();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                let end = resolved.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                resolved.truncate(end.max(start.len()));
                continue;
            }
            let next = join(&resolved, &part);
            match rustix::fs::readlinkat(self.fd(), as_path(&next), Vec::new()) {
                Ok(target) => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(RootError::TooManyLinks(lossy(&next)));
                    }
                    let target = target.as_bytes();
                    if target.first() == Some(&b'/') {
                        resolved.truncate(start.len());
                    }
                    pending.extend(parts(target));
                }
                Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => resolved = next,
                Err(error) => return Err(io("follow", &next, error)),
            }
        }
        Ok(resolved)
    }

    /// What is at a canonical path, links not followed; `None` if nothing is.
    pub(crate) fn stat(&self, path: &[u8]) -> Result<Option<Stat>, RootError> {
        if path.is_empty() {
            return rustix::fs::fstat(self.fd()).map(Some).map_err(|error| io("stat", path, error));
        }
        match rustix::fs::statat(self.fd(), as_path(path), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(RootError::NotDirectory(lossy(parent(path)))),
            Err(error) => Err(io("stat", path, error)),
        }
    }

    /// Sets the modification time; links are not followed.
    fn set_mtime(&self, path: &[u8], seconds: i64, nanoseconds: u32) -> Result<(), RootError> {
        let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
        let times = Timestamps { last_access: time, last_modification: time };
        let at = if path.is_empty() { as_path(b".") } else { as_path(path) };
        rustix::fs::utimensat(self.fd(), at, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| io("set the time of", path, error))
    }

    /// Removes a directory and all that is in it.
    pub(crate) fn remove_directory(&self, path: &[u8]) -> Result<(), RootError> {
        std::fs::remove_dir_all(self.host_path(path)).map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
            io("remove", path, errno)
        })
    }

    fn create(&self, path: &[u8]) -> Result<OwnedFd, RootError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(self.fd(), as_path(path), flags, Mode::from_raw_mode(0o600))
            .map_err(|error| io("create", path, error))
    }

    /// In the kernel when it can: reflink or `copy_file_range`.
    fn copy_bytes(&self, path: &[u8], size_bytes: u64, origin: &Origin) -> Result<(), RootError> {
        let to = self.create(path)?;
        if let Origin::Bytes(bytes) = origin {
            return write_all(&to, bytes).map_err(|error| io("write", path, error));
        }
        let Some((origin, _)) = origin.file(path).filter(|_| size_bytes > 0) else {
            return Ok(());
        };
        let read_error = |source| RootError::Read { path: origin.display().to_string(), source };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let from = rustix::fs::open(&origin, flags, Mode::empty()).map_err(read_error)?;
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
                        UserSpaceError::Write(error) => io("write", path, error),
                    });
                }
                Err(error) => return Err(io("write", path, error)),
            }
        }
        Ok(())
    }

    /// A canonical path as the host sees it, through our own descriptor.
    fn host_path(&self, path: &[u8]) -> std::path::PathBuf {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.0);
        std::path::Path::new(&format!("/proc/self/fd/{fd}")).join(as_path(path))
    }
}

impl Destination for Root {
    fn canonical(&self, path: &[u8]) -> Result<Vec<u8>, RootError> {
        self.canonical_below(b"", path)
    }

    fn kind(&self, path: &[u8]) -> Result<Option<Kind>, RootError> {
        let kind = |stat: &Stat| if is_directory(stat) { Kind::Directory } else { Kind::Other };
        Ok(self.stat(path)?.as_ref().map(kind))
    }

    fn make_directory(&self, path: &[u8]) -> Result<(), RootError> {
        rustix::fs::mkdirat(self.fd(), as_path(path), Mode::from_raw_mode(0o700))
            .map_err(|error| io("create", path, error))
    }

    fn make_file(&self, path: &[u8], file: &NewFile<'_>) -> Result<(), RootError> {
        let special = |file_type, device| {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(self.fd(), as_path(path), file_type, mode, device)
        };
        match file {
            NewFile::Regular { size_bytes, origin, .. } => {
                return self.copy_bytes(path, *size_bytes, origin);
            }
            NewFile::Symlink(target) => {
                rustix::fs::symlinkat(as_path(target), self.fd(), as_path(path))
            }
            NewFile::Device { character, major, minor } => {
                let device = rustix::fs::makedev(*major, *minor);
                let file_type =
                    if *character { FileType::CharacterDevice } else { FileType::BlockDevice };
                special(file_type, device)
            }
            NewFile::Fifo => special(FileType::Fifo, 0),
        }
        .map_err(|error| io("create", path, error))
    }

    fn link(&self, first: &[u8], path: &[u8]) -> Result<(), RootError> {
        let (from, to) = (as_path(first), as_path(path));
        rustix::fs::linkat(self.fd(), from, self.fd(), to, AtFlags::empty())
            .map_err(|error| io("link", path, error))
    }

    fn unlink(&self, path: &[u8]) -> Result<(), RootError> {
        rustix::fs::unlinkat(self.fd(), as_path(path), AtFlags::empty())
            .map_err(|error| io("remove", path, error))
    }

    fn set_attributes(&self, path: &[u8], attributes: &Attributes) -> Result<(), RootError> {
        let at = as_path(path);
        if let Some((uid, gid)) = attributes.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(self.fd(), at, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| io(CHANGE_OWNER, path, error))?;
        }
        if let Some(mode) = attributes.mode {
            rustix::fs::chmodat(self.fd(), at, Mode::from_raw_mode(mode), AtFlags::empty())
                .map_err(|error| io("change the mode of", path, error))?;
        }
        match attributes.mtime {
            Some((seconds, nanoseconds)) => self.set_mtime(path, seconds, nanoseconds),
            None => Ok(()),
        }
    }

    fn set_capability(&self, path: &[u8], capability: &[u8]) -> Result<(), RootError> {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(self.host_path(path), "security.capability", capability, flags)
            .map_err(|error| io("set the capability of", path, error))
    }
}

/// What a new file or directory gets; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<(u32, u32)>,
    /// Seconds and nanoseconds.
    pub(crate) mtime: Option<(i64, u32)>,
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

pub(crate) fn io(action: &'static str, path: &[u8], source: Errno) -> RootError {
    RootError::Io { action, path: lossy(path), source }
}

pub(crate) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The directory of a path; the root is empty.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |end| &path[..end])
}

/// Which side of a copy failed.
enum UserSpaceError {
    Read(Errno),
    Write(Errno),
}

fn copy_in_user_space(from: &OwnedFd, to: &OwnedFd) -> Result<(), UserSpaceError> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match rustix::io::read(from, &mut buffer).map_err(UserSpaceError::Read)? {
            0 => return Ok(()),
            count => write_all(to, &buffer[..count]).map_err(UserSpaceError::Write)?,
        }
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = rustix::io::write(file, bytes)?;
        bytes = &bytes[count..];
    }
    Ok(())
}
