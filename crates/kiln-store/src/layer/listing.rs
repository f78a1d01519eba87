//! A layer that is known before it is on disk: its index, and where the bytes of each file are.
//!
//! It becomes a directory ([`write_files`]) or an archive ([`write_tar`](super::write_tar)),
//! whichever is needed; never both for the sake of it. Bytes that somebody could have changed
//! since they were indexed are hashed again on the way.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_core::digest::FileDigest;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, copy_file_range, linkat, makedev, mkdirat, mknodat, openat,
    symlinkat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use super::beneath::Beneath;
use super::index::{Entry, EntryKind, LayerIndex};
use super::metadata::{self, Metadata, Owner};
use super::path::{parent, path_order, split};
use super::xattr;
use crate::layer_error::LayerError;

/// Below this number of files, starting threads costs more than it saves.
const PARALLEL_FILES: usize = 64;
/// How many files a thread takes at a time.
const BATCH_FILES: usize = 64;
const READ_BYTES: usize = 256 << 10;
/// How much the kernel copies in one call.
const COPY_BYTES: usize = 64 << 20;

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It has none: a directory, a link, an empty file.
    Nowhere,
    /// In the file of this path beneath a directory.
    File(Arc<SourceDirectory>, Box<[u8]>),
    /// In the file beneath a directory whose path is the entry's own from this byte on. Most files
    /// come with all of their directory: this one takes no memory of its own.
    Same(Arc<SourceDirectory>, u32),
    /// Here.
    Bytes(Vec<u8>),
}

/// A directory that files are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub keeper: Keeper,
}

/// Who has a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The user, who may write to it at any time: what is read is compared with the index.
    User,
    /// The store, which never does.
    Store,
}

impl Origin {
    /// The file that the bytes of the entry at `path` are in, and who has it.
    pub fn file(&self, path: &[u8]) -> Option<(PathBuf, Keeper)> {
        let (directory, below) = match self {
            Self::Nowhere | Self::Bytes(_) => return None,
            Self::File(directory, below) => (directory, &below[..]),
            Self::Same(directory, start) => (directory, &path[*start as usize..]),
        };
        Some((directory.path.join(OsStr::from_bytes(below)), directory.keeper))
    }
}

/// An index with the bytes of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    index: LayerIndex,
    /// One for each entry of the index.
    origins: Vec<Origin>,
}

/// Where the bytes of a layer's files are.
#[derive(Debug, Clone, Copy)]
pub enum Contents<'a> {
    /// In the layer's directory.
    Directory(&'a Path),
    /// Where a listing says.
    Listed(&'a Listing),
}

impl<'a> From<&'a Path> for Contents<'a> {
    fn from(path: &'a Path) -> Self {
        Self::Directory(path)
    }
}

impl<'a> From<&'a PathBuf> for Contents<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::Directory(path)
    }
}

impl<'a> From<&'a Listing> for Contents<'a> {
    fn from(listing: &'a Listing) -> Self {
        Self::Listed(listing)
    }
}

impl Listing {
    /// A listing of `entries`, in any order, with the origin of each.
    ///
    /// # Errors
    /// [`LayerError::InvalidEntry`] when they do not form a tree.
    pub fn new(entries: Vec<Entry>, origins: Vec<Origin>) -> Result<Self, LayerError> {
        // There may be very many, and they mostly come in order: then nothing is copied.
        let in_order = |left: &Entry, right: &Entry| path_order(&left.path, &right.path).is_le();
        let (entries, origins) = if entries.is_sorted_by(in_order) {
            (entries, origins)
        } else {
            let mut files: Vec<(Entry, Origin)> = entries.into_iter().zip(origins).collect();
            files.sort_by(|(left, _), (right, _)| path_order(&left.path, &right.path));
            files.into_iter().unzip()
        };
        Ok(Self { index: LayerIndex::from_entries(entries)?, origins })
    }

    /// See [`LayerIndex::with_implied_root`].
    #[must_use]
    pub fn with_implied_root(self) -> Self {
        Self { index: self.index.with_implied_root(), ..self }
    }

