//! Reads files of a build context for their digests, in parallel.
//!
//! A file that changes while it is read is read once more, then it is an error: a digest of bytes
//! that never were in the file at one time would be worse.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_core::digest::FileDigest;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

use crate::context_entry::{ContextEntry, device, full_path, nanoseconds, open_beneath};
use crate::error::Error;
use crate::large_file::{LARGE_BYTES, hash_large};

/// Kernels stamp files with the time of the last tick, at least 100 times a second.
const FINE_GRANULARITY_NS: i64 = 20_000_000;
/// File systems without nanoseconds; FAT's seconds are even.
const COARSE_GRANULARITY_NS: i64 = 2_000_000_000;
const MOST_THREADS: usize = 8;
const BUFFER_BYTES: usize = 256 << 10;

/// What identifies a version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size_bytes: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
}

/// A file that was read.
pub(crate) struct ReadFile {
    pub(crate) position: usize,
    pub(crate) digest: FileDigest,
    pub(crate) stamp: Stamp,
    pub(crate) is_trusted: bool,
}

/// Reads the files at the positions `unknown` of `entries`.
pub(crate) fn read_files(
    root: &Path,
    entries: &[&ContextEntry],
    unknown: &[usize],
) -> Result<Vec<ReadFile>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        openat(CWD, root, flags, Mode::empty()).map_err(Error::io("open directory", root))?;
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let work = || {
        let mut read = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        while !is_over.load(Ordering::Relaxed) {
            let Some(position) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let path = &entries[*position].path;
            match read_stable(&directory, root, path, &mut buffer) {
                Ok((digest, stamp, is_trusted)) => {
                    read.push(ReadFile { position: *position, digest, stamp, is_trusted });
                }
                Err(error) => {
                    is_over.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(read)
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(MOST_THREADS)
        .min(unknown.len());
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for helper in helpers {
            match (helper.join(), &mut result) {
                (Ok(Ok(more)), Ok(read)) => read.extend(more),
                (Ok(Err(error)), Ok(_)) => result = Err(error),
                (Ok(_), Err(_)) => {}
                (Err(panic), _) => std::panic::resume_unwind(panic),
            }
        }
        result
    })
}

/// Reads one file; a second time if it changed meanwhile.
fn read_stable(
    directory: &OwnedFd,
    root: &Path,
    path: &[u8],
    buffer: &mut [u8],
) -> Result<(FileDigest, Stamp, bool), Error> {
    for _ in 0..2 {
        if let Some(read) = read_once(directory, root, path, buffer)? {
            return Ok(read);
        }
    }
    Err(Error::FileChanged { path: full_path(root, path) })
}

fn read_once(
    directory: &OwnedFd,
    root: &Path,
    path: &[u8],
    buffer: &mut [u8],
) -> Result<Option<(FileDigest, Stamp, bool)>, Error> {
    let fail = |operation| Error::io::<Errno>(operation, full_path(root, path));
    // Not blocking: it may have become a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_beneath(directory, path, flags) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP | Errno::XDEV | Errno::NXIO) => {
            return Err(Error::FileChanged { path: full_path(root, path) });
        }
        Err(errno) => return Err(fail("open")(errno)),
    };
    let before = stat(&file).map_err(fail("stat"))?;
    if FileType::from_raw_mode(u32::from(before.stx_mode)) != FileType::RegularFile {
        return Err(Error::FileChanged { path: full_path(root, path) });
    }
    let now = SystemTime::now();
    let size_bytes = before.stx_size;
    let failed = |error| Error::io("read", full_path(root, path))(error);
    let hash = if size_bytes < LARGE_BYTES {
        hash_file(&file, size_bytes, buffer).map_err(failed)?
    } else {
        match hash_large(&file, size_bytes) {
            Ok(hash) => Some(hash),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(failed(error)),
        }
    };
    let after = stamp_of(&stat(&file).map_err(fail("stat"))?);
    let Some(hash) = hash.filter(|_| after == stamp_of(&before)) else { return Ok(None) };
    Ok(Some((FileDigest::from_bytes(*hash.as_bytes()), after, is_older(&after, now))))
}

/// The digest of a file; `None` if it has not the promised size.
fn hash_file(
    mut file: &File,
    size_bytes: u64,
    buffer: &mut [u8],
) -> std::io::Result<Option<blake3::Hash>> {
    let mut hasher = blake3::Hasher::new();
    let mut total = 0;
    loop {
        let count = file.read(buffer)?;
        hasher.update(&buffer[..count]);
        total += count as u64;
        // At the promised size nothing is left; if there is, the file's stamp has changed.
        if count == 0 || total >= size_bytes {
            return Ok((total == size_bytes).then(|| hasher.finalize()));
        }
    }
}

fn stat(file: impl AsFd) -> Result<Statx, Errno> {
    statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// The version of a file by what the kernel says of it.
pub(crate) fn stamp_of(stat: &Statx) -> Stamp {
    Stamp {
        device: device(stat),
        inode: stat.stx_ino,
        size_bytes: stat.stx_size,
        mtime_ns: nanoseconds(stat.stx_mtime),
        ctime_ns: nanoseconds(stat.stx_ctime),
    }
}

/// The racy-clean rule: whether a write after `now` would surely have given other times.
pub(crate) fn is_older(stamp: &Stamp, now: SystemTime) -> bool {
    let Ok(now) = now.duration_since(UNIX_EPOCH) else {
        return false;
    };
    let is_coarse =
        [stamp.mtime_ns, stamp.ctime_ns].iter().all(|time| time.rem_euclid(1_000_000_000) == 0);
    let granularity = if is_coarse { COARSE_GRANULARITY_NS } else { FINE_GRANULARITY_NS };
    let limit = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX) - granularity;
    stamp.mtime_ns < limit && stamp.ctime_ns < limit
}
