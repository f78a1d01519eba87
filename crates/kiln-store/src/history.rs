//! Builds that are over: what each did, step by step, and why.
//!
//! `builds` has a row for each build, `steps` the steps of one; both are JSON of `kiln_core::report`. `logs`
//! has the end of what steps wrote, compressed by zstd, of the last [`KEPT_LOGS`]. A build that did nothing at all has no steps of its own: `builds.steps_of` is
//! the one that has the same. So a build that the cache answered costs one row of a few hundred
//! bytes. The last [`KEPT`] builds are kept.
//!
//! The history is an extra: without it builds are as right and as fast, they only know less of why.
//! So whoever writes it does not wait for others. Few and narrow columns, no index: every program
//! that opens the database reads the definitions, and there are at most so many rows.

use std::time::Duration;

use kiln_core::digest::FieldHasher;
use kiln_core::event::Outcome;
pub use kiln_core::report::StepLog;
use kiln_core::report::{BuildId, BuildReport, Commit, KEPT_LOG_BYTES, Place, Project, StepReport};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::database::Failure;
use crate::error::Error;
use crate::store::Store;

/// Builds that are kept.
const KEPT: u64 = 1000;

/// Builds whose logs are kept.
const KEPT_LOGS: u64 = 200;

/// zstd's: logs are written behind each build that did something.
const LOG_LEVEL: i32 = 1;

/// Rows are deleted once in so many builds.
const SWEEP: u64 = 50;

/// How long a write waits for another process's.
const PATIENCE: Duration = Duration::from_millis(250);

/// Builds that are tried to compare with.
const COMPARED: usize = 8;

/// `project` stands for context and Dockerfile (with a byte more if there are several), `place` for these with targets and platforms,
/// `digest` for the steps with their keys and contents.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS builds (
    id INTEGER PRIMARY KEY,
    project BLOB NOT NULL,
    place BLOB NOT NULL,
    digest BLOB NOT NULL,
    steps_of INTEGER,
    report TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (build INTEGER PRIMARY KEY, steps TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS logs (
    build INTEGER, step INTEGER, log BLOB NOT NULL, PRIMARY KEY (build, step)
) WITHOUT ROWID;
";

/// The builds of a store.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    store: &'a Store,
}

impl Store {
    /// The builds that are over.
    pub fn history(&self) -> History<'_> {
        History { store: self }
    }
}

impl History<'_> {
    /// Keeps a build; gives its number. [`BuildReport::id`] is not looked at.
    ///
    /// # Errors
    /// [`Error::Database`], also when another process has been writing for a while.
    pub fn record(self, report: &BuildReport, logs: &[StepLog]) -> Result<BuildId, Error> {
        self.store.database().write_soon("record a build", PATIENCE, |transaction| {
            let id = insert(transaction, report)?;
            for (step, log) in logs {
                transaction.prepare_cached("INSERT INTO logs VALUES (?, ?, ?)")?.execute((
                    id,
                    step,
                    compressed(log),
                ))?;
            }
            Ok(id)
        })
    }

    /// The end of what the steps of a build wrote, in the order of the steps.
    pub fn logs(self, id: BuildId) -> Result<Vec<StepLog>, Error> {
        self.store.database().query("read the logs of a build", |connection| {
            connection
                .prepare_cached("SELECT step, log FROM logs WHERE build = ? ORDER BY step")?
                .query_map([id], |row| Ok((row.get(0)?, decompressed(row.get_ref(1)?.as_blob()?))))?
                .collect()
        })
    }

    /// Forgets builds; tells how many there were.
    pub fn remove(self, ids: &[BuildId]) -> Result<usize, Error> {
        self.store.database().write("forget builds", |transaction| {
            let mut removed = 0;
            for id in ids {
                removed += transaction.execute("DELETE FROM builds WHERE id = ?", [id])?;
            }
            sweep(transaction)?;
            Ok(removed)
        })
    }

    /// The builds to compare the steps of a project with, in a build of this place, the best first: those
    /// of the same place, then others that the project is in, each the newest first.
    pub fn comparable(self, project: &Project, place: &Place) -> Result<Vec<BuildId>, Error> {
        self.store.database().query("find builds", |connection| {
            connection
                .prepare_cached(
                    "SELECT id FROM builds
                     WHERE project = ?1 OR (length(project) > 32 AND instr(report, ?2))
                     ORDER BY (place = ?3) DESC, id DESC LIMIT ?4",
                )?
                .query_map(
                    (
                        &hash_of(&project.context, &project.dockerfile)[..],
                        json(project),
                        place_id(place),
                        COMPARED,
                    ),
                    |row| row.get(0),
                )?
                .collect()
        })
    }

    /// Notes what the working tree had besides the commit, which was not known when the build was
    /// recorded.
    pub fn note_commit(self, id: BuildId, commit: &Commit) -> Result<(), Error> {
        self.store.database().write_soon("note a commit", PATIENCE, |transaction| {
            let report = transaction
                .prepare_cached("SELECT id, report FROM builds WHERE id = ?")?
                .query_row([id], from_row)
                .optional()?;
            if let Some(report) = report {
                let report = BuildReport { commit: Some(commit.clone()), ..report };
                transaction
                    .prepare_cached("UPDATE builds SET report = ? WHERE id = ?")?
                    .execute((json(&report), id))?;
            }
            Ok(())
        })
    }

    /// The build of this number, if it is kept.
    pub fn build(self, id: BuildId) -> Result<Option<BuildReport>, Error> {
        self.store.database().read("read a build", |connection| {
            connection
                .prepare_cached(
                    "SELECT id, report, coalesce(steps_of, id) FROM builds WHERE id = ?",
                )?
                .query_row([id], |row| with_steps(connection, row))
                .optional()
        })
    }

    /// The last builds, newest first, without their steps.
    pub fn last(self, count: usize) -> Result<Vec<BuildReport>, Error> {
        self.store.database().query("list builds", |connection| {
            connection
                .prepare_cached("SELECT id, report FROM builds ORDER BY id DESC LIMIT ?")?
                .query_map([count], from_row)?
                .collect()
        })
    }
}

