//! Opening files beneath a directory, and nowhere else.
//!
//! Every path is resolved by `openat2` with `RESOLVE_BENEATH` and without symbolic links, so that
//! nothing a layer holds can lead out of it. Callers that follow links resolve them first.
//! Paths longer than the kernel takes at once are opened in pieces.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::layer_error::LayerError;

/// Below the kernel's `PATH_MAX` of 4096 bytes.
const PIECE_BYTES: usize = 4000;

/// A directory that is the root for all that is opened through it.
#[derive(Debug)]
pub(super) struct Beneath {
    root: OwnedFd,
    path: PathBuf,
}

impl Beneath {
    /// Opens the directory `path` of the host.
    pub(super) fn open(path: &Path) -> Result<Self, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(|errno| LayerError::Io {
            action: "open",
            path: path.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self { root, path: path.to_owned() })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens `path`, which is relative to the root and clean; the empty path is the root.
    pub(super) fn open_at(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, LayerError> {
        self.open_pieces(path, flags).map_err(self.failed("open", path))
    }

    /// Opens the directory `path` as a place to act in.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, LayerError> {
        self.open_at(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn open_pieces(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut rest = path;
        let mut dir: Option<OwnedFd> = None;
        while rest.len() > PIECE_BYTES {
            let cut = rest[..PIECE_BYTES].iter().rposition(|byte| *byte == b'/');
            let cut = cut.ok_or(Errno::NAMETOOLONG)?;
            dir = Some(self.open_piece(
                dir.as_ref(),
                &rest[..cut],
                OFlags::PATH | OFlags::DIRECTORY,
            )?);
            rest = &rest[cut + 1..];
        }
        self.open_piece(dir.as_ref(), rest, flags)
    }

    fn open_piece(
        &self,
        dir: Option<&OwnedFd>,
        path: &[u8],
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let dir = dir.map_or(self.root.as_fd(), AsFd::as_fd);
        let path = if path.is_empty() { b"." } else { path };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat2(dir, path, flags, Mode::empty(), resolve)
    }

    /// Where `path` lies on the host, for messages.
    pub(super) fn host_path(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.path.clone() } else { self.path.join(OsStr::from_bytes(path)) }
    }

    /// For `map_err` on a system call about `path`.
    pub(super) fn failed(
        &self,
        action: &'static str,
        path: &[u8],
    ) -> impl FnOnce(Errno) -> LayerError {
        move |errno| LayerError::Io { action, path: self.host_path(path), source: errno.into() }
    }
}
