//! Base images: from a reference to facts, and from a layer's blob to its files.
//!
//! Nothing is fetched before something needs it: planning takes the manifest and the config, an
//! unpacked layer is made when a step or an output needs its files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::digest::{BlobDigest, ChainId, DiffId};
use kiln_core::oci::{Descriptor, ImageConfig, Index, Manifest, Platform, Reference, media_type};
use kiln_core::plan::{ImageFact, ImageNeed, ImageSource};
use kiln_registry::Repository;
use kiln_store::layer::{LayerIndex, Tree, Unpack, adopt, unpack};
use kiln_store::{Layer, WorkingLayer};

use crate::activity::{Activities, Running};
use crate::engine::Engine;
use crate::error::{BuildError, FileContext, with_causes};
use crate::request::{NamedContext, Pull};
use crate::solve::record_of;

/// An image that steps stand on.
#[derive(Debug)]
pub(crate) struct BaseImage {
    /// Layers by diff ID, lowest first.
    pub(crate) diff_ids: Vec<DiffId>,
    /// Layers as blobs, in the same order.
    pub(crate) layers: Vec<Descriptor>,
    origin: Origin,
    /// One lock a layer: it is unpacked once, however many steps wait for it.
    unpacked: Vec<Mutex<Option<Arc<Layer>>>>,
}

/// Where blobs that the store lacks come from.
#[derive(Clone, Debug)]
enum Origin {
    Registry(Repository),
    Layout(PathBuf),
    Store,
}

/// A manifest with what is needed to go on from it.
struct Found {
    bytes: Vec<u8>,
    descriptor: Descriptor,
    origin: Origin,
    /// The registry was asked: the answer is to be remembered.
    is_new: bool,
}

/// Finds the image of a need: config and layers, no layer's bytes.
pub(crate) fn resolve(
    engine: &Engine,
    need: &ImageNeed,
    (context, pull): (Option<&NamedContext>, Pull),
    activities: &Activities,
) -> Result<(ImageFact, Arc<BaseImage>), BuildError> {
    let platform: Platform = need
        .platform
        .parse()
        .map_err(|error| BuildError::Image { message: format!("{error}"), help: None })?;
    let found = match (&need.source, context) {
        (ImageSource::Layout { .. }, Some(NamedContext::Layout { path, reference })) => {
            from_layout(path, reference.as_deref(), &platform)?
        }
        (ImageSource::Layout { context }, _) => {
            return Err(BuildError::Usage(format!("named context `{context}` is no OCI layout")));
        }
        (ImageSource::Reference(reference), _) => {
            from_reference(engine, reference, &platform, pull, activities)?
        }
    };
    let shown = shown(&need.source);
    let manifest: Manifest = parse(&found.bytes, &shown)?;
    let config_bytes = blob_bytes(engine, &found.origin, &manifest.config)?;
    let config: ImageConfig = parse(&config_bytes, &shown)?;
    if let (ImageSource::Reference(reference), true) = (&need.source, found.is_new) {
        let images = engine.store.images();
        images.remember_base(&reference.to_string(), &need.platform, &found.descriptor)?;
    }
    let diff_ids = config.rootfs.diff_ids.clone().unwrap_or_default();
    if diff_ids.len() != manifest.layers.len() {
        return Err(BuildError::Image {
            message: format!(
                "image {shown} is broken: its manifest has {} layers, its config {}",
                manifest.layers.len(),
                diff_ids.len()
            ),
            help: None,
        });
    }
    let image = Arc::new(BaseImage::new(diff_ids.clone(), manifest.layers, found.origin));
    Ok((ImageFact { manifest: found.descriptor.digest, config, diff_ids }, image))
}

fn shown(source: &ImageSource) -> String {
    match source {
        ImageSource::Reference(reference) => reference.familiar(),
        ImageSource::Layout { context } => format!("of context `{context}`"),
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], shown: &str) -> Result<T, BuildError> {
    serde_json::from_slice(bytes).map_err(|error| BuildError::Image {
        message: format!("image {shown} is broken: {error}"),
        help: None,
    })
}

