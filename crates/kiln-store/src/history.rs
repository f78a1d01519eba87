//! Builds that are over: what each did, step by step, and why.
//!
//! Two tables: `builds` has a row for each build, `steps` the steps of one; both are JSON of
//! `kiln_core::report`. A build that did nothing at all has no steps of its own: `builds.steps_of` is
//! the one that has the same. So a build that the cache answered costs one row of a few hundred
//! bytes. The last [`KEPT`] builds are kept.
//!
//! The history is an extra: without it builds are as right and as fast, they only know less of why.
//! So whoever writes it does not wait for others. Few and narrow columns, no index: every program
//! that opens the database reads the definitions, and there are at most so many rows.

use std::time::Duration;

use kiln_core::digest::FieldHasher;
use kiln_core::event::Outcome;
use kiln_core::report::{BuildId, BuildReport, Place, StepReport};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::database::Failure;
use crate::error::Error;
use crate::store::Store;

/// Builds that are kept.
const KEPT: u64 = 1000;

/// Rows are deleted once in so many builds.
const SWEEP: u64 = 50;

/// How long a write waits for another process's.
const PATIENCE: Duration = Duration::from_millis(250);

/// Builds that are tried to compare with.
const COMPARED: usize = 8;

/// `project` stands for context and Dockerfile, `place` for these with targets and platforms,
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
    pub fn record(self, report: &BuildReport) -> Result<BuildId, Error> {
        self.store
            .database()
            .write_soon("record a build", PATIENCE, |transaction| insert(transaction, report))
    }

    /// The builds to compare one of this place with, the best first: those of the same targets and
    /// platforms, then others of the same Dockerfile and context, each the newest first.
    pub fn comparable(self, place: &Place) -> Result<Vec<BuildId>, Error> {
        self.store.database().query("find builds", |connection| {
            connection
                .prepare_cached(
                    "SELECT id FROM builds WHERE project = ?1
                     ORDER BY (place = ?2) DESC, id DESC LIMIT ?3",
                )?
                .query_map((project_id(place), place_id(place), COMPARED), |row| row.get(0))?
                .collect()
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
        transaction.execute(
            "DELETE FROM steps WHERE build NOT IN (SELECT coalesce(steps_of, id) FROM builds)",
            [],
        )?;
    }
    Ok(id)
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
                duration_ms: 0,
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

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists of texts and numbers are JSON")
}

fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn project_id(place: &Place) -> [u8; 32] {
    FieldHasher::new("kiln project 1").field(&place.context).field(&place.dockerfile).finish()
}

fn place_id(place: &Place) -> [u8; 32] {
    FieldHasher::new("kiln place 1")
        .field(project_id(place))
        .list(&place.targets)
        .list(&place.platforms)
        .finish()
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
