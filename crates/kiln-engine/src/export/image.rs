//! From a target's snapshot to an image: layers as blobs, config, manifest.
//!
//! A layer is packed once for a codec, and the result remembered: an image that is built again
//! costs only look-ups. Layers of the base image stay the blobs that they were.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use kiln_core::digest::{BlobDigest, DiffId};
use kiln_core::image::{ConfigBlob, ImageLayer, assemble};
use kiln_core::oci::{Descriptor, Manifest, Platform, Reference, media_type, to_indented_json};
use kiln_core::plan::{ImageSource, Input, Op, Plan, SourceOp, Target};
use kiln_store::layer::{
    Compression, Contents, LayerIndex, OldFrames, Packed, Packing, TarOptions, TarTimes,
    archive_bytes, pack,
};
use kiln_store::{Layer, Store};

use super::early::Slot;
use super::recompress::recompress;
use super::stargz::to_stargz;
use crate::base_image::{Want, bring_blob, unpack};
use crate::cache;
use crate::error::{BuildError, FileContext};
use crate::request::{
    Annotation, AnnotationPlace, BaseCompression, ImageOptions, LayerCompression, LayerTimes,
    MediaTypes,
};
use crate::snapshot::{Snapshot, SnapshotLayer};
use crate::solve::Solver;

/// What the store calls an archive that is not compressed.
const PLAIN: &str = "none";

/// Annotation of layers whose times follow an epoch.
const REWRITTEN: &str = "buildkit/rewritten-timestamp";

/// An image of one platform, whose blobs are in the store; in an image of the store itself, layers
/// of the base may still be elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct PackedImage {
    /// The manifest.
    pub(crate) descriptor: Descriptor,
    /// The config.
    pub(crate) config: Descriptor,
    /// The layers, lowest first.
    pub(crate) layers: Vec<Descriptor>,
    /// The diff IDs of the layers.
    pub(crate) diff_ids: Vec<DiffId>,
    /// When it was made, seconds since 1970, as far as it is known.
    pub(crate) created: Option<i64>,
}

/// What becomes of layers of the base image that nothing has needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BaseBlobs {
    /// They stay where they are: the store needs no byte of them, and a registry may mount them.
    Left,
    /// They come into the store.
    Brought,
}

