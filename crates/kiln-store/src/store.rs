//! The store: one directory with everything that kiln keeps, shared by threads and processes.
//!
//! Layout of `$root`:
//!
//! ```text
//! version                      format of the store; written last, so its presence means "complete"
//! oci-layout index.json blobs/ a valid OCI layout (OCI image-spec, image-layout.md)
//! layers/ID/{fs/,index,sources} one unpacked diff per layer, its encoded index, what it was made of
//! cache-mounts/HASH/           RUN --mount=type=cache
//! contexts/HASH                digests of the files of one build context
//! db.sqlite                    cache index, layers, image references (see `database`)
//! locks/ tmp/ trash/
//! ```
//!
//! Invariants: everything is made in `tmp/` and renamed to its place, then entered in the
//! database; what the database names is whole. No call waits for the disk (no fsync) except those
//! that say so. A store survives `kill -9` at any point, and power cuts (see `boot`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Mode;

use crate::boot;
use crate::database::{self, Database};
use crate::error::Error;
use crate::layers::LayerId;
use crate::lock::{self, LockFile, try_lock_path};
use crate::process_dir::{self, ProcessDir};

const VERSION: &str = "kiln-store 1\n";
const OCI_LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
const DIRECTORIES: [&str; 8] =
    ["blobs", "blobs/sha256", "layers", "cache-mounts", "contexts", "locks", "tmp", "trash"];
/// They hold files of images with their modes: set-user-ID programs must be out of reach.
const PRIVATE: [&str; 4] = ["layers", "cache-mounts", "tmp", "trash"];
const FILES: [&str; 8] = [
    "version",
    "oci-layout",
    "index.json",
    "db.sqlite",
    "db.sqlite-journal",
    "db.sqlite-wal",
    "db.sqlite-shm",
    "db.sqlite.damaged",
];

/// An open store; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    boot: String,
    database: Database,
    process_dir: Mutex<Option<ProcessDir>>,
    seed: OnceLock<[u8; 32]>,
    counter: AtomicU64,
    used: Mutex<BTreeSet<LayerId>>,
}

impl Store {
    /// Opens the store at `root`, making it if there is none.
    ///
    /// Moves what dead processes left to the trash. In the first call after the machine was
    /// started, drops what was not known to be on the disk. A damaged database is set aside as
    /// `db.sqlite.damaged` and made anew: the cache is lost then, tags come back from `index.json`.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], [`Error::NotAStore`], [`Error::Io`], [`Error::Database`].
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(Error::io("resolve", root))?;
        let version_path = root.join("version");
        match std::fs::read_to_string(&version_path) {
            Ok(version) if version == VERSION => {}
            Ok(version) => {
                return Err(Error::UnknownVersion {
                    path: root,
                    found: version.trim_end().to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&root)?,
            Err(error) => return Err(Error::io("read", version_path)(error)),
        }
        match Self::open_existing(&root) {
            Err(error) if database::is_damage(&error) || error.is_not_found() => {
                mend(&root)?;
                Self::open_existing(&root)
            }
            Err(Error::Database { source, .. })
                if source.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) =>
            {
                mend(&root)?;
                Self::open_existing(&root)
            }
            result => result,
        }
    }

    fn open_existing(root: &Path) -> Result<Self, Error> {
        let store = Self {
            shared: Arc::new(Shared {
                root: root.to_owned(),
                boot: boot::id(),
                database: Database::open(&root.join("db.sqlite"))?,
                process_dir: Mutex::new(None),
                seed: OnceLock::new(),
                counter: AtomicU64::new(0),
                used: Mutex::default(),
            }),
        };
        boot::check(&store)?;
        match process_dir::sweep(&store) {
            // A store must open on a full disk: it has to be pruned.
            Err(error) if !error.is_disk_full() => Err(error),
            _ => Ok(store),
        }
    }

    /// Where the store is, absolute.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// A path within the store.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.shared.root.join(relative)
    }

    pub(crate) fn database(&self) -> &Database {
        &self.shared.database
    }

    pub(crate) fn boot(&self) -> &str {
        &self.shared.boot
    }

    /// Layers that were used since the last flush.
    pub(crate) fn used(&self) -> MutexGuard<'_, BTreeSet<LayerId>> {
        self.shared.used()
    }

    /// 16 random bytes, never the same twice.
    pub(crate) fn random(&self) -> [u8; 16] {
        let seed = self.shared.seed.get_or_init(random_seed);
        let number = self.shared.counter.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::keyed_hash(seed, &number.to_le_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        bytes
    }

    /// A file name that nobody else uses.
    pub(crate) fn unique_name(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.random()))
    }

    /// Whether this process has made anything in `tmp/`, where everything is made.
    pub(crate) fn has_made_files(&self) -> bool {
        self.shared.process_dir().is_some()
    }

    /// A path in `tmp/` that nobody else uses; it is swept if this process dies.
    pub(crate) fn tmp_path(&self) -> Result<PathBuf, Error> {
        let mut slot = self.shared.process_dir();
        if slot.is_none() {
            *slot = Some(ProcessDir::create(&self.shared.root, &self.unique_name())?);
        }
        let directory = slot.as_ref().expect("was made just now");
        Ok(directory.path.join(format!("t{}", self.unique_name())))
    }

    /// A new file in `tmp/`, to be renamed to its place.
    pub(crate) fn tmp_file(&self) -> Result<(PathBuf, File), Error> {
        let path = self.tmp_path()?;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        Ok((path, file))
    }

    /// Writes a file of the store so that others see the old or the new one, never a part.
    pub(crate) fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let (tmp, mut file) = self.tmp_file()?;
        let result = file
            .write_all(bytes)
            .map_err(Error::io("write", &tmp))
            .and_then(|()| std::fs::rename(&tmp, path).map_err(Error::io("rename to", path)));
        if result.is_err() {
            let _ = std::fs::remove_file(&tmp);
        }
        result
    }

    /// A new empty directory of mode 0700 on the store's file system, for work in progress; it
    /// goes to the trash when it is dropped or when this process dies.
    pub fn scratch_dir(&self) -> Result<ScratchDir, Error> {
        let path = self.tmp_path()?;
        rustix::fs::mkdir(&path, Mode::RWXU).map_err(Error::io("create directory", &path))?;
        Ok(ScratchDir { path, store: self.clone() })
    }

    /// For as long as nothing is written and no lock is taken: what others do meanwhile is not
    /// seen, and each look-up costs less.
    pub fn hold_reads(&self) -> Result<(), Error> {
        self.database().hold()
    }

    /// Writes what is only in memory: when layers were last used. Called by
    /// [`Store::settle`] and when the last clone is dropped.
    pub fn flush(&self) -> Result<(), Error> {
        self.shared.flush()
    }
}

