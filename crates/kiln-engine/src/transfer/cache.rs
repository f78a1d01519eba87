//! Shared caches on their way: they are images like others, of which little is read, or the same blobs
//! and manifests as objects of a store.

use std::cell::Cell;
use std::io::Read as _;
use std::sync::atomic::AtomicBool;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Index, Manifest, media_type};
use kiln_registry::ObjectCache;

use super::pack::is_plain;
use super::registry::each_of;
use super::source::{Source, unread};
use super::store::PROGRESS_BYTES;
use super::tree::{Tree, Wanted, broken, parse};
use super::{ImagePlace, Work, registry, target};
use crate::activity::Running;
use crate::base_image::{bring_blob, layout_blob, registry_error};
use crate::engine::Engine;
use crate::error::BuildError;
use crate::request::CachePlace;
use crate::solve::Solver;

/// So many manifests of an image's platforms are read.
const MOST_PLATFORMS: usize = 64;
/// A cache's config is not longer than this: records of some ten thousand steps.
const CONFIG_BYTES: u64 = 32 << 20;
/// The index of a layer is not longer than this: a few million files.
const INDEX_BYTES: u64 = 256 << 20;

/// Where a cache is read from.
#[derive(Debug)]
pub(crate) struct CacheSource(Source);

pub(crate) type Watch<'a> = (&'a Running<'a>, &'a AtomicBool);

impl CacheSource {
    /// Finds a cache and reads its manifest; of an image for several platforms, all of them.
    pub(crate) fn open(
        engine: &Engine,
        place: &CachePlace,
        (activity, cancelled): Watch<'_>,
    ) -> Result<(Self, Vec<Manifest>), BuildError> {
        let work = Work { engine, activity, cancelled };
        let place = match place {
            CachePlace::Image(place) => place,
            CachePlace::Objects(cache) => return Self::open_objects(&work, cache),
        };
        let (source, root) = Source::open(&work, place)?;
        let bytes = source.document(&work, &root)?;
        if !media_type::is_index(&root.media_type) {
            return Ok((Self(source), vec![parse(&root, &bytes)?]));
        }
        let index: Index = parse(&root, &bytes)?;
        if index.manifests.len() > MOST_PLATFORMS {
            return Err(broken(&root, "it has too many manifests"));
        }
        let mut manifests = Vec::new();
        for below in index.manifests.iter().filter(|at| !media_type::is_index(&at.media_type)) {
            manifests.push(parse(below, &source.document(&work, below)?)?);
        }
        Ok((Self(source), manifests))
    }

    /// The manifests of a cache in an object store: one for each of its names that is there.
    fn open_objects(
        work: &Work<'_>,
        cache: &ObjectCache,
    ) -> Result<(Self, Vec<Manifest>), BuildError> {
        if let Some(absence) = cache.absence {
            return Err(BuildError::Image { message: absence.to_owned(), help: None });
        }
        let registry = &work.engine.registry;
        registry.use_objects(cache);
        let (mut manifests, mut missing) = (Vec::new(), None);
        for name in &cache.names {
            let bytes = match registry.object_manifest(&cache.place, name) {
                Err(error @ kiln_registry::Error::NotFound { .. }) => {
                    missing = Some(error);
                    continue;
                }
                bytes => bytes.map_err(|error| registry_error(None, &error))?,
            };
            let digest = BlobDigest::of(&bytes);
            let root = Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64);
            manifests.push(parse(&root, &bytes)?);
        }
        match missing {
            Some(error) if manifests.is_empty() => Err(registry_error(None, &error)),
            _ => Ok((Self(Source::Objects(cache.place.clone())), manifests)),
        }
    }

    /// The cache's config, which has its digest.
    pub(crate) fn config(
        &self,
        engine: &Engine,
        manifest: &Manifest,
        watch: Watch<'_>,
    ) -> Result<Vec<u8>, BuildError> {
        self.read(engine, (&manifest.config, CONFIG_BYTES), watch)
    }

    /// The index of a layer, which has its digest.
    pub(crate) fn index(
        &self,
        engine: &Engine,
        blob: &Descriptor,
        watch: Watch<'_>,
    ) -> Result<Vec<u8>, BuildError> {
        self.read(engine, (blob, INDEX_BYTES), watch)
    }

    fn read(
        &self,
        engine: &Engine,
        (blob, most_bytes): (&Descriptor, u64),
        (activity, cancelled): Watch<'_>,
    ) -> Result<Vec<u8>, BuildError> {
        if blob.size > most_bytes {
            return Err(broken(blob, "it is too long"));
        }
        let work = Work { engine, activity, cancelled };
        let mut bytes = Vec::new();
        let read = self.0.reader(&work, blob)?.read_to_end(&mut bytes);
        read.map_err(|error| unread(blob, error))?;
        Ok(bytes)
    }

    /// Sees to it that the store has a blob, or knows where it is.
    pub(crate) fn offer(&self, engine: &Engine, blob: &Descriptor) -> Result<(), BuildError> {
        match &self.0 {
            Source::Registry(repository, _) => {
                let places = engine.store.remote_blobs();
                Ok(places.note(&[blob.digest], &repository.to_string())?)
            }
            Source::Objects(place) => {
                Ok(engine.store.remote_blobs().note(&[blob.digest], &place.to_text())?)
            }
            Source::Layout(path) if !engine.store.content().has(&blob.digest) => {
                let path = layout_blob(path, &blob.digest);
                Ok(engine.store.content().import(&path, &blob.digest, blob.size)?)
            }
            Source::Layout(_) | Source::Archive(_) | Source::Store => Ok(()),
        }
    }
}

