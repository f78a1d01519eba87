//! The walk through a build context: which files there are, without reading any.
//!
//! `getdents64` and `statx` relative to the directory, in one thread up to about 2,000 entries and
//! in several beyond; directories that the filter rejects are never opened. The result does not
//! depend on the number of threads: components of paths are compared byte by byte, a directory
//! stands before what is in it, and what is in it before its next sibling.
//!
//! Files that vanish during the walk are left out. Symbolic links are never followed, not even
//! when one takes the place of a directory during the walk.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, openat, readlinkat, statx,
};
use rustix::io::Errno;

use crate::context_entry::{ContextEntry, EntryKind, entry_of, full_path, kind_of, open_beneath};
use crate::error::Error;

/// Which files of a build context count. Paths are relative, without `./` or a slash at the end.
pub trait Filter: Sync {
    /// Whether anything beneath this directory may count; else it is not even opened.
    fn may_descend(&self, directory: &[u8]) -> bool;

    /// Whether this file or directory counts. Directories above one that counts are always part
    /// of the result.
    fn includes(&self, path: &[u8], is_directory: bool) -> bool;
}

/// The filter through which everything passes.
#[derive(Clone, Copy, Debug)]
pub struct Everything;

impl Filter for Everything {
    fn may_descend(&self, _: &[u8]) -> bool {
        true
    }

    fn includes(&self, _: &[u8], _: bool) -> bool {
        true
    }
}

/// Entries from which on a second thread pays.
const PARALLEL_ENTRIES: usize = 2000;
/// Names of one directory that one task looks at.
const CHUNK_ENTRIES: usize = 1024;
const MOST_THREADS: usize = 8;
const DIRENT_BUFFER_BYTES: usize = 64 << 10;

/// Lists what is beneath `root` (not `root` itself) and passes `filter`.
pub fn walk(root: &Path, filter: &dyn Filter) -> Result<Vec<ContextEntry>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        openat(CWD, root, flags, Mode::empty()).map_err(Error::io("open directory", root))?;
    let walker = Walker {
        root: Arc::new(directory),
        root_path: root,
        filter,
        queue: Mutex::new(Queue::default()),
        wake: Condvar::new(),
        seen: AtomicUsize::new(0),
    };
    walker.push(vec![Task::Directory(Subdirectory { slot: 0, path: Vec::new() })]);
    let found = std::thread::scope(|scope| walker.work(scope, true));
    let queue = walker.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = queue.failed {
        return Err(error);
    }
    Ok(flatten(found, queue.slots))
}

/// A directory to read; `slot` numbers directories as they are found.
struct Subdirectory {
    slot: usize,
    path: Vec<u8>,
}

enum Task {
    Directory(Subdirectory),
    /// A part of the names of a large directory.
    Names {
        listing: Arc<Listing>,
        chunk: usize,
    },
}

/// The names of a directory, sorted.
struct Listing {
    slot: usize,
    path: Vec<u8>,
    directory: Arc<OwnedFd>,
    /// Names with their NUL, one after the other.
    bytes: Vec<u8>,
    names: Vec<Name>,
}

struct Name {
    /// The first 8 bytes, so that most comparisons need not look further.
    head: u64,
    start: u32,
    /// With the NUL.
    length: u16,
    file_type: FileType,
}

/// A part of what a directory holds, in order.
struct Found {
    slot: usize,
    chunk: usize,
    entries: Vec<FoundEntry>,
}

const NOT_ENTERED: u32 = u32::MAX;

struct FoundEntry {
    entry: ContextEntry,
    /// Where its own entries are, if it was entered; else [`NOT_ENTERED`]. (There are as many of
    /// these as entries: 4 bytes matter.)
    slot: u32,
    is_included: bool,
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    /// Directories found so far, with the root.
    slots: usize,
    working: usize,
    threads: usize,
    failed: Option<Error>,
}

struct Walker<'a> {
    root: Arc<OwnedFd>,
    root_path: &'a Path,
    filter: &'a dyn Filter,
    queue: Mutex<Queue>,
    wake: Condvar,
    seen: AtomicUsize,
}

