//! Whether a store is whole, and making it so.
//!
//! Checks that every blob is what its name says, that names of images and bases lead to blobs,
//! rows to directories and directories to rows, and that `index.json` says what the database says.
//! A repair removes what is not whole; the cache is then rebuilt by the next build.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kiln_core::digest::{BlobDigest, CacheKey};

use crate::content::{hash_file, parse_name};
use crate::error::Error;
use crate::images;
use crate::layers::LayerId;
use crate::lock::Guard;
use crate::process_dir;
use crate::store::Store;

/// Whether to mend what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Only look. Builds may run meanwhile.
    No,
    /// Remove what is not whole. No build may run.
    Yes,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// SQLite finds its file damaged.
    #[error("the database is damaged: {0}")]
    Database(String),
    /// A blob's bytes do not have the digest of its name.
    #[error("blob {0} is damaged")]
    DamagedBlob(BlobDigest),
    /// A file among the blobs whose name is no digest.
    #[error("{} is no blob", .0.display())]
    StrangeFile(PathBuf),
    /// An image has a name, but not all of it is there.
    #[error("image {name} is not whole: {reason}")]
    IncompleteImage {
        /// The name.
        name: String,
        /// What is missing or damaged.
        reason: String,
    },
    /// A remembered base image lacks its manifest or config.
    #[error("base image {reference} for {platform} is not whole: {reason}")]
    IncompleteBase {
        /// As `FROM` has it.
        reference: String,
        /// Its platform.
        platform: String,
        /// What is missing or damaged.
        reason: String,
    },
    /// The database names a layer that is not there or lacks a part.
    #[error("layer {0} is not whole")]
    IncompleteLayer(LayerId),
    /// A layer is there that the database does not name.
    #[error("layer {0} is not in the index")]
    UnknownLayer(LayerId),
    /// A cache record leads to no layer.
    #[error("cache record {0} has no layer")]
    RecordWithoutLayer(CacheKey),
    /// A packed layer is remembered whose blob is gone.
    #[error("packed layer {0} is gone")]
    PackedWithoutBlob(BlobDigest),
    /// `index.json` does not say what the database says.
    #[error("index.json does not match the names of images")]
    StaleIndex,
    /// A process that died left this.
    #[error("{} was left by a process that died", .0.display())]
    Leftover(PathBuf),
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong; with [`Repair::Yes`], what was.
    pub problems: Vec<Problem>,
    /// Blobs that were read.
    pub blobs: usize,
    /// Layers.
    pub layers: usize,
    /// Cache records.
    pub records: usize,
    /// Names of images and bases.
    pub images: usize,
}

/// Checks a store; reads every blob.
///
/// # Errors
/// [`Error::InUse`] when it shall be repaired and a build runs.
pub fn fsck(store: &Store, repair: Repair) -> Result<Report, Error> {
    let _guard: Guard = match repair {
        Repair::Yes => store.lock_exclusive()?,
        Repair::No => store.lock_shared(&AtomicBool::new(false))?,
    };
    let mut check = Check { store, repair, report: Report::default() };
    if !check.database()? {
        // What it says can't be compared with anything.
        return Ok(check.report);
    }
    check.leftovers()?;
    check.blobs()?;
    check.layers()?;
    check.records()?;
    check.packed()?;
    check.index()?;
    check.names()?;
    if repair == Repair::Yes {
        store.delete_trash()?;
    }
    Ok(check.report)
}

struct Check<'a> {
    store: &'a Store,
    repair: Repair,
    report: Report,
}