    /// What the layer holds.
    pub fn index(&self) -> &LayerIndex {
        &self.index
    }

    /// What the layer holds.
    pub fn into_index(self) -> LayerIndex {
        self.index
    }

    /// The part of this listing that `index` has. A file may have become one of another name that
    /// was a link to it.
    ///
    /// # Errors
    /// [`LayerError::InvalidEntry`] when it has a file that this listing has not.
    pub fn narrowed(&self, index: LayerIndex) -> Result<Self, LayerError> {
        let origin_of = |entry: &Entry| {
            if !matches!(entry.kind, EntryKind::File { .. }) {
                return Ok(Origin::Nowhere);
            }
            let old = self.index.find(&entry.path).map(|old| self.index.follow_link(old));
            let position = old.and_then(|old| self.index.position(&old.path));
            let unknown = || LayerError::entry(&entry.path, "nobody knows its bytes");
            let position = position.ok_or_else(unknown)?;
            let (origin, old_path) = (&self.origins[position], &self.index.entries[position].path);
            Ok(match origin {
                Origin::Same(directory, start) if *old_path != entry.path => {
                    Origin::File(Arc::clone(directory), old_path[*start as usize..].into())
                }
                origin => origin.clone(),
            })
        };
        let origins = index.entries.iter().map(origin_of).collect::<Result<_, _>>()?;
        Ok(Self { index, origins })
    }

    pub(super) fn origin(&self, position: usize) -> &Origin {
        &self.origins[position]
    }
}

/// Opened bytes of one file.
pub(super) enum Bytes<'a> {
    File { file: File, path: PathBuf, trusted: bool },
    Memory(&'a [u8]),
}

impl<'a> Bytes<'a> {
    /// The bytes of the entry at `path`.
    pub(super) fn open(origin: &'a Origin, path: &[u8]) -> Result<Self, LayerError> {
        if let Origin::Bytes(bytes) = origin {
            return Ok(Self::Memory(bytes));
        }
        let Some((path, keeper)) = origin.file(path) else { return Ok(Self::Memory(&[])) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => {
                Ok(Self::File { file: file.into(), path, trusted: keeper == Keeper::Store })
            }
            Err(errno) => Err(LayerError::Io { action: "open", path, source: errno.into() }),
        }
    }

    /// Hands all bytes to `sink`, and checks that they are those of the index.
    pub(super) fn pass(
        self,
        (size_bytes, digest): (u64, FileDigest),
        buffer: &mut [u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let (mut file, path, trusted) = match self {
            Self::Memory(bytes) => return sink(bytes),
            Self::File { file, path, trusted } => (file, path, trusted),
        };
        let mut hasher = (!trusted).then(blake3::Hasher::new);
        let mut done = 0;
        loop {
            let length = file.read(buffer).map_err(|source| LayerError::Io {
                action: "read",
                path: path.clone(),
                source,
            })?;
            done += length as u64;
            if done > size_bytes || (length == 0 && done < size_bytes) {
                return Err(LayerError::Changed {
                    path,
                    expected_bytes: size_bytes,
                    found_bytes: done,
                });
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer[..length]);
            }
            sink(&buffer[..length])?;
            if done == size_bytes && length < buffer.len() {
                break;
            }
        }
        let is_same = hasher.is_none_or(|hasher| hasher.finalize().as_bytes() == digest.as_bytes());
        if is_same { Ok(()) } else { Err(LayerError::Rewritten { path }) }
    }
}

