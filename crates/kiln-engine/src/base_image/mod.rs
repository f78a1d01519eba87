//! Base images: from a reference to facts, and from layers somewhere to layers in the store.
//!
//! Nothing is fetched before something needs it: planning takes the manifest and the config. A
//! layer comes when a step has to look into it, and its blob when an output holds it; an image in
//! kiln's own store only notes where its base's layers can be had. All layers that are needed come
//! at the same time, each once, whatever stages, platforms and processes need it.

mod fetch;
mod remote;
mod resolve;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::digest::{BlobDigest, ChainId, DiffId};
use kiln_core::oci::Descriptor;
use kiln_registry::Repository;
use kiln_store::layer::{LayerIndex, Tree, adopt};
use kiln_store::{Layer, Store, WorkingLayer};

pub(crate) use fetch::Fetcher;
pub(crate) use remote::{bring, bring_blob, unpack};
pub(crate) use resolve::{Search, layout_blob, registry_error, resolve};

use crate::error::{BuildError, FileContext};
use crate::solve::{lock, record_of};
use fetch::Work;

/// Layers of one image that are brought at the same time.
const WORKERS: usize = 4;

/// What the store calls the codec of blobs that others made.
const AS_IT_CAME: &str = "as it came";

/// An image that steps stand on.
#[derive(Debug)]
pub(crate) struct BaseImage {
    /// How progress and errors name it.
    name: String,
    /// Layers by diff ID, lowest first.
    pub(crate) diff_ids: Vec<DiffId>,
    /// Layers as blobs, in the same order.
    pub(crate) layers: Vec<Descriptor>,
    origin: Origin,
    /// Whether a layer is unpacked at once when it comes.
    is_unpacked: AtomicBool,
    /// Held by whoever brings something: what others wait for is there then, or has failed.
    bringing: Mutex<()>,
    /// Why layers that were fetched ahead of need are not there; told to the first who needs them.
    failure: Mutex<Option<BuildError>>,
    /// One lock a layer: it is made once, however many wait for it.
    slots: Vec<Mutex<Option<Arc<Layer>>>>,
}

/// Where blobs that the store lacks come from.
#[derive(Clone, Debug)]
enum Origin {
    Registry(Repository),
    Layout(PathBuf),
    /// The image is in the store; of blobs that are not, it knows the place.
    Store,
}

/// What of layers is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Their blobs, as they are.
    Blobs,
    /// Their indexes, which say what is in them.
    Indexes,
    /// Their files.
    Files,
}

impl BaseImage {
    fn new(
        name: String,
        (diff_ids, layers): (Vec<DiffId>, Vec<Descriptor>),
        origin: Origin,
    ) -> Self {
        let slots = diff_ids.iter().map(|_| Mutex::default()).collect();
        let (bringing, failure) = (Mutex::default(), Mutex::default());
        let is_unpacked = AtomicBool::new(false);
        Self { name, diff_ids, layers, origin, is_unpacked, bringing, failure, slots }
    }

    /// An image of the store.
    pub(crate) fn in_store(name: String, layers: (Vec<DiffId>, Vec<Descriptor>)) -> Self {
        Self::new(name, layers, Origin::Store)
    }

    /// Says that something of the build wants its files, so that layers are unpacked while they
    /// come. Else what is in them is only noted, and they stay archives.
    pub(crate) fn unpack_at_once(&self) {
        self.is_unpacked.store(true, Ordering::Relaxed);
    }

    /// What is brought when something has to look into it.
    pub(crate) fn want(&self) -> Want {
        if self.is_unpacked.load(Ordering::Relaxed) { Want::Files } else { Want::Indexes }
    }

    /// Brings what is needed of all layers into the store, as far as it is not there.
    pub(crate) fn bring(&self, fetcher: &Fetcher, want: Want) -> Result<(), BuildError> {
        let _bringing = lock(&self.bringing);
        if let Some(failure) = lock(&self.failure).take() {
            return Err(failure);
        }
        self.bring_missing(fetcher, want)
    }

