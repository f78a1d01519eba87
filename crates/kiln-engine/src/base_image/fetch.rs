//! Blobs of base images on their way into the store.
//!
//! ```text
//! registry ──▶ sha256 ──▶ │ decompress ──▶ │ sha256 (diff ID), files and index
//!                 └──▶ blobs/
//! ```
//!
//! One pass: nothing that was written is read again. `│` is a change of threads. The blob and the
//! layer are put in their places when all of it is there and right; what breaks off before, or is
//! killed, leaves nothing.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kiln_core::digest::BlobDigest;
use kiln_core::event::EventSink;
use kiln_core::oci::Descriptor;
use kiln_registry::{BlobReader, Client, ObjectPlace, Repository};
use kiln_store::layer::{BlobCheck, LayerIndex, Unpack, unpack};
use kiln_store::{Store, UnhashedBlobWriter};

use super::remote::bring_blob;
use super::resolve::{layout_blob, registry_error};
use super::{BaseImage, Origin};
use crate::activity::{Activities, Running};
use crate::engine::Engine;
use crate::error::{BuildError, FileContext};

/// So many bytes make progress worth a word.
const PROGRESS_BYTES: u64 = 1 << 20;
const COPY_BYTES: usize = 256 << 10;

/// What it takes to bring layers into the store, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Client,
    pub(crate) activities: Activities,
    /// Set when nothing is needed any more.
    pub(crate) stopped: Arc<AtomicBool>,
}

impl Fetcher {
    /// Of an engine, for one build.
    pub(crate) fn new(engine: &Engine, activities: &Activities, stopped: Arc<AtomicBool>) -> Self {
        let (store, registry) = (Arc::clone(&engine.store), engine.registry.clone());
        Self { store, registry, activities: activities.clone(), stopped }
    }

    /// One of which nothing is told, and that only the end of all requests ends.
    pub(crate) fn silent(engine: &Engine) -> Self {
        let activities = Activities::new(EventSink::new(drop, Instant::now()));
        Self::new(engine, &activities, Arc::default())
    }
}

/// The layers of an image on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work<'a> {
    pub(super) fetcher: &'a Fetcher,
    pub(super) activity: &'a Running<'a>,
    /// Set when one of them has failed.
    pub(super) failed: &'a AtomicBool,
}

impl Work<'_> {
    fn is_stopped(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.fetcher.stopped.load(Ordering::Relaxed)
    }
}

/// An image of the store may name archives that are only there compressed.
fn make_known(
    work: &Work<'_>,
    image: &BaseImage,
    descriptor: &Descriptor,
) -> Result<(), BuildError> {
    let layers = work.fetcher.store.layers();
    match image.origin {
        Origin::Store if layers.compressed(&descriptor.digest)?.is_some() => {
            bring_blob(work.fetcher, descriptor)
        }
        _ => Ok(()),
    }
}

/// Brings the blob of a layer into the store, and unpacks nothing.
pub(super) fn blob(work: &Work<'_>, image: &BaseImage, position: usize) -> Result<(), BuildError> {
    let store = &work.fetcher.store;
    let descriptor = &image.layers[position];
    make_known(work, image, descriptor)?;
    let name = format!("blob-{}", descriptor.digest.hex());
    let _lock = store.lock_unless(&name, &work.fetcher.stopped)?;
    if store.content().has(&descriptor.digest) {
        return Ok(());
    }
    if let Origin::Layout(path) = &image.origin {
        let path = layout_blob(path, &descriptor.digest);
        return Ok(store.content().import(&path, &descriptor.digest, descriptor.size)?);
    }
    let mut download = Download::open(work, image, descriptor)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match download.read(&mut buffer) {
            Ok(0) => return download.keep(),
            Ok(_) => {}
            Err(error) => return Err(download.reason(error)),
        }
    }
}

/// Unpacks a layer into a directory, or only reads what is in it: from the store's blob, a
/// layout's, or one on its way. The store then has the blob, unless it was a layout's.
pub(super) fn unpack_into(
    work: &Work<'_>,
    (image, position): (&BaseImage, usize),
    dest: Option<&Path>,
) -> Result<LayerIndex, BuildError> {
    let store = &work.fetcher.store;
    let descriptor = &image.layers[position];
    make_known(work, image, descriptor)?;
    let expected = Unpack { digest: descriptor.digest, diff_id: image.diff_ids[position] };
    let here = match &image.origin {
        _ if store.content().has(&descriptor.digest) => {
            Some(store.content().open(&descriptor.digest)?)
        }
        Origin::Layout(path) => {
            let path = layout_blob(path, &descriptor.digest);
            if dest.is_none() {
                // It stays an archive, which has to be the store's.
                store.content().import(&path, &descriptor.digest, descriptor.size)?;
            }
            Some(File::open(&path).at("read", &path)?)
        }
        Origin::Registry(_) | Origin::Store => None,
    };
    if let Some(blob) = here {
        return Ok(unpack(blob, (expected, BlobCheck::Here), dest)?);
    }
    let mut download = Download::open(work, image, descriptor)?;
    match unpack(&mut download, (expected, BlobCheck::Reader), dest) {
        Ok(index) => download.keep().map(|()| index),
        Err(error) => Err(download.failure.take().unwrap_or_else(|| error.into())),
    }
}