/// Writes the files of a listing into the empty directory `dest`, in overlayfs upper format.
///
/// Owners and devices that the user namespace forbids are treated as
/// [`apply_tar`](super::apply_tar) does.
///
/// # Errors
/// [`LayerError::Changed`] and [`LayerError::Rewritten`] for a file that is not what the index
/// says any more, [`LayerError::Io`]; `dest` then holds a part of the layer.
pub fn write_files(listing: &Listing, dest: &Path) -> Result<(), LayerError> {
    let target =
        Target { beneath: Beneath::open(dest)?, own: (geteuid().as_raw(), getegid().as_raw()) };
    let mut files = Vec::new();
    for (position, entry) in listing.index.entries.iter().enumerate() {
        match entry.kind {
            EntryKind::File { .. } => files.push(position),
            EntryKind::HardLink { .. } => {}
            _ if entry.path.is_empty() => {}
            _ => target.make(entry)?,
        }
    }
    target.write_all(listing, &files)?;
    for entry in &listing.index.entries {
        if let EntryKind::HardLink { target: first } = &entry.kind {
            target.link(first, &entry.path)?;
        }
    }
    // Times last: every file made in a directory changes them.
    for entry in listing.index.entries.iter().rev() {
        if let EntryKind::Directory { opaque } = entry.kind {
            target.finish_directory(entry, opaque)?;
        }
    }
    Ok(())
}

/// Gives all files of an unpacked layer the times of its index: archives have whole seconds.
///
/// # Errors
/// [`LayerError::Io`].
pub fn set_times(index: &LayerIndex, dir: &Path) -> Result<(), LayerError> {
    let beneath = Beneath::open(dir)?;
    for entry in index.entries.iter().rev() {
        let path = &entry.path;
        let exact = entry.mtime.nanoseconds != 0 || entry.kind.is_directory();
        if exact && entry.kind != EntryKind::Whiteout {
            let (dir, name) = split(path);
            metadata::set_mtime_at(&beneath.directory(dir)?, name, entry.mtime)
                .map_err(beneath.failed("set the time of", path))?;
        }
    }
    Ok(())
}

struct Target {
    beneath: Beneath,
    /// This process's user and group, which its new files have.
    own: (u32, u32),
}

impl Target {
    /// Makes what is no file and no hard link.
    fn make(&self, entry: &Entry) -> Result<(), LayerError> {
        let path = &entry.path;
        let (dir, name) = split(path);
        let dir = self.beneath.directory(dir)?;
        let failed = || self.beneath.failed("create", path);
        let node = |file_type, device| match mknodat(&dir, name, file_type, Mode::empty(), device) {
            Err(Errno::PERM) if device != 0 => {
                mknodat(&dir, name, FileType::RegularFile, Mode::empty(), 0)
            }
            made => made,
        };
        match &entry.kind {
            EntryKind::Directory { .. } => {
                return mkdirat(&dir, name, Mode::RWXU).map_err(failed());
            }
            EntryKind::Symlink { target } => symlinkat(&target[..], &dir, name),
            EntryKind::CharDevice { major, minor } => {
                node(FileType::CharacterDevice, makedev(*major, *minor))
            }
            EntryKind::BlockDevice { major, minor } => {
                node(FileType::BlockDevice, makedev(*major, *minor))
            }
            EntryKind::Fifo => node(FileType::Fifo, 0),
            EntryKind::Socket => node(FileType::Socket, 0),
            EntryKind::Whiteout => node(FileType::CharacterDevice, 0),
            EntryKind::File { .. } | EntryKind::HardLink { .. } => Ok(()),
        }
        .map_err(failed())?;
        if entry.kind == EntryKind::Whiteout {
            return Ok(());
        }
        let is_symlink = matches!(entry.kind, EntryKind::Symlink { .. });
        metadata::set_at(&dir, name, &metadata_of(entry), is_symlink)
            .map_err(self.beneath.failed("set the metadata of", path))
    }

