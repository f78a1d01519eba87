//! Builds that are over: what each did, step by step, and why.
//!
//! Two tables. `builds` has a row for each build; `steps` those of its plan, unless nothing at all
//! was done: then `builds.steps_of` names the build that has the same steps. A build that the cache
//! answered so costs one row. The last [`KEPT`] builds are kept. Causes, inputs and the like are
//! JSON; digests are BLOBs; times are milliseconds.
//!
//! The history is an extra: without it builds are as right and as fast, they only know less of why.
//! So whoever writes it does not wait for others.

use std::time::Duration;

use kiln_core::digest::{BlobDigest, CacheKey, ContentId, FieldHasher};
use kiln_core::event::Outcome;
use kiln_core::report::{BaseReport, BuildId, BuildReport, Place, StepReport};
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

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS builds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    started_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    project BLOB NOT NULL,
    place BLOB NOT NULL,
    context TEXT NOT NULL,
    dockerfile TEXT NOT NULL,
    targets TEXT NOT NULL,
    platforms TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    digest BLOB NOT NULL,
    steps_of INTEGER
);
CREATE INDEX IF NOT EXISTS builds_project ON builds (project);
CREATE TABLE IF NOT EXISTS steps (
    build INTEGER NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    line INTEGER,
    written INTEGER NOT NULL,
    inputs TEXT NOT NULL,
    reference TEXT,
    manifest BLOB,
    recipe BLOB NOT NULL,
    key BLOB,
    content BLOB,
    outcome TEXT,
    error TEXT,
    duration_ms INTEGER NOT NULL,
    causes TEXT,
    compared_with INTEGER,
    PRIMARY KEY (build, number)
) WITHOUT ROWID;
";

const BUILD_COLUMNS: &str = "id, started_ms, duration_ms, context, dockerfile, targets, platforms, outcome, error, steps_of";
const STEP_COLUMNS: &str = "name, line, inputs, reference, manifest, recipe, key, content, outcome, error, duration_ms, causes, compared_with, written";

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
                .prepare_cached(&format!("SELECT {BUILD_COLUMNS} FROM builds WHERE id = ?"))?
                .query_row([id], |row| with_steps(connection, row))
                .optional()
        })
    }

    /// The last builds, newest first, without their steps.
    pub fn last(self, count: usize) -> Result<Vec<BuildReport>, Error> {
        self.store.database().query("list builds", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {BUILD_COLUMNS} FROM builds ORDER BY id DESC LIMIT ?"
                ))?
                .query_map([count], |row| Ok(from_row(row)?.0))?
                .collect()
        })
    }
}

