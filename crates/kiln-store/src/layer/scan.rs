//! Reading a layer's directory into an index.
//!
//! One thread walks with `getdents64` and `statx`, directory by directory in the index's order;
//! then the regular files are read and hashed, by several threads when there is enough to do.
//! The directory must not change meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::mem::MaybeUninit;
use std::num::NonZero;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_core::digest::FileDigest;
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Statx, StatxFlags, readlinkat, statx};

use super::beneath::Beneath;
use super::index::{Entry, EntryKind, LayerIndex, Timestamp};
use super::path::join;
use super::xattr::{self, Xattrs};
use crate::layer_error::LayerError;

/// Below both, starting threads costs more than it saves.
const PARALLEL_FILES: usize = 256;
const PARALLEL_BYTES: u64 = 4 << 20;
/// How many files a thread takes at a time.
const BATCH_FILES: usize = 32;
const READ_BYTES: usize = 256 << 10;

/// Reads the layer in `dir`, the layer's root in overlayfs upper format.
///
/// # Errors
/// [`LayerError::Io`] for a file that cannot be read, [`LayerError::Changed`] for one that
/// shrinks meanwhile.
pub fn scan(dir: &Path) -> Result<LayerIndex, LayerError> {
    let beneath = Beneath::open(dir)?;
    let mut walk = Walk::new(&beneath);
    walk.run()?;
    let Walk { mut entries, files, .. } = walk;
    let read = read_files(&beneath, &entries, &files)?;
    for (position, digest, xattrs) in read {
        let entry = &mut entries[position];
        entry.xattrs = xattrs;
        if let EntryKind::File { digest: slot, .. } = &mut entry.kind {
            *slot = digest;
        }
    }
    share_xattrs(&mut entries);
    Ok(LayerIndex { entries, implied: Vec::new(), unchanged: Vec::new() })
}

/// Gives the other names of a file its attributes.
fn share_xattrs(entries: &mut [Entry]) {
    for position in 0..entries.len() {
        let (before, rest) = entries.split_at_mut(position);
        let entry = &mut rest[0];
        let EntryKind::HardLink { target } = &entry.kind else {
            continue;
        };
        let order = |other: &Entry| super::path::path_order(&other.path, target);
        if let Ok(file) = before.binary_search_by(order) {
            entry.xattrs.clone_from(&before[file].xattrs);
        }
    }
}

/// The walk: entries in order, regular files still without digest and attributes.
struct Walk<'a> {
    beneath: &'a Beneath,
    entries: Vec<Entry>,
    /// Positions of regular files in `entries`.
    files: Vec<usize>,
    /// First position of each inode that has several names.
    linked: HashMap<(u32, u32, u64), usize>,
    buffer: Vec<MaybeUninit<u8>>,
}

impl<'a> Walk<'a> {
    fn new(beneath: &'a Beneath) -> Self {
        Self {
            beneath,
            entries: Vec::new(),
            files: Vec::new(),
            linked: HashMap::new(),
            buffer: vec![MaybeUninit::uninit(); 64 << 10],
        }
    }

    fn run(&mut self) -> Result<(), LayerError> {
        let stat = self.stat(self.beneath.root(), b"", b"")?;
        let root = entry_of(Vec::new(), EntryKind::Directory { opaque: false }, &stat);
        // Directories that are being walked, each with the children still to visit.
        let mut open = vec![self.enter(root)?.into_iter()];
        while let Some(children) = open.last_mut() {
            let Some((entry, stat)) = children.next() else {
                open.pop();
                continue;
            };
            if entry.kind.is_directory() {
                open.push(self.enter(entry)?.into_iter());
            } else {
                self.add(entry, &stat);
            }
        }
        Ok(())
    }

