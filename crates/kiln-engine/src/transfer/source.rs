//! Where an image is read from.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Index};
use kiln_registry::{BlobSource, ObjectPlace, Repository, Resolved};
use sha2::{Digest as _, Sha256};

use super::archive::Archive;
use super::tree::{broken, parse};
use super::{ImagePlace, Work};
use crate::base_image::{Fetcher, bring_blob, layout_blob, registry_error};
use crate::error::{BuildError, FileContext};

/// The annotations that name an image in a layout, the usual one first.
pub(super) const NAMES: [&str; 2] =
    ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// Documents are not longer than this.
const DOCUMENT_BYTES: u64 = 16 << 20;

/// A place that is read.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The repository, and what the image's name stands for there.
    Registry(Repository, Arc<Resolved>),
    /// Objects by their digests.
    Objects(ObjectPlace),
    Layout(PathBuf),
    Archive(Arc<Archive>),
    Store,
}

impl Source {
    /// The source and what the name stands for there.
    pub(super) fn open(
        work: &Work<'_>,
        place: &ImagePlace,
    ) -> Result<(Self, Descriptor), BuildError> {
        match place {
            ImagePlace::Registry(reference) => {
                let resolved = work.engine.registry.resolve(reference);
                let resolved = resolved.map_err(|error| registry_error(None, &error))?;
                let root = resolved.descriptor.clone();
                Ok((Self::Registry(Repository::from(reference), Arc::new(resolved)), root))
            }
            ImagePlace::Layout { path, name } => {
                let index_path = path.join("index.json");
                let bytes = std::fs::read(&index_path).at("read", &index_path)?;
                Ok((Self::Layout(path.clone()), named(place, &bytes, name.as_deref())?))
            }
            ImagePlace::Archive { path, name, .. } => {
                let archive = Archive::open(path)?;
                let root = named(place, archive.index(), name.as_deref())?;
                Ok((Self::Archive(Arc::new(archive)), root))
            }
        }
    }

    /// A manifest's or index's bytes, which have its digest.
    pub(super) fn document(
        &self,
        work: &Work<'_>,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, BuildError> {
        if descriptor.size > DOCUMENT_BYTES {
            return Err(broken(descriptor, "it is too long"));
        }
        if let Self::Registry(repository, root) = self {
            if root.descriptor.digest == descriptor.digest {
                return Ok(root.bytes.clone());
            }
            let resolved = work.engine.registry.manifest(repository, descriptor.digest);
            return Ok(resolved.map_err(|error| registry_error(None, &error))?.bytes);
        }
        if let Self::Archive(archive) = self
            && let Some(bytes) = archive.made(&descriptor.digest)
        {
            return Ok(bytes.to_vec());
        }
        if matches!(self, Self::Store) && !work.engine.store.content().has(&descriptor.digest) {
            let platform = descriptor.platform.as_ref().map(ToString::to_string);
            return Err(BuildError::Image {
                message: format!(
                    "the store has not all of the image: {} is missing",
                    platform.unwrap_or_else(|| descriptor.digest.to_string())
                ),
                help: Some("`kiln pull --all-platforms` brings everything".to_owned()),
            });
        }
        let mut bytes = Vec::new();
        let read = self.reader(work, descriptor)?.read_to_end(&mut bytes);
        read.map_err(|error| unread(descriptor, error))?;
        Ok(bytes)
    }

    /// Where a blob can be read by who uploads it, one place or several to be tried in this order, and
    /// which repositories are known to have it. `near` is the registry that it goes to.
    pub(super) fn blob(
        &self,
        work: &Work<'_>,
        descriptor: &Descriptor,
        near: &str,
    ) -> Result<(Vec<BlobSource>, Vec<Repository>), BuildError> {
        let store = &work.engine.store;
        let digest = &descriptor.digest;
        let file = |path| BlobSource::File { path, offset_bytes: 0 };
        Ok(match self {
            Self::Registry(repository, _) => {
                (vec![BlobSource::Repository(repository.clone())], vec![repository.clone()])
            }
            Self::Objects(_) => unreachable!("no image is read from an object store"),
            Self::Layout(path) => (vec![file(layout_blob(path, digest))], Vec::new()),
            Self::Archive(archive) => {
                let (offset_bytes, _) = archive.member(descriptor)?;
                let path = archive.path().to_owned();
                (vec![BlobSource::File { path, offset_bytes }], Vec::new())
            }
            Self::Store => {
                let places = store.remote_blobs().places(digest)?;
                let mut places: Vec<Repository> =
                    places.iter().filter_map(|place| Repository::parse(place)).collect();
                // What is near is near, and can be mounted.
                places.sort_by_key(|place| place.registry != near);
                if store.content().has(digest) {
                    return Ok((vec![file(store.content().path(digest))], places));
                }
                let is_elsewhere = || {
                    let texts = store.remote_blobs().places(digest)?;
                    Ok::<_, BuildError>(texts.iter().any(|text| ObjectPlace::parse(text).is_some()))
                };
                if places.is_empty()
                    && (store.layers().compressed(digest)?.is_some() || is_elsewhere()?)
                {
                    bring_blob(&Fetcher::silent(work.engine), descriptor)?;
                    return Ok((vec![file(store.content().path(digest))], places));
                }
                if places.is_empty() {
                    return Err(BuildError::Image {
                        message: format!("layer {digest} is missing in the store"),
                        help: Some("build or pull the image again".to_owned()),
                    });
                }
                (places.iter().cloned().map(BlobSource::Repository).collect(), places)
            }
        })
    }

