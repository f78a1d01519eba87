//! Locks between processes, and between threads of one process: `flock` on files in `locks/`.
//!
//! A lock is held by an open file, so the kernel releases it when its holder dies. The file of a
//! named lock is removed on release; whoever waited for it notices that the file it locked is no
//! longer the one at the path, and starts over.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiln_core::digest::CacheKey;
use rustix::fs::{FlockOperation, flock};

use crate::error::Error;
use crate::store::Store;

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Guard {
    _file: LockFile,
    remove: Option<PathBuf>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(path) = &self.remove {
            // Still locked: nobody else holds this file, and those who wait for it look again.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// An open file that may be locked, and is not any more when this is dropped. Closing it would not
/// do: a child process that was forked meanwhile has it open as well.
#[derive(Debug)]
pub(crate) struct LockFile(File);

impl LockFile {
    pub(crate) fn new(file: File) -> Self {
        Self(file)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Deref for LockFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

/// With whom a lock may be held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

const FIRST_NAP: Duration = Duration::from_micros(200);
const LONGEST_NAP: Duration = Duration::from_millis(20);

/// Tries to lock an open file.
pub(crate) fn try_flock(file: &File, mode: Mode) -> Result<bool, io::Error> {
    let operation = match mode {
        Mode::Shared => FlockOperation::NonBlockingLockShared,
        Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Locks an open file at `path`, waiting until it can or `cancelled` is set.
pub(crate) fn wait_flock(
    file: &File,
    path: &Path,
    mode: Mode,
    cancelled: &AtomicBool,
) -> Result<(), Error> {
    let mut nap = FIRST_NAP;
    while !try_flock(file, mode).map_err(Error::io("lock", path))? {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled { path: path.to_owned() });
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(LONGEST_NAP);
    }
    Ok(())
}

/// Whether `file` is still what `path` names.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool, Error> {
    let held = file.metadata().map_err(Error::io("stat", path))?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok(there.ino() == held.ino() && there.dev() == held.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("stat", path)(error)),
    }
}

fn open_lock_file(path: &Path) -> Result<LockFile, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map(LockFile)
        .map_err(Error::io("open lock", path))
}

/// Makes and locks the file at `path`, unless somebody holds it.
pub(crate) fn try_lock_path(path: &Path, mode: Mode) -> Result<Option<LockFile>, Error> {
    loop {
        let file = open_lock_file(path)?;
        if !try_flock(&file, mode).map_err(Error::io("lock", path))? {
            return Ok(None);
        }
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

fn lock_removable(path: PathBuf, cancelled: &AtomicBool) -> Result<Guard, Error> {
    loop {
        let file = open_lock_file(&path)?;
        wait_flock(&file, &path, Mode::Exclusive, cancelled)?;
        if is_at(&file, &path)? {
            return Ok(Guard { _file: file, remove: Some(path) });
        }
    }
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl Store {
    /// Takes the lock `name` (any text), waiting for whoever holds it in any process or thread.
    pub fn lock(&self, name: &str) -> Result<Guard, Error> {
        self.lock_unless(name, &NEVER)
    }

    /// As [`Store::lock`], but gives up with [`Error::Cancelled`] soon after `cancelled` is set.
    pub fn lock_unless(&self, name: &str, cancelled: &AtomicBool) -> Result<Guard, Error> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let file = if plain && !name.is_empty() && name.len() < 100 {
            format!("{name}.lock")
        } else {
            format!("{}.lock", blake3::hash(name.as_bytes()).to_hex())
        };
        let guard = lock_removable(self.path("locks").join(file), cancelled)?;
        // What the former holder wrote must be seen.
        self.database().release()?;
        Ok(guard)
    }

    /// Takes the right to run the step of `key`, so that it runs once however many builds need
    /// it: look it up again when this returns.
    pub fn lock_step(&self, key: &CacheKey, cancelled: &AtomicBool) -> Result<Guard, Error> {
        self.lock_unless(&format!("step-{key}"), cancelled)
    }

    /// Holds the store for a build: nothing is pruned or repaired while any such guard lives.
    /// Waits for a prune or repair that runs.
    pub fn lock_shared(&self, cancelled: &AtomicBool) -> Result<Guard, Error> {
        let path = self.path("locks/store");
        let file = open_lock_file(&path)?;
        wait_flock(&file, &path, Mode::Shared, cancelled)?;
        self.database().release()?;
        Ok(Guard { _file: file, remove: None })
    }

    /// Holds the store for a prune or repair, when no build runs.
    ///
    /// # Errors
    /// [`Error::InUse`] when one does.
    pub fn lock_exclusive(&self) -> Result<Guard, Error> {
        let file = try_lock_path(&self.path("locks/store"), Mode::Exclusive)?;
        let file = file.ok_or_else(|| Error::InUse { path: self.root().to_owned() })?;
        Ok(Guard { _file: file, remove: None })
    }
}