    /// Adds a directory and reads its children.
    fn enter(&mut self, mut dir: Entry) -> Result<Vec<(Entry, Statx)>, LayerError> {
        let beneath = self.beneath;
        let fd = beneath.open_at(&dir.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let Xattrs { kept, opaque } =
            xattr::read(fd.as_fd()).map_err(beneath.failed("read the attributes of", &dir.path))?;
        dir.xattrs = kept;
        dir.kind = EntryKind::Directory { opaque };
        let mut names = Vec::new();
        let mut listing = RawDir::new(&fd, &mut self.buffer);
        while let Some(name) = listing.next() {
            let name = name.map_err(beneath.failed("list", &dir.path))?;
            let name = name.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        let mut children = Vec::with_capacity(names.len());
        for name in names {
            let stat = self.stat(fd.as_fd(), &dir.path, &name)?;
            if let Some(kind) = self.kind(fd.as_fd(), &dir.path, &name, &stat)? {
                children.push((entry_of(join(&dir.path, &name), kind, &stat), stat));
            }
        }
        self.entries.push(dir);
        Ok(children)
    }

    /// Stats `name` in `dir`, or `dir` itself for an empty name.
    fn stat(&self, fd: BorrowedFd<'_>, dir: &[u8], name: &[u8]) -> Result<Statx, LayerError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        statx(fd, name, flags, StatxFlags::BASIC_STATS)
            .map_err(|errno| self.beneath.failed("stat", &join(dir, name))(errno))
    }

    fn kind(
        &self,
        fd: BorrowedFd<'_>,
        dir: &[u8],
        name: &[u8],
        stat: &Statx,
    ) -> Result<Option<EntryKind>, LayerError> {
        let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
        Ok(Some(match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => EntryKind::Directory { opaque: false },
            FileType::RegularFile => EntryKind::File {
                size_bytes: stat.stx_size,
                digest: FileDigest::from_bytes([0; 32]),
            },
            FileType::Symlink => {
                let target = readlinkat(fd, name, Vec::new())
                    .map_err(|errno| self.beneath.failed("read", &join(dir, name))(errno))?;
                EntryKind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice if (major, minor) == (0, 0) => EntryKind::Whiteout,
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::Unknown => return Ok(None),
        }))
    }

    /// Adds what is no directory.
    fn add(&mut self, mut entry: Entry, stat: &Statx) {
        let position = self.entries.len();
        if matches!(entry.kind, EntryKind::File { .. }) {
            let inode = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
            let first = if stat.stx_nlink > 1 {
                *self.linked.entry(inode).or_insert(position)
            } else {
                position
            };
            if first == position {
                self.files.push(position);
            } else {
                entry.kind = EntryKind::HardLink { target: self.entries[first].path.clone() };
            }
        }
        self.entries.push(entry);
    }
}

fn entry_of(path: Vec<u8>, kind: EntryKind, stat: &Statx) -> Entry {
    let whiteout = kind == EntryKind::Whiteout;
    let mtime = Timestamp { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec };
    Entry {
        path,
        kind,
        mode: if whiteout { 0 } else { u32::from(stat.stx_mode) & 0o7777 },
        uid: if whiteout { 0 } else { stat.stx_uid },
        gid: if whiteout { 0 } else { stat.stx_gid },
        mtime: if whiteout { Timestamp::default() } else { mtime },
        xattrs: BTreeMap::new(),
    }
}

type ReadFile = (usize, FileDigest, BTreeMap<Vec<u8>, Vec<u8>>);

/// Hashes the files at the positions `files` of `entries`.
fn read_files(
    beneath: &Beneath,
    entries: &[Entry],
    files: &[usize],
) -> Result<Vec<ReadFile>, LayerError> {
    let bytes: u64 = files.iter().map(|position| size_of(&entries[*position])).sum();
    let parallel = files.len() >= PARALLEL_FILES || (files.len() > 1 && bytes >= PARALLEL_BYTES);
    let threads = if parallel {
        std::thread::available_parallelism().map_or(1, NonZero::get).clamp(1, 16)
    } else {
        1
    };
    let batch = BATCH_FILES.min(files.len() / (threads * 4) + 1);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; READ_BYTES.min(usize::try_from(bytes).unwrap_or(READ_BYTES) + 1)];
        let mut read = Vec::new();
        loop {
            let first = next.fetch_add(batch, Ordering::Relaxed);
            if first >= files.len() {
                return Ok(read);
            }
            for position in &files[first..files.len().min(first + batch)] {
                read.push(read_file(beneath, &entries[*position], *position, &mut buffer)?);
            }
        }
    };
    if threads == 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut read = work()?;
        for worker in workers {
            read.extend(worker.join().expect("a hashing thread does not panic")?);
        }
        Ok(read)
    })
}

fn size_of(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size_bytes, .. } => size_bytes,
        _ => 0,
    }
}

fn read_file(
    beneath: &Beneath,
    entry: &Entry,
    position: usize,
    buffer: &mut [u8],
) -> Result<ReadFile, LayerError> {
    let path = &entry.path;
    let fd = beneath.open_at(path, OFlags::RDONLY)?;
    let xattrs = xattr::read(fd.as_fd()).map_err(beneath.failed("read the attributes of", path))?;
    let size_bytes = size_of(entry);
    let mut hasher = blake3::Hasher::new();
    let mut done = 0;
    while done < size_bytes {
        let length = rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut *buffer))
            .map_err(beneath.failed("read", path))?;
        if length == 0 {
            return Err(LayerError::Changed {
                path: beneath.host_path(path),
                expected_bytes: size_bytes,
                found_bytes: done,
            });
        }
        hasher.update(&buffer[..length]);
        done += length as u64;
    }
    if done > size_bytes {
        return Err(LayerError::Changed {
            path: beneath.host_path(path),
            expected_bytes: size_bytes,
            found_bytes: done,
        });
    }
    Ok((position, FileDigest::from_bytes(*hasher.finalize().as_bytes()), xattrs.kept))
}
