//! `compression=estargz`: layers that a runtime with stargz-snapshotter starts before they are there.
//!
//! Such a layer has a diff ID of its own, so the image has another id than with other compressions, as
//! with BuildKit.

use kiln_core::digest::DiffId;
use kiln_core::oci::{Descriptor, media_type};
use kiln_store::layer::{Compression, Stargz};

use crate::base_image::bring_blob;
use crate::error::BuildError;
use crate::request::ImageOptions;
use crate::solve::Solver;

/// Annotation: the digest of the table of contents, by which a runtime trusts it.
const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Annotation: how much there is in all.
const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// A layer, compressed or not, as eStargz; one that is that already stays as it is.
///
/// # Errors
/// When its blob is not that of its diff ID or not to be had, and [`BuildError::Canceled`].
pub(super) fn to_stargz(
    solver: &Solver<'_>,
    (diff_id, mut blob): (DiffId, Descriptor),
    options: &ImageOptions,
) -> Result<(DiffId, Descriptor), BuildError> {
    if blob.annotations.contains_key(TOC_DIGEST) {
        return Ok((diff_id, blob));
    }
    let level = options.level.map_or(Compression::USUAL_GZIP_LEVEL, u32::from);
    let layers = solver.engine.store.layers();
    let known = match layers.stargz(&diff_id, level)? {
        Some(known) => known,
        None => write(solver, (&diff_id, &blob), level)?,
    };
    media_type::OCI_LAYER_GZIP.clone_into(&mut blob.media_type);
    (blob.digest, blob.size) = (known.digest, known.size_bytes);
    let annotations = [
        (TOC_DIGEST, known.toc.to_string()),
        (UNCOMPRESSED_SIZE, known.uncompressed_bytes.to_string()),
    ];
    blob.annotations.extend(annotations.map(|(key, value)| (key.to_owned(), value)));
    Ok((known.diff_id, blob))
}

fn write(
    solver: &Solver<'_>,
    (diff_id, blob): (&DiffId, &Descriptor),
    level: u32,
) -> Result<Stargz, BuildError> {
    let store = &solver.engine.store;
    // Two targets that share a layer write it once.
    let lock = format!("stargz-{}-{level}", diff_id.hex());
    let _lock = store.lock_unless(&lock, &solver.cancelled)?;
    if let Some(known) = store.layers().stargz(diff_id, level)? {
        return Ok(known);
    }
    bring_blob(&solver.fetcher, blob)?;
    let is_over = || solver.is_canceled();
    match store.layers().write_stargz((&blob.digest, diff_id), level, &is_over) {
        Err(_) if is_over() => Err(BuildError::Canceled),
        written => Ok(written?),
    }
}