impl Walker<'_> {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut tasks: Vec<Task>) {
        if tasks.is_empty() {
            return;
        }
        let mut queue = self.queue();
        queue.slots = queue.slots.max(1);
        queue.tasks.append(&mut tasks);
        if queue.threads > 0 {
            self.wake.notify_all();
        }
    }

    /// Numbers for `count` new directories; the first of them.
    fn new_slots(&self, count: usize) -> usize {
        let mut queue = self.queue();
        queue.slots += count;
        queue.slots - count
    }

    fn next(&self) -> Option<Task> {
        let mut queue = self.queue();
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if let Some(task) = queue.tasks.pop() {
                queue.working += 1;
                return Some(task);
            }
            if queue.working == 0 {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Works until nothing is left; the first thread also starts the others when there is enough.
    fn work<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        is_first: bool,
    ) -> Vec<Found>
    where
        Self: 'scope,
    {
        let mut found = Vec::new();
        let mut buffer: Vec<MaybeUninit<u8>> = Vec::with_capacity(DIRENT_BUFFER_BYTES);
        buffer.resize(DIRENT_BUFFER_BYTES, MaybeUninit::uninit());
        let mut helpers = Vec::new();
        while let Some(task) = self.next() {
            let mut turn = Turn { walker: self, result: Ok(()) };
            let result = match task {
                Task::Directory(directory) => {
                    self.read(directory, &mut buffer).and_then(|listing| match listing {
                        Some(listing) => self.look(listing, &mut found),
                        None => Ok(()),
                    })
                }
                Task::Names { listing, chunk } => self.look_at(&listing, chunk, &mut found),
            };
            turn.result = result;
            drop(turn);
            if is_first
                && helpers.is_empty()
                && self.seen.load(Ordering::Relaxed) > PARALLEL_ENTRIES
            {
                let threads = std::thread::available_parallelism()
                    .map_or(1, std::num::NonZero::get)
                    .min(MOST_THREADS);
                self.queue().threads = threads;
                helpers.extend((1..threads).map(|_| scope.spawn(|| self.work(scope, false))));
            }
        }
        for helper in helpers {
            match helper.join() {
                Ok(more) => found.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    }

    /// Opens a directory beneath the root without following symbolic links.
    fn open(&self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        open_beneath(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY).map(Arc::new)
    }

    fn error(&self, operation: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error {
        let path = full_path(self.root_path, path);
        move |errno| Error::io(operation, path)(errno)
    }

    /// Reads and sorts the names of a directory; `None` when it is gone.
    fn read(
        &self,
        subdirectory: Subdirectory,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<Option<Listing>, Error> {
        let Subdirectory { slot, path } = subdirectory;
        let directory = match self.open(&path) {
            Ok(directory) => directory,
            // It vanished, or became something else.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(None),
            Err(errno) => return Err(self.error("open directory", &path)(errno)),
        };
        let mut bytes = Vec::new();
        let mut names = Vec::new();
        let mut raw = RawDir::new(directory.as_fd(), buffer);
        while let Some(entry) = raw.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(self.error("read directory", &path)(errno)),
            };
            let name = entry.file_name().to_bytes_with_nul();
            if name == b".\0" || name == b"..\0" {
                continue;
            }
            names.push(Name {
                head: head(name),
                start: bytes.len() as u32,
                length: name.len() as u16,
                file_type: entry.file_type(),
            });
            bytes.extend_from_slice(name);
        }
        names.sort_unstable_by(|a, b| {
            a.head.cmp(&b.head).then_with(|| name_of(&bytes, a).cmp(name_of(&bytes, b)))
        });
        self.seen.fetch_add(names.len(), Ordering::Relaxed);
        Ok(Some(Listing { slot, path, directory, bytes, names }))
    }

    /// Looks at the names of a directory; those of a large one become tasks.
    fn look(&self, listing: Listing, found: &mut Vec<Found>) -> Result<(), Error> {
        let chunks = listing.names.len().div_ceil(CHUNK_ENTRIES);
        let listing = Arc::new(listing);
        let tasks = (1..chunks).map(|chunk| Task::Names { listing: Arc::clone(&listing), chunk });
        self.push(tasks.collect());
        self.look_at(&listing, 0, found)
    }

    fn look_at(
        &self,
        listing: &Listing,
        chunk: usize,
        found: &mut Vec<Found>,
    ) -> Result<(), Error> {
        let start = chunk * CHUNK_ENTRIES;
        let end = (start + CHUNK_ENTRIES).min(listing.names.len());
        let mut path = listing.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        let prefix = path.len();
        let mut entries = Vec::with_capacity(end - start);
        let mut descents = Vec::new();
        for name in &listing.names[start..end] {
            path.truncate(prefix);
            path.extend_from_slice(name_of(&listing.bytes, name));
            if let Some((entry, descends)) = self.look_at_one(listing, name, &path)? {
                if descends {
                    descents.push(entries.len());
                }
                entries.push(entry);
            }
        }
        if !descents.is_empty() {
            let first = self.new_slots(descents.len());
            let mut tasks = Vec::with_capacity(descents.len());
            for (number, position) in descents.into_iter().enumerate() {
                let slot = first + number;
                let directory = &mut entries[position];
                directory.slot = slot as u32;
                tasks.push(Task::Directory(Subdirectory {
                    slot,
                    path: directory.entry.path.clone(),
                }));
            }
            self.push(tasks);
        }
        found.push(Found { slot: listing.slot, chunk, entries });
        Ok(())
    }

    /// The entry of one name, and whether to enter it; `None` when it does not count.
    fn look_at_one(
        &self,
        listing: &Listing,
        name: &Name,
        path: &[u8],
    ) -> Result<Option<(FoundEntry, bool)>, Error> {
        // Without a type from the file system, statx has to be asked before the filter.
        let is_known = name.file_type != FileType::Unknown;
        let mut is_directory = name.file_type == FileType::Directory;
        if is_known && !is_directory && !self.filter.includes(path, false) {
            return Ok(None);
        }
        if is_directory && !self.filter.may_descend(path) && !self.filter.includes(path, true) {
            return Ok(None);
        }
        let c_name = &listing.bytes[name.start as usize..][..usize::from(name.length)];
        let c_name = CStr::from_bytes_with_nul(c_name).expect("one NUL, at the end");
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = match statx(&listing.directory, c_name, flags, StatxFlags::BASIC_STATS) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.error("stat", path)(errno)),
        };
        let file_type = FileType::from_raw_mode(u32::from(stat.stx_mode));
        is_directory = file_type == FileType::Directory;
        let is_included = self.filter.includes(path, is_directory);
        let descends = is_directory && self.filter.may_descend(path);
        if !is_included && !descends {
            return Ok(None);
        }
        let kind = match file_type {
            FileType::Symlink => match readlinkat(&listing.directory, c_name, Vec::new()) {
                Ok(target) => EntryKind::Symlink { target: target.into_bytes() },
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                Err(errno) => return Err(self.error("read link", path)(errno)),
            },
            other => kind_of(other, &stat),
        };
        let found = FoundEntry {
            entry: entry_of(path.to_vec(), kind, &stat),
            slot: NOT_ENTERED,
            is_included,
        };
        Ok(Some((found, descends)))
    }
}