/// Packs a target.
pub(crate) fn pack_image(
    solver: &Solver<'_>,
    target: &Target,
    snapshot: &Snapshot,
    (options, base): (&ImageOptions, BaseBlobs),
) -> Result<PackedImage, BuildError> {
    let base = match options.force {
        BaseCompression::Kept => base,
        // What is compressed again has to be here.
        BaseCompression::Forced => BaseBlobs::Brought,
    };
    if let Some(image) = snapshot.base() {
        match base {
            BaseBlobs::Left => image.leave_blobs(&solver.fetcher)?,
            BaseBlobs::Brought => image.bring(&solver.fetcher, Want::Blobs)?,
        }
    }
    let mut descriptors = Vec::new();
    let mut layers = Vec::new();
    let epoch = layer_epoch(options, target.epoch);
    let mut descriptions = descriptions(solver.plan, target.root).into_iter();
    let below = descriptions.next().unwrap_or_default();
    for (position, layer) in snapshot.layers().iter().enumerate() {
        let (mut diff_id, mut descriptor) = match layer {
            SnapshotLayer::Base { image, position } => {
                let mut descriptor = image.layers[*position].clone();
                descriptor.media_type =
                    layer_media_type(&descriptor.media_type, options.media_types).to_owned();
                if options.force == BaseCompression::Forced
                    && options.compression != LayerCompression::Estargz
                {
                    let layer = (&image.diff_ids[*position], &descriptor);
                    descriptor = recompress(solver, layer, options)?;
                }
                (image.diff_ids[*position], descriptor)
            }
            SnapshotLayer::Built { layer, .. } => {
                let is_over = || solver.is_canceled();
                let (diff_id, mut descriptor) =
                    pack_layer(solver, layer, (options, epoch), Some(position), &is_over)?;
                if base == BaseBlobs::Brought {
                    bring_blob(&solver.fetcher, &descriptor)?;
                }
                if let Some(epoch) = epoch
                    && options.times == LayerTimes::Rewritten
                {
                    descriptor.annotations.insert(REWRITTEN.to_owned(), epoch.to_string());
                }
                (diff_id, descriptor)
            }
        };
        if options.compression == LayerCompression::Estargz
            && (is_own(layer) || options.force == BaseCompression::Forced)
        {
            (diff_id, descriptor) = to_stargz(solver, (diff_id, descriptor), options)?;
        }
        descriptors.push(descriptor);
        let (created, description) = match layer {
            SnapshotLayer::Base { .. } => (None, below.clone()),
            SnapshotLayer::Built { created, .. } => {
                (Some(*created), descriptions.next().unwrap_or_default())
            }
        };
        layers.push(ImageLayer { diff_id, created, description });
    }
    let diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let ConfigBlob { mut bytes, mut digest, created } = assemble(target, &layers);
    if solver.request.inline_cache {
        bytes = cache::with_records(solver, (target, snapshot), epoch, &bytes)?;
        digest = BlobDigest::of(&bytes);
    }
    let content = solver.engine.store.content();
    content.put(&bytes)?;
    let (config_type, manifest_type) = match options.media_types {
        MediaTypes::Oci => (media_type::OCI_CONFIG, media_type::OCI_MANIFEST),
        MediaTypes::Docker => (media_type::DOCKER_CONFIG, media_type::DOCKER_MANIFEST),
    };
    let platform = Some(&target.platform);
    let config = Descriptor::new(config_type, digest, bytes.len() as u64);
    let manifest = Manifest {
        media_type: Some(manifest_type.to_owned()),
        annotations: annotations(options, AnnotationPlace::Manifest, platform),
        ..Manifest::new(config.clone(), descriptors.clone())
    };
    let bytes = to_indented_json(&manifest);
    let mut descriptor = Descriptor::new(manifest_type, BlobDigest::of(&bytes), bytes.len() as u64);
    content.put(&bytes)?;
    descriptor.annotations = annotations(options, AnnotationPlace::ManifestDescriptor, platform);
    descriptor.platform = Some(target.platform.clone());
    Ok(PackedImage { descriptor, config, layers: descriptors, diff_ids, created })
}

/// Whether a layer was made by a build.
fn is_own(layer: &SnapshotLayer) -> bool {
    matches!(layer, SnapshotLayer::Built { .. })
}

/// The annotations of one kind of document, of this platform or of all; what is said of the platform
/// goes first. An index, without a platform, has all of them.
pub(crate) fn annotations(
    options: &ImageOptions,
    place: AnnotationPlace,
    platform: Option<&Platform>,
) -> BTreeMap<String, String> {
    let here = options.annotations.iter().filter(|annotation| annotation.place == place);
    let (of_all, of_some): (Vec<_>, Vec<_>) =
        here.partition(|annotation| annotation.platform.is_none());
    let is_own =
        |annotation: &&Annotation| platform.is_none() || annotation.platform.as_ref() == platform;
    let own = of_some.into_iter().filter(is_own);
    let pair = |annotation: &Annotation| (annotation.key.clone(), annotation.value.clone());
    of_all.into_iter().chain(own).map(pair).collect()
}

/// What BuildKit writes into a history that does not speak of a layer: of the base's layers,
/// then of those of each step.
fn descriptions(plan: &Plan, root: Input) -> Vec<String> {
    let mut steps = Vec::new();
    let mut base = String::new();
    let mut at = root;
    while let Input::Step(id) = at {
        let step = &plan.steps[&id];
        match &step.op {
            Op::Source(SourceOp::Image { source, manifest, .. }) => {
                let name = match source {
                    ImageSource::Reference(reference) => reference.to_string(),
                    ImageSource::Layout { context } => match context.parse::<Reference>() {
                        Ok(reference) => {
                            format!("{}/{}", reference.registry, reference.repository)
                        }
                        Err(_) => context.clone(),
                    },
                };
                base = format!("pulled from {name}@{manifest}");
                break;
            }
            Op::Source(_) => break,
            Op::Exec(exec) => steps.push(format!("mount / from exec {}", exec.args.join(" "))),
            Op::File(_) => steps.push(step.name.clone()),
        }
        at = step.inputs.first().copied().unwrap_or(Input::Scratch);
    }
    steps.push(base);
    steps.reverse();
    steps
}

