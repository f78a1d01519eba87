//! A root file system as a directory descriptor: paths never lead out of it.
//!
//! Paths are canonical when [`Root::canonical`] made them: no part of them is a link. Nobody but
//! the caller changes the tree meanwhile (it is a detached mount), so that a canonical path stays
//! one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::source_tree::{as_path, join};

/// Most links that a path may go through.
const LINK_LIMIT: usize = 255;

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

    /// Follows links of a path inside the root; parts that do not exist are taken as they are.
    pub(crate) fn canonical(&self, path: &[u8]) -> Result<Vec<u8>, RootError> {
        self.canonical_below(b"", path)
    }

    /// The same with `start`, a canonical directory, in the place of the root: neither links nor
    /// `..` lead out of it. The result begins with it.
    pub(crate) fn canonical_below(&self, start: &[u8], path: &[u8]) -> Result<Vec<u8>, RootError> {
        let split = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|byte| *byte == b'/')
                .filter(|part| !part.is_empty() && *part != b".")
                .rev()
                .map(<[u8]>::to_vec)
                .collect()
        };
        let mut pending = split(path);
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
                    pending.extend(split(target));
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

    /// Makes a directory and all that are missing above it, with one mode, owner and time.
    pub(crate) fn make_directories(
        &self,
        path: &[u8],
        attributes: &Attributes,
    ) -> Result<(), RootError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.chain([path.len()]) {
            let prefix = &path[..end];
            if prefix.is_empty() {
                continue;
            }
            match self.stat(prefix)? {
                Some(stat) if is_directory(&stat) => {}
                Some(_) => return Err(RootError::NotDirectory(lossy(prefix))),
                None => {
                    self.make_directory(prefix)?;
                    self.set_attributes(prefix, attributes)?;
                }
            }
        }
        Ok(())
    }

    /// Makes one directory; its attributes are set apart.
    pub(crate) fn make_directory(&self, path: &[u8]) -> Result<(), RootError> {
        rustix::fs::mkdirat(self.fd(), as_path(path), Mode::from_raw_mode(0o700))
            .map_err(|error| io("create", path, error))
    }

    /// Sets owner, then mode (a change of owner clears set-id bits), then time.
    pub(crate) fn set_attributes(
        &self,
        path: &[u8],
        attributes: &Attributes,
    ) -> Result<(), RootError> {
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
            Some((seconds, nanoseconds)) => self.set_time(path, seconds, nanoseconds),
            None => Ok(()),
        }
    }

    /// Sets the modification time; links are not followed.
    pub(crate) fn set_time(
        &self,
        path: &[u8],
        seconds: i64,
        nanoseconds: u32,
    ) -> Result<(), RootError> {
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

    /// Sets the capability of a file.
    pub(crate) fn set_capability(&self, path: &[u8], capability: &[u8]) -> Result<(), RootError> {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(self.host_path(path), "security.capability", capability, flags)
            .map_err(|error| io("set the capability of", path, error))
    }

    /// A canonical path as the host sees it, through our own descriptor.
    fn host_path(&self, path: &[u8]) -> std::path::PathBuf {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.0);
        std::path::Path::new(&format!("/proc/self/fd/{fd}")).join(as_path(path))
    }

    /// Removes a file that is no directory.
    pub(crate) fn unlink(&self, path: &[u8]) -> Result<(), RootError> {
        rustix::fs::unlinkat(self.fd(), as_path(path), AtFlags::empty())
            .map_err(|error| io("remove", path, error))
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
