//! Images on their way between the store, registries, layouts and archives.
//!
//! ```text
//! store ── push ──▶ registry        store ◀── pull ── registry        copy: everything else
//! ```
//!
//! An image is read as a [`Tree`]: manifests and indexes, and the blobs that they name. Blobs go
//! first, several at a time, what is there already not at all; then documents, from the manifests up
//! to what the name points to. So a name never points to something that is not whole.
//!
//! [`copy_image`] and [`pull`] change no byte. [`push`] compresses the layers that kiln made, as an
//! output of `type=oci` does: both give the same digests.

mod archive;
mod cache;
mod docker_archive;
mod join;
mod pack;
mod referrers;
mod registry;
mod source;
mod store;
mod target;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_core::digest::BlobDigest;
use kiln_core::event::EventSink;
use kiln_core::oci::{Descriptor, Platform, Reference};

use crate::activity::{Activities, Running};
use crate::engine::Engine;
use crate::error::BuildError;
use crate::request::{ImageOptions, PushedAs};
use crate::solve::Solver;
pub(crate) use cache::{CacheSource, Watch as CacheWatch, send_cache};
pub use join::{FoundImage, IndexBase, IndexEffect, IndexRequest, find_image, join_images};
use referrers::{CopyScope, Lookup, copy_referrers};
use source::Source;
use tree::{Tree, Wanted};

/// Where an image is, outside of kiln's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImagePlace {
    /// In a registry.
    Registry(Reference),
    /// In the directory of an OCI layout, under a name.
    Layout {
        /// The directory.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name`; `None` for the only image there is.
        name: Option<String>,
    },
    /// In one tar file: an OCI layout, or an archive of `docker save`. Whichever it is, is read.
    Archive {
        /// The file.
        path: PathBuf,
        /// As of a layout; a whole name where it is to be Docker's.
        name: Option<String>,
        /// How it is written.
        form: ArchiveForm,
    },
}

/// What a tar file of an image is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveForm {
    /// Tools that know OCI layouts.
    Oci,
    /// `docker load` as well.
    Docker,
}

impl std::fmt::Display for ImagePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, path, name) = match self {
            Self::Registry(reference) => return f.write_str(&reference.familiar()),
            Self::Layout { path, name } => ("oci-layout", path, name),
            Self::Archive { path, name, form: ArchiveForm::Oci } => ("oci-archive", path, name),
            Self::Archive { path, name, form: ArchiveForm::Docker } => {
                ("docker-archive", path, name)
            }
        };
        write!(f, "{scheme}://{}", path.display())?;
        name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}

/// What all transfers are given: where events go, and what ends them.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// Progress.
    pub events: &'a EventSink,
    /// Ends the transfer soon when it is set.
    pub cancelled: &'a Arc<AtomicBool>,
}

/// What a transfer works with.
struct Work<'a> {
    engine: &'a Engine,
    activity: &'a Running<'a>,
    cancelled: &'a AtomicBool,
}

