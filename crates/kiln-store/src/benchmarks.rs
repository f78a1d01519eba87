//! What `kiln bench` measured: the last runs of it, each as one document.
//!
//! Format: table `benchmarks`, with `project` as in `history` and the document as JSON. They are kept apart
//! from the builds: those of a benchmark say nothing of how a project is built day by day.

use kiln_core::benchmark::Benchmark;
use kiln_core::report::Place;

use crate::error::Error;
use crate::history::{from_json, json, project_id};
use crate::store::Store;

/// Runs that are kept, of all projects.
const KEPT: usize = 200;

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS benchmarks (
    id INTEGER PRIMARY KEY,
    project BLOB NOT NULL,
    document TEXT NOT NULL
);
";

/// The benchmarks of a store.
#[derive(Clone, Copy, Debug)]
pub struct Benchmarks<'a> {
    store: &'a Store,
}

impl Store {
    /// What was measured.
    pub fn benchmarks(&self) -> Benchmarks<'_> {
        Benchmarks { store: self }
    }
}

impl Benchmarks<'_> {
    /// Keeps one.
    pub fn record(self, benchmark: &Benchmark) -> Result<(), Error> {
        self.store.database().write("record a benchmark", |transaction| {
            transaction.execute(
                "INSERT INTO benchmarks (project, document) VALUES (?, ?)",
                (project_id(&benchmark.place), json(benchmark)),
            )?;
            transaction.execute(
                "DELETE FROM benchmarks WHERE id NOT IN
                 (SELECT id FROM benchmarks ORDER BY id DESC LIMIT ?)",
                [KEPT],
            )?;
            Ok(())
        })
    }

    /// The last ones of a Dockerfile and context, or of all, the newest first.
    pub fn last(self, place: Option<&Place>, count: usize) -> Result<Vec<Benchmark>, Error> {
        self.store.database().query("read benchmarks", |connection| {
            connection
                .prepare_cached(
                    "SELECT document FROM benchmarks WHERE ?1 IS NULL OR project = ?1
                     ORDER BY id DESC LIMIT ?2",
                )?
                .query_map((place.map(project_id), count), |row| from_json(row, 0))?
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_core::benchmark::{Machine, VERSION};

    fn benchmark(context: &str, started_unix_ms: u64) -> Benchmark {
        Benchmark {
            version: VERSION,
            started_unix_ms,
            place: Place { context: context.to_owned(), ..Place::default() },
            command: Vec::new(),
            commit: None,
            machine: Machine::default(),
            builders: Vec::new(),
            scenarios: Vec::new(),
        }
    }

    #[test]
    fn the_last_ones_of_a_project_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let all: Vec<Benchmark> = (0..KEPT as u64 + 5)
            .map(|number| benchmark(if number % 2 == 0 { "/even" } else { "/odd" }, number))
            .collect();
        for one in &all {
            store.benchmarks().record(one).unwrap();
        }
        let last = |place: Option<&str>, count: usize| -> Vec<u64> {
            let place = place.map(|context| benchmark(context, 0).place);
            let found = store.benchmarks().last(place.as_ref(), count).unwrap();
            found.iter().map(|one| one.started_unix_ms).collect()
        };
        assert_eq!(last(Some("/odd"), 2), [203, 201]);
        assert!(last(Some("/elsewhere"), 2).is_empty());
        let kept = last(None, 1000);
        assert_eq!((kept.len(), kept[0], kept[KEPT - 1]), (KEPT, 204, 5));
        assert_eq!(store.benchmarks().last(None, 1).unwrap(), all[KEPT + 4..]);
        assert!(store.history().last(10).unwrap().is_empty(), "no build of the project's own");
    }
}