fn insert(transaction: &Transaction<'_>, report: &BuildReport) -> Result<BuildId, Failure> {
    let BuildReport { id: _, started_unix_ms, duration, place, outcome, steps } = report;
    let digest = steps_digest(steps);
    let place_id = place_id(place);
    let steps_of =
        if is_cached(report) { same_steps(transaction, &place_id, &digest)? } else { None };
    let (outcome, error) = outcome_text(outcome);
    transaction
        .prepare_cached(
            "INSERT INTO builds (started_ms, duration_ms, project, place, context, dockerfile,
                                 targets, platforms, outcome, error, digest, steps_of)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute((
            started_unix_ms,
            millis(*duration),
            project_id(place),
            place_id,
            &place.context,
            &place.dockerfile,
            json(&place.targets),
            json(&place.platforms),
            outcome,
            error,
            digest,
            steps_of,
        ))?;
    let id = transaction.last_insert_rowid() as u64;
    if steps_of.is_none() {
        insert_steps(transaction, id, steps)?;
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
        && report.steps.iter().all(|step| step.outcome == Some(Outcome::Cached))
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

fn insert_steps(
    transaction: &Transaction<'_>,
    build: BuildId,
    steps: &[StepReport],
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(&format!(
        "INSERT INTO steps (build, number, {STEP_COLUMNS})
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))?;
    for (number, step) in steps.iter().enumerate() {
        let outcome = step.outcome.as_ref().map(outcome_text);
        insert.execute((
            build,
            number,
            &step.name,
            step.line,
            json(&step.inputs),
            step.base.as_ref().map(|base| &base.reference),
            step.base.as_ref().map(|base| *base.manifest.as_bytes()),
            step.recipe,
            step.key.map(|key| *key.as_bytes()),
            step.content.map(|content| *content.as_bytes()),
            outcome.map(|(word, _)| word),
            outcome.and_then(|(_, error)| error),
            millis(step.duration),
            (!step.causes.is_empty()).then(|| json(&step.causes)),
            step.compared_with,
            step.written.cast_signed(),
        ))?;
    }
    Ok(())
}

fn with_steps(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<BuildReport> {
    let (mut report, steps_of) = from_row(row)?;
    report.steps = connection
        .prepare_cached(&format!(
            "SELECT {STEP_COLUMNS} FROM steps WHERE build = ? ORDER BY number"
        ))?
        .query_map([steps_of.unwrap_or(report.id)], step_from_row)?
        .collect::<rusqlite::Result<_>>()?;
    if steps_of.is_some() {
        // The same steps, of which none was done.
        for step in &mut report.steps {
            *step = StepReport {
                outcome: Some(Outcome::Cached),
                duration: Duration::ZERO,
                causes: Vec::new(),
                compared_with: None,
                ..step.clone()
            };
        }
    }
    Ok(report)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<(BuildReport, Option<BuildId>)> {
    let place = Place {
        context: row.get(3)?,
        dockerfile: row.get(4)?,
        targets: from_json(row, 5)?,
        platforms: from_json(row, 6)?,
    };
    let report = BuildReport {
        id: row.get(0)?,
        started_unix_ms: row.get(1)?,
        duration: Duration::from_millis(row.get(2)?),
        place,
        outcome: outcome(row.get_ref(7)?.as_str()?, row.get(8)?),
        steps: Vec::new(),
    };
    Ok((report, row.get(9)?))
}

fn step_from_row(row: &Row<'_>) -> rusqlite::Result<StepReport> {
    let base = match (row.get::<_, Option<String>>(3)?, row.get::<_, Option<[u8; 32]>>(4)?) {
        (Some(reference), Some(manifest)) => {
            Some(BaseReport { reference, manifest: BlobDigest::from_bytes(manifest) })
        }
        _ => None,
    };
    let error = row.get(9)?;
    let word = row.get::<_, Option<String>>(8)?;
    Ok(StepReport {
        name: row.get(0)?,
        line: row.get(1)?,
        inputs: from_json(row, 2)?,
        base,
        recipe: row.get(5)?,
        key: row.get::<_, Option<_>>(6)?.map(CacheKey::from_bytes),
        content: row.get::<_, Option<_>>(7)?.map(ContentId::from_bytes),
        outcome: word.map(|word| outcome(&word, error)),
        duration: Duration::from_millis(row.get(10)?),
        causes: match row.get_ref(11)?.as_str_or_null()? {
            Some(_) => from_json(row, 11)?,
            None => Vec::new(),
        },
        compared_with: row.get(12)?,
        written: row.get::<_, i64>(13)?.cast_unsigned(),
    })
}

fn outcome_text(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Done => ("done", None),
        Outcome::Cached => ("cached", None),
        Outcome::Unchanged => ("unchanged", None),
        Outcome::Failed(message) => ("failed", Some(message)),
        Outcome::Canceled => ("canceled", None),
    }
}

fn outcome(word: &str, error: Option<String>) -> Outcome {
    match word {
        "done" => Outcome::Done,
        "cached" => Outcome::Cached,
        "unchanged" => Outcome::Unchanged,
        "canceled" => Outcome::Canceled,
        _ => Outcome::Failed(error.unwrap_or_default()),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists of texts and numbers are JSON")
}

fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Context and Dockerfile.
fn project_id(place: &Place) -> [u8; 32] {
    FieldHasher::new("kiln project 1").field(&place.context).field(&place.dockerfile).finish()
}

/// The same with targets and platforms.
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
            .field(step.recipe)
            .optional(step.key.map(|key| *key.as_bytes()))
            .optional(step.content.map(|content| *content.as_bytes()))
            .optional(step.base.as_ref().map(|base| *base.manifest.as_bytes()));
    }
    hasher.finish()
}
