//! Images that different machines built, joined into one index; and what an index holds.
//!
//! ```text
//! sources ──▶ manifests ──▶ their blobs and documents into the target's repository ──▶ index, names
//! ```
//!
//! An index among the sources gives its manifests, attestations included, with their descriptors as
//! they are. No manifest changes: who has pulled one of them by digest has the same image. A single
//! index without annotations keeps its bytes, and so its digest.

use std::io::Read;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{
    Descriptor, ImageConfig, Index, Manifest, Platform, Reference, media_type, to_indented_json,
};
use kiln_registry::Repository;

use super::registry::send;
use super::source::{Source, unread};
use super::tree::{Document, Tree, Wanted, parse};
use super::{ImagePlace, Watch, Work, transfer};
use crate::engine::Engine;
use crate::error::BuildError;

/// The annotation by which an attestation names its image (BuildKit).
const ATTESTED: &str = "vnd.docker.reference.digest";

/// What is joined.
#[derive(Clone, Debug)]
pub struct IndexRequest {
    /// Images, or indexes of them; in this order.
    pub sources: Vec<ImagePlace>,
    /// What the index is called, in registries.
    pub names: Vec<Reference>,
    /// Annotations of the index.
    pub annotations: Vec<(String, String)>,
    /// Annotations of manifests in the index: of those for a platform, or of all.
    pub manifest_annotations: Vec<(Option<Platform>, String, String)>,
    /// Whether what the first name stands for is joined, too.
    pub base: IndexBase,
    /// Whether anything is sent.
    pub effect: IndexEffect,
}

/// What an index begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexBase {
    /// Nothing.
    #[default]
    Empty,
    /// `--append`: what has the first name. An image for the same platform takes the place of one
    /// that is there.
    Named,
}

/// What is done with an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexEffect {
    /// It is sent.
    #[default]
    Push,
    /// `--dry-run`: it is only made.
    Show,
}

/// A manifest or an index as it is somewhere.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What of an index came from where.
struct Part {
    source: Source,
    descriptor: Descriptor,
    /// How messages name it.
    place: String,
    is_old: bool,
}

/// Joins images, and sends the index under its names with all that it lacks there. Gives the index.
///
/// # Errors
/// When a source is not there, two are for the same platform, or a registry does not take them.
pub fn join_images(
    engine: &Engine,
    request: &IndexRequest,
    watch: Watch<'_>,
) -> Result<FoundImage, BuildError> {
    let shown: Vec<String> = request.names.iter().map(Reference::familiar).collect();
    transfer(engine, format!("join {}", shown.join(", ")), watch, |work| {
        let (parts, whole) = collect(work, request)?;
        let index = match whole {
            Some(whole) => whole,
            None => index_of(request, &parts),
        };
        if request.effect == IndexEffect::Push {
            push(work, request, (&parts, &index))?;
        }
        Ok(index)
    })
}

/// What a place has under a name.
///
/// # Errors
/// When there is nothing.
pub fn find_image(
    engine: &Engine,
    place: &ImagePlace,
    watch: Watch<'_>,
) -> Result<FoundImage, BuildError> {
    transfer(engine, format!("inspect {place}"), watch, |work| {
        let (source, descriptor) = Source::open(work, place)?;
        let bytes = source.document(work, &descriptor)?;
        Ok(FoundImage { descriptor, bytes })
    })
}

/// The manifests of all sources; and the one index that there is, if it goes on as it is.
fn collect(
    work: &Work<'_>,
    request: &IndexRequest,
) -> Result<(Vec<Part>, Option<FoundImage>), BuildError> {
    let old = match (request.base, request.names.first()) {
        (IndexBase::Named, Some(name)) => Some(ImagePlace::Registry(name.clone())),
        _ => None,
    };
    let mut parts: Vec<Part> = Vec::new();
    let mut indexes = Vec::new();
    let old = old.iter().map(|place| (place, true));
    for (place, is_old) in old.chain(request.sources.iter().map(|place| (place, false))) {
        let (source, root) = Source::open(work, place)?;
        let bytes = source.document(work, &root)?;
        let manifests = if media_type::is_index(&root.media_type) {
            let index: Index = parse(&root, &bytes)?;
            indexes.push(FoundImage { descriptor: root, bytes });
            index.manifests
        } else {
            vec![described(work, &source, root, &bytes)?]
        };
        for descriptor in manifests {
            let (source, place) = (source.clone(), place.to_string());
            add(&mut parts, Part { source, descriptor, place, is_old })?;
        }
    }
    let is_alone = request.sources.len() == 1 && request.base == IndexBase::Empty;
    let is_plain = request.annotations.is_empty() && request.manifest_annotations.is_empty();
    let whole = if is_alone && is_plain { indexes.pop() } else { None };
    Ok((parts, whole))
}

