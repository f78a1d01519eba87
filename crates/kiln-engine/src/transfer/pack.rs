//! The layers that kiln made, compressed on their way out, and the documents that name them.
//!
//! A layer of the store that is not compressed and comes from nowhere else is kiln's own. What an
//! output of `type=oci` would make of it is made here too, and remembered in the same place, so
//! that it is made once.

use std::collections::BTreeMap;

use kiln_core::digest::{BlobDigest, DiffId};
use kiln_core::oci::{Descriptor, Index, Manifest, media_type, to_indented_json};
use kiln_store::layer::{BlobCheck, LayerIndex, TarTimes, Unpack, unpack};

use super::Work;
use super::tree::{Document, Tree, parse};
use crate::base_image::{Fetcher, bring_blob};
use crate::error::{BuildError, FileContext};
use crate::export::image::{codec, write_blob};
use crate::request::{ImageOptions, LayerCompression};

/// What stands for what, by the digest that it replaces.
pub(super) type Replaced = BTreeMap<BlobDigest, Descriptor>;

/// Whether a blob is a layer that is not compressed.
pub(super) fn is_plain(blob: &Descriptor) -> bool {
    [media_type::OCI_LAYER, media_type::DOCKER_LAYER].contains(&&*blob.media_type)
}

/// Whether a blob is a layer that is to be compressed.
fn is_own(work: &Work<'_>, blob: &Descriptor, options: &ImageOptions) -> Result<bool, BuildError> {
    let store = &work.engine.store;
    if !is_plain(blob) || options.compression == LayerCompression::Uncompressed {
        return Ok(false);
    }
    let is_there =
        store.content().has(&blob.digest) || store.layers().compressed(&blob.digest)?.is_some();
    Ok(is_there && store.remote_blobs().places(&blob.digest)?.is_empty())
}

/// The diff ID of a layer that is not compressed.
fn diff_id(blob: &Descriptor) -> DiffId {
    DiffId::from_bytes(*blob.digest.as_bytes())
}

/// What stands for all blobs, if nothing has to be compressed for it any more.
pub(super) fn pack_known(
    work: &Work<'_>,
    blobs: &[Descriptor],
    options: &ImageOptions,
) -> Result<Option<Replaced>, BuildError> {
    let (_, codec, media_type) = codec(options);
    let mut replaced = Replaced::new();
    for blob in blobs {
        if !is_own(work, blob, options)? {
            continue;
        }
        let packed = work.engine.store.layers().packed(&diff_id(blob), &codec)?;
        let Some((digest, size)) = packed else {
            return Ok(None);
        };
        replaced.insert(blob.digest, Descriptor::new(media_type, digest, size));
    }
    Ok(Some(replaced))
}

/// A layer of kiln's compressed; `None` for what stays as it is.
pub(super) fn pack_layer(
    work: &Work<'_>,
    blob: &Descriptor,
    options: &ImageOptions,
) -> Result<Option<Descriptor>, BuildError> {
    if !is_own(work, blob, options)? {
        return Ok(None);
    }
    let store = &work.engine.store;
    let (compression, codec, media_type) = codec(options);
    let diff_id = diff_id(blob);
    let _lock = store.lock_unless(&format!("pack-{}-{codec}", diff_id.hex()), work.cancelled)?;
    if let Some((digest, size)) = store.layers().packed(&diff_id, &codec)? {
        return Ok(Some(Descriptor::new(media_type, digest, size)));
    }
    let is_over = || work.is_cancelled();
    let packed = if let Some(layer) = store.layers().by_diff_id(&diff_id)? {
        let layer = crate::base_image::unpack(&Fetcher::silent(work.engine), &layer)?;
        let old = match store.layers().recipe_of(&layer.id)? {
            Some(recipe) => store.layers().old_frames(&recipe, &codec)?,
            None => None,
        };
        let how = (compression, TarTimes::Own, old);
        let bytes = std::fs::read(&layer.index_path).at("read", &layer.index_path)?;
        write_blob(store, (&LayerIndex::decode(&bytes)?, &layer.fs), how, None, &is_over)?
    } else {
        // A layer whose times were rewritten is there as an archive alone.
        bring_blob(&Fetcher::silent(work.engine), blob)?;
        let working = store.layers().begin()?;
        let expected = (Unpack { digest: blob.digest, diff_id }, BlobCheck::Here);
        let archive = store.content().open(&blob.digest)?;
        let index = unpack(archive, expected, Some(&working.upper))?;
        let how = (compression, TarTimes::Own, None);
        write_blob(store, (&index, &working.upper), how, None, &is_over)?
    };
    if packed.diff_id != diff_id {
        // Not an archive as kiln writes them: it is sent as it is.
        return Ok(None);
    }
    store.layers().remember_packed(&diff_id, &codec, &packed.digest)?;
    Ok(Some(Descriptor::new(media_type, packed.digest, packed.size_bytes)))
}

/// The documents of a tree, with what replaces the blobs that they name.
pub(super) fn rewrite(mut tree: Tree, replaced: &Replaced) -> Result<Tree, BuildError> {
    let mut replaced = replaced.clone();
    let documents = std::mem::take(&mut tree.documents);
    for document in documents {
        let rewritten = rewrite_document(&document, &replaced)?;
        if rewritten.descriptor.digest != document.descriptor.digest {
            replaced.insert(document.descriptor.digest, rewritten.descriptor.clone());
        }
        tree.documents.push(rewritten);
    }
    Ok(tree)
}

fn rewrite_document(document: &Document, replaced: &Replaced) -> Result<Document, BuildError> {
    let replace = |parts: &mut [Descriptor]| {
        let mut is_changed = false;
        for part in parts {
            if let Some(new) = replaced.get(&part.digest) {
                // Annotations and the platform stay.
                part.media_type.clone_from(&new.media_type);
                (part.digest, part.size) = (new.digest, new.size);
                is_changed = true;
            }
        }
        is_changed
    };
    let descriptor = &document.descriptor;
    let bytes = if media_type::is_index(&descriptor.media_type) {
        let mut index: Index = parse(descriptor, &document.bytes)?;
        replace(&mut index.manifests).then(|| to_indented_json(&index))
    } else {
        let mut manifest: Manifest = parse(descriptor, &document.bytes)?;
        replace(&mut manifest.layers).then(|| to_indented_json(&manifest))
    };
    let Some(bytes) = bytes else {
        return Ok(document.clone());
    };
    let descriptor = Descriptor {
        digest: BlobDigest::of(&bytes),
        size: bytes.len() as u64,
        ..descriptor.clone()
    };
    Ok(Document { descriptor, bytes })
}