    /// Writes the files at these positions, on several threads when there are many.
    fn write_all(&self, listing: &Listing, files: &[usize]) -> Result<(), LayerError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if files.len() < PARALLEL_FILES { 1 } else { cores.clamp(1, 8) };
        let next = AtomicUsize::new(0);
        let work = || {
            let mut writer = Writer { target: self, dir: None, buffer: Vec::new() };
            loop {
                let first = next.fetch_add(BATCH_FILES, Ordering::Relaxed);
                if first >= files.len() {
                    return Ok(());
                }
                for position in &files[first..files.len().min(first + BATCH_FILES)] {
                    writer.write(&listing.index.entries[*position], listing.origin(*position))?;
                }
            }
        };
        if threads == 1 {
            return work();
        }
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut result = work();
            for other in others {
                result = result.and(other.join().expect("a writing thread does not panic"));
            }
            result
        })
    }

    fn link(&self, first: &[u8], path: &[u8]) -> Result<(), LayerError> {
        let (first_dir, first_name) = split(first);
        let (dir, name) = split(path);
        let (from, to) = (self.beneath.directory(first_dir)?, self.beneath.directory(dir)?);
        linkat(&from, first_name, &to, name, AtFlags::empty())
            .map_err(self.beneath.failed("link", path))
    }

    fn finish_directory(&self, entry: &Entry, opaque: bool) -> Result<(), LayerError> {
        let path = &entry.path;
        let fd = self.beneath.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if opaque {
            xattr::mark_opaque(fd.as_fd()).map_err(self.beneath.failed("mark", path))?;
        }
        metadata::set(fd.as_fd(), &mut metadata_of(entry), self.owner(entry))
            .map_err(self.beneath.failed("set the metadata of", path))
    }

    fn owner(&self, entry: &Entry) -> Owner {
        if (entry.uid, entry.gid) == self.own { Owner::Right } else { Owner::Unset }
    }
}

/// What one thread keeps between files.
struct Writer<'a> {
    target: &'a Target,
    /// The last directory, as most files have neighbours.
    dir: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn write(&mut self, entry: &Entry, origin: &Origin) -> Result<(), LayerError> {
        let EntryKind::File { size_bytes, digest } = entry.kind else {
            unreachable!("only regular files are written");
        };
        let (path, beneath) = (&entry.path, &self.target.beneath);
        let name = split(path).1;
        let dir = match self.dir.take() {
            Some((known, dir)) if known == parent(path) => dir,
            _ => beneath.directory(parent(path))?,
        };
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&dir, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(beneath.failed("create", path))?;
        self.dir = Some((parent(path).to_vec(), dir));
        if size_bytes > 0 {
            let bytes = Bytes::open(origin, path)?;
            if !clone(&bytes, &file) && !copy_range(&bytes, &file, size_bytes) {
                self.buffer.resize(READ_BYTES, 0);
                bytes.pass((size_bytes, digest), &mut self.buffer, |mut bytes| {
                    while !bytes.is_empty() {
                        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, bytes))
                            .map_err(beneath.failed("write", path))?;
                        bytes = &bytes[written..];
                    }
                    Ok(())
                })?;
            }
        }
        metadata::set(file.as_fd(), &mut metadata_of(entry), self.target.owner(entry))
            .map_err(beneath.failed("set the metadata of", path))
    }
}

/// Shares the blocks of a file that nobody changes, where the file system can.
fn clone(bytes: &Bytes<'_>, to: &OwnedFd) -> bool {
    match bytes {
        Bytes::File { file, trusted: true, .. } => rustix::fs::ioctl_ficlone(to, file).is_ok(),
        _ => false,
    }
}

/// Copies a file that nobody changes within the kernel; if it can't, nothing is copied.
fn copy_range(bytes: &Bytes<'_>, to: &OwnedFd, size_bytes: u64) -> bool {
    let Bytes::File { file, trusted: true, .. } = bytes else { return false };
    let mut done = 0;
    while done < size_bytes {
        let length = usize::try_from(size_bytes - done).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        match copy_file_range(file, Some(&mut done.clone()), to, Some(&mut done.clone()), length) {
            Ok(copied) if copied > 0 => done += copied as u64,
            // Offsets were given: both files are read and written from the start then.
            _ => return false,
        }
    }
    true
}

fn metadata_of(entry: &Entry) -> Metadata {
    let Entry { mode, uid, gid, mtime, xattrs, .. } = entry;
    Metadata { mode: *mode, uid: *uid, gid: *gid, mtime: *mtime, xattrs: xattrs.clone() }
}
