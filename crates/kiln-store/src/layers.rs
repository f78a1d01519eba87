//! Layers: `layers/ID/index`, the encoded index of what is in it, and `layers/ID/fs`, one diff in
//! overlayfs's upper format; beside them perhaps `sources` (see `cache_index`). A layer that nothing has needed as a directory yet is only there as
//! an archive, its packed blob; [`Layers::unpack`] makes the directory of it.
//!
//! A layer is made in `tmp/`, renamed as a whole and then entered in the database, within one
//! write transaction: whoever holds the database's write lock sees either both or none, except
//! after a crash between the two, which the sweeping of the dead process's directory mends.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use kiln_core::digest::{ContentId, DiffId};
use rusqlite::{Connection, OptionalExtension, Row};
use rustix::fs::Mode;

use crate::database::Failure;
use crate::error::Error;
use crate::store::{Store, now_unix};

/// Names a layer in this store only; random, so it says nothing about what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId([u8; 16]);

impl LayerId {
    /// From the raw 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The raw 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayerId({self})")
    }
}

/// A text is no layer id: it should be 32 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no layer id")]
pub struct LayerIdError(String);

impl FromStr for LayerId {
    type Err = LayerIdError;

    fn from_str(text: &str) -> Result<Self, LayerIdError> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 32 && text.bytes().all(is_hex) {
            let number = u128::from_str_radix(text, 16).expect("hex digits of the right number");
            return Ok(Self(number.to_be_bytes()));
        }
        Err(LayerIdError(text.to_owned()))
    }
}

/// A layer of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub id: LayerId,
    /// Its root directory, if it has one yet.
    pub fs: PathBuf,
    /// Whether it has.
    pub is_unpacked: bool,
    /// Its encoded index.
    pub index_path: PathBuf,
    /// What it holds.
    pub content: ContentId,
    /// Its diff ID, once it is known.
    pub diff_id: Option<DiffId>,
    /// Bytes on the disk, if whoever made the layer told; else `usage` and `prune` measure it.
    pub size_bytes: Option<u64>,
}

/// A layer in the making. Dropping it without a commit moves it to the trash.
#[derive(Debug)]
pub struct WorkingLayer {
    /// The name that it will have.
    pub id: LayerId,
    /// Its root directory, empty and of mode 0755 at first: overlayfs's upper directory.
    pub upper: PathBuf,
    /// An empty directory beside it: overlayfs's work directory.
    pub work: PathBuf,
    /// What [`Layer::size_bytes`] shall say.
    pub size_bytes: Option<u64>,
    directory: PathBuf,
    store: Store,
}

impl Drop for WorkingLayer {
    fn drop(&mut self) {
        // Best effort: what stays is swept when this process is gone.
        let _ = self.store.discard(&self.directory);
    }
}

/// The layers of a store.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    pub(crate) store: &'a Store,
}

impl Store {
    /// The layers.
    pub fn layers(&self) -> Layers<'_> {
        Layers { store: self }
    }
}

/// What identifies a layer's files.
struct Identity {
    content: ContentId,
    times: Option<ContentId>,
    diff_id: Option<DiffId>,
    form: Form,
}

/// What there is of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Directory,
    Archive,
}

const COLUMNS: &str = "id, content, diff_id, size_bytes";