/// The work on one task; when it ends, even by a panic of the filter, the others must know.
struct Turn<'a> {
    walker: &'a Walker<'a>,
    result: Result<(), Error>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.walker.queue();
        queue.working -= 1;
        if let Err(error) = std::mem::replace(&mut self.result, Ok(())) {
            queue.failed.get_or_insert(error);
        }
        if std::thread::panicking() {
            queue.tasks.clear();
        }
        let is_over = queue.failed.is_some() || (queue.working == 0 && queue.tasks.is_empty());
        if is_over && queue.threads > 0 {
            self.walker.wake.notify_all();
        }
    }
}

fn name_of<'a>(bytes: &'a [u8], name: &Name) -> &'a [u8] {
    &bytes[name.start as usize..][..usize::from(name.length) - 1]
}

fn head(name: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = name.len().min(8);
    bytes[..length].copy_from_slice(&name[..length]);
    u64::from_be_bytes(bytes)
}

/// Puts directories before what is in them.
fn flatten(mut found: Vec<Found>, slots: usize) -> Vec<ContextEntry> {
    found.sort_unstable_by_key(|part| (part.slot, part.chunk));
    let count = found.iter().map(|part| part.entries.len()).sum();
    let is_all_included =
        found.iter().all(|part| part.entries.iter().all(|entry| entry.is_included));
    let mut by_slot: Vec<Vec<FoundEntry>> = Vec::new();
    by_slot.resize_with(slots, Vec::new);
    for part in found {
        let slot = &mut by_slot[part.slot];
        if slot.is_empty() {
            *slot = part.entries;
        } else {
            slot.extend(part.entries);
        }
    }
    let mut flat = Vec::with_capacity(count);
    let mut included = Vec::new();
    let mut open = vec![std::mem::take(&mut by_slot[0]).into_iter()];
    while let Some(entries) = open.last_mut() {
        let Some(next) = entries.next() else {
            open.pop();
            continue;
        };
        flat.push(next.entry);
        if !is_all_included {
            included.push(next.is_included);
        }
        if next.slot != NOT_ENTERED {
            open.push(std::mem::take(&mut by_slot[next.slot as usize]).into_iter());
        }
    }
    if !is_all_included {
        drop_empty_parents(&mut flat, &included);
    }
    flat
}

/// Drops directories that do not count themselves and hold nothing that does.
fn drop_empty_parents(flat: &mut Vec<ContextEntry>, included: &[bool]) {
    let mut keep = included.to_vec();
    let mut next_kept: Option<usize> = None;
    for position in (0..flat.len()).rev() {
        if !keep[position] {
            let path = &flat[position].path;
            keep[position] = next_kept.is_some_and(|next| {
                let next = &flat[next].path;
                next.starts_with(path) && next.get(path.len()) == Some(&b'/')
            });
        }
        if keep[position] {
            next_kept = Some(position);
        }
    }
    let mut keep = keep.into_iter();
    flat.retain(|_| keep.next().unwrap_or(false));
}