/// The store's own images first, then base images it remembers, then the registry.
fn from_reference(
    engine: &Engine,
    reference: &Reference,
    platform: &Platform,
    pull: Pull,
    activities: &Activities,
) -> Result<Found, BuildError> {
    let name = reference.to_string();
    if let Some(descriptor) = engine.store.images().resolve(&name)?
        && let Some(descriptor) = in_store(engine, descriptor, platform)?
    {
        let bytes = engine.store.content().read(&descriptor.digest)?;
        return Ok(Found { bytes, descriptor, origin: Origin::Store, is_new: false });
    }
    let repository = Repository::from(reference);
    if pull == Pull::IfMissing || reference.digest.is_some() {
        let known = engine.store.images().base(&name, &platform.to_string())?;
        if let Some(descriptor) = known.filter(|known| engine.store.content().has(&known.digest)) {
            let bytes = engine.store.content().read(&descriptor.digest)?;
            let origin = Origin::Registry(repository);
            return Ok(Found { bytes, descriptor, origin, is_new: false });
        }
    }
    let activity = activities.start(format!("[internal] load metadata for {name}"));
    let result = from_registry(engine, reference, platform);
    activity.finish(&result);
    let (bytes, descriptor) = result?;
    engine.store.content().put(&bytes)?;
    Ok(Found { bytes, descriptor, origin: Origin::Registry(repository), is_new: true })
}

/// What a registry's failure means for the build; `reference` is what was asked for, where the
/// error does not say it.
fn registry_error(reference: Option<&Reference>, error: &kiln_registry::Error) -> BuildError {
    use kiln_registry::Error;
    let causes = with_causes(error);
    let message = match reference {
        Some(reference) => format!("{}: {causes}", reference.familiar()),
        None => causes,
    };
    let help = error.hint();
    match error {
        Error::Cancelled => BuildError::Canceled,
        Error::Unreachable { .. }
        | Error::Tls { .. }
        | Error::TooManyRequests { .. }
        | Error::Interrupted { .. }
        | Error::Status { status: 500.., .. } => BuildError::Network { message, help },
        _ => BuildError::Image { message, help },
    }
}

/// The manifest for a platform of an image in the store; `None` if it has none for it.
fn in_store(
    engine: &Engine,
    descriptor: Descriptor,
    platform: &Platform,
) -> Result<Option<Descriptor>, BuildError> {
    if !engine.store.content().has(&descriptor.digest) {
        return Ok(None);
    }
    if !media_type::is_index(&descriptor.media_type) {
        return Ok(Some(descriptor));
    }
    let bytes = engine.store.content().read(&descriptor.digest)?;
    let index: Index = parse(&bytes, "in the store")?;
    Ok(index.select(platform).cloned())
}

fn from_registry(
    engine: &Engine,
    reference: &Reference,
    platform: &Platform,
) -> Result<(Vec<u8>, Descriptor), BuildError> {
    let image_error = |error| registry_error(Some(reference), &error);
    let resolved = engine.registry.resolve(reference).map_err(image_error)?;
    if !media_type::is_index(&resolved.descriptor.media_type) {
        return Ok((resolved.bytes, resolved.descriptor));
    }
    let index: Index = parse(&resolved.bytes, &reference.familiar())?;
    let descriptor =
        index.select(platform).cloned().ok_or_else(|| no_platform(&index, reference, platform))?;
    let repository = Repository::from(reference);
    let resolved = engine.registry.manifest(&repository, descriptor.digest).map_err(image_error)?;
    Ok((resolved.bytes, descriptor))
}

fn no_platform(index: &Index, reference: &Reference, platform: &Platform) -> BuildError {
    let offered: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|manifest| manifest.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(ToString::to_string)
        .collect();
    BuildError::Image {
        message: format!("{}: no match for platform {platform}", reference.familiar()),
        help: Some(format!("the image is there for [{}]", offered.join(", "))),
    }
}

