//! Directories of `RUN --mount=type=cache`.
//!
//! Format: `cache-mounts/HASH/`, HASH of the id, with the id in `id`, bytes in `size` and instances `0`, `1`, …;
//! an instance has `data/`, which is mounted, and an empty file `ready` once `data` is filled.
//! `flock` on the instance's directory is its lock: shared by `sharing=shared`, exclusive else.
//! Instance 0 is the common one; `sharing=private` takes the first that nobody uses.
//! An instance that is thrown away while it is used becomes `retired-…` until nobody does.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::lock::{LockFile, Mode, is_at, try_flock, wait_flock};
use crate::store::Store;

/// How long one who wants to make a mount waits until it looks again whether another has made it.
const MAKER_NAP: Duration = Duration::from_millis(2);

/// Who may use a cache mount at the same time (Dockerfile reference, `sharing=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All together.
    Shared,
    /// Each has its own.
    Private,
    /// One after the other.
    Locked,
}

/// Who fills a new cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeding {
    /// Nobody: it begins empty.
    Empty,
    /// Whoever acquires it new; he calls [`CacheMount::seeded`] when it is filled. Until then
    /// nobody else gets it, and if he dies before, it is thrown away.
    ByHolder,
}

/// How a new cache mount is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountAttributes {
    /// Permission bits of its root.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Who fills it.
    pub seeding: Seeding,
}

/// A cache mount that is held until this is dropped.
#[derive(Debug)]
pub struct CacheMount {
    /// The directory to mount.
    pub path: PathBuf,
    /// Whether it was made just now.
    pub is_new: bool,
    instance: PathBuf,
    lock: LockFile,
    sharing: Sharing,
}

impl CacheMount {
    /// Says that a new cache mount is filled ([`Seeding::ByHolder`]).
    pub fn seeded(&self) -> Result<(), Error> {
        let ready = self.instance.join("ready");
        std::fs::write(&ready, "").map_err(Error::io("write", ready))?;
        if self.sharing == Sharing::Shared {
            // From exclusive to shared; nobody can be using it exclusively in between for long.
            wait_flock(&self.lock, &self.instance, Mode::Shared, &AtomicBool::new(false))?;
        }
        Ok(())
    }
}

/// Whether a cache mount holds anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountContent {
    /// No file with a byte in it; directories and empty files (of locks) do not count.
    Empty,
    /// Files, or more entries than were looked at.
    Files,
}

/// Notes the bytes of a mount, as they were after the use whose time it has.
const SIZE_FILE: &str = "size";

/// Entries of a cache mount that are looked at until it counts as filled.
const LOOKED_AT: usize = 1_000;

/// What is known of a cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMountUsage {
    /// Its id, as `RUN --mount` has it.
    pub id: String,
    /// Bytes on the disk, of all its instances.
    pub size_bytes: u64,
    /// When it was last acquired, in seconds since 1970.
    pub last_used_unix: u64,
}

/// The cache mounts of a store.
#[derive(Clone, Copy, Debug)]
pub struct CacheMounts<'a> {
    store: &'a Store,
}

impl Store {
    /// The cache mounts.
    pub fn cache_mounts(&self) -> CacheMounts<'_> {
        CacheMounts { store: self }
    }
}