    /// Reads a blob; it ends well only if it has its digest and size.
    pub(super) fn reader(
        &self,
        work: &Work<'_>,
        descriptor: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, BuildError> {
        let (path, offset) = match self {
            Self::Registry(repository, _) => {
                let reader = work.engine.registry.blob(repository, descriptor);
                return Ok(Box::new(reader.map_err(|error| registry_error(None, &error))?));
            }
            Self::Objects(place) => {
                let reader = work.engine.registry.object_blob(place, descriptor);
                return Ok(Box::new(reader.map_err(|error| registry_error(None, &error))?));
            }
            Self::Layout(path) => (layout_blob(path, &descriptor.digest), 0),
            Self::Archive(archive) => (archive.path().to_owned(), archive.member(descriptor)?.0),
            Self::Store => (work.engine.store.content().path(&descriptor.digest), 0),
        };
        let mut file = File::open(&path).at("read", &path)?;
        file.seek(SeekFrom::Start(offset)).at("read", &path)?;
        Ok(Box::new(Verified {
            reader: file.take(descriptor.size),
            hasher: Sha256::new(),
            descriptor: descriptor.clone(),
            read_bytes: 0,
        }))
    }
}

/// What a failed read of a blob means.
pub(super) fn unread(descriptor: &Descriptor, error: io::Error) -> BuildError {
    match kiln_registry::Error::from_io(error) {
        Ok(error) => registry_error(None, &error),
        Err(error) => broken(descriptor, &error.to_string()),
    }
}

/// The image of a name in `index.json`.
fn named(place: &ImagePlace, bytes: &[u8], name: Option<&str>) -> Result<Descriptor, BuildError> {
    let broken = |message: String, help: Option<String>| BuildError::Image {
        message: format!("{place}: {message}"),
        help,
    };
    let index: Index = serde_json::from_slice(bytes)
        .map_err(|error| broken(format!("index.json is not valid: {error}"), None))?;
    let names: Vec<&str> = index
        .manifests
        .iter()
        .filter_map(|image| image.annotations.get(NAMES[0]).map(String::as_str))
        .collect();
    let help = || (!names.is_empty()).then(|| format!("it has {}", names.join(", ")));
    let Some(name) = name else {
        // Artifacts that point to an image have no name, and say what they are.
        let has_name = |image: &&Descriptor| image.annotations.contains_key(NAMES[0]);
        let is_artifact = |image: &Descriptor| image.artifact_type().is_some();
        let images: Vec<&Descriptor> =
            index.manifests.iter().filter(|image| has_name(image) || !is_artifact(image)).collect();
        return match images.as_slice() {
            [] => Err(broken("there is no image".to_owned(), None)),
            [only] => Ok((*only).clone()),
            _ => Err(broken("there are several images: name one".to_owned(), help())),
        };
    };
    let has_name = |image: &&Descriptor| {
        NAMES.iter().any(|key| image.annotations.get(*key).is_some_and(|value| value == name))
            || image.digest.to_string() == name
    };
    let found = index.manifests.iter().find(has_name).cloned();
    found.ok_or_else(|| broken(format!("there is no image `{name}`"), help()))
}

/// A file's part that is one blob.
struct Verified {
    reader: io::Take<File>,
    hasher: Sha256,
    descriptor: Descriptor,
    read_bytes: u64,
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.read_bytes += count as u64;
        if count == 0 && !buffer.is_empty() {
            let size = self.descriptor.size;
            let digest = BlobDigest::from_bytes(self.hasher.finalize_reset().into());
            if self.read_bytes != size {
                let text = format!("there are {} bytes instead of {size}", self.read_bytes);
                return Err(io::Error::other(text));
            }
            if digest != self.descriptor.digest {
                return Err(io::Error::other(format!("what is there has digest {digest}")));
            }
        }
        Ok(count)
    }
}

/// Reads an index document that was written before.
pub(super) fn index_of(bytes: &[u8]) -> Result<Index, BuildError> {
    let descriptor = Descriptor::new("", BlobDigest::of(bytes), bytes.len() as u64);
    parse(&descriptor, bytes)
}