impl Check<'_> {
    fn is_repair(&self) -> bool {
        self.repair == Repair::Yes
    }

    fn found(&mut self, problem: Problem) {
        self.report.problems.push(problem);
    }

    /// Whether there is a database to compare with, in the end.
    fn database(&mut self) -> Result<bool, Error> {
        let result = self.store.database().query("check the index", |connection| {
            connection
                .prepare("PRAGMA quick_check(5)")?
                .query_map([], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        let complaints = match result {
            Ok(lines) if lines == ["ok"] => return Ok(true),
            Ok(lines) => lines.join("; "),
            Err(error) if crate::database::is_damage(&error) => error.to_string(),
            Err(error) => return Err(error),
        };
        self.found(Problem::Database(complaints));
        if self.is_repair() {
            crate::store::set_aside(self.store.root())?;
            crate::store::create_database(self.store.root())?;
            self.store.database().reopen()?;
            crate::boot::note(self.store)?;
        }
        Ok(self.is_repair())
    }

    fn leftovers(&mut self) -> Result<(), Error> {
        for leftover in process_dir::leftovers(self.store.root())? {
            if leftover.path.exists() {
                self.found(Problem::Leftover(leftover.path.clone()));
            }
            if self.is_repair() {
                process_dir::sweep_one(self.store, &leftover)?;
            }
        }
        Ok(())
    }

    fn blobs(&mut self) -> Result<(), Error> {
        for path in crate::gc::children(&self.store.path("blobs/sha256"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if parse_name(&name).is_none() {
                self.found(Problem::StrangeFile(path.clone()));
                if self.is_repair() {
                    self.store.discard(&path)?;
                }
            }
        }
        let digests = self.store.content().list()?;
        self.report.blobs = digests.len();
        let damaged = damaged_blobs(self.store, &digests)?;
        for digest in &damaged {
            self.found(Problem::DamagedBlob(*digest));
        }
        if self.is_repair() {
            crate::gc::forget_blobs(self.store, &damaged)?;
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<(), Error> {
        let directories = self.store.layers().list_directories()?;
        let rows = layer_ids(self.store)?;
        self.report.layers = rows.len();
        let mut broken: Vec<LayerId> = Vec::new();
        for id in &rows {
            if !self.store.layers().is_whole(id)? {
                broken.push(*id);
            }
        }
        for id in &broken {
            self.found(Problem::IncompleteLayer(*id));
        }
        if self.is_repair() {
            self.store.layers().remove(&broken)?;
        }
        for directory in directories {
            match directory {
                Ok(id) if rows.contains(&id) => {}
                Ok(id) => self.orphan(id)?,
                Err(path) => {
                    self.found(Problem::StrangeFile(path.clone()));
                    if self.is_repair() {
                        self.store.discard(&path)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A layer that had no row when the rows were read: another process may just be entering it.
    fn orphan(&mut self, id: LayerId) -> Result<(), Error> {
        if self.is_repair() {
            if self.store.layers().discard_unrecorded(id)? {
                self.found(Problem::UnknownLayer(id));
            }
            return Ok(());
        }
        // With the write lock, no other process is between the rename and the row.
        let is_known = self.store.database().write("look for a layer", |transaction| {
            Ok(transaction.prepare("SELECT 1 FROM layers WHERE id = ?")?.exists([id.as_bytes()])?)
        })?;
        if !is_known && self.store.layers().directory(&id).exists() {
            self.found(Problem::UnknownLayer(id));
        }
        Ok(())
    }

    fn records(&mut self) -> Result<(), Error> {
        let (count, broken) = self.store.database().read("check records", |connection| {
            let count: usize =
                connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
            let broken = connection
                .prepare(
                    "SELECT key FROM records WHERE layer NOT IN (SELECT id FROM layers)
                     ORDER BY seq",
                )?
                .query_map([], |row| row.get(0).map(CacheKey::from_bytes))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok((count, broken))
        })?;
        self.report.records = count;
        for key in &broken {
            self.found(Problem::RecordWithoutLayer(*key));
        }
        if self.is_repair() {
            self.store.cache_index().forget(&broken)?;
        }
        Ok(())
    }

    fn packed(&mut self) -> Result<(), Error> {
        let mut gone = Vec::new();
        for digest in crate::gc::packed(self.store)?.into_keys() {
            if !self.store.remote_blobs().is_known(&digest)? {
                self.found(Problem::PackedWithoutBlob(digest));
                gone.push(digest);
            }
        }
        if self.is_repair() {
            crate::gc::forget_blobs(self.store, &gone)?;
        }
        Ok(())
    }

    fn names(&mut self) -> Result<(), Error> {
        let named = self.store.images().list()?;
        let bases = images::bases(self.store)?;
        self.report.images = named.len() + bases.len();
        for (name, descriptor) in named {
            if let Some(reason) = reason(images::missing_blob(self.store, &descriptor))? {
                self.found(Problem::IncompleteImage { name, reason });
            }
        }
        for (reference, platform, descriptor, _) in bases {
            if let Some(reason) = reason(images::missing_base_blob(self.store, &descriptor))? {
                self.found(Problem::IncompleteBase { reference, platform, reason });
            }
        }
        if self.is_repair() {
            images::drop_incomplete(self.store)?;
            images::rewrite_index(self.store)?;
        }
        Ok(())
    }

    fn index(&mut self) -> Result<(), Error> {
        let guard = self.store.lock("index")?;
        let expected = images::index_text(self.store.images().list()?);
        let actual = std::fs::read_to_string(self.store.path("index.json")).ok();
        drop(guard);
        if actual.as_ref() != Some(&expected) {
            self.found(Problem::StaleIndex);
            if self.is_repair() {
                images::rewrite_index(self.store)?;
            }
        }
        Ok(())
    }
}

fn layer_ids(store: &Store) -> Result<BTreeSet<LayerId>, Error> {
    store.database().query("list layers", |connection| {
        connection
            .prepare("SELECT id FROM layers")?
            .query_map([], |row| row.get(0).map(LayerId::from_bytes))?
            .collect()
    })
}

/// Why an image is not whole; other errors are the disk's.
fn reason(result: Result<Option<BlobDigest>, Error>) -> Result<Option<String>, Error> {
    match result {
        Ok(missing) => Ok(missing.map(|digest| format!("blob {digest} is missing"))),
        Err(error @ (Error::Document { .. } | Error::DigestMismatch { .. })) => {
            Ok(Some(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// Those of `digests` whose blobs are not what their names say, read in parallel.
pub(crate) fn damaged_blobs(
    store: &Store,
    digests: &[BlobDigest],
) -> Result<Vec<BlobDigest>, Error> {
    let next = AtomicUsize::new(0);
    let damaged = Mutex::new(Vec::new());
    let check = || -> Result<(), Error> {
        while let Some(digest) = digests.get(next.fetch_add(1, Ordering::Relaxed)) {
            match hash_file(&store.content().path(digest)) {
                Ok(actual) if actual == *digest => {}
                // It was removed meanwhile.
                Err(error) if error.is_not_found() => {}
                Ok(_) => damaged.lock().unwrap_or_else(PoisonError::into_inner).push(*digest),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let threads =
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(digests.len());
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(check)).collect();
        let own = check();
        for helper in helpers {
            match helper.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        own
    })?;
    let mut damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
    damaged.sort_unstable();
    Ok(damaged)
}
