//! Durability without an fsync per step.
//!
//! Nothing that a build writes is forced to the disk. The page cache keeps it over `kill -9`, so
//! within one boot of the machine everything is whole. What a power cut may take is told by the
//! database: a layer's row carries the boot in which it was written, a blob has no row in `blobs`,
//! until a sync behind a build has written both to the disk ([`Store::settle`]).
//! The first to open the store in another boot drops layers without that mark and verifies blobs
//! without it. The marks themselves can be lost; then work is redone, never trusted wrongly.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::error::Error;
use crate::layers::LayerId;
use crate::store::Store;
use kiln_core::digest::BlobDigest;

/// So many files are synced one by one.
const FEW_FILES: usize = 32;

/// The kernel's id of this boot; without one, an id that no other call gives.
pub(crate) fn id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(
        |_| {
            use std::hash::{BuildHasher, RandomState};
            format!("unknown-{:016x}", RandomState::new().hash_one(0))
        },
        |id| id.trim().to_owned(),
    )
}

/// Whether this is the first use in this boot, and what to do about it.
pub(crate) fn check(store: &Store) -> Result<(), Error> {
    let (boot, index_inode) = marks(store)?;
    if boot.as_deref() != Some(store.boot()) {
        recover(store)?;
    } else if index_inode != crate::images::index_inode(store) {
        crate::images::rewrite_index(store)?;
    }
    Ok(())
}

fn marks(store: &Store) -> Result<(Option<String>, Option<u64>), Error> {
    store.database().query("read the index", |connection| {
        let mut select = connection.prepare_cached(
            "SELECT (SELECT value FROM meta WHERE name = 'boot'),
                    (SELECT value FROM meta WHERE name = 'index_inode')",
        )?;
        let row = select.query_row([], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?;
        Ok((row.0, row.1.map(|inode| inode as u64)))
    })
}

fn recover(store: &Store) -> Result<(), Error> {
    let _lock = store.lock("recover")?;
    let (boot, _) = marks(store)?;
    if boot.as_deref() == Some(store.boot()) {
        return Ok(());
    }
    drop_undurable_layers(store)?;
    verify_undurable_blobs(store)?;
    crate::images::drop_incomplete(store)?;
    crate::images::rewrite_index(store)?;
    note(store)
}

/// Notes that what is in the database was checked in this boot.
pub(crate) fn note(store: &Store) -> Result<(), Error> {
    store.database().write("note the boot", |transaction| {
        transaction.execute(
            "INSERT OR REPLACE INTO meta (name, value) VALUES ('boot', ?)",
            [store.boot()],
        )?;
        Ok(())
    })
}

fn drop_undurable_layers(store: &Store) -> Result<(), Error> {
    let ids = store.database().query("find layers", |connection| {
        connection
            .prepare("SELECT id FROM layers WHERE boot IS NOT NULL AND boot <> ?")?
            .query_map([store.boot()], |row| row.get(0).map(LayerId::from_bytes))?
            .collect::<Result<Vec<_>, _>>()
    })?;
    store.layers().remove(&ids)
}

fn verify_undurable_blobs(store: &Store) -> Result<(), Error> {
    let known = durable_blobs(store)?;
    let doubtful: Vec<BlobDigest> =
        store.content().list()?.into_iter().filter(|digest| !known.contains(digest)).collect();
    for digest in crate::fsck::damaged_blobs(store, &doubtful)? {
        store.discard(&store.content().path(&digest))?;
    }
    Ok(())
}

fn durable_blobs(store: &Store) -> Result<BTreeSet<BlobDigest>, Error> {
    store.database().query("list blobs", |connection| {
        connection
            .prepare("SELECT digest FROM blobs")?
            .query_map([], |row| row.get(0).map(BlobDigest::from_bytes))?
            .collect()
    })
}

/// Waits until layers and blobs are on the disk: file by file while they are few, since `syncfs`
/// waits for what everybody else has written as well.
fn sync<'a>(
    store: &Store,
    layers: impl Iterator<Item = &'a LayerId>,
    blobs: &[BlobDigest],
) -> Result<(), Error> {
    let mut files: Vec<PathBuf> = blobs.iter().map(|blob| store.content().path(blob)).collect();
    let mut directories = vec![store.path("blobs/sha256"), store.path("layers")];
    let mut are_few = true;
    for layer in layers {
        let directory = store.layers().directory(layer);
        are_few &= !directory.join("fs").is_dir();
        files.extend(["index", "sources"].map(|name| directory.join(name)));
        directories.push(directory);
    }
    if !are_few || files.len() > FEW_FILES {
        let root = std::fs::File::open(store.root()).map_err(Error::io("open", store.root()))?;
        return rustix::fs::syncfs(&root).map_err(Error::io("sync", store.root()));
    }
    for path in files.iter().chain(&directories) {
        match std::fs::File::open(path) {
            Ok(file) => file.sync_all().map_err(Error::io("sync", path))?,
            // A layer has no list of sources, or was pruned meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("open", path)(error)),
        }
    }
    Ok(())
}

impl Store {
    /// Has what is new written to the disk and notes that it is there, so that it is trusted after
    /// a power cut. Returns at once when there is nothing new. To be called off the critical path:
    /// it takes as long as the disk does.
    pub(crate) fn mark_durable(&self) -> Result<(), Error> {
        self.flush()?;
        let layers = self.database().query("find layers", |connection| {
            connection
                .prepare("SELECT seq, id FROM layers WHERE boot IS NOT NULL ORDER BY seq")?
                .query_map([], |row| Ok((row.get(0)?, LayerId::from_bytes(row.get(1)?))))?
                .collect::<Result<Vec<(i64, LayerId)>, _>>()
        })?;
        let known = durable_blobs(self)?;
        let mut blobs = self.content().list()?;
        blobs.retain(|digest| !known.contains(digest));
        if layers.is_empty() && blobs.is_empty() {
            return Ok(());
        }
        sync(self, layers.iter().map(|(_, id)| id), &blobs)?;
        let last_layer = layers.last().map(|(seq, _)| *seq);
        self.database().write("note what is durable", |transaction| {
            transaction.execute(
                "UPDATE layers SET boot = NULL WHERE boot = ? AND seq <= ?",
                (self.boot(), last_layer),
            )?;
            let mut insert =
                transaction.prepare("INSERT OR IGNORE INTO blobs (digest) VALUES (?)")?;
            for blob in &blobs {
                insert.execute([blob.as_bytes()])?;
            }
            Ok(())
        })?;
        self.database().checkpoint()
    }
}

/// The inode of a file, if it is there.
pub(crate) fn inode(path: &std::path::Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|metadata| metadata.ino())
}