/// A blob from a registry; what is read of it is written to the store.
struct Download<'a> {
    work: &'a Work<'a>,
    digest: BlobDigest,
    size_bytes: u64,
    /// Where it comes from, as the store notes it.
    place: String,
    reader: BlobReader,
    writer: UnhashedBlobWriter,
    read_bytes: u64,
    reported_bytes: u64,
    /// Why reading failed.
    failure: Option<BuildError>,
}

impl<'a> Download<'a> {
    fn open(
        work: &'a Work<'a>,
        image: &BaseImage,
        descriptor: &Descriptor,
    ) -> Result<Self, BuildError> {
        let (place, reader) = open(work.fetcher, image, descriptor)?;
        let writer = work.fetcher.store.content().unhashed_writer()?;
        let (digest, size_bytes) = (descriptor.digest, descriptor.size);
        work.activity.progress(&digest.to_string(), 0, Some(size_bytes));
        let (read_bytes, reported_bytes, failure) = (0, 0, None);
        Ok(Self {
            work,
            digest,
            size_bytes,
            place,
            reader,
            writer,
            read_bytes,
            reported_bytes,
            failure,
        })
    }

    /// Puts the blob in its place; all of it was read.
    fn keep(self) -> Result<(), BuildError> {
        self.writer.commit_known(self.digest, self.size_bytes)?;
        let store = &self.work.fetcher.store;
        Ok(store.remote_blobs().note(&[self.digest], &self.place)?)
    }

    /// Why it broke off.
    fn reason(mut self, error: io::Error) -> BuildError {
        let path = PathBuf::from(self.digest.to_string());
        let unknown = BuildError::File { action: "read", path, source: error };
        self.failure.take().unwrap_or(unknown)
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Result<usize, BuildError> {
        if self.work.is_stopped() {
            return Err(BuildError::Canceled);
        }
        let count =
            self.reader.read(buffer).map_err(|error| {
                match kiln_registry::Error::from_io(error) {
                    Ok(error) => registry_error(None, &error),
                    Err(error) => BuildError::Image {
                        message: format!("{}: {error}", self.digest),
                        help: None,
                    },
                }
            })?;
        let path = self.work.fetcher.store.content().path(&self.digest);
        self.writer.write_all(&buffer[..count]).at("write", &path)?;
        self.read_bytes += count as u64;
        let is_due = self.read_bytes - self.reported_bytes >= PROGRESS_BYTES;
        if is_due || (self.read_bytes == self.size_bytes && count > 0) {
            self.reported_bytes = self.read_bytes;
            let item = self.digest.to_string();
            self.work.activity.progress(&item, self.read_bytes, Some(self.size_bytes));
        }
        Ok(count)
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.advance(buffer).map_err(|error| {
            self.failure = Some(error);
            io::Error::other("the download broke off")
        })
    }
}

/// Asks the registry for a blob; of an image of the store, the places that have had it.
fn open(
    fetcher: &Fetcher,
    image: &BaseImage,
    descriptor: &Descriptor,
) -> Result<(String, BlobReader), BuildError> {
    if let Origin::Registry(repository) = &image.origin {
        let reader = fetcher.registry.blob(repository, descriptor);
        let reader = reader.map_err(|error| registry_error(None, &error))?;
        return Ok((repository.to_string(), reader));
    }
    let what = format!("layer {} of image {}", descriptor.digest, image.name);
    let mut failure = BuildError::Image {
        message: format!("{what} is missing in the store"),
        help: Some("build the image again; `kiln fsck` tells what else is missing".to_owned()),
    };
    let places = fetcher.store.remote_blobs().places(&descriptor.digest)?;
    for text in places {
        let (shown, answer) = if let Some(place) = ObjectPlace::parse(&text) {
            (place.to_string(), fetcher.registry.object_blob(&place, descriptor))
        } else if let Some(repository) = Repository::parse(&text) {
            (text.clone(), fetcher.registry.blob(&repository, descriptor))
        } else {
            continue;
        };
        match answer {
            Ok(reader) => return Ok((text, reader)),
            Err(error) => {
                let context = format!(
                    "{what} was not needed before, and {shown}, where it comes from, does not \
                     give it"
                );
                failure = registry_error(Some(&context), &error);
            }
        }
    }
    Err(failure)
}
