//! `force-compression`: layers of base images, compressed as the output says. Without it they stay
//! the blobs that they were, whatever they are (as with BuildKit).

use kiln_core::digest::DiffId;
use kiln_core::oci::Descriptor;
use kiln_store::layer::{decompressor, recompress as compress_again};

use super::image::{Stoppable, codec};
use crate::error::BuildError;
use crate::request::ImageOptions;
use crate::solve::Solver;

/// The layer of a base image, whose blob the store has, in the output's compression; its blob, if
/// it has that already.
///
/// # Errors
/// When the blob is not that of `diff_id`, and [`BuildError::Canceled`].
pub(super) fn recompress(
    solver: &Solver<'_>,
    (diff_id, blob): (&DiffId, &Descriptor),
    options: &ImageOptions,
) -> Result<Descriptor, BuildError> {
    let (compression, codec, wanted) = codec(options);
    if blob.media_type == wanted {
        return Ok(blob.clone());
    }
    let store = &solver.engine.store;
    let known = || store.layers().packed(diff_id, &codec);
    if let Some((digest, size)) = known()? {
        return Ok(Descriptor::new(wanted, digest, size));
    }
    let lock = format!("pack-{}-{codec}", diff_id.hex());
    let _lock = store.lock_unless(&lock, &solver.cancelled)?;
    if let Some((digest, size)) = known()? {
        return Ok(Descriptor::new(wanted, digest, size));
    }
    let content = store.content();
    let archive = decompressor(content.open(&blob.digest)?);
    let is_over = || solver.is_canceled();
    let mut writer = content.unhashed_writer()?;
    let mut out = Stoppable { out: &mut writer, is_over: &is_over };
    let packed = match compress_again(archive, compression, &mut out) {
        Err(_) if is_over() => return Err(BuildError::Canceled),
        packed => packed?,
    };
    if packed.diff_id != *diff_id {
        return Err(BuildError::Image {
            message: format!("layer {} is not the {diff_id} that its image says", blob.digest),
            help: None,
        });
    }
    writer.commit_known(packed.digest, packed.size_bytes)?;
    store.layers().remember_packed(diff_id, &codec, &packed.digest)?;
    Ok(Descriptor::new(wanted, packed.digest, packed.size_bytes))
}