/// The epoch that files of layers follow, of the target's.
pub(crate) fn layer_epoch(options: &ImageOptions, epoch: Option<i64>) -> Option<i64> {
    epoch.filter(|_| options.times != LayerTimes::Kept)
}

/// A writer that fails once the build is over.
pub(super) struct Stoppable<'a, W> {
    pub(super) out: W,
    pub(super) is_over: &'a (dyn Fn() -> bool + Sync),
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if (self.is_over)() {
            return Err(std::io::Error::other("the build is over"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// The blob of a layer that the build made, which is at this `position` of the image, if that is known.
/// With an epoch its files are not younger than that, so
/// that the same build gives the same image at any time.
///
/// # Errors
/// [`BuildError::Canceled`] when `is_over` before it is done.
pub(crate) fn pack_layer(
    solver: &Solver<'_>,
    layer: &Arc<Layer>,
    (options, epoch): (&ImageOptions, Option<i64>),
    position: Option<usize>,
    is_over: &(dyn Fn() -> bool + Sync),
) -> Result<(DiffId, Descriptor), BuildError> {
    let (compression, codec, media_type) = codec(options);
    let store = &solver.engine.store;
    let known = || packed_before(store, layer, (epoch, &codec));
    let described = |(diff_id, digest, size)| (diff_id, Descriptor::new(media_type, digest, size));
    if let Some(packed) = known()? {
        return Ok(described(packed));
    }
    // Two targets that share a layer pack it once.
    let _lock = store.lock_unless(&format!("pack-{}-{codec}", layer.id), &solver.cancelled)?;
    if let Some(packed) = known()? {
        return Ok(described(packed));
    }
    let index = solver.index(layer)?;
    let times = epoch.map_or(TarTimes::Own, TarTimes::NotAfter);
    if compression == Compression::Uncompressed
        && !layer.is_unpacked
        && let Some(packed) = described_before(store, (layer, &index), (epoch, times))?
    {
        return Ok(described(packed));
    }
    let layer = unpack(&solver.fetcher, layer)?;
    let old = match store.layers().recipe_of(&layer.id)? {
        Some(recipe) => store.layers().old_frames(&recipe, &codec)?,
        None => None,
    };
    let slot = solver.early_archive.as_ref().zip(position);
    let slot = slot.and_then(|(early, position)| early.slot(position));
    let how = (compression, times, old);
    let packed = write_blob(store, (&index, &layer.fs), how, slot, is_over)?;
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

/// The archive of a layer of which the store has, or knows, a compressed form alone: its digest is
/// the diff ID, and the index tells its size. What is elsewhere is fetched, and the archive made, when
/// something needs its bytes.
fn described_before(
    store: &Store,
    (layer, index): (&Layer, &LayerIndex),
    (epoch, times): (Option<i64>, TarTimes),
) -> Result<Option<(DiffId, BlobDigest, u64)>, BuildError> {
    let layers = store.layers();
    let diff_id = match epoch {
        Some(epoch) => layers.clamped_diff_id(&layer.id, epoch)?,
        None => layer.diff_id,
    };
    let Some(diff_id) = diff_id else { return Ok(None) };
    let digest = diff_id.as_blob();
    let Some((compressed, _)) = layers.compressed(&digest)? else { return Ok(None) };
    let size_bytes = archive_bytes(index, &TarOptions { times, ..TarOptions::default() })?;
    if store.content().has(&compressed) {
        layers.decompress(&compressed, (&digest, size_bytes))?;
    }
    layers.remember_remote_packed(&diff_id, PLAIN, (&digest, size_bytes))?;
    Ok(Some((diff_id, digest, size_bytes)))
}

/// What a layer was packed into by a codec, perhaps since its snapshot was made: its diff ID, the
/// blob and its size in bytes.
pub(super) fn packed_before(
    store: &Store,
    layer: &Layer,
    (epoch, codec): (Option<i64>, &str),
) -> Result<Option<(DiffId, BlobDigest, u64)>, BuildError> {
    let layers = store.layers();
    let diff_id = match (epoch, layer.diff_id) {
        (Some(epoch), _) => layers.clamped_diff_id(&layer.id, epoch)?,
        (None, Some(diff_id)) => Some(diff_id),
        (None, None) => layers.by_id(&layer.id)?.and_then(|layer| layer.diff_id),
    };
    let Some(diff_id) = diff_id else { return Ok(None) };
    let packed = layers.packed(&diff_id, codec)?;
    Ok(packed.map(|(digest, size_bytes)| (diff_id, digest, size_bytes)))
}

/// A writer whose bytes also go into a file that is begun early.
struct Twice<'a, W> {
    out: W,
    slot: Option<Slot<'a>>,
}

impl<W: Write> Write for Twice<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.out.write(bytes)?;
        if let Some(slot) = &mut self.slot {
            slot.write(&bytes[..length]);
        }
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Packs a layer of this index, whose bytes are in `contents`, into a blob of the store, and into
/// `slot`.
///
/// # Errors
/// [`BuildError::Canceled`] when `is_over` before it is done.
pub(crate) fn write_blob<'a>(
    store: &Store,
    (index, contents): (&LayerIndex, impl Into<Contents<'a>>),
    (compression, times, old): (Compression, TarTimes, Option<OldFrames>),
    slot: Option<Slot<'_>>,
    is_over: &(dyn Fn() -> bool + Sync),
) -> Result<Packed, BuildError> {
    let options = TarOptions { times, ..TarOptions::default() };
    let packing = Packing { compression, options: &options, old };
    let mut writer = store.content().unhashed_writer()?;
    let mut out = Stoppable { out: Twice { out: &mut writer, slot }, is_over };
    let packed = match pack(index, contents, packing, &mut out) {
        Err(_) if is_over() => return Err(BuildError::Canceled),
        packed => packed?,
    };
    if let Some(slot) = out.out.slot {
        slot.finish(packed.digest, packed.size_bytes);
    }
    writer.commit_known(packed.digest, packed.size_bytes)?;
    store.layers().remember_frames(&packed.digest, &packed.frames)?;
    Ok(packed)
}

/// How layers are compressed, what the store calls it, and the media type of the result.
pub(crate) fn codec(options: &ImageOptions) -> (Compression, String, &'static str) {
    let compression = match (options.compression, options.level) {
        // eStargz is made of the archive, see `stargz`.
        (LayerCompression::Uncompressed | LayerCompression::Estargz, _) => {
            Compression::Uncompressed
        }
        (LayerCompression::Gzip, None) => Compression::GZIP,
        (LayerCompression::Gzip, Some(level)) => Compression::Gzip { level: Some(level.into()) },
        (LayerCompression::Zstd, None) => Compression::ZSTD,
        (LayerCompression::Zstd, Some(level)) => Compression::Zstd { level: level.into() },
    };
    let (name, media_type) = match compression {
        Compression::Uncompressed => (PLAIN.to_owned(), media_type::OCI_LAYER),
        Compression::Gzip { level: None } => ("gzip".to_owned(), media_type::OCI_LAYER_GZIP),
        Compression::Gzip { level: Some(level) } => {
            (format!("gzip-{level}"), media_type::OCI_LAYER_GZIP)
        }
        Compression::Zstd { level } => (format!("zstd-{level}"), media_type::OCI_LAYER_ZSTD),
    };
    (compression, name, layer_media_type(media_type, options.media_types))
}

/// A layer's type in the words of OCI or of Docker.
fn layer_media_type(media_type: &str, wanted: MediaTypes) -> &str {
    const PAIRS: [(&str, &str); 3] = [
        (media_type::OCI_LAYER, media_type::DOCKER_LAYER),
        (media_type::OCI_LAYER_GZIP, media_type::DOCKER_LAYER_GZIP),
        (media_type::OCI_LAYER_ZSTD, media_type::DOCKER_LAYER_ZSTD),
    ];
    let pair = PAIRS.iter().find(|(oci, docker)| *oci == media_type || *docker == media_type);
    match (pair, wanted) {
        (Some((oci, _)), MediaTypes::Oci) => oci,
        (Some((_, docker)), MediaTypes::Docker) => docker,
        (None, _) => media_type,
    }
}

/// Copies a blob of the store to `out`, which is at `path`; within the kernel if that is a file, also a buffered one.
pub(crate) fn copy_blob(
    solver: &Solver<'_>,
    descriptor: &Descriptor,
    (out, path): (&mut impl Write, &Path),
) -> Result<(), BuildError> {
    let mut blob = solver.engine.store.content().open(&descriptor.digest)?;
    std::io::copy(&mut blob, out).at("write", path)?;
    Ok(())
}