impl CacheMounts<'_> {
    /// Takes the cache mount `id`, waiting if `sharing` demands it.
    ///
    /// # Errors
    /// [`Error::Cancelled`] soon after `cancelled` is set.
    pub fn acquire(
        self,
        id: &str,
        sharing: Sharing,
        attributes: &MountAttributes,
        cancelled: &AtomicBool,
    ) -> Result<CacheMount, Error> {
        loop {
            let directory = self.ensure_directory(id)?;
            let taken = match sharing {
                Sharing::Private => self.take_free(&directory, attributes)?,
                Sharing::Locked | Sharing::Shared => {
                    let instance = directory.join("0");
                    self.take(instance, sharing, attributes, cancelled)?
                }
            };
            // None, or no longer at its path: it was thrown away meanwhile.
            if let Some(mount) = taken
                && is_at(&mount.lock, &mount.instance)?
            {
                if let Ok(file) = File::open(&directory) {
                    // Only for people and for the order of pruning.
                    let _ = file.set_modified(SystemTime::now());
                }
                return Ok(mount);
            }
        }
    }

    fn take_free(
        self,
        directory: &Path,
        attributes: &MountAttributes,
    ) -> Result<Option<CacheMount>, Error> {
        for number in 0_u32.. {
            let instance = directory.join(number.to_string());
            let Some(lock) = open_instance(&instance)? else {
                return Ok(None);
            };
            if try_flock(&lock, Mode::Exclusive).map_err(Error::io("lock", &instance))? {
                if !is_at(&lock, &instance)? {
                    return Ok(None);
                }
                return self.hold(instance, lock, Sharing::Private, attributes).map(Some);
            }
        }
        unreachable!("there are fewer instances than numbers")
    }

    fn take(
        self,
        instance: PathBuf,
        sharing: Sharing,
        attributes: &MountAttributes,
        cancelled: &AtomicBool,
    ) -> Result<Option<CacheMount>, Error> {
        let Some(lock) = open_instance(&instance)? else {
            return Ok(None);
        };
        if sharing == Sharing::Shared {
            share_or_make(&lock, &instance, cancelled)?;
        } else {
            wait_flock(&lock, &instance, Mode::Exclusive, cancelled)?;
        }
        if !is_at(&lock, &instance)? {
            return Ok(None);
        }
        self.hold(instance, lock, sharing, attributes).map(Some)
    }

    /// Makes the data directory if there is none; `lock` is exclusive then.
    fn hold(
        self,
        instance: PathBuf,
        lock: LockFile,
        sharing: Sharing,
        attributes: &MountAttributes,
    ) -> Result<CacheMount, Error> {
        let path = instance.join("data");
        let is_new = !instance.join("ready").exists();
        let mount = CacheMount { path, is_new, instance, lock, sharing };
        if is_new {
            // From one who died before it was ready.
            self.store.discard(&mount.path)?;
            make_data(&mount.path, attributes)?;
            if attributes.seeding == Seeding::Empty {
                mount.seeded()?;
            }
        }
        Ok(mount)
    }

    fn directory(self, id: &str) -> PathBuf {
        let hash = blake3::hash(id.as_bytes()).to_hex();
        self.store.path("cache-mounts").join(&hash.as_str()[..32])
    }

    fn ensure_directory(self, id: &str) -> Result<PathBuf, Error> {
        let directory = self.directory(id);
        if directory.join("id").exists() {
            return Ok(directory);
        }
        make_directory(&directory)?;
        self.store.write_whole(&directory.join("id"), id.as_bytes())?;
        Ok(directory)
    }

    /// All cache mounts, sorted by id. Takes a walk through the files of those that were used since it
    /// was last called.
    pub fn list(self) -> Result<Vec<CacheMountUsage>, Error> {
        let mut found = Vec::new();
        for directory in crate::gc::children(&self.store.path("cache-mounts"))? {
            let Ok(id) = std::fs::read_to_string(directory.join("id")) else {
                continue;
            };
            let Some(used) = modified(&directory) else { continue };
            let since = used.duration_since(UNIX_EPOCH);
            found.push(CacheMountUsage {
                id,
                size_bytes: self.measure(&directory, used)?,
                last_used_unix: since.map_or(0, |since| since.as_secs()),
            });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// The bytes of a mount that was last used at `used`: as they were noted since, or measured.
    fn measure(self, directory: &Path, used: SystemTime) -> Result<u64, Error> {
        let note = directory.join(SIZE_FILE);
        let noted = std::fs::read_to_string(&note).ok().and_then(|text| text.parse().ok());
        if let Some(size_bytes) = noted
            && modified(&note) == Some(used)
        {
            return Ok(size_bytes);
        }
        let is_idle = is_idle(directory)?;
        let mut size_bytes = 0;
        for instance in crate::gc::children(directory)? {
            size_bytes += if instance == note { 0 } else { crate::gc::disk_usage(&instance)? };
        }
        if is_idle && modified(directory) == Some(used) {
            self.store.write_whole(&note, size_bytes.to_string().as_bytes())?;
            // The note is worth something until the next use; a look is none.
            for path in [&note, directory] {
                if let Ok(file) = File::open(path) {
                    let _ = file.set_modified(used);
                }
            }
        }
        Ok(size_bytes)
    }

    /// What the common instance of a cache mount holds; `None` if no step has used it.
    pub fn content(self, id: &str) -> Option<MountContent> {
        let data = self.directory(id).join("0/data");
        let mut waiting = vec![data.clone()];
        let mut seen = 0;
        while let Some(directory) = waiting.pop() {
            let entries = match std::fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(_) if directory == data => return None,
                Err(_) => return Some(MountContent::Files),
            };
            for entry in entries {
                seen += 1;
                let metadata = entry.and_then(|entry| Ok((entry.metadata()?, entry.path())));
                match metadata {
                    Ok((metadata, path)) if metadata.is_dir() => waiting.push(path),
                    Ok((metadata, _)) if metadata.len() == 0 => {}
                    _ => return Some(MountContent::Files),
                }
                if seen > LOOKED_AT {
                    return Some(MountContent::Files);
                }
            }
        }
        Some(MountContent::Empty)
    }

    /// Throws a cache mount away. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::InUse`] when a step uses it; what nobody uses of it is gone then.
    pub fn remove(self, id: &str) -> Result<bool, Error> {
        let directory = self.directory(id);
        if !directory.join("id").exists() {
            return Ok(false);
        }
        if self.retire(&directory)? {
            return Err(Error::InUse { path: directory });
        }
        self.store.discard(&directory)?;
        Ok(true)
    }

    /// Lets the next one who acquires `id` begin anew (`--no-cache`). Who uses it now keeps what
    /// he has.
    pub fn reset(self, id: &str) -> Result<(), Error> {
        self.retire(&self.directory(id)).map(|_| ())
    }

    /// Moves instances to the trash, or out of the way if they are used; tells whether any is.
    fn retire(self, directory: &Path) -> Result<bool, Error> {
        let mut in_use = false;
        if !directory.exists() {
            return Ok(false);
        }
        for instance in crate::gc::children(directory)? {
            if !instance.is_dir() {
                continue;
            }
            let Some(lock) = open_existing(&instance)? else {
                continue;
            };
            if try_flock(&lock, Mode::Exclusive).map_err(Error::io("lock", &instance))? {
                self.store.discard(&instance)?;
                continue;
            }
            in_use = true;
            let name = instance.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with("retired-") {
                let retired = directory.join(format!("retired-{}", self.store.unique_name()));
                std::fs::rename(&instance, &retired).map_err(Error::io("rename to", &retired))?;
            }
        }
        Ok(in_use)
    }
}

