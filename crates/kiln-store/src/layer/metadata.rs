//! Giving files on disk the metadata of an index.
//!
//! The order matters: `chown` clears set-id bits and capabilities, so they come after it.
//! An owner that the user namespace does not map is left to the index: the kernel answers
//! EINVAL, and the file stays kiln's own.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat, fchmod, fchown,
    futimens, utimensat,
};
use rustix::io::Errno;

use super::index::Timestamp;
use super::xattr;

/// What `chmod`, `chown`, `setxattr` and `utimes` set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Metadata {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
}

fn mapped(result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(Errno::INVAL) { Ok(()) } else { result }
}

fn owner(metadata: &Metadata) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))
}

fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    }
}

/// Whether the owner has still to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The file was made by this process, whose ids are the right ones.
    Right,
    /// Anything else.
    Unset,
}

/// Sets everything on an open file or directory. Attributes that the file system does not
/// support are taken out of `metadata`.
pub(super) fn set(fd: BorrowedFd<'_>, metadata: &mut Metadata, now: Owner) -> Result<(), Errno> {
    if now == Owner::Unset {
        let (uid, gid) = owner(metadata);
        mapped(fchown(fd, uid, gid))?;
    }
    xattr::write(fd, &mut metadata.xattrs)?;
    fchmod(fd, Mode::from_raw_mode(metadata.mode))?;
    futimens(fd, &times(metadata.mtime))
}

/// Sets owner, mode and time of `name` in the directory `dir`, which is no regular file and no
/// directory, and which is not followed.
pub(super) fn set_at(
    dir: &OwnedFd,
    name: &[u8],
    metadata: &Metadata,
    is_symlink: bool,
) -> Result<(), Errno> {
    let (uid, gid) = owner(metadata);
    mapped(chownat(dir.as_fd(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
    if !is_symlink {
        chmodat(dir.as_fd(), name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())?;
    }
    utimensat(dir.as_fd(), name, &times(metadata.mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets the time of `name` in the directory `dir`, or of `dir` itself for an empty name.
pub(super) fn set_mtime_at(dir: &OwnedFd, name: &[u8], mtime: Timestamp) -> Result<(), Errno> {
    let name = if name.is_empty() { b"." } else { name };
    utimensat(dir.as_fd(), name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
}
