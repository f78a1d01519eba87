//! An image into repositories: blobs, then manifests, then what the names point to.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Reference};
use kiln_registry::{BlobSource, BlobUpload, Pushed, Repository};

use super::Work;
use super::pack::{Replaced, is_plain, pack_known, pack_layer, rewrite};
use super::source::Source;
use super::store::PROGRESS_BYTES;
use super::tree::Tree;
use crate::base_image::registry_error;
use crate::error::BuildError;
use crate::request::ImageOptions;
use crate::solve::lock;

/// Blobs at a time; the client lets no more through.
const WORKERS: usize = 4;

/// Runs `job` for all items, a few at a time; the first error ends it.
pub(super) fn each<T: Sync>(
    work: &Work<'_>,
    items: &[T],
    job: impl Fn(&T) -> Result<(), BuildError> + Sync,
) -> Result<(), BuildError> {
    each_of(work, (items, WORKERS), job)
}

/// The same, so many at a time.
pub(super) fn each_of<T: Sync>(
    work: &Work<'_>,
    (items, workers): (&[T], usize),
    job: impl Fn(&T) -> Result<(), BuildError> + Sync,
) -> Result<(), BuildError> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = || -> Result<(), BuildError> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if work.is_cancelled() {
                return Err(BuildError::Canceled);
            }
            if let Err(error) = job(item) {
                failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..items.len().min(workers)).map(|_| scope.spawn(run)).collect();
        let mut result = run();
        for other in others {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(other);
        }
        result
    })
}

/// Sends an image to the repositories of these names; its uncompressed layers are compressed if
/// there are options for that. Gives the digest that it has there.
pub(super) fn send(
    work: &Work<'_>,
    (source, tree, options): (&Source, Tree, Option<&ImageOptions>),
    names: &[Reference],
) -> Result<BlobDigest, BuildError> {
    let mut repositories: BTreeMap<Repository, Vec<String>> = BTreeMap::new();
    for name in names {
        let identifier = name.tag.clone().unwrap_or_default();
        repositories.entry(Repository::from(name)).or_default().push(identifier);
    }
    // What is known to be packed already need not be looked at, if the registry has it.
    let known = options
        .map_or(Ok(Some(Replaced::new())), |options| pack_known(work, &tree.blobs, options))?;
    let replaced = Mutex::new(known.clone().unwrap_or_default());
    let mut whole = known.is_some().then(|| rewrite(tree.clone(), &lock(&replaced))).transpose()?;
    let mut digest = tree.root().digest;
    for (repository, tags) in &repositories {
        let to = Destination { work, repository };
        if let Some(whole) = &whole
            && to.has(whole)?
        {
            to.name(whole, tags)?;
            digest = whole.root().digest;
            continue;
        }
        let mut blobs = tree.blobs.clone();
        // The longest first: nothing else is left to do at its end.
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        each(work, &blobs, |blob| {
            let packed = match options {
                Some(options) => pack_layer(work, blob, options)?,
                None => None,
            };
            if let Some(packed) = &packed {
                lock(&replaced).insert(blob.digest, packed.clone());
            }
            to.blob(source, packed.as_ref().unwrap_or(blob))
        })?;
        let finished = match whole.take() {
            Some(whole) => whole,
            None => rewrite(tree.clone(), &lock(&replaced))?,
        };
        to.documents(&finished, tags)?;
        digest = finished.root().digest;
        whole = Some(finished);
    }
    Ok(digest)
}

/// Whether an upload failed because its source does not give the blob: another one may.
fn is_of(error: &kiln_registry::Error, source: &BlobSource, descriptor: &Descriptor) -> bool {
    use kiln_registry::Error;
    let BlobSource::Repository(repository) = source else { return false };
    match error {
        Error::NotFound { reference } | Error::Unauthorized { reference, .. } => {
            *reference == format!("{repository}@{}", descriptor.digest)
        }
        Error::Unreachable { registry, .. } | Error::Tls { registry, .. } => {
            *registry == repository.registry
        }
        _ => false,
    }
}