/// Locks an instance: shared if it is ready, exclusive if we are the one to make it.
fn share_or_make(lock: &File, instance: &Path, cancelled: &AtomicBool) -> Result<(), Error> {
    let is_ready = || instance.join("ready").exists();
    loop {
        wait_flock(lock, instance, Mode::Shared, cancelled)?;
        if is_ready() {
            return Ok(());
        }
        // Only tried: another one may make it and then use it for as long as it likes. A try that
        // fails gives up the shared lock, so that of two who try one succeeds.
        if try_flock(lock, Mode::Exclusive).map_err(Error::io("lock", instance))? {
            if !is_ready() {
                return Ok(());
            }
        } else {
            std::thread::sleep(MAKER_NAP);
        }
    }
}

/// Whether no step uses any instance.
fn is_idle(directory: &Path) -> Result<bool, Error> {
    for instance in crate::gc::children(directory)? {
        if instance.is_dir()
            && let Some(lock) = open_existing(&instance)?
            && !try_flock(&lock, Mode::Exclusive).map_err(Error::io("lock", &instance))?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn make_directory(path: &Path) -> Result<(), Error> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("create directory", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes and opens an instance; `None` when the mount was thrown away.
fn open_instance(path: &Path) -> Result<Option<LockFile>, Error> {
    match make_directory(path) {
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
        Ok(()) => open_existing(path),
    }
}

fn open_existing(path: &Path) -> Result<Option<LockFile>, Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(LockFile::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

fn make_data(path: &Path, attributes: &MountAttributes) -> Result<(), Error> {
    make_directory(path)?;
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if own != (attributes.uid, attributes.gid) {
        std::os::unix::fs::chown(path, Some(attributes.uid), Some(attributes.gid))
            .map_err(Error::io("change the owner of", path))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(attributes.mode))
        .map_err(Error::io("change the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_while_another_makes_the_mount_shares_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let attributes = MountAttributes { mode: 0o755, uid: 0, gid: 0, seeding: Seeding::Empty };
        let attributes = MountAttributes {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            ..attributes
        };
        // The other one has locked the instance, and has not filled it yet.
        let instance = store.cache_mounts().ensure_directory("id").unwrap().join("0");
        let other = open_instance(&instance).unwrap().unwrap();
        assert!(try_flock(&other, Mode::Shared).unwrap());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let no = AtomicBool::new(false);
                store.cache_mounts().acquire("id", Sharing::Shared, &attributes, &no).unwrap()
            });
            // Either order is right; this one is the one that used to wait for ever.
            std::thread::sleep(Duration::from_millis(50));
            make_directory(&instance.join("data")).unwrap();
            std::fs::write(instance.join("ready"), "").unwrap();
            assert!(!waiting.join().unwrap().is_new);
        });
        assert!(try_flock(&other, Mode::Shared).unwrap(), "both have it");
    }
}
