//! `--cache-from`: what others have built answers for steps that this store knows nothing of.
//!
//! The records are fetched while the build plans and looks into its own store. Only a step that has
//! no result there waits for them. A hit brings the index of the layer, which says what is in it;
//! its archive stays where it is until something needs its bytes (`base_image::remote`). One of a
//! directory is copied at once, for the directory may be gone tomorrow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use kiln_core::digest::{BlobDigest, CacheKey};
use kiln_core::oci::{Manifest, media_type};
use kiln_store::layer::{BlobCheck, LayerIndex, Unpack, unpack};
use kiln_store::{CacheRecord, StepResult};

use super::document::{CONFIG, CacheDocument, SharedRecord};
use super::inline;
use crate::activity::Activities;
use crate::base_image::bring_blob;
use crate::engine::Engine;
use crate::error::BuildError;
use crate::request::CachePlace;
use crate::solve::{Solver, lock};
use crate::transfer::{CacheSource, CacheWatch as Watch};

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
    place: CachePlace,
    source: CacheSource,
    records: Records,
}

type Records = BTreeMap<CacheKey, Arc<SharedRecord>>;

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
        places: &[CachePlace],
        (activities, cancelled): (&Activities, &Arc<AtomicBool>),
    ) -> Self {
        let begin = |place: &CachePlace| {
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
    place: CachePlace,
    activities: &Activities,
    cancelled: &AtomicBool,
) -> Option<Cache> {
    let activity = activities.start(format!("importing cache manifest from {place}"));
    let read = || {
        let watch = (&activity, cancelled);
        let (source, manifests) = CacheSource::open(engine, &place, watch)?;
        let mut records = None;
        for manifest in &manifests {
            if let Some(found) = records_of(&source, manifest, (engine, watch))? {
                records.get_or_insert_with(BTreeMap::new).extend(found);
            }
        }
        let no_cache = || BuildError::Image {
            message: "it is no cache that kiln has written".to_owned(),
            help: None,
        };
        Ok((source, records.ok_or_else(no_cache)?))
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

/// The records of a cache, or of a cache inside of an image; `None` if it is neither.
fn records_of(
    source: &CacheSource,
    manifest: &Manifest,
    (engine, watch): (&Engine, Watch<'_>),
) -> Result<Option<Records>, BuildError> {
    let config_type = manifest.config.media_type.as_str();
    let is_image = [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG].contains(&config_type);
    if config_type != CONFIG && !is_image {
        return Ok(None);
    }
    let bytes = source.config(engine, manifest, watch)?;
    let records = if is_image {
        inline::parse(&bytes, manifest)
    } else {
        CacheDocument::parse(&bytes, manifest).map(Some)
    };
    records.map_err(|reason| {
        let message = format!("its config is not valid: {reason}");
        BuildError::Image { message, help: None }
    })
}

impl Solver<'_> {
    /// What shared caches have for a key. The record is then in the store, too.
    pub(crate) fn imported(&self, key: &CacheKey) -> Result<Option<CacheRecord>, BuildError> {
        for cache in self.imports.caches() {
            let Some(record) = cache.records.get(key) else { continue };
            if self.imports.is_lost(record) || self.was_lost(record)? {
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

    /// Whether a cache claims to have what this machine could not have when it needed it.
    fn was_lost(&self, shared: &SharedRecord) -> Result<bool, BuildError> {
        let remote = self.engine.store.remote_blobs();
        for archive in &shared.archives {
            if remote.is_lost(&archive.blob.digest)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a layer and a record of the store of what a cache has.
    fn take(&self, cache: &Cache, shared: &SharedRecord) -> Result<CacheRecord, BuildError> {
        let store = &self.engine.store;
        let layers = store.layers();
        let activity = self.activities.start(format!("importing cache of {}", shared.name));
        let watch = (&activity, &*self.cancelled);
        let read = || {
            for archive in &shared.archives {
                cache.source.offer(self.engine, &archive.blob)?;
            }
            let (bytes, index) = match &shared.index {
                Some(index) => {
                    let bytes = cache.source.index(self.engine, index, watch)?;
                    let index = LayerIndex::decode(&bytes)?;
                    (bytes, index)
                }
                None => self.read_archive(shared)?,
            };
            if index.content_id() != shared.content {
                let message = "its files are not those that it claims".to_owned();
                return Err(BuildError::Image { message, help: None });
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

    /// The index of a layer of an image's own cache, encoded and decoded: its archive says it.
    fn read_archive(&self, shared: &SharedRecord) -> Result<(Vec<u8>, LayerIndex), BuildError> {
        let own = shared.own_archive().expect("a record without one was left out");
        bring_blob(&self.fetcher, &own.blob)?;
        let blob = self.engine.store.content().open(&own.blob.digest)?;
        let expected = Unpack { digest: own.blob.digest, diff_id: own.diff_id };
        let index = unpack(blob, (expected, BlobCheck::Here), None)?;
        Ok((index.encode(), index))
    }
}
