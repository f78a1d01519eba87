//! What steps made, by cache key, with what is needed to explain a miss: the parts of the key, and in
//! `layers/ID/sources` the files that the step took (`kiln_core::file_list`).

use std::collections::BTreeSet;
use std::path::PathBuf;

use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::digest::{CacheKey, ContentId};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::database::{Database, Failure};
use crate::error::Error;
use crate::layers::LayerId;
use crate::store::{Store, now_unix};

/// What a step made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepResult {
    /// The layer on top of what the step began with.
    pub layer: LayerId,
    /// Identity of the layer's files, as the engine chains it.
    pub content: ContentId,
}

/// What is remembered of a step that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRecord {
    /// What it made.
    pub result: StepResult,
    /// `kiln_core::cache_key::recipe` of its operation.
    pub recipe: [u8; 32],
    /// What its key was made of.
    pub parts: KeyParts,
    /// When it ended, in seconds since 1970.
    pub created_unix: u64,
    /// How long it ran.
    pub duration_ms: u64,
    /// What a person calls it.
    pub name: String,
}

/// The cache records of a store.
#[derive(Clone, Copy, Debug)]
pub struct CacheIndex<'a> {
    store: &'a Store,
}

impl Store {
    /// The cache records.
    pub fn cache_index(&self) -> CacheIndex<'_> {
        CacheIndex { store: self }
    }
}

const COLUMNS: &str = "layer, content, recipe, parts, created, duration_ms, name";