/// Sends a cache that the store holds as an image.
pub(crate) fn send_cache(
    solver: &Solver<'_>,
    image: &Descriptor,
    place: &CachePlace,
) -> Result<(), BuildError> {
    let activity = solver.activities.start(format!("exporting cache to {place}"));
    let work = Work { engine: solver.engine, activity: &activity, cancelled: &solver.cancelled };
    let source = Source::Store;
    let result = Tree::collect(&work, &source, image.clone(), &Wanted::All).and_then(|tree| {
        match place {
            CachePlace::Image(ImagePlace::Registry(name)) => {
                let names = std::slice::from_ref(name);
                registry::send(&work, (&source, tree, None), names).map(drop)
            }
            CachePlace::Image(ImagePlace::Layout { path, name }) => {
                for blob in &tree.blobs {
                    // A layer of another cache may still be where that one is.
                    bring_blob(&solver.fetcher, blob)?;
                }
                target::to_layout(&work, (&source, &tree), path, name.as_deref())
            }
            CachePlace::Image(ImagePlace::Archive { .. }) => {
                unreachable!("caches are in registries and directories")
            }
            CachePlace::Objects(cache) => send_objects(solver, &work, (&tree, cache)),
        }
    });
    let failed = |message: String| format!("cannot export the cache to {place}: {message}");
    let result = result.map_err(|error| match error {
        BuildError::Image { message, help } => BuildError::Image { message: failed(message), help },
        BuildError::Network { message, help } => {
            BuildError::Network { message: failed(message), help }
        }
        error => error,
    });
    activity.finish(&result);
    result
}

/// Writes what an object store lacks of a cache, then its manifest under all names.
fn send_objects(
    solver: &Solver<'_>,
    work: &Work<'_>,
    (tree, cache): (&Tree, &ObjectCache),
) -> Result<(), BuildError> {
    let registry = &work.engine.registry;
    registry.use_objects(cache);
    let place = &cache.place;
    let text = place.to_text();
    let failed = |error: kiln_registry::Error| registry_error(None, &error);
    let mut blobs = tree.blobs.clone();
    // The longest first: nothing else is left to do at its end.
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    each_of(work, (&blobs, cache.parallelism), |blob| {
        let item = blob.digest.to_string();
        let is_there = registry.has_object(place, blob.digest, cache.touch_after);
        if !is_there.map_err(failed)? {
            // A layer of another cache may still be where that one is.
            bring_blob(&solver.fetcher, blob)?;
            let path = work.engine.store.content().path(&blob.digest);
            let reported = Cell::new(0);
            let progress = |sent: u64| {
                if sent == 0 || sent >= reported.get() + PROGRESS_BYTES {
                    reported.set(sent);
                    work.activity.progress(&item, sent, Some(blob.size));
                }
            };
            registry.push_object(place, (blob, &path), &progress).map_err(failed)?;
        }
        work.activity.progress(&item, blob.size, Some(blob.size));
        if is_plain(blob) {
            return Ok(());
        }
        Ok(work.engine.store.remote_blobs().note(&[blob.digest], &text)?)
    })?;
    let root = tree.documents.last().expect("a tree has a root");
    for name in &cache.names {
        if work.is_cancelled() {
            return Err(BuildError::Canceled);
        }
        registry.push_object_manifest(place, name, &root.bytes).map_err(failed)?;
    }
    Ok(())
}