impl Shared {
    fn used(&self) -> MutexGuard<'_, BTreeSet<LayerId>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn process_dir(&self) -> MutexGuard<'_, Option<ProcessDir>> {
        self.process_dir.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self) -> Result<(), Error> {
        let used = std::mem::take(&mut *self.used());
        if used.is_empty() {
            return Ok(());
        }
        crate::cache_index::write_used(&self.database, &used)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Only the order of pruning depends on it.
        let _ = self.flush();
    }
}

/// A directory for work in progress; see [`Store::scratch_dir`].
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    store: Store,
}

impl ScratchDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if std::fs::remove_dir(&self.path).is_err() {
            let _ = self.store.discard(&self.path);
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    if read.is_err() {
        // Without /dev: the standard library's own keys come from the kernel's generator, too.
        use std::hash::{BuildHasher, RandomState};
        for chunk in seed.chunks_exact_mut(8) {
            let now = SystemTime::now();
            chunk.copy_from_slice(&RandomState::new().hash_one(now).to_le_bytes());
        }
    }
    seed
}

/// Makes the layout. Every part may be there already: from one who was killed, or who is faster.
fn create(root: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(root).map_err(Error::io("create directory", root))?;
    for entry in std::fs::read_dir(root).map_err(Error::io("read directory", root))? {
        let entry = entry.map_err(Error::io("read directory", root))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let known = FILES
            .iter()
            .chain(&DIRECTORIES)
            .any(|known| *known == name || Some(*known) == name.strip_suffix(".new"));
        if !known {
            return Err(Error::NotAStore { path: root.to_owned(), found: name.into_owned() });
        }
    }
    make_directories(root)?;
    let _lock = creation_lock(root)?;
    for (name, content) in [("oci-layout", OCI_LAYOUT), ("index.json", crate::images::EMPTY)] {
        let path = root.join(name);
        if !path.exists() {
            write_new(&path, content)?;
        }
    }
    create_database(root)?;
    write_new(&root.join("version"), VERSION)
}

/// Sets a damaged database aside and makes what is missing of the layout.
fn mend(root: &Path) -> Result<(), Error> {
    make_directories(root)?;
    let _lock = creation_lock(root)?;
    // Nobody may be using what is taken away.
    let in_use = || Error::InUse { path: root.to_owned() };
    let _store =
        try_lock_path(&root.join("locks/store"), lock::Mode::Exclusive)?.ok_or_else(in_use)?;
    let path = root.join("db.sqlite");
    let healthy = || {
        let database = Database::open(&path)?;
        database.query("read the index", |connection| {
            connection.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))
        })
    };
    match healthy() {
        // It was mended while we waited.
        Ok(()) => Ok(()),
        Err(error) if database::is_damage(&error) || !path.exists() => {
            set_aside(root)?;
            create_database(root)
        }
        Err(error) => Err(error),
    }
}

/// Takes a damaged database out of the way. Nobody may be using the store.
pub(crate) fn set_aside(root: &Path) -> Result<(), Error> {
    let path = root.join("db.sqlite");
    for suffix in ["-wal", "-shm"] {
        let path = root.join(format!("db.sqlite{suffix}"));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", path)(error));
            }
            _ => {}
        }
    }
    match std::fs::rename(&path, root.join("db.sqlite.damaged")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("set aside", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes the database if it is not there; a new one takes the tags of `index.json`.
pub(crate) fn create_database(root: &Path) -> Result<(), Error> {
    let path = root.join("db.sqlite");
    let is_new = !path.exists();
    Database::create(&path)?;
    if is_new {
        crate::images::restore(root, &Database::open(&path)?)?;
    }
    Ok(())
}

fn make_directories(root: &Path) -> Result<(), Error> {
    for name in DIRECTORIES {
        let path = root.join(name);
        let mode = if PRIVATE.contains(&name) { Mode::RWXU } else { Mode::from_raw_mode(0o755) };
        match rustix::fs::mkdir(&path, mode) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(Error::io("create directory", path)(errno)),
        }
    }
    Ok(())
}

fn creation_lock(root: &Path) -> Result<LockFile, Error> {
    let path = root.join("locks/create");
    loop {
        if let Some(file) = try_lock_path(&path, lock::Mode::Exclusive)? {
            return Ok(file);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Writes a file while the creation lock is held.
fn write_new(path: &Path, content: &str) -> Result<(), Error> {
    let new = path
        .with_file_name(format!("{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    std::fs::write(&new, content).map_err(Error::io("write", &new))?;
    std::fs::rename(&new, path).map_err(Error::io("rename to", path))
}