    /// The same ahead of need: a failure is told to whoever needs it.
    pub(crate) fn bring_ahead(&self, fetcher: &Fetcher, want: Want) {
        let _bringing = lock(&self.bringing);
        match self.bring_missing(fetcher, want) {
            // It was not needed any more.
            Ok(()) | Err(BuildError::Canceled) => {}
            Err(error) => *lock(&self.failure) = Some(error),
        }
    }

    /// Whether bringing it would have to do anything.
    pub(crate) fn is_missing(&self, store: &Store, want: Want) -> Result<bool, BuildError> {
        Ok(!self.missing(store, want)?.is_empty())
    }

    fn bring_missing(&self, fetcher: &Fetcher, want: Want) -> Result<(), BuildError> {
        if want == Want::Files {
            self.unpack_at_once();
        }
        let mut missing = self.missing(&fetcher.store, want)?;
        if missing.is_empty() {
            return Ok(());
        }
        let activity = fetcher.activities.start(format!("[internal] load layers of {}", self.name));
        // The longest first: nothing else is left to do at its end.
        missing.sort_by_key(|position| std::cmp::Reverse(self.layers[*position].size));
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = Work { fetcher, activity: &activity, failed: &failed };
        let bring = || -> Result<(), BuildError> {
            while let Some(position) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.bring_one(&work, *position, want) {
                    // What others see of it is that they are stopped.
                    let is_first = !failed.swap(true, Ordering::SeqCst);
                    return if is_first { Err(error) } else { Ok(()) };
                }
            }
            Ok(())
        };
        let result = std::thread::scope(|scope| {
            let workers = 1..missing.len().min(WORKERS);
            let workers: Vec<_> = workers.map(|_| scope.spawn(bring)).collect();
            let own = bring();
            workers.into_iter().fold(own, |result, worker| {
                result.and(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        });
        match &result {
            Err(BuildError::Canceled) => drop(activity),
            result => activity.finish(result),
        }
        result
    }

    /// The layers that are not there yet as they are wanted.
    fn missing(&self, store: &Store, want: Want) -> Result<Vec<usize>, BuildError> {
        let mut missing = Vec::new();
        for position in 0..self.layers.len() {
            let is_there = match want {
                Want::Blobs => store.content().has(&self.layers[position].digest),
                Want::Indexes | Want::Files => {
                    let mut slot = lock(&self.slots[position]);
                    if slot.is_none() {
                        *slot = self.known(store, position)?.map(Arc::new);
                    }
                    slot.as_ref().is_some_and(|layer| want == Want::Indexes || layer.is_unpacked)
                }
            };
            if !is_there {
                missing.push(position);
            }
        }
        Ok(missing)
    }

    fn bring_one(&self, work: &Work<'_>, position: usize, want: Want) -> Result<(), BuildError> {
        match want {
            Want::Blobs => fetch::blob(work, self, position),
            Want::Indexes | Want::Files => self.bring_layer(work, position, want).map(drop),
        }
    }

    fn bring_layer(
        &self,
        work: &Work<'_>,
        position: usize,
        want: Want,
    ) -> Result<Arc<Layer>, BuildError> {
        let mut slot = lock(&self.slots[position]);
        let store = &work.fetcher.store;
        let layer = match slot.take() {
            Some(layer) => layer,
            None => match self.known(store, position)? {
                Some(layer) => Arc::new(layer),
                None => Arc::new(self.make(work, position)?),
            },
        };
        let layer = match want {
            Want::Files if !layer.is_unpacked => Arc::new(unpack(work.fetcher, &layer)?),
            _ => layer,
        };
        *slot = Some(Arc::clone(&layer));
        Ok(layer)
    }

    /// A layer, with its index at least.
    pub(crate) fn layer(
        &self,
        fetcher: &Fetcher,
        position: usize,
    ) -> Result<Arc<Layer>, BuildError> {
        if let Some(layer) = lock(&self.slots[position]).as_ref() {
            return Ok(Arc::clone(layer));
        }
        self.bring(fetcher, Want::Indexes)?;
        let layer = lock(&self.slots[position]).clone();
        Ok(layer.expect("what was brought is there"))
    }

    /// Lets layers that nothing has needed stay where they are, for an image of the store: it is
    /// noted where that is.
    pub(crate) fn leave_blobs(&self, fetcher: &Fetcher) -> Result<(), BuildError> {
        let store = &fetcher.store;
        match &self.origin {
            // It may be gone tomorrow, and costs nothing today.
            Origin::Layout(_) => self.bring(fetcher, Want::Blobs),
            Origin::Store => Ok(()),
            Origin::Registry(repository) => {
                let digests = self.layers.iter().map(|layer| layer.digest);
                let absent: Vec<BlobDigest> =
                    digests.filter(|digest| !store.content().has(digest)).collect();
                if !absent.is_empty() {
                    store.remote_blobs().note(&absent, &repository.to_string())?;
                }
                Ok(())
            }
        }
    }

    /// What the store has of a layer.
    fn known(&self, store: &Store, position: usize) -> Result<Option<Layer>, BuildError> {
        let layers = store.layers();
        if let Some(layer) = layers.by_diff_id(&self.diff_ids[position])? {
            return Ok(Some(layer));
        }
        let adopted = self.adopted_parts(position).key();
        match store.cache_index().lookup(&adopted)? {
            Some(record) => Ok(layers.by_id(&record.result.layer)?),
            None => Ok(None),
        }
    }

    /// Makes a layer of its blob, wherever that is.
    fn make(&self, work: &Work<'_>, position: usize) -> Result<Layer, BuildError> {
        let store = &work.fetcher.store;
        let digest = self.layers[position].digest;
        let lock = store.lock_unless(&format!("blob-{}", digest.hex()), &work.fetcher.stopped)?;
        // Another process may have made it while this one waited.
        if let Some(layer) = self.known(store, position)? {
            return Ok(layer);
        }
        let mut working = store.layers().begin()?;
        let dest = (self.want() == Want::Files).then(|| working.upper.clone());
        let index = fetch::unpack_into(work, (self, position), dest.as_deref())?;
        working.size_bytes = Some(index.size_bytes());
        if position == 0 || index.implied().all(|entry| entry.path.is_empty()) {
            let (content, diff_id) = (index.content_id(), self.diff_ids[position]);
            let (layers, bytes) = (store.layers(), index.encode());
            if dest.is_some() {
                return Ok(layers.commit_base(working, &bytes, content, diff_id)?);
            }
            layers.remember_packed(&diff_id, AS_IT_CAME, &digest)?;
            return Ok(layers.commit_packed_base(working, &bytes, content, diff_id)?);
        }
        if dest.is_none() {
            // It is no archive that could be unpacked alone.
            fetch::unpack_into(work, (self, position), Some(&working.upper))?;
        }
        // The layers below may be waited for now, and nobody waits for this one.
        drop(lock);
        self.adopt(work, position, (working, &index))
    }

    /// An archive may name a file without the directories above it. Those have the attributes of
    /// the layers below, so that such a layer belongs to its chain and not to its diff ID alone.
    fn adopt(
        &self,
        work: &Work<'_>,
        position: usize,
        (working, index): (WorkingLayer, &LayerIndex),
    ) -> Result<Layer, BuildError> {
        let mut below = Vec::new();
        for lower in 0..position {
            let layer = self.bring_layer(work, lower, Want::Indexes)?;
            let bytes = std::fs::read(&layer.index_path).at("read", &layer.index_path)?;
            below.push(Arc::new(LayerIndex::decode(&bytes)?));
        }
        let index = adopt(index, &working.upper, &Tree::new(below))?;
        let content = index.content_id();
        let store = &work.fetcher.store;
        let layer = store.layers().commit(working, &index.encode(), content, content)?;
        let parts = self.adopted_parts(position);
        let (key, recipe) = (parts.key(), *parts.key().as_bytes());
        let record = record_of(&layer, (recipe, parts), "layer of a base image");
        store.cache_index().record(key, &record)?;
        Ok(layer)
    }

    /// Under what such a layer is remembered.
    fn adopted_parts(&self, position: usize) -> KeyParts {
        let chain = ChainId::of(&self.diff_ids[..=position]);
        KeyParts(vec![KeyPart {
            name: "base layer with the directories of its chain".to_owned(),
            value: chain.map_or_else(String::new, |chain| chain.to_string()),
        }])
    }
}
