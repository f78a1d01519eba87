//! From a target's snapshot to an image: layers as blobs, config, manifest.
//!
//! A layer is packed once for a codec, and the result remembered: an image that is built again
//! costs only look-ups. Layers of the base image stay the blobs that they were.

use std::sync::Arc;

use kiln_core::digest::DiffId;
use kiln_core::image::{ConfigBlob, ImageLayer, assemble, manifest};
use kiln_core::oci::{Descriptor, media_type};
use kiln_core::plan::Target;
use kiln_store::Layer;
use kiln_store::layer::{Compression, TarOptions, pack};

use crate::error::{BuildError, FileContext};
use crate::request::LayerCompression;
use crate::snapshot::{Snapshot, SnapshotLayer};
use crate::solve::Solver;

/// Levels: gzip's and zstd's own defaults, as BuildKit's.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// An image of one platform whose blobs are all in the store.
#[derive(Clone, Debug)]
pub(crate) struct PackedImage {
    /// The manifest.
    pub(crate) descriptor: Descriptor,
    /// The config.
    pub(crate) config: Descriptor,
    /// The layers, lowest first.
    pub(crate) layers: Vec<Descriptor>,
    /// When it was made, seconds since 1970, as far as it is known.
    pub(crate) created: Option<i64>,
}

/// Packs a target.
pub(crate) fn pack_image(
    solver: &Solver<'_>,
    target: &Target,
    snapshot: &Snapshot,
    compression: LayerCompression,
) -> Result<PackedImage, BuildError> {
    let mut descriptors = Vec::new();
    let mut layers = Vec::new();
    for layer in snapshot.layers() {
        let (diff_id, descriptor) = match layer {
            SnapshotLayer::Base { image, position } => {
                image.ensure_blob(solver.engine, *position)?;
                let mut descriptor = image.layers[*position].clone();
                descriptor.media_type = oci_media_type(&descriptor.media_type).to_owned();
                (image.diff_ids[*position], descriptor)
            }
            SnapshotLayer::Built { layer, .. } => {
                pack_layer(solver, layer, (compression, target.epoch))?
            }
        };
        descriptors.push(descriptor);
        let (created, description) = match layer {
            SnapshotLayer::Base { .. } => (None, String::new()),
            SnapshotLayer::Built { created, .. } => (Some(*created), String::new()),
        };
        layers.push(ImageLayer { diff_id, created, description });
    }
    let ConfigBlob { bytes, digest, created } = assemble(target, &layers);
    let content = solver.engine.store.content();
    content.put(&bytes)?;
    let config = Descriptor::new(media_type::OCI_CONFIG, digest, bytes.len() as u64);
    let (bytes, mut descriptor) = manifest(&config, descriptors.clone());
    content.put(&bytes)?;
    descriptor.platform = Some(target.platform.clone());
    Ok(PackedImage { descriptor, config, layers: descriptors, created })
}

/// The blob of a layer that the build made. With an epoch its files are not younger than that, so
/// that the same build gives the same image at any time.
fn pack_layer(
    solver: &Solver<'_>,
    layer: &Arc<Layer>,
    (compression, epoch): (LayerCompression, Option<i64>),
) -> Result<(DiffId, Descriptor), BuildError> {
    let (compression, codec, media_type) = match compression {
        LayerCompression::Uncompressed => {
            (Compression::Uncompressed, "none".to_owned(), media_type::OCI_LAYER)
        }
        LayerCompression::Gzip => {
            let level = GZIP_LEVEL;
            (Compression::Gzip { level }, format!("gzip-{level}"), media_type::OCI_LAYER_GZIP)
        }
        LayerCompression::Zstd => {
            let level = ZSTD_LEVEL;
            (Compression::Zstd { level }, format!("zstd-{level}"), media_type::OCI_LAYER_ZSTD)
        }
    };
    let store = &solver.engine.store;
    // Two targets that share a layer pack it once.
    let _lock = store.lock_unless(&format!("pack-{}-{codec}", layer.id), &solver.cancelled)?;
    // It may have been packed since the snapshot was made.
    let diff_id = match (epoch, layer.diff_id) {
        (Some(epoch), _) => store.layers().clamped_diff_id(&layer.id, epoch)?,
        (None, Some(diff_id)) => Some(diff_id),
        (None, None) => store.layers().by_id(&layer.id)?.and_then(|layer| layer.diff_id),
    };
    if let Some(diff_id) = diff_id
        && let Some((digest, size)) = store.layers().packed(&diff_id, &codec)?
    {
        return Ok((diff_id, Descriptor::new(media_type, digest, size)));
    }
    let index = solver.index(layer)?;
    let options = TarOptions { clamp_mtime: epoch, ..TarOptions::default() };
    let mut writer = store.content().unhashed_writer()?;
    let packed = pack(&index, &layer.fs, compression, &options, &mut writer)?;
    writer.commit_known(packed.digest, packed.size_bytes)?;
    match epoch {
        None => store.layers().set_diff_id(&layer.id, &packed.diff_id)?,
        Some(epoch) => {
            store.layers().set_clamped_diff_id(&layer.id, epoch, &packed.diff_id)?;
        }
    }
    store.layers().remember_packed(&packed.diff_id, &codec, &packed.digest)?;
    let descriptor = Descriptor::new(media_type, packed.digest, packed.size_bytes);
    Ok((packed.diff_id, descriptor))
}

/// Docker's layer types in OCI's words.
fn oci_media_type(media_type: &str) -> &str {
    match media_type {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        other => other,
    }
}

/// Copies a blob of the store to `out`.
pub(crate) fn copy_blob(
    solver: &Solver<'_>,
    descriptor: &Descriptor,
    out: &mut dyn std::io::Write,
) -> Result<(), BuildError> {
    let content = solver.engine.store.content();
    let mut blob = content.open(&descriptor.digest)?;
    std::io::copy(&mut blob, out).at("write", &content.path(&descriptor.digest))?;
    Ok(())
}
