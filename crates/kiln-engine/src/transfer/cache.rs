//! Shared caches on their way: they are images like others, of which little is read.

use std::io::Read as _;
use std::sync::atomic::AtomicBool;

use kiln_core::oci::{Descriptor, Index, Manifest, media_type};

use super::source::{Source, unread};
use super::tree::{Tree, Wanted, broken, parse};
use super::{ImagePlace, Work, registry, target};
use crate::activity::Running;
use crate::base_image::{bring_blob, layout_blob};
use crate::engine::Engine;
use crate::error::BuildError;
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
        place: &ImagePlace,
        (activity, cancelled): Watch<'_>,
    ) -> Result<(Self, Vec<Manifest>), BuildError> {
        let work = Work { engine, activity, cancelled };
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
    place: &ImagePlace,
) -> Result<(), BuildError> {
    let activity = solver.activities.start(format!("exporting cache to {place}"));
    let work = Work { engine: solver.engine, activity: &activity, cancelled: &solver.cancelled };
    let source = Source::Store;
    let result = Tree::collect(&work, &source, image.clone(), &Wanted::All).and_then(|tree| {
        match place {
            ImagePlace::Registry(name) => {
                let names = std::slice::from_ref(name);
                registry::send(&work, (&source, tree, None), names).map(drop)
            }
            ImagePlace::Layout { path, name } => {
                for blob in &tree.blobs {
                    // A layer of another cache may still be where that one is.
                    bring_blob(&solver.fetcher, blob)?;
                }
                target::to_layout(&work, (&source, &tree), path, name.as_deref())
            }
            ImagePlace::Archive { .. } => unreachable!("caches are in registries and directories"),
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