/// One repository that gets an image.
struct Destination<'a> {
    work: &'a Work<'a>,
    repository: &'a Repository,
}

impl Destination<'_> {
    /// Whether it has the image, and so all that belongs to it.
    fn has(&self, tree: &Tree) -> Result<bool, BuildError> {
        let digest = tree.root().digest;
        let found = self.work.engine.registry.pushed_digest(self.repository, &digest.to_string());
        Ok(found.map_err(|error| registry_error(None, &error))? == Some(digest))
    }

    fn blob(&self, source: &Source, descriptor: &Descriptor) -> Result<(), BuildError> {
        let (sources, mount_from) =
            source.blob(self.work, descriptor, &self.repository.registry)?;
        let item = descriptor.digest.to_string();
        let total = Some(descriptor.size);
        let activity = self.work.activity;
        let reported = Cell::new(0);
        let progress = |sent: u64| {
            if sent == 0 || sent == descriptor.size || sent >= reported.get() + PROGRESS_BYTES {
                reported.set(sent);
                activity.progress(&item, sent, total);
            }
        };
        let (mut pushed, mut is_gone) = (None, false);
        for from in &sources {
            let upload = BlobUpload {
                descriptor,
                source: from,
                mount_from: &mount_from,
                progress: &progress,
            };
            let result = self.work.engine.registry.push_blob(self.repository, &upload);
            is_gone = result.as_ref().is_err_and(|error| is_of(error, from, descriptor));
            pushed = Some(result);
            if !is_gone {
                break;
            }
        }
        let pushed = pushed.expect("a blob has a source");
        let pushed = pushed.map_err(|error| match registry_error(None, &error) {
            BuildError::Image { message, help } if is_gone => {
                BuildError::LostLayer { digest: descriptor.digest, message, help }
            }
            error => error,
        });
        match pushed? {
            Pushed::Sent => {}
            Pushed::Existing | Pushed::Mounted => activity.progress(&item, descriptor.size, total),
        }
        // What is there can be had from there, and be mounted elsewhere. A layer of kiln's own that is
        // not compressed stays kiln's own.
        if matches!(source, Source::Store) && !is_plain(descriptor) {
            let places = self.work.engine.store.remote_blobs();
            places.note(&[descriptor.digest], &self.repository.to_string())?;
        }
        Ok(())
    }

    /// All documents, none of which was there, and the names.
    fn documents(&self, tree: &Tree, tags: &[String]) -> Result<(), BuildError> {
        let (root, below) = tree.documents.split_last().expect("a tree has a root");
        for document in below {
            self.put(&document.descriptor.digest.to_string(), document)?;
        }
        let digest = root.descriptor.digest.to_string();
        for tag in tags {
            self.put(if tag.is_empty() { &digest } else { tag }, root)?;
        }
        Ok(())
    }

    /// Gives an image that is there its names; without any it is known by its digest.
    fn name(&self, tree: &Tree, tags: &[String]) -> Result<(), BuildError> {
        let root = tree.documents.last().expect("a tree has a root");
        let digest = root.descriptor.digest.to_string();
        for tag in tags {
            let identifier = if tag.is_empty() { &digest } else { tag };
            let there = self.work.engine.registry.pushed_digest(self.repository, identifier);
            let there = there.map_err(|error| registry_error(None, &error))?;
            if there != Some(root.descriptor.digest) {
                self.put(identifier, root)?;
            }
        }
        Ok(())
    }

    fn put(&self, identifier: &str, document: &super::tree::Document) -> Result<(), BuildError> {
        if self.work.is_cancelled() {
            return Err(BuildError::Canceled);
        }
        let content = (document.descriptor.media_type.as_str(), document.bytes.as_slice());
        let put = self.work.engine.registry.push_manifest(self.repository, identifier, content);
        put.map(|_| ()).map_err(|error| registry_error(None, &error))
    }
}