fn insert(transaction: &Transaction<'_>, report: &BuildReport) -> Result<BuildId, Failure> {
    let (digest, place) = (steps_digest(&report.steps), place_id(&report.place));
    let steps_of = if is_cached(report) { same_steps(transaction, &place, &digest)? } else { None };
    transaction
        .prepare_cached(
            "INSERT INTO builds (project, place, digest, steps_of, report) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute((project_id(&report.place), place, digest, steps_of, json(report)))?;
    let id = transaction.last_insert_rowid() as u64;
    if steps_of.is_none() {
        transaction
            .prepare_cached("INSERT INTO steps (build, steps) VALUES (?, ?)")?
            .execute((id, json(&report.steps)))?;
    }
    if id.is_multiple_of(SWEEP) {
        transaction.execute("DELETE FROM builds WHERE id + ?1 <= ?2", (KEPT, id))?;
        transaction.execute("DELETE FROM logs WHERE build + ?1 <= ?2", (KEPT_LOGS, id))?;
        sweep(transaction)?;
    }
    Ok(id)
}

/// Deletes what was of builds that are gone. Steps stay as long as a build has the same.
fn sweep(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM steps WHERE build NOT IN (SELECT coalesce(steps_of, id) FROM builds)",
        [],
    )?;
    transaction.execute("DELETE FROM logs WHERE build NOT IN (SELECT id FROM builds)", [])?;
    Ok(())
}

fn compressed(log: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(log, LOG_LEVEL).expect("memory takes all")
}

/// A log; empty if it cannot be read.
fn decompressed(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::decompress(bytes, 2 * KEPT_LOG_BYTES).unwrap_or_default()
}

/// Whether a build did nothing.
fn is_cached(report: &BuildReport) -> bool {
    report.outcome == Outcome::Done
        && report.steps.iter().all(|step| {
            // A context is read each time.
            step.outcome == Some(Outcome::Cached) || !step.is_instruction()
        })
}

/// The build that has these steps, if the last one at the place had the same.
fn same_steps(
    connection: &Connection,
    place: &[u8; 32],
    digest: &[u8; 32],
) -> rusqlite::Result<Option<BuildId>> {
    let last = connection
        .prepare_cached(
            "SELECT coalesce(steps_of, id), digest FROM builds WHERE place = ?
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row([place], |row| Ok((row.get::<_, BuildId>(0)?, row.get::<_, [u8; 32]>(1)?)))
        .optional()?;
    Ok(last.filter(|(_, known)| known == digest).map(|(id, _)| id))
}

fn with_steps(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<BuildReport> {
    let mut report = from_row(row)?;
    let steps_of: BuildId = row.get(2)?;
    report.steps = connection
        .prepare_cached("SELECT steps FROM steps WHERE build = ?")?
        .query_row([steps_of], |row| from_json(row, 0))?;
    if steps_of != report.id {
        // The same steps, of which none was done.
        for step in &mut report.steps {
            *step = StepReport {
                outcome: Some(Outcome::Cached),
                started_ms: 0,
                duration_ms: 0,
                waited_ms: 0,
                usage: None,
                causes: Vec::new(),
                compared_with: None,
                ..step.clone()
            };
        }
    }
    Ok(report)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<BuildReport> {
    Ok(BuildReport { id: row.get(0)?, ..from_json(row, 1)? })
}

pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists of texts and numbers are JSON")
}

pub(crate) fn from_json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn hash_of(context: &str, dockerfile: &str) -> [u8; 32] {
    FieldHasher::new("kiln project 1").field(context).field(dockerfile).finish()
}

/// What the builds of a project are found by. That of a bake file with several is longer: its report has
/// to be looked into.
pub(crate) fn project_id(place: &Place) -> Vec<u8> {
    let mut id = hash_of(&place.context, &place.dockerfile).to_vec();
    id.extend((!place.projects.is_empty()).then_some(b'+'));
    id
}

fn place_id(place: &Place) -> [u8; 32] {
    let mut hasher = FieldHasher::new("kiln place 1");
    let own = hash_of(&place.context, &place.dockerfile);
    hasher.field(own).list(&place.targets).list(&place.platforms);
    for project in &place.projects {
        hasher.field(hash_of(&project.context, &project.dockerfile));
    }
    hasher.finish()
}

/// What two builds have in common whose steps are the same.
fn steps_digest(steps: &[StepReport]) -> [u8; 32] {
    let mut hasher = FieldHasher::new("kiln steps 1");
    for step in steps {
        hasher
            .field(&step.name)
            .number(step.line.unwrap_or(0) as u64)
            .field(step.recipe.as_bytes())
            .optional(step.key.map(|key| *key.as_bytes()))
            .optional(step.content.map(|content| *content.as_bytes()))
            .optional(step.base.as_ref().map(|base| *base.manifest.as_bytes()));
    }
    hasher.finish()
}
