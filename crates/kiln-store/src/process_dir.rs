//! The directory in `tmp/` that belongs to one open store, and the sweeping of dead ones.
//!
//! Format: `tmp/NAME.lock`, locked as long as its owner lives, and `tmp/NAME/` beside it, which is
//! made after and removed before the lock file. A directory without a lock file, or with one that
//! can be locked, belongs to nobody. A working layer is `tmp/NAME/LAYER-ID/{layer/{fs,index},work}`;
//! commit renames `layer` into `layers/LAYER-ID` and then writes the row. So `tmp/NAME/LAYER-ID`
//! without `layer` tells the sweeper to look whether the row was written.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::layers::LayerId;
use crate::lock::{LockFile, Mode, try_lock_path};
use crate::store::Store;

#[derive(Debug)]
pub(crate) struct ProcessDir {
    pub(crate) path: PathBuf,
    lock_path: PathBuf,
    trash: PathBuf,
    _lock: LockFile,
}

impl ProcessDir {
    pub(crate) fn create(root: &Path, name: &str) -> Result<Self, Error> {
        let tmp = root.join("tmp");
        let path = tmp.join(name);
        let lock_path = tmp.join(format!("{name}.lock"));
        let lock = loop {
            // None: a sweeper looked at the file just now; it will remove it.
            if let Some(lock) = try_lock_path(&lock_path, Mode::Exclusive)? {
                break lock;
            }
            std::thread::yield_now();
        };
        std::fs::create_dir(&path).map_err(Error::io("create directory", &path))?;
        Ok(Self { trash: root.join("trash").join(name), path, lock_path, _lock: lock })
    }
}

impl Drop for ProcessDir {
    fn drop(&mut self) {
        // Best effort: what stays is swept by the next one who opens the store.
        if std::fs::remove_dir(&self.path).is_err() {
            let _ = std::fs::rename(&self.path, &self.trash);
        }
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

/// What a dead process left in `tmp/`.
#[derive(Debug)]
pub(crate) struct Leftover {
    /// Its directory; may be missing.
    pub(crate) path: PathBuf,
    lock_path: PathBuf,
    _lock: LockFile,
}

/// Finds what nobody owns; as long as the result lives, no other sweeper touches it.
pub(crate) fn leftovers(root: &Path) -> Result<Vec<Leftover>, Error> {
    let tmp = root.join("tmp");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&tmp).map_err(Error::io("read directory", &tmp))? {
        let entry = entry.map_err(Error::io("read directory", &tmp))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        names.push(name.strip_suffix(".lock").unwrap_or(&name).to_owned());
    }
    names.sort_unstable();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let lock_path = tmp.join(format!("{name}.lock"));
        if let Some(lock) = try_lock_path(&lock_path, Mode::Exclusive)? {
            found.push(Leftover { path: tmp.join(name), lock_path, _lock: lock });
        }
    }
    Ok(found)
}

/// Moves what dead processes left to the trash, with layers that they did not finish.
pub(crate) fn sweep(store: &Store) -> Result<(), Error> {
    for leftover in leftovers(store.root())? {
        sweep_one(store, &leftover)?;
    }
    Ok(())
}

pub(crate) fn sweep_one(store: &Store, leftover: &Leftover) -> Result<(), Error> {
    let entries = match std::fs::read_dir(&leftover.path) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => None,
        Err(error) => return Err(Error::io("read directory", &leftover.path)(error)),
    };
    for entry in entries.into_iter().flatten() {
        let entry = entry.map_err(Error::io("read directory", &leftover.path))?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<LayerId>().ok()) else {
            continue;
        };
        store.layers().discard_unrecorded(id)?;
    }
    store.discard(&leftover.path)?;
    match std::fs::remove_file(&leftover.lock_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", &leftover.lock_path)(error))
        }
        _ => Ok(()),
    }
}