/// An image of a layout on disk. Blobs are read where they are.
fn from_layout(
    path: &std::path::Path,
    reference: Option<&str>,
    platform: &Platform,
) -> Result<Found, BuildError> {
    let broken = |message: String| BuildError::Image {
        message: format!("OCI layout {}: {message}", path.display()),
        help: None,
    };
    let index_path = path.join("index.json");
    let bytes = std::fs::read(&index_path).at("read", &index_path)?;
    let index: Index = parse(&bytes, &index_path.display().to_string())?;
    let named = |descriptor: &&Descriptor| match reference {
        None => true,
        Some(name) => {
            let annotation = descriptor.annotations.get("org.opencontainers.image.ref.name");
            annotation.map(String::as_str) == Some(name) || descriptor.digest.to_string() == name
        }
    };
    let candidates: Vec<Descriptor> = index.manifests.iter().filter(named).cloned().collect();
    let mut descriptor = match candidates.as_slice() {
        [] => {
            let name = reference.unwrap_or("");
            return Err(broken(format!("it has no image `{name}`")));
        }
        [only] => only.clone(),
        several => Index::new(several.to_vec())
            .select(platform)
            .cloned()
            .ok_or_else(|| broken(format!("no match for platform {platform}")))?,
    };
    let read = |digest: &BlobDigest| read_layout_blob(path, digest);
    let mut bytes = read(&descriptor.digest)?;
    // An index may point to indexes; a chain of them that does not end is broken.
    for _ in 0..4 {
        if !media_type::is_index(&descriptor.media_type) {
            let origin = Origin::Layout(path.to_owned());
            return Ok(Found { bytes, descriptor, origin, is_new: false });
        }
        let index: Index = parse(&bytes, &path.display().to_string())?;
        descriptor = index
            .select(platform)
            .cloned()
            .ok_or_else(|| broken(format!("no match for platform {platform}")))?;
        bytes = read(&descriptor.digest)?;
    }
    Err(broken("its indexes point to each other".to_owned()))
}