/// The descriptor that a manifest has in an index: with the platform of its config.
fn described(
    work: &Work<'_>,
    source: &Source,
    root: Descriptor,
    bytes: &[u8],
) -> Result<Descriptor, BuildError> {
    let manifest: Manifest = parse(&root, bytes)?;
    let mut text = Vec::new();
    let mut reader = source.reader(work, &manifest.config)?;
    reader.read_to_end(&mut text).map_err(|error| unread(&manifest.config, error))?;
    let config: ImageConfig = parse(&manifest.config, &text)?;
    let plain = Descriptor::new(root.media_type, root.digest, bytes.len() as u64);
    Ok(Descriptor { platform: Some(config.platform()), ..plain })
}

/// Adds a manifest, unless it is there.
fn add(parts: &mut Vec<Part>, part: Part) -> Result<(), BuildError> {
    let digest = part.descriptor.digest;
    if parts.iter().any(|known| known.descriptor.digest == digest) {
        return Ok(());
    }
    let is_same = |known: &Part| {
        let platforms = (&known.descriptor.platform, &part.descriptor.platform);
        matches!(platforms, (Some(one), Some(other)) if one == other && one.os != "unknown")
    };
    let Some(at) = parts.iter().position(is_same) else {
        parts.push(part);
        return Ok(());
    };
    if !parts[at].is_old || part.is_old {
        let platform = part.descriptor.platform.as_ref().map(ToString::to_string);
        let message = format!(
            "{} and {} are both for {}: an index has one image for each platform",
            parts[at].place,
            part.place,
            platform.unwrap_or_default()
        );
        return Err(BuildError::Image { message, help: None });
    }
    let gone = parts[at].descriptor.digest.to_string();
    parts[at] = part;
    // What attested the one that is gone, attests nothing.
    parts.retain(|known| known.descriptor.annotations.get(ATTESTED) != Some(&gone));
    Ok(())
}

/// The index of these manifests, with Docker's media type if all of them are Docker's.
fn index_of(request: &IndexRequest, parts: &[Part]) -> FoundImage {
    let manifests = parts.iter().map(|part| {
        let mut descriptor = part.descriptor.clone();
        for (platform, key, value) in &request.manifest_annotations {
            if platform.is_none() || *platform == descriptor.platform {
                descriptor.annotations.insert(key.clone(), value.clone());
            }
        }
        descriptor
    });
    let mut index = Index::new(manifests.collect());
    index.annotations.extend(request.annotations.iter().cloned());
    let is_docker = |part: &Part| part.descriptor.media_type == media_type::DOCKER_MANIFEST;
    let is_annotated = !request.annotations.is_empty() || !request.manifest_annotations.is_empty();
    if !is_annotated && parts.iter().all(is_docker) {
        index.media_type = Some(media_type::DOCKER_INDEX.to_owned());
    }
    let bytes = to_indented_json(&index);
    let name = index.media_type.unwrap_or_default();
    let descriptor = Descriptor::new(name, BlobDigest::of(&bytes), bytes.len() as u64);
    FoundImage { descriptor, bytes }
}

/// Sends the parts to where they are not yet, then the index.
fn push(
    work: &Work<'_>,
    request: &IndexRequest,
    (parts, index): (&[Part], &FoundImage),
) -> Result<(), BuildError> {
    let mut unnamed: Vec<Reference> = Vec::new();
    for name in &request.names {
        let reference = Reference { tag: None, digest: None, ..name.clone() };
        if !unnamed.contains(&reference) {
            unnamed.push(reference);
        }
    }
    for part in parts {
        let is_there = |name: &Reference| match &part.source {
            Source::Registry(repository, _) => *repository == Repository::from(name),
            _ => false,
        };
        let lacking: Vec<Reference> =
            unnamed.iter().filter(|name| !is_there(name)).cloned().collect();
        if lacking.is_empty() {
            continue;
        }
        let tree = Tree::collect(work, &part.source, part.descriptor.clone(), &Wanted::All)?;
        send(work, (&part.source, tree, None), &lacking)?;
    }
    let FoundImage { descriptor, bytes } = index.clone();
    let tree = Tree { documents: vec![Document { descriptor, bytes }], blobs: Vec::new() };
    send(work, (&Source::Store, tree, None), &request.names).map(drop)
}