impl Work<'_> {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Runs a transfer as one activity, with the store held and registries told when it is cancelled.
fn transfer<T>(
    engine: &Engine,
    name: String,
    watch: Watch<'_>,
    run: impl FnOnce(&Work<'_>) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let _cancelling = engine.cancel_registry_with(watch.cancelled);
    let _in_use = engine.store.lock_shared(watch.cancelled)?;
    let activities = Activities::new(watch.events.clone());
    let activity = activities.start(name);
    let result = run(&Work { engine, activity: &activity, cancelled: watch.cancelled });
    let result = engine.forget_lost(result);
    if !matches!(result, Err(BuildError::Canceled)) {
        activity.finish(&result);
    }
    result
}

/// Copies an image of the store to registries under these names; the layers that kiln made are
/// compressed as `options` say. Gives the digest that the names have there.
///
/// # Errors
/// When part of the image is not there, cannot be read, or a registry does not take it.
pub fn push(
    engine: &Engine,
    (image, options): (&Descriptor, &ImageOptions),
    names: &[Reference],
    watch: Watch<'_>,
) -> Result<BlobDigest, BuildError> {
    let shown: Vec<String> = names.iter().map(Reference::familiar).collect();
    transfer(engine, format!("push {}", shown.join(", ")), watch, |work| {
        let source = Source::Store;
        let tree = Tree::collect(work, &source, image.clone(), &Wanted::All)?;
        registry::send(work, (&source, tree, Some(options)), names)
    })
}

/// Sends an image that a build has made and the store holds, as it is.
pub(crate) fn push_built(
    solver: &Solver<'_>,
    image: &Descriptor,
    (names, pushed): (&[Reference], PushedAs),
) -> Result<(), BuildError> {
    let names: Vec<Reference> = names
        .iter()
        .map(|name| match pushed {
            PushedAs::Names => name.clone(),
            PushedAs::Digest => Reference { tag: None, ..name.clone() },
        })
        .collect();
    let shown: Vec<String> = names.iter().map(Reference::familiar).collect();
    let shown = shown.join(", ");
    let activity = solver.activities.start(format!("pushing {shown}"));
    let work = Work { engine: solver.engine, activity: &activity, cancelled: &solver.cancelled };
    let result = Tree::collect(&work, &Source::Store, image.clone(), &Wanted::All)
        .and_then(|tree| registry::send(&work, (&Source::Store, tree, None), &names))
        .map_err(|error| match error {
            BuildError::Image { message, help } => {
                BuildError::Image { message: format!("failed to push {shown}: {message}"), help }
            }
            error => error,
        });
    activity.finish(&result);
    result.map(drop)
}

/// Copies an image of a registry into the store under the same name: for one platform, or all
/// of them. Gives what the name stands for now.
///
/// # Errors
/// When the image is not there, not for this platform, or does not arrive.
pub fn pull(
    engine: &Engine,
    (name, platform): (&Reference, Option<&Platform>),
    watch: Watch<'_>,
) -> Result<Descriptor, BuildError> {
    transfer(engine, format!("pull {}", name.familiar()), watch, |work| {
        let (source, root) = Source::open(work, &ImagePlace::Registry(name.clone()))?;
        let wanted = platform.map_or(Wanted::All, |platform| Wanted::Platform(platform.clone()));
        let tree = Tree::collect(work, &source, root, &wanted)?;
        let root = store::keep(work, &source, &tree)?;
        let images = engine.store.images();
        images.tag(&name.to_string(), &root)?;
        engine.store.flush()?;
        Ok(root)
    })
}

/// Copies an image with all its platforms, and changes no byte of it. Gives its digest.
///
/// # Errors
/// When the image is not there, or does not arrive whole.
pub fn copy_image(
    engine: &Engine,
    (from, to): (&ImagePlace, &ImagePlace),
    watch: Watch<'_>,
) -> Result<BlobDigest, BuildError> {
    copy_all(engine, (from, to, CopyScope::Image), watch).map(|(digest, _)| digest)
}

impl ImagePlace {
    /// The same, with all that points to the image. Gives how many artifacts that are, too.
    ///
    /// # Errors
    /// As [`copy_image`], and when the target is an archive.
    pub fn copy_with_referrers(
        &self,
        engine: &Engine,
        to: &Self,
        watch: Watch<'_>,
    ) -> Result<(BlobDigest, usize), BuildError> {
        copy_all(engine, (self, to, CopyScope::Referrers), watch)
    }
}

fn copy_all(
    engine: &Engine,
    (from, to, scope): (&ImagePlace, &ImagePlace, CopyScope),
    watch: Watch<'_>,
) -> Result<(BlobDigest, usize), BuildError> {
    transfer(engine, format!("copy {from} to {to}"), watch, |work| {
        if let (CopyScope::Referrers, ImagePlace::Archive { .. }) = (scope, to) {
            return Err(BuildError::Image {
                message: format!("{to} cannot hold what points to an image"),
                help: Some("copy it to a registry or to oci-layout://DIR".to_owned()),
            });
        }
        let (source, root) = Source::open(work, from)?;
        let digest = root.digest;
        let tree = Tree::collect(work, &source, root, &Wanted::All)?;
        let pointing = match scope {
            CopyScope::Image => None,
            CopyScope::Referrers => Some((Lookup::open(work, &source, from)?, tree.clone())),
        };
        match to {
            ImagePlace::Registry(name) => {
                registry::send(work, (&source, tree, None), std::slice::from_ref(name))?;
            }
            ImagePlace::Layout { path, name } => {
                target::to_layout(work, (&source, &tree), path, name.as_deref())?;
            }
            ImagePlace::Archive { path, name, form } => {
                target::to_archive(work, (&source, &tree), path, (name.as_deref(), *form))?;
            }
        }
        let count = match &pointing {
            Some((lookup, tree)) => copy_referrers(work, (&source, lookup, tree), to)?,
            None => 0,
        };
        Ok((digest, count))
    })
}
