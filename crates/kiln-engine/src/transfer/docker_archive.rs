//! Archives of `docker save`, and of whoever writes that form: `manifest.json` names the config and
//! the layers of each image, wherever they are in the archive.
//!
//! They become what an OCI layout has: a manifest of their own, made here, and blobs by digest. The
//! digest of a layer that is not compressed is the diff ID that the config has; reading it tells
//! whether that is true. Source: moby, image/spec/v1.2.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use kiln_core::digest::{BlobDigest, DiffId};
use kiln_core::oci::{
    Descriptor, ImageConfig, Index, Manifest, Platform, Reference, media_type, to_indented_json,
    to_json,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::source::NAMES;

/// `manifest.json` and configs are not longer than this.
const DOCUMENT_BYTES: u64 = 16 << 20;

const COPY_BYTES: usize = 256 << 10;

/// First byte and size of each file of an archive; links stand for what they lead to.
pub(super) type Members = BTreeMap<String, (u64, u64)>;

/// What makes such an archive a layout.
#[derive(Debug)]
pub(super) struct DockerLayout {
    /// `index.json`
    pub(super) index: Vec<u8>,
    /// The manifests, which the archive does not have.
    pub(super) manifests: BTreeMap<BlobDigest, Vec<u8>>,
    /// Where blobs are.
    pub(super) blobs: BTreeMap<BlobDigest, (u64, u64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Reads `manifest.json` and the configs.
///
/// # Errors
/// What is wrong with the archive, as the end of a sentence.
pub(super) fn read(file: &mut File, members: &Members) -> Result<DockerLayout, String> {
    let items: Vec<Item> = serde_json::from_slice(&document(file, members, "manifest.json")?)
        .map_err(|error| format!("its manifest.json is not valid: {error}"))?;
    let mut layout =
        DockerLayout { index: Vec::new(), manifests: BTreeMap::new(), blobs: BTreeMap::new() };
    let mut index = Index::new(Vec::new());
    for item in &items {
        let image = read_image(file, members, (item, &mut layout))?;
        let names = item.repo_tags.iter().flatten();
        let named = names.filter_map(|name| {
            let reference: Reference = name.parse().ok()?;
            let mut image = image.clone();
            image.annotations.insert(NAMES[0].to_owned(), name.clone());
            image.annotations.insert(NAMES[1].to_owned(), reference.to_string());
            Some(image)
        });
        let before = index.manifests.len();
        index.manifests.extend(named);
        if index.manifests.len() == before {
            index.manifests.push(image);
        }
    }
    layout.index = to_json(&index);
    Ok(layout)
}

/// One image: its blobs and its manifest go into the layout.
fn read_image(
    file: &mut File,
    members: &Members,
    (item, layout): (&Item, &mut DockerLayout),
) -> Result<Descriptor, String> {
    let bytes = document(file, members, &item.config)?;
    let parsed: ImageConfig = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} is not valid: {error}", item.config))?;
    let config =
        Descriptor::new(media_type::OCI_CONFIG, BlobDigest::of(&bytes), bytes.len() as u64);
    layout.blobs.insert(config.digest, member(members, &item.config)?);
    let paths = item.layers.as_deref().unwrap_or_default();
    let diff_ids = parsed.rootfs.diff_ids.unwrap_or_default();
    if paths.len() != diff_ids.len() {
        let (paths, diff_ids) = (paths.len(), diff_ids.len());
        return Err(format!("an image has {paths} layers, its config {diff_ids}"));
    }
    let mut layers = Vec::new();
    for (path, diff_id) in paths.iter().zip(&diff_ids) {
        let place = member(members, path)?;
        let layer = layer(file, place, diff_id).map_err(|error| format!("{path}: {error}"))?;
        layout.blobs.insert(layer.digest, place);
        layers.push(layer);
    }
    let manifest = Manifest {
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        ..Manifest::new(config, layers)
    };
    let bytes = to_indented_json(&manifest);
    let digest = BlobDigest::of(&bytes);
    let mut image = Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64);
    image.platform =
        Some(Platform::new(&parsed.os, &parsed.architecture, parsed.variant.as_deref()));
    layout.manifests.insert(digest, bytes);
    Ok(image)
}

/// A layer's descriptor. Only one that is compressed has to be read for it.
fn layer(
    file: &mut File,
    (start, size): (u64, u64),
    diff_id: &DiffId,
) -> std::io::Result<Descriptor> {
    file.seek(SeekFrom::Start(start))?;
    let mut head = Vec::new();
    file.by_ref().take(size.min(4)).read_to_end(&mut head)?;
    let kind = match head.as_slice() {
        [0x1f, 0x8b, ..] => media_type::OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media_type::OCI_LAYER_ZSTD,
        _ => return Ok(Descriptor::new(media_type::OCI_LAYER, diff_id.as_blob(), size)),
    };
    file.seek(SeekFrom::Start(start))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; COPY_BYTES]);
    let mut bytes = file.by_ref().take(size);
    loop {
        match bytes.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let digest = BlobDigest::from_bytes(hasher.finalize().into());
    Ok(Descriptor::new(kind, digest, size))
}

fn member(members: &Members, path: &str) -> Result<(u64, u64), String> {
    members.get(path).copied().ok_or_else(|| format!("{path} is missing in it"))
}

fn document(file: &mut File, members: &Members, path: &str) -> Result<Vec<u8>, String> {
    let (start, size) = member(members, path)?;
    if size > DOCUMENT_BYTES {
        return Err(format!("its {path} is too long"));
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.by_ref().take(size).read_to_end(&mut bytes))
        .map_err(|error| format!("its {path} cannot be read: {error}"))?;
    Ok(bytes)
}
