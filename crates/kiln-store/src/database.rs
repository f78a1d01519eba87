//! The SQLite database of a store: one connection for all threads of a process.
//!
//! Format: `db.sqlite`, WAL mode, so that many processes may use it at once. `layers.boot` is the
//! boot in which a layer was written, NULL once it is known to be on the disk (see `boot`);
//! `blobs` lists the blobs that are known to be on the disk. Digests are 32-byte BLOBs, layer ids
//! 16-byte BLOBs, times whole seconds since 1970.
//!
//! Nothing here waits for the disk: commits go to the WAL without fsync (`synchronous=NORMAL`),
//! the WAL is copied back by [`Database::checkpoint`] behind a build. A power cut can lose the
//! last commits but never the database's consistency.
//!
//! It does not know what the tables mean; the modules that own them do.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::Error;

/// How many times tables were added to [`SCHEMA`]; an older database gets the new ones when it is
/// opened. What is there already never changes: older programs use the same store.
const SCHEMA_VERSION: i64 = 9;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layers (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    content BLOB NOT NULL,
    times BLOB,
    diff_id BLOB,
    size_bytes INTEGER,
    boot TEXT,
    created INTEGER NOT NULL,
    used INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS layers_diff_id ON layers (diff_id) WHERE diff_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS layers_boot ON layers (boot) WHERE boot IS NOT NULL;
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    layer BLOB NOT NULL,
    content BLOB NOT NULL,
    recipe BLOB NOT NULL,
    created INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    name TEXT NOT NULL,
    parts TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS records_recipe ON records (recipe);
CREATE INDEX IF NOT EXISTS records_layer ON records (layer);
CREATE TABLE IF NOT EXISTS packed (
    diff_id BLOB NOT NULL,
    codec TEXT NOT NULL,
    blob BLOB NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (diff_id, codec)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stargz (
    archive BLOB NOT NULL,
    level INTEGER NOT NULL,
    blob BLOB NOT NULL,
    size_bytes INTEGER NOT NULL,
    diff_id BLOB NOT NULL,
    uncompressed_bytes INTEGER NOT NULL,
    toc BLOB NOT NULL,
    PRIMARY KEY (archive, level)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frames (blob BLOB PRIMARY KEY, frames BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clamped (
    layer BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    diff_id BLOB NOT NULL,
    PRIMARY KEY (layer, epoch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS selections (
    root BLOB NOT NULL,
    selection BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (root, selection)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS exports (
    path BLOB PRIMARY KEY,
    what BLOB NOT NULL,
    stamp TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS remote_blobs (
    digest BLOB NOT NULL,
    place TEXT NOT NULL,
    noted INTEGER NOT NULL,
    PRIMARY KEY (digest, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images (
    name TEXT PRIMARY KEY,
    descriptor TEXT NOT NULL,
    updated INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bases (
    reference TEXT NOT NULL,
    platform TEXT NOT NULL,
    descriptor TEXT NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (reference, platform)
) WITHOUT ROWID;
";

/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

/// Pages of the WAL after which a commit copies it back itself; a safety valve only.
/// Without a checkpoint, whoever opens the database alone has to read so much of the WAL.
const AUTOCHECKPOINT_PAGES: u32 = 2000;

#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    link: Mutex<Link>,
}

/// The connection, and what it is in the middle of.
#[derive(Debug)]
struct Link {
    connection: Connection,
    /// All reads are of one state, see [`Database::hold`].
    is_held: bool,
}

impl Link {
    fn new(connection: Connection) -> Self {
        Self { connection, is_held: false }
    }

    /// Ends what [`Database::hold`] began.
    fn release(&mut self) -> rusqlite::Result<()> {
        if std::mem::take(&mut self.is_held) {
            self.connection.execute_batch("COMMIT; PRAGMA query_only = 0")?;
        }
        Ok(())
    }
}

/// Why a transaction was rolled back: the database's fault or that of work done within it.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(rusqlite::Error),
    Store(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Database {
    /// Makes the database at `path` if it is not there, and its tables.
    pub(crate) fn create(path: &Path) -> Result<(), Error> {
        let create = || -> rusqlite::Result<()> {
            let mut connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            add_tables(&mut connection)
        };
        create().map_err(|source| Error::Database {
            operation: "create tables",
            path: path.to_owned(),
            source,
        })
    }

    /// Opens the database at `path`, which exists.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let open = || {
            let mut connection = connect(path, OpenFlags::empty())?;
            let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if version < SCHEMA_VERSION {
                // An empty file is no older database.
                connection.prepare("SELECT 1 FROM meta")?;
                add_tables(&mut connection)?;
            }
            Ok(connection)
        };
        let connection = open().map_err(|source| Error::Database {
            operation: "open the index",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned(), link: Mutex::new(Link::new(connection)) })
    }

    /// Replaces the connection by one to the file that is at the path now.
    pub(crate) fn reopen(&self) -> Result<(), Error> {
        let fresh = Self::open(&self.path)?;
        *self.link() = fresh.link.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(())
    }

    /// From now on all reads are of one state, with one lock of the file for all of them, until
    /// something is written or [`Database::release`] is called.
    pub(crate) fn hold(&self) -> Result<(), Error> {
        let mut link = self.link();
        if !link.is_held {
            let begin = "PRAGMA query_only = 1; BEGIN DEFERRED";
            link.connection.execute_batch(begin).map_err(self.error("begin to read"))?;
            link.is_held = true;
        }
        Ok(())
    }

    /// From now on reads see what others have written.
    pub(crate) fn release(&self) -> Result<(), Error> {
        self.link().release().map_err(self.error("end reading"))
    }

    /// Reads from one state of the database.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let mut link = self.link();
        let read = || {
            if link.is_held {
                return work(&link.connection);
            }
            let deferred = TransactionBehavior::Deferred;
            work(&*link.connection.transaction_with_behavior(deferred)?)
        };
        read().map_err(self.error(operation))
    }

    /// Reads by one statement, or a few that need no common state: saves the transaction.
    pub(crate) fn query<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        work(&self.link().connection).map_err(self.error(operation))
    }

    /// Writes by one statement.
    pub(crate) fn change<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let mut link = self.link();
        link.release().and_then(|()| work(&link.connection)).map_err(self.error(operation))
    }

    /// Writes all or nothing. No other process writes meanwhile.
    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut link = self.link();
        let write = || -> Result<T, Failure> {
            link.release()?;
            let immediate = TransactionBehavior::Immediate;
            let transaction = link.connection.transaction_with_behavior(immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        write().map_err(|failure| match failure {
            Failure::Sql(source) => self.error(operation)(source),
            Failure::Store(error) => error,
        })
    }

    /// The same for what is not worth waiting for: an error when others write for longer than
    /// `patience`.
    pub(crate) fn write_soon<T>(
        &self,
        operation: &'static str,
        patience: Duration,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let limit =
            |timeout| self.link().connection.busy_timeout(timeout).map_err(self.error(operation));
        limit(patience)?;
        let result = self.write(operation, work);
        limit(BUSY_TIMEOUT)?;
        result
    }

    /// Copies the WAL back as far as no reader needs it, with the fsyncs that this takes. When
    /// nobody is using it, empties it: whoever opens the database alone reads all of it.
    pub(crate) fn checkpoint(&self) -> Result<(), Error> {
        // A connection of its own: the fsyncs must not hold up the other threads.
        let checkpoint = || -> rusqlite::Result<()> {
            let connection = connect(&self.path, OpenFlags::empty())?;
            let is_all: bool =
                connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                    Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
                })?;
            if !is_all {
                return Ok(());
            }
            // Nothing is left to copy, so others are not kept from writing for long.
            connection.busy_timeout(Duration::ZERO)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        checkpoint().map_err(self.error("copy the log back"))
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        // A panic within a transaction has rolled it back.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
        let path = self.path.clone();
        move |source| Error::Database { operation, path, source }
    }
}

/// Adds the tables that are not there.
fn add_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute_batch(crate::history::SCHEMA)?;
    transaction.execute_batch(crate::benchmarks::SCHEMA)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

fn connect(path: &Path, create: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Closing must not wait for the disk.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", AUTOCHECKPOINT_PAGES)?;
    Ok(connection)
}

/// Whether an error says that the database file is no database any more.
pub(crate) fn is_damage(error: &Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let Error::Database { source, .. } = error else {
        return false;
    };
    let missing_table = source.to_string().contains("no such table");
    missing_table || matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_database_gets_the_tables_that_it_has_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        Database::create(&path).unwrap();
        let older = Connection::open(&path).unwrap();
        older
            .execute_batch("DROP TABLE exports; DROP TABLE steps; PRAGMA user_version = 0")
            .unwrap();
        older.execute("INSERT INTO meta VALUES ('kept', 1)", []).unwrap();
        drop(older);
        let database = Database::open(&path).unwrap();
        let rows = database.query("count", |connection| {
            let count = |table| {
                connection.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| {
                    row.get::<_, i64>(0)
                })
            };
            Ok([count("exports")?, count("steps")?, count("meta")?])
        });
        assert_eq!(rows.unwrap(), [0, 0, 1]);
    }
}