impl CacheIndex<'_> {
    /// What is known of a key.
    pub fn lookup(&self, key: &CacheKey) -> Result<Option<CacheRecord>, Error> {
        Ok(self.lookup_many(std::slice::from_ref(key))?.into_iter().next().flatten())
    }

    /// What is known of each key, in the order of `keys`. A record whose layer is gone is not
    /// known, and is deleted.
    pub fn lookup_many(self, keys: &[CacheKey]) -> Result<Vec<Option<CacheRecord>>, Error> {
        let mut found = self.store.database().read("look up cache records", |connection| {
            let mut select = connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM records WHERE key = ?"))?;
            keys.iter()
                .map(|key| select.query_row([key.as_bytes()], from_row).optional())
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut stale = Vec::new();
        for (key, slot) in keys.iter().zip(&mut found) {
            if slot.as_ref().is_some_and(|record| !self.has_layer(&record.result.layer)) {
                *slot = None;
                stale.push(*key);
            }
        }
        if !stale.is_empty() {
            self.forget(&stale)?;
        }
        let hits = found.iter().flatten().map(|record| record.result.layer);
        self.store.used().extend(hits);
        Ok(found)
    }

    fn has_layer(self, id: &LayerId) -> bool {
        self.store.layers().directory(id).is_dir()
    }

    /// Deletes records.
    pub fn forget(self, keys: &[CacheKey]) -> Result<(), Error> {
        self.store.database().write("forget cache records", |transaction| {
            let mut delete = transaction.prepare_cached("DELETE FROM records WHERE key = ?")?;
            for key in keys {
                delete.execute([key.as_bytes()])?;
            }
            Ok(())
        })
    }

    /// Remembers what a step made; an older record of the key is replaced.
    ///
    /// # Errors
    /// [`Error::MissingLayer`] when the layer is not in the store.
    pub fn record(self, key: CacheKey, record: &CacheRecord) -> Result<(), Error> {
        self.record_many(&[(key, record)])
    }

    /// [`CacheIndex::record`] of many, all or none.
    pub fn record_many(self, records: &[(CacheKey, &CacheRecord)]) -> Result<(), Error> {
        self.store.database().write("record steps", |transaction| {
            records.iter().try_for_each(|(key, record)| insert(transaction, key, record))
        })
    }

    /// The newest record of this recipe: what the step was made of last time.
    pub fn latest_by_recipe(self, recipe: &[u8; 32]) -> Result<Option<CacheRecord>, Error> {
        self.store.database().query("look up a recipe", |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM records WHERE recipe = ? ORDER BY seq DESC LIMIT 1"
                ))?
                .query_row([recipe], from_row)
                .optional()
        })
    }

    /// All keys under which a record is known, its own included, the newest first: one for each
    /// state of a context that gave the same files. Not more than a few.
    pub fn keys_of(self, record: &CacheRecord) -> Result<Vec<CacheKey>, Error> {
        self.store.database().query("look up keys", |connection| {
            connection
                .prepare_cached(
                    "SELECT key FROM records WHERE layer = ? AND parts = ?
                     ORDER BY seq DESC LIMIT 8",
                )?
                .query_map((record.result.layer.as_bytes(), encode_parts(&record.parts)), |row| {
                    row.get(0).map(CacheKey::from_bytes)
                })?
                .collect()
        })
    }

    /// Keeps which files a step took that made this layer, instead of those of an earlier one.
    pub fn set_sources(self, layer: &LayerId, lists: &[u8]) -> Result<(), Error> {
        self.store.write_whole(&self.sources_path(layer), lists)
    }

    /// What [`CacheIndex::set_sources`] kept; `None` if there is nothing.
    pub fn sources(self, layer: &LayerId) -> Result<Option<Vec<u8>>, Error> {
        let path = self.sources_path(layer);
        match std::fs::read(&path) {
            Ok(lists) => Ok(Some(lists)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    fn sources_path(self, layer: &LayerId) -> PathBuf {
        self.store.layers().directory(layer).join("sources")
    }

    /// How long the newest run of each recipe took, in milliseconds, in the order of `recipes`.
    pub fn durations(self, recipes: &[[u8; 32]]) -> Result<Vec<Option<u64>>, Error> {
        self.store.database().read("look up durations", |connection| {
            let mut select = connection.prepare_cached(
                "SELECT duration_ms FROM records WHERE recipe = ? ORDER BY seq DESC LIMIT 1",
            )?;
            let mut duration = |recipe| select.query_row([recipe], |row| row.get(0)).optional();
            recipes.iter().map(&mut duration).collect()
        })
    }

    /// The oldest layer that a step of this recipe made with the same files and times, and when it
    /// was made, in seconds since 1970.
    pub fn layer_with_content(
        self,
        recipe: &[u8; 32],
        content: &ContentId,
        times: &ContentId,
    ) -> Result<Option<(LayerId, u64)>, Error> {
        let candidates = self.store.database().query("look up content", |connection| {
            connection
                .prepare_cached(
                    "SELECT layers.seq, layers.id, MIN(records.created) FROM records
                     JOIN layers ON layers.id = records.layer
                     WHERE records.recipe = ? AND layers.content = ? AND layers.times = ?
                     GROUP BY layers.seq ORDER BY layers.seq",
                )?
                .query_map((recipe, content.as_bytes(), times.as_bytes()), |row| {
                    Ok((LayerId::from_bytes(row.get(1)?), row.get(2)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(candidates.into_iter().find(|(id, _)| self.has_layer(id)))
    }
}

fn insert(connection: &Connection, key: &CacheKey, record: &CacheRecord) -> Result<(), Failure> {
    let layer = record.result.layer;
    let is_there = connection
        .prepare_cached("SELECT 1 FROM layers WHERE id = ?")?
        .exists([layer.as_bytes()])?;
    if !is_there {
        return Err(Failure::Store(Error::MissingLayer { id: layer }));
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO records
             (key, layer, content, recipe, created, duration_ms, name, parts)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute((
            key.as_bytes(),
            layer.as_bytes(),
            record.result.content.as_bytes(),
            record.recipe,
            record.created_unix,
            record.duration_ms,
            &record.name,
            encode_parts(&record.parts),
        ))?;
    Ok(())
}

/// `["name","value","name","value"]`: half the size of objects, and faster to read.
fn encode_parts(parts: &KeyParts) -> String {
    let flat: Vec<&str> =
        parts.0.iter().flat_map(|part| [part.name.as_str(), part.value.as_str()]).collect();
    serde_json::to_string(&flat).expect("a list of strings is JSON")
}

fn decode_parts(text: &str) -> Result<KeyParts, serde_json::Error> {
    let flat: Vec<String> = serde_json::from_str(text)?;
    let mut flat = flat.into_iter();
    let mut parts = Vec::with_capacity(flat.len() / 2);
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        parts.push(KeyPart { name, value });
    }
    Ok(KeyParts(parts))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<CacheRecord> {
    let parts = decode_parts(row.get_ref(3)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, Type::Text, Box::new(error))
    })?;
    Ok(CacheRecord {
        result: StepResult {
            layer: LayerId::from_bytes(row.get(0)?),
            content: ContentId::from_bytes(row.get(1)?),
        },
        recipe: row.get(2)?,
        parts,
        created_unix: row.get(4)?,
        duration_ms: row.get(5)?,
        name: row.get(6)?,
    })
}

/// How old the time of the last use must be to be worth a write.
const USED_GRANULARITY_SECONDS: u64 = 600;

/// Notes that these layers were used now.
pub(crate) fn write_used(database: &Database, used: &BTreeSet<LayerId>) -> Result<(), Error> {
    let now = now_unix();
    let limit = now.saturating_sub(USED_GRANULARITY_SECONDS);
    let old = database.read("find what was used", |connection| {
        let mut select =
            connection.prepare_cached("SELECT 1 FROM layers WHERE id = ? AND used < ?")?;
        let mut old = Vec::new();
        for id in used {
            if select.exists((id.as_bytes(), limit))? {
                old.push(id);
            }
        }
        Ok(old)
    })?;
    if old.is_empty() {
        return Ok(());
    }
    database.write("note what was used", |transaction| {
        let mut update = transaction.prepare_cached("UPDATE layers SET used = ? WHERE id = ?")?;
        for id in old {
            update.execute((now, id.as_bytes()))?;
        }
        Ok(())
    })
}
