//! `--cache-from`: what others have built answers for steps that this store knows nothing of.
//!
//! The records are fetched while the build plans and looks into its own store. Only a step that has
//! no result there waits for them. A hit brings the index of the layer, which says what is in it;
//! its archive stays in the registry until something needs its bytes ([`super::fetch`]). One of a
//! directory is copied at once, for the directory may be gone tomorrow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use kiln_core::digest::{BlobDigest, CacheKey};
use kiln_store::layer::LayerIndex;
use kiln_store::{CacheRecord, StepResult};

use super::document::{CONFIG, CacheDocument, SharedRecord};
use crate::activity::Activities;
use crate::engine::Engine;
use crate::error::BuildError;
use crate::solve::{Solver, lock};
use crate::transfer::{CacheSource, ImagePlace};

/// Records of shared caches, once they are there.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those on their way, in the order in which they are asked.
    pending: Vec<JoinHandle<Option<Cache>>>,
    caches: Vec<Arc<Cache>>,
    /// Blobs that turned out to be gone or wrong.
    lost: BTreeSet<BlobDigest>,
}

/// One cache.
#[derive(Debug)]
struct Cache {
    place: ImagePlace,
    source: CacheSource,
    records: BTreeMap<CacheKey, Arc<SharedRecord>>,
}

impl Imports {
    /// Never again takes a record that has this blob; `false` if none was to be taken already.
    pub(crate) fn lose(&self, blob: BlobDigest) -> bool {
        lock(&self.state).lost.insert(blob)
    }

    fn is_lost(&self, record: &SharedRecord) -> bool {
        let state = lock(&self.state);
        record.blobs().any(|blob| state.lost.contains(&blob.digest))
    }

    /// Begins to fetch the records of caches.
    pub(crate) fn begin(
        engine: &Engine,
        places: &[ImagePlace],
        (activities, cancelled): (&Activities, &Arc<AtomicBool>),
    ) -> Self {
        let begin = |place: &ImagePlace| {
            let (engine, place) = (engine.share(), place.clone());
            let (activities, cancelled) = (activities.clone(), Arc::clone(cancelled));
            std::thread::spawn(move || load(&engine, place, &activities, &cancelled))
        };
        let pending = places.iter().map(begin).collect();
        Self { state: Mutex::new(State { pending, ..State::default() }) }
    }

    /// The caches, when all of them are there or have failed.
    fn caches(&self) -> Vec<Arc<Cache>> {
        let mut state = lock(&self.state);
        for loading in std::mem::take(&mut state.pending) {
            let cache = loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            state.caches.extend(cache.map(Arc::new));
        }
        state.caches.clone()
    }
}

/// Reads a cache's records; a failure is a warning.
fn load(
    engine: &Engine,
    place: ImagePlace,
    activities: &Activities,
    cancelled: &AtomicBool,
) -> Option<Cache> {
    let activity = activities.start(format!("importing cache manifest from {place}"));
    let read = || {
        let (source, manifest) = CacheSource::open(engine, &place, (&activity, cancelled))?;
        if manifest.config.media_type != CONFIG {
            let message = "it is no cache that kiln has written".to_owned();
            return Err(BuildError::Image { message, help: None });
        }
        let bytes = source.config(engine, &manifest, (&activity, cancelled))?;
        let records = CacheDocument::parse(&bytes, &manifest).map_err(|reason| {
            BuildError::Image { message: format!("its config is not valid: {reason}"), help: None }
        })?;
        Ok((source, records))
    };
    let result = read();
    match &result {
        Err(BuildError::Canceled) => drop(activity),
        result => activity.finish(result),
    }
    match result {
        Ok((source, records)) => Some(Cache { place, source, records }),
        Err(BuildError::Canceled) => None,
        Err(error) => {
            activities.warn(format!("cache import from {place}: {error}"));
            None
        }
    }
}

impl Solver<'_> {
    /// What shared caches have for a key. The record is then in the store, too.
    pub(crate) fn imported(&self, key: &CacheKey) -> Result<Option<CacheRecord>, BuildError> {
        for cache in self.imports.caches() {
            let Some(record) = cache.records.get(key) else { continue };
            if self.imports.is_lost(record) {
                continue;
            }
            let lock = format!("import-{}", record.parts.key());
            let _lock = self.engine.store.lock_unless(&lock, &self.stopped)?;
            // Another step or process may have imported it while this one waited.
            if let Some(known) = self.lookup(key)? {
                return Ok(Some(known));
            }
            match self.take(&cache, record) {
                Ok(record) => return Ok(Some(record)),
                Err(BuildError::Canceled) => return Err(BuildError::Canceled),
                Err(error) => {
                    let place = &cache.place;
                    let name = &record.name;
                    self.activities.warn(format!("cache import from {place}: {name}: {error}"));
                }
            }
        }
        Ok(None)
    }

    /// Makes a layer and a record of the store of what a cache has.
    fn take(&self, cache: &Cache, shared: &SharedRecord) -> Result<CacheRecord, BuildError> {
        let store = &self.engine.store;
        let layers = store.layers();
        let activity = self.activities.start(format!("importing cache of {}", shared.name));
        let watch = (&activity, &*self.cancelled);
        let read = || {
            let bytes = cache.source.index(self.engine, &shared.index, watch)?;
            let index = LayerIndex::decode(&bytes)?;
            if index.content_id() != shared.content {
                let message = "its files are not those that it claims".to_owned();
                return Err(BuildError::Image { message, help: None });
            }
            for archive in &shared.archives {
                cache.source.offer(self.engine, &archive.blob)?;
            }
            Ok((bytes, index))
        };
        let result = read();
        activity.finish(&result);
        let (bytes, index) = result?;
        for archive in &shared.archives {
            let blob = (&archive.blob.digest, archive.blob.size);
            layers.remember_remote_packed(&archive.diff_id, &archive.codec, blob)?;
        }
        let own = shared.own_archive().expect("a record without one was left out");
        let mut working = layers.begin()?;
        working.size_bytes = Some(index.size_bytes());
        let content = (shared.content, shared.times);
        let layer = layers.commit_packed(working, &bytes, content, own.diff_id)?;
        for archive in &shared.archives {
            if let Some(epoch) = archive.epoch {
                layers.set_clamped_diff_id(&layer.id, epoch, &archive.diff_id)?;
            }
        }
        let record = CacheRecord {
            result: StepResult { layer: layer.id, content: layer.content },
            recipe: *shared.recipe.as_bytes(),
            parts: shared.parts.clone(),
            created_unix: shared.created_unix,
            duration_ms: shared.duration_ms,
            name: shared.name.clone(),
        };
        let entries: Vec<_> = shared.keys.iter().map(|key| (*key, &record)).collect();
        store.cache_index().record_many(&entries)?;
        Ok(record)
    }
}
