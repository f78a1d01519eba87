//! All that an image consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Index, Manifest, Platform, media_type};
use kiln_registry::is_foreign;

use super::Work;
use super::registry::each;
use super::source::Source;
use crate::error::BuildError;
use crate::solve::lock;

/// Indexes are followed this deep.
const INDEX_DEPTH: usize = 4;

/// What of an image is wanted.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// Everything.
    All,
    /// The manifest for a platform.
    Platform(Platform),
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
}

/// An image.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// Each before those that name it; the last is what the image's name stands for.
    pub(super) documents: Vec<Document>,
    /// Configs and layers, each once. Layers that are kept elsewhere on purpose are none.
    pub(super) blobs: Vec<Descriptor>,
}

impl Tree {
    /// Reads an image's documents.
    pub(super) fn collect(
        work: &Work<'_>,
        source: &Source,
        root: Descriptor,
        wanted: &Wanted,
    ) -> Result<Self, BuildError> {
        let mut tree = Self { documents: Vec::new(), blobs: Vec::new() };
        let root = match wanted {
            Wanted::All => root,
            Wanted::Platform(platform) => select(work, source, root, platform)?,
        };
        let bytes = source.document(work, &root)?;
        let mut seen = BTreeSet::from([root.digest]);
        tree.add(work, source, (Document { descriptor: root, bytes }, 0), &mut seen)?;
        Ok(tree)
    }

    /// What the image's name stands for.
    pub(super) fn root(&self) -> &Descriptor {
        &self.documents.last().expect("a tree has a root").descriptor
    }

    fn add(
        &mut self,
        work: &Work<'_>,
        source: &Source,
        (document, depth): (Document, usize),
        seen: &mut BTreeSet<BlobDigest>,
    ) -> Result<(), BuildError> {
        let Document { descriptor, bytes } = &document;
        if media_type::is_index(&descriptor.media_type) {
            if depth >= INDEX_DEPTH {
                return Err(broken(descriptor, "its indexes are nested too deep"));
            }
            let mut index: Index = parse(descriptor, bytes)?;
            index.manifests.retain(|manifest| seen.insert(manifest.digest));
            for below in fetch(work, source, &index.manifests)? {
                self.add(work, source, (below, depth + 1), seen)?;
            }
        } else {
            let manifest: Manifest = parse(descriptor, bytes)?;
            let blobs = std::iter::once(manifest.config).chain(manifest.layers);
            self.blobs.extend(blobs.filter(|blob| !is_foreign(blob) && seen.insert(blob.digest)));
        }
        self.documents.push(document);
        Ok(())
    }
}

/// Reads what an index names, several at a time.
fn fetch(
    work: &Work<'_>,
    source: &Source,
    descriptors: &[Descriptor],
) -> Result<Vec<Document>, BuildError> {
    let fetched = Mutex::new(BTreeMap::new());
    each(work, descriptors, |descriptor| {
        let bytes = source.document(work, descriptor)?;
        lock(&fetched).insert(descriptor.digest, bytes);
        Ok(())
    })?;
    let mut fetched = fetched.into_inner().unwrap_or_else(PoisonError::into_inner);
    let document = |descriptor: &Descriptor| {
        let bytes = fetched.remove(&descriptor.digest)?;
        Some(Document { descriptor: descriptor.clone(), bytes })
    };
    Ok(descriptors.iter().filter_map(document).collect())
}

/// The manifest for a platform.
fn select(
    work: &Work<'_>,
    source: &Source,
    root: Descriptor,
    platform: &Platform,
) -> Result<Descriptor, BuildError> {
    let mut at = root;
    for _ in 0..INDEX_DEPTH {
        if !media_type::is_index(&at.media_type) {
            return Ok(at);
        }
        let index: Index = parse(&at, &source.document(work, &at)?)?;
        at = index.select(platform).cloned().ok_or_else(|| {
            let offered: Vec<String> = index
                .manifests
                .iter()
                .filter_map(|manifest| manifest.platform.as_ref())
                .filter(|platform| platform.os != "unknown")
                .map(ToString::to_string)
                .collect();
            BuildError::Image {
                message: format!("the image is not there for {platform}"),
                help: Some(format!("it is for {}", offered.join(", "))),
            }
        })?;
    }
    Err(broken(&at, "its indexes are nested too deep"))
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(
    descriptor: &Descriptor,
    bytes: &[u8],
) -> Result<T, BuildError> {
    serde_json::from_slice(bytes).map_err(|error| broken(descriptor, &error.to_string()))
}

pub(super) fn broken(descriptor: &Descriptor, reason: &str) -> BuildError {
    BuildError::Image {
        message: format!("{} is not valid: {reason}", descriptor.digest),
        help: None,
    }
}
