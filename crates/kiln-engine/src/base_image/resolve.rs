//! Finding an image: the store's own first, then those it remembers, then the registry.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, ImageConfig, Index, Manifest, Platform, Reference, media_type};
use kiln_core::plan::{ImageFact, ImageNeed, ImageSource};
use kiln_registry::Repository;

use super::{BaseImage, Origin};
use crate::activity::Activities;
use crate::engine::Engine;
use crate::error::{BuildError, FileContext, with_causes};
use crate::request::{NamedContext, Pull};

/// A manifest with what is needed to go on from it.
struct Found {
    bytes: Vec<u8>,
    descriptor: Descriptor,
    origin: Origin,
    /// The registry was asked: the answer is to be remembered.
    is_new: bool,
}

/// Where an image is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    /// The layout that its name stands for.
    pub(crate) context: Option<&'a NamedContext>,
    /// What its name is locked to.
    pub(crate) pinned: Option<BlobDigest>,
    /// Whether registries are asked where tags point.
    pub(crate) pull: Pull,
}

/// Finds the image of a need: config and layers, no layer's bytes.
pub(crate) fn resolve(
    engine: &Engine,
    need: &ImageNeed,
    search: Search<'_>,
    activities: &Activities,
) -> Result<(ImageFact, Arc<BaseImage>), BuildError> {
    let Search { context, pinned, pull } = search;
    let platform: Platform = need
        .platform
        .parse()
        .map_err(|error| BuildError::Image { message: format!("{error}"), help: None })?;
    let mut source = need.source.clone();
    if let ImageSource::Reference(reference) = &mut source {
        reference.digest = pinned.or(reference.digest);
    }
    let found = match (&source, context) {
        (ImageSource::Layout { .. }, Some(NamedContext::Layout { path, reference })) => {
            from_layout(path, reference.as_deref(), &platform)?
        }
        (ImageSource::Layout { context }, Some(NamedContext::Stored(descriptor))) => {
            from_store(engine, (context, descriptor), &platform)?
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
    let config_bytes = config_bytes(engine, &found.origin, &manifest.config)?;
    let config: ImageConfig = parse(&config_bytes, &shown)?;
    if let (ImageSource::Reference(reference), true) = (&source, found.is_new) {
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
    let name = match &need.source {
        ImageSource::Reference(reference) => reference.to_string(),
        ImageSource::Layout { context } => format!("context `{context}`"),
    };
    let layers = (diff_ids.clone(), manifest.layers);
    let image = Arc::new(BaseImage::new(name, layers, found.origin));
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

/// The result of another target.
fn from_store(
    engine: &Engine,
    (context, descriptor): (&str, &Descriptor),
    platform: &Platform,
) -> Result<Found, BuildError> {
    let found = in_store(engine, descriptor.clone(), platform)?;
    let descriptor = found.ok_or_else(|| BuildError::Image {
        message: format!("the result that context `{context}` stands for has no {platform}"),
        help: None,
    })?;
    let bytes = engine.store.content().read(&descriptor.digest)?;
    Ok(Found { bytes, descriptor, origin: Origin::Store, is_new: false })
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
        let mut known = engine.store.images().base(&name, &platform.to_string())?;
        if let (None, Some(digest)) = (&known, reference.digest) {
            known = by_digest(engine, digest, platform)?;
        }
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

/// What a registry's failure means for the build; `asked` is what for, where the error does not
/// say it.
pub(crate) fn registry_error(asked: Option<&str>, error: &kiln_registry::Error) -> BuildError {
    use kiln_registry::Error;
    let causes = with_causes(error);
    let message = match asked {
        Some(asked) => format!("{asked}: {causes}"),
        None => causes,
    };
    let help = error.hint();
    match error {
        Error::Cancelled => BuildError::Canceled,
        Error::Unreachable { .. }
        | Error::Tls { .. }
        | Error::TooManyRequests { .. }
        | Error::Interrupted { .. }
        | Error::Status { status: 500.., .. }
        | Error::Objects { status: 429 | 500.., .. } => BuildError::Network { message, help },
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

/// The manifest for a platform of what the store has under a digest, whatever its name was.
fn by_digest(
    engine: &Engine,
    digest: BlobDigest,
    platform: &Platform,
) -> Result<Option<Descriptor>, BuildError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    if !engine.store.content().has(&digest) {
        return Ok(None);
    }
    let bytes = engine.store.content().read(&digest)?;
    let Typed { media_type: own, manifests } = parse(&bytes, "in the store")?;
    let usual = manifests.map_or(media_type::OCI_MANIFEST, |_| media_type::OCI_INDEX);
    let own = own.unwrap_or_else(|| usual.to_owned());
    in_store(engine, Descriptor::new(own, digest, bytes.len() as u64), platform)
}

fn from_registry(
    engine: &Engine,
    reference: &Reference,
    platform: &Platform,
) -> Result<(Vec<u8>, Descriptor), BuildError> {
    let asked = reference.familiar();
    let image_error = |error| registry_error(Some(&asked), &error);
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
    path: &Path,
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

pub(crate) fn layout_blob(layout: &Path, digest: &BlobDigest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

fn read_layout_blob(layout: &Path, digest: &BlobDigest) -> Result<Vec<u8>, BuildError> {
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

/// The bytes of a config. It is kept in the store.
fn config_bytes(
    engine: &Engine,
    origin: &Origin,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, BuildError> {
    let content = engine.store.content();
    if content.has(&descriptor.digest) {
        return Ok(content.read(&descriptor.digest)?);
    }
    match origin {
        Origin::Layout(path) => read_layout_blob(path, &descriptor.digest),
        Origin::Store => Err(BuildError::Image {
            message: format!("blob {} is missing in the store", descriptor.digest),
            help: Some("`kiln fsck --repair` removes what is not whole".to_owned()),
        }),
        Origin::Registry(repository) => {
            let bytes = engine
                .registry
                .document_blob(repository, descriptor)
                .map_err(|error| registry_error(None, &error))?;
            content.put(&bytes)?;
            Ok(bytes)
        }
    }
}