impl Layers<'_> {
    /// Starts a layer.
    pub fn begin(self) -> Result<WorkingLayer, Error> {
        let id = LayerId(self.store.random());
        let directory = self.store.tmp_path()?.with_file_name(id.to_string());
        let layer = directory.join("layer");
        let working = WorkingLayer {
            id,
            upper: layer.join("fs"),
            work: directory.join("work"),
            size_bytes: None,
            directory,
            store: self.store.clone(),
        };
        for path in [&working.directory, &layer, &working.upper, &working.work] {
            rustix::fs::mkdir(path, Mode::RWXU).map_err(Error::io("create directory", path))?;
        }
        // Whatever the umask: this is the mode of `/`.
        rustix::fs::chmod(&working.upper, Mode::from_raw_mode(0o755))
            .map_err(Error::io("change the mode of", &working.upper))?;
        Ok(working)
    }

    /// Makes a layer of what is in `working.upper`. `index_bytes` is its encoded index, `content`
    /// its identity without times, `times` that of its times.
    pub fn commit(
        self,
        working: WorkingLayer,
        index_bytes: &[u8],
        content: ContentId,
        times: ContentId,
    ) -> Result<Layer, Error> {
        let identity =
            Identity { content, times: Some(times), diff_id: None, form: Form::Directory };
        self.enter(working, index_bytes, &identity)
    }

    /// Makes a layer of an unpacked base layer. When another process has unpacked the same diff ID
    /// meanwhile, its layer is returned and `working` goes to the trash.
    pub fn commit_base(
        self,
        working: WorkingLayer,
        index_bytes: &[u8],
        content: ContentId,
        diff_id: DiffId,
    ) -> Result<Layer, Error> {
        let identity =
            Identity { content, times: None, diff_id: Some(diff_id), form: Form::Directory };
        self.enter(working, index_bytes, &identity)
    }

    /// As [`Layers::commit_base`], of a layer that is there only as the blob that it came as, which
    /// [`Layers::remember_packed`] knows. Nothing was put into `working.upper`.
    pub fn commit_packed_base(
        self,
        working: WorkingLayer,
        index_bytes: &[u8],
        content: ContentId,
        diff_id: DiffId,
    ) -> Result<Layer, Error> {
        std::fs::remove_dir(&working.upper).map_err(Error::io("remove", &working.upper))?;
        let identity =
            Identity { content, times: None, diff_id: Some(diff_id), form: Form::Archive };
        self.enter(working, index_bytes, &identity)
    }

    /// Makes a layer that is there only as the blob of an archive of this diff ID, which
    /// [`Layers::remember_packed`] knows. Nothing was put into `working.upper`.
    pub fn commit_packed(
        self,
        working: WorkingLayer,
        index_bytes: &[u8],
        (content, times): (ContentId, ContentId),
        diff_id: DiffId,
    ) -> Result<Layer, Error> {
        std::fs::remove_dir(&working.upper).map_err(Error::io("remove", &working.upper))?;
        let identity =
            Identity { content, times: Some(times), diff_id: Some(diff_id), form: Form::Archive };
        self.enter(working, index_bytes, &identity)
    }

    fn enter(
        self,
        working: WorkingLayer,
        index_bytes: &[u8],
        identity: &Identity,
    ) -> Result<Layer, Error> {
        let made = working.directory.join("layer");
        let index_path = made.join("index");
        std::fs::write(&index_path, index_bytes).map_err(Error::io("write", index_path))?;
        let target = self.directory(&working.id);
        let is_base = identity.times.is_none();
        let entered = self.store.database().write("enter a layer", |transaction| {
            if let Some(diff_id) = identity.diff_id.filter(|_| is_base)
                && let Some(theirs) = self.find_by_diff_id(transaction, &diff_id)?
            {
                return Ok(theirs);
            }
            std::fs::rename(&made, &target).map_err(Error::io("rename to", &target))?;
            self.insert(transaction, &working, identity)?;
            Ok(self.layer_at(&working, identity))
        });
        if entered.is_err() {
            // The row is not there; the directory may be.
            self.store.discard(&target)?;
        }
        // What is left of it, or all of it if another was first.
        drop(working);
        entered
    }

    fn insert(
        self,
        connection: &Connection,
        working: &WorkingLayer,
        identity: &Identity,
    ) -> rusqlite::Result<()> {
        let now = now_unix();
        connection
            .prepare_cached(
                "INSERT INTO layers (id, content, times, diff_id, size_bytes, boot, created, used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
            )?
            .execute((
                working.id.as_bytes(),
                identity.content.as_bytes(),
                identity.times.as_ref().map(ContentId::as_bytes),
                identity.diff_id.as_ref().map(DiffId::as_bytes),
                working.size_bytes,
                self.store.boot(),
                now,
            ))?;
        Ok(())
    }

    fn layer_at(self, working: &WorkingLayer, identity: &Identity) -> Layer {
        let directory = self.directory(&working.id);
        Layer {
            id: working.id,
            fs: directory.join("fs"),
            is_unpacked: identity.form == Form::Directory,
            index_path: directory.join("index"),
            content: identity.content,
            diff_id: identity.diff_id,
            size_bytes: working.size_bytes,
        }
    }

    /// The layer of this name. One of which neither directory nor archive is left is forgotten.
    pub fn by_id(self, id: &LayerId) -> Result<Option<Layer>, Error> {
        let found = self.store.database().query("find a layer", |connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM layers WHERE id = ?"))?
                .query_row([id.as_bytes()], |row| self.layer_of(row))
                .optional()
        })?;
        match found {
            Some(layer) if self.has_files(&layer)? => Ok(self.using(Some(layer))),
            Some(layer) => {
                if let Some(diff_id) = layer.diff_id {
                    self.store.database().change("forget packed layers", |connection| {
                        let forget = "DELETE FROM packed WHERE diff_id = ?";
                        connection.execute(forget, [diff_id.as_bytes()])
                    })?;
                }
                self.remove(&[*id])?;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Whether a layer is there as a directory or as an archive, or can be fetched.
    fn has_files(self, layer: &Layer) -> Result<bool, Error> {
        Ok(layer.is_unpacked
            || self.archive(layer)?.is_some()
            || self.remote_archive(layer)?.is_some())
    }

    fn using(self, layer: Option<Layer>) -> Option<Layer> {
        self.store.used().extend(layer.as_ref().map(|layer| layer.id));
        layer
    }

    /// The oldest layer of this diff ID.
    pub fn by_diff_id(self, diff_id: &DiffId) -> Result<Option<Layer>, Error> {
        let found = self
            .store
            .database()
            .query("find a layer", |connection| self.find_by_diff_id(connection, diff_id))?;
        Ok(self.using(found))
    }

    fn find_by_diff_id(
        self,
        connection: &Connection,
        diff_id: &DiffId,
    ) -> rusqlite::Result<Option<Layer>> {
        let mut select = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM layers WHERE diff_id = ? ORDER BY seq"
        ))?;
        let rows = select.query_map([diff_id.as_bytes()], |row| self.layer_of(row))?;
        for layer in rows {
            let layer = layer?;
            let is_archive = || self.archive_of(connection, diff_id);
            if layer.is_unpacked || (layer.index_path.is_file() && is_archive()?.is_some()) {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    fn layer_of(self, row: &Row<'_>) -> rusqlite::Result<Layer> {
        let id = LayerId(row.get(0)?);
        let directory = self.directory(&id);
        let fs = directory.join("fs");
        Ok(Layer {
            id,
            is_unpacked: fs.is_dir(),
            fs,
            index_path: directory.join("index"),
            content: ContentId::from_bytes(row.get(1)?),
            diff_id: row.get::<_, Option<_>>(2)?.map(DiffId::from_bytes),
            size_bytes: row.get(3)?,
        })
    }

    /// Notes a layer's diff ID, known once its tar was made.
    ///
    /// # Errors
    /// [`Error::MissingLayer`].
    pub fn set_diff_id(self, id: &LayerId, diff_id: &DiffId) -> Result<(), Error> {
        let changed = self.store.database().change("note a diff ID", |connection| {
            connection
                .prepare_cached("UPDATE layers SET diff_id = ? WHERE id = ?")?
                .execute((diff_id.as_bytes(), id.as_bytes()))
        })?;
        if changed == 0 {
            return Err(Error::MissingLayer { id: *id });
        }
        Ok(())
    }

    /// The diff ID of a layer whose later times are set back to `epoch`
    /// ([`TarTimes::NotAfter`](crate::layer::TarTimes)), if it is known.
    pub fn clamped_diff_id(self, id: &LayerId, epoch: i64) -> Result<Option<DiffId>, Error> {
        self.store.database().query("find a diff ID", |connection| {
            connection
                .prepare_cached("SELECT diff_id FROM clamped WHERE layer = ? AND epoch = ?")?
                .query_row((id.as_bytes(), epoch), |row| Ok(DiffId::from_bytes(row.get(0)?)))
                .optional()
        })
    }

    /// Notes it.
    pub fn set_clamped_diff_id(
        self,
        id: &LayerId,
        epoch: i64,
        diff_id: &DiffId,
    ) -> Result<(), Error> {
        self.store.database().change("note a diff ID", |connection| {
            connection.prepare_cached("INSERT OR REPLACE INTO clamped VALUES (?, ?, ?)")?.execute((
                id.as_bytes(),
                epoch,
                diff_id.as_bytes(),
            ))
        })?;
        Ok(())
    }

    /// Identity of a layer's times, if it was made by a step.
    pub fn times_of(self, id: &LayerId) -> Result<Option<ContentId>, Error> {
        let found = self.store.database().query("find a layer's times", |connection| {
            connection
                .prepare_cached("SELECT times FROM layers WHERE id = ?")?
                .query_row([id.as_bytes()], |row| row.get::<_, Option<[u8; 32]>>(0))
                .optional()
        })?;
        Ok(found.flatten().map(ContentId::from_bytes))
    }

    /// The recipe of the step that made a layer first.
    pub fn recipe_of(self, id: &LayerId) -> Result<Option<[u8; 32]>, Error> {
        self.store.database().query("find a recipe", |connection| {
            connection
                .prepare_cached("SELECT recipe FROM records WHERE layer = ? ORDER BY seq LIMIT 1")?
                .query_row([id.as_bytes()], |row| row.get(0))
                .optional()
        })
    }

    /// Where the layer of this name is, or would be.
    pub(crate) fn directory(self, id: &LayerId) -> PathBuf {
        self.store.path("layers").join(id.to_string())
    }

    /// Forgets layers with the cache records that point at them, then moves them to the trash.
    pub(crate) fn remove(self, ids: &[LayerId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        self.store.database().write("forget layers", |transaction| {
            for id in ids {
                transaction.execute("DELETE FROM records WHERE layer = ?", [id.as_bytes()])?;
                transaction.execute("DELETE FROM clamped WHERE layer = ?", [id.as_bytes()])?;
                transaction.execute("DELETE FROM layers WHERE id = ?", [id.as_bytes()])?;
            }
            Ok(())
        })?;
        ids.iter().try_for_each(|id| self.store.discard(&self.directory(id)))
    }

    /// Moves a layer's directory to the trash if no row names it.
    pub(crate) fn discard_unrecorded(self, id: LayerId) -> Result<bool, Error> {
        let directory = self.directory(&id);
        if !directory.exists() {
            return Ok(false);
        }
        self.store.database().write("look for a layer", |transaction| {
            let is_recorded = transaction
                .query_row("SELECT 1 FROM layers WHERE id = ?", [id.as_bytes()], |_| Ok(()))
                .optional()?
                .is_some();
            if !is_recorded {
                self.store.discard(&directory).map_err(Failure::Store)?;
            }
            Ok(!is_recorded)
        })
    }

    /// The names in `layers/`; those that are no ids as `Err`.
    pub(crate) fn list_directories(self) -> Result<Vec<Result<LayerId, PathBuf>>, Error> {
        let directory = self.store.path("layers");
        let entries =
            std::fs::read_dir(&directory).map_err(Error::io("read directory", &directory))?;
        entries
            .map(|entry| {
                let entry = entry.map_err(Error::io("read directory", &directory))?;
                Ok(entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok())
                    .ok_or_else(|| entry.path()))
            })
            .collect()
    }
}

impl Layers<'_> {
    /// Whether there is all of a layer that must be there.
    pub(crate) fn is_whole(self, id: &LayerId) -> Result<bool, Error> {
        Ok(self.by_id(id)?.is_some_and(|layer| layer.index_path.is_file()))
    }
}
