//! Layers that the store knows and does not hold, when something needs their bytes: those that a
//! shared cache answered with, and uncompressed archives of which it has compressed ones.

use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::Descriptor;
use kiln_registry::{BlobReader, ObjectPlace, Repository};
use kiln_store::Layer;

use super::{Fetcher, registry_error};
use crate::error::{BuildError, FileContext, with_causes};

const COPY_BYTES: usize = 256 << 10;

/// Brings the archive of a layer into the store, if the layer can't be used without.
///
/// # Errors
/// When no registry that had it gives it.
pub(crate) fn bring(fetcher: &Fetcher, layer: &Layer) -> Result<(), BuildError> {
    match fetcher.store.layers().missing_archive(layer)? {
        Some((digest, size)) => bring_blob(fetcher, &Descriptor::new("", digest, size)),
        None => Ok(()),
    }
}

/// Brings a blob into the store that is there, or of which it knows the place, or which it can make
/// of another.
///
/// # Errors
/// As [`bring`].
pub(crate) fn bring_blob(fetcher: &Fetcher, blob: &Descriptor) -> Result<(), BuildError> {
    let store = &fetcher.store;
    if let Some((compressed, size)) = store.layers().compressed(&blob.digest)? {
        bring_blob(fetcher, &Descriptor::new("", compressed, size))?;
        return match store.layers().decompress(&compressed, (&blob.digest, blob.size)) {
            Err(error @ kiln_store::Error::Damaged { .. }) => {
                Err(lost(compressed, &with_causes(&error)))
            }
            made => Ok(made?),
        };
    }
    let name = format!("blob-{}", blob.digest.hex());
    let _lock = store.lock_unless(&name, &fetcher.stopped)?;
    if store.content().has(&blob.digest) {
        return Ok(());
    }
    let what = format!("layer {} of the shared cache", blob.digest);
    let mut reason = "no place of it is known".to_owned();
    let activity = fetcher.activities.start(format!("[internal] load {what}"));
    let places = store.remote_blobs().places(&blob.digest)?;
    for place in &places {
        let Some(reader) = open(fetcher, place, blob) else { continue };
        match reader.and_then(|reader| download(fetcher, reader, blob)) {
            Ok(()) => {
                activity.progress(&blob.digest.to_string(), blob.size, Some(blob.size));
                activity.finish(&Ok::<_, BuildError>(()));
                return Ok(());
            }
            Err(BuildError::Canceled) => return Err(BuildError::Canceled),
            // Nothing is wrong with the layer.
            Err(error @ (BuildError::File { .. } | BuildError::Store(_))) => {
                let result = Err(error);
                activity.finish(&result);
                return result;
            }
            Err(error) => reason = error.to_string(),
        }
    }
    let result = Err(lost(blob.digest, &reason));
    activity.finish(&result);
    result
}

/// The error of a layer that cannot be had.
fn lost(digest: BlobDigest, reason: &str) -> BuildError {
    BuildError::LostLayer {
        digest,
        message: format!("layer {digest} of the shared cache is not to be had: {reason}"),
        help: Some("build it again: what is lost is made anew".to_owned()),
    }
}

/// The layer with its files, which are brought and unpacked if they are not there.
///
/// # Errors
/// As [`bring`]; also when its archive is not what the cache said.
pub(crate) fn unpack(fetcher: &Fetcher, layer: &Layer) -> Result<Layer, BuildError> {
    bring(fetcher, layer)?;
    let layers = fetcher.store.layers();
    match layers.unpack(layer) {
        Err(error @ kiln_store::Error::Layer { .. }) => Err(match layers.archive(layer)? {
            Some(digest) => lost(digest, &with_causes(&error)),
            None => error.into(),
        }),
        unpacked => Ok(unpacked?),
    }
}

/// Asks a place for a blob; `None` if the place is of a kind that nobody knows.
fn open(
    fetcher: &Fetcher,
    place: &str,
    blob: &Descriptor,
) -> Option<Result<BlobReader, BuildError>> {
    let reader = if let Some(place) = ObjectPlace::parse(place) {
        fetcher.registry.object_blob(&place, blob)
    } else {
        fetcher.registry.blob(&Repository::parse(place)?, blob)
    };
    Some(reader.map_err(|error| registry_error(None, &error)))
}

fn download(
    fetcher: &Fetcher,
    mut reader: BlobReader,
    blob: &Descriptor,
) -> Result<(), BuildError> {
    let content = fetcher.store.content();
    let path = content.path(&blob.digest);
    let mut writer = content.unhashed_writer()?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        if fetcher.stopped.load(Ordering::Relaxed) {
            return Err(BuildError::Canceled);
        }
        match reader.read(&mut buffer) {
            // The reader has verified all of it.
            Ok(0) => return Ok(writer.commit_known(blob.digest, blob.size)?),
            Ok(count) => writer.write_all(&buffer[..count]).at("write", &path)?,
            Err(error) => {
                return Err(match kiln_registry::Error::from_io(error) {
                    Ok(error) => registry_error(None, &error),
                    Err(error) => Err::<(), _>(error).at("read", &path).expect_err("it is one"),
                });
            }
        }
    }
}