fn layout_blob(layout: &std::path::Path, digest: &BlobDigest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

fn read_layout_blob(layout: &std::path::Path, digest: &BlobDigest) -> Result<Vec<u8>, BuildError> {
    let path = layout_blob(layout, digest);
    let bytes = std::fs::read(&path).at("read", &path)?;
    if BlobDigest::of(&bytes) == *digest {
        return Ok(bytes);
    }
    Err(BuildError::Image {
        message: format!("{} does not hold what its name says", path.display()),
        help: Some("the layout is damaged: make it again".to_owned()),
    })
}

/// A small blob: a config. It is kept in the store.
fn blob_bytes(
    engine: &Engine,
    origin: &Origin,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, BuildError> {
    if engine.store.content().has(&descriptor.digest) {
        return Ok(engine.store.content().read(&descriptor.digest)?);
    }
    match origin {
        Origin::Layout(path) => read_layout_blob(path, &descriptor.digest),
        Origin::Store | Origin::Registry(_) => {
            fetch(engine, origin, descriptor, None)?;
            Ok(engine.store.content().read(&descriptor.digest)?)
        }
    }
}

/// Brings a blob into the store, verified while it is read.
fn fetch(
    engine: &Engine,
    origin: &Origin,
    descriptor: &Descriptor,
    activity: Option<&Running<'_>>,
) -> Result<(), BuildError> {
    let content = engine.store.content();
    match origin {
        Origin::Layout(path) => {
            let path = layout_blob(path, &descriptor.digest);
            content.import(&path, &descriptor.digest, descriptor.size)?;
        }
        Origin::Store => {
            return Err(BuildError::Image {
                message: format!("blob {} is missing in the store", descriptor.digest),
                help: Some("`kiln fsck --repair` removes what is not whole".to_owned()),
            });
        }
        Origin::Registry(repository) => {
            let image_error = |error| registry_error(None, &error);
            let mut reader = engine.registry.blob(repository, descriptor).map_err(image_error)?;
            let mut writer = content.writer()?;
            let mut buffer = vec![0; 256 * 1024];
            let (mut done, mut reported) = (0, 0);
            loop {
                let read = std::io::Read::read(&mut reader, &mut buffer).map_err(|error| {
                    match kiln_registry::Error::from_io(error) {
                        Ok(error) => registry_error(None, &error),
                        Err(error) => BuildError::Image {
                            message: format!("{}: {error}", descriptor.digest),
                            help: None,
                        },
                    }
                })?;
                if read == 0 {
                    break;
                }
                std::io::Write::write_all(&mut writer, &buffer[..read])
                    .at("write", &engine.store.content().path(&descriptor.digest))?;
                done += read as u64;
                if let Some(activity) = activity.filter(|_| done - reported >= 1 << 20) {
                    reported = done;
                    let item = descriptor.digest.to_string();
                    activity.progress(&item, done, Some(descriptor.size));
                }
            }
            writer.commit(Some(descriptor.digest))?;
        }
    }
    Ok(())
}

impl BaseImage {
    fn new(diff_ids: Vec<DiffId>, layers: Vec<Descriptor>, origin: Origin) -> Self {
        let unpacked = diff_ids.iter().map(|_| Mutex::new(None)).collect();
        Self { diff_ids, layers, origin, unpacked }
    }

    /// An image whose blobs are all in the store.
    pub(crate) fn in_store(diff_ids: Vec<DiffId>, layers: Vec<Descriptor>) -> Self {
        Self::new(diff_ids, layers, Origin::Store)
    }

    /// The blob of a layer in the store, fetched if it is not there.
    pub(crate) fn ensure_blob(&self, engine: &Engine, position: usize) -> Result<(), BuildError> {
        let descriptor = &self.layers[position];
        if engine.store.content().has(&descriptor.digest) {
            return Ok(());
        }
        fetch(engine, &self.origin, descriptor, None)
    }

    /// The files of a layer, unpacked if they are not yet.
    pub(crate) fn unpacked(
        &self,
        engine: &Engine,
        position: usize,
        sink: &Activities,
    ) -> Result<Arc<Layer>, BuildError> {
        let mut known =
            self.unpacked[position].lock().expect("no thread panics with a layer locked");
        if let Some(layer) = known.as_ref() {
            return Ok(Arc::clone(layer));
        }
        let layer = Arc::new(self.unpack(engine, position, sink)?);
        *known = Some(Arc::clone(&layer));
        Ok(layer)
    }

    /// An archive may name a file without the directories above it. Those have the attributes of
    /// the layers below, so that such a layer belongs to its chain and not to its diff ID alone.
    fn adopt(
        &self,
        engine: &Engine,
        position: usize,
        (working, index): (WorkingLayer, &LayerIndex),
        activities: &Activities,
    ) -> Result<Layer, BuildError> {
        let mut below = Vec::new();
        for lower in 0..position {
            let layer = self.unpacked(engine, lower, activities)?;
            let bytes = std::fs::read(&layer.index_path).at("read", &layer.index_path)?;
            below.push(Arc::new(LayerIndex::decode(&bytes)?));
        }
        let index = adopt(index, &working.upper, &Tree::new(below))?;
        let content = index.content_id();
        let layers = engine.store.layers();
        let layer = layers.commit(working, &index.encode(), content, content)?;
        let parts = self.adopted_parts(position);
        let (key, recipe) = (parts.key(), *parts.key().as_bytes());
        let record = record_of(&layer, (recipe, parts), "layer of a base image");
        engine.store.cache_index().record(key, &record)?;
        Ok(layer)
    }

    /// Under what such a layer is remembered.
    fn adopted_parts(&self, position: usize) -> KeyParts {
        let chain = ChainId::of(&self.diff_ids[..=position]);
        KeyParts(vec![KeyPart {
            name: "base layer with the directories of its chain".to_owned(),
            value: chain.map_or_else(String::new, |chain| chain.to_string()),
        }])
    }

    fn unpack(
        &self,
        engine: &Engine,
        position: usize,
        activities: &Activities,
    ) -> Result<Layer, BuildError> {
        let diff_id = self.diff_ids[position];
        let layers = engine.store.layers();
        if let Some(layer) = layers.by_diff_id(&diff_id)? {
            return Ok(layers.unpack(&layer)?);
        }
        let adopted = self.adopted_parts(position).key();
        if let Some(record) = engine.store.cache_index().lookup(&adopted)?
            && let Some(layer) = layers.by_id(&record.result.layer)?
        {
            return Ok(layers.unpack(&layer)?);
        }
        let descriptor = &self.layers[position];
        let activity = activities.start(format!("[internal] unpack layer {}", descriptor.digest));
        let result = (|| {
            if !engine.store.content().has(&descriptor.digest) {
                fetch(engine, &self.origin, descriptor, Some(&activity))?;
            }
            let blob = engine.store.content().open(&descriptor.digest)?;
            let working = layers.begin()?;
            let expected = Unpack { digest: descriptor.digest, diff_id };
            let index = unpack(blob, expected, &working.upper)?;
            if position > 0 && index.implied().any(|entry| !entry.path.is_empty()) {
                return self.adopt(engine, position, (working, &index), activities);
            }
            Ok(layers.commit_base(working, &index.encode(), index.content_id(), diff_id)?)
        })();
        activity.finish::<_, BuildError>(&result);
        result
    }
}
