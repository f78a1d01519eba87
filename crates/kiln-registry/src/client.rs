//! The client: references in, verified documents and blobs out.

use std::sync::Arc;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, ImageConfig, Manifest, Platform, Reference, media_type};

use crate::blob::{BlobReader, Origin};
use crate::config::{Config, GitProgram};
use crate::error::{Error, printable};
use crate::exchange::{Access, Call, Exchange};
use crate::http::{Method, Response};
use crate::limit::Permit;
use crate::repository::Repository;
use crate::resolved::{Resolved, parse};
use crate::retry::{Again, Failure};

/// Manifests, indexes and image configs are not longer than this (registries must take 4 MiB).
const DOCUMENT_BYTES: u64 = 16 << 20;

/// Indexes are followed this deep.
const INDEX_DEPTH: usize = 4;

/// Every kind of manifest and index that kiln reads.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A client of registries. Clones share everything: connections, tokens, cancellation.
#[derive(Clone, Debug)]
pub struct Client {
    exchange: Arc<Exchange>,
}

/// An image for one platform: all that is needed before its layers.
#[derive(Clone, Debug)]
pub struct RemoteImage {
    /// Where its blobs are.
    pub repository: Repository,
    /// What the reference names: the manifest, or an index above it.
    pub resolved: Resolved,
    /// The manifest's descriptor and bytes.
    pub manifest_document: Resolved,
    /// The manifest.
    pub manifest: Manifest,
    /// The image config's bytes, exactly as the registry has them.
    pub config_bytes: Vec<u8>,
    /// The image config.
    pub config: ImageConfig,
}

impl Client {
    /// A client that has connected to nothing and read no file yet.
    pub fn new(config: Config) -> Self {
        Self { exchange: Arc::new(Exchange::new(config)) }
    }

    /// What the calls of this client share.
    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// The program `git` and what it is told of its user.
    pub fn git(&self) -> &GitProgram {
        &self.exchange.config().git
    }

    /// Ends all waits and breaks off all downloads, of all clones, from any thread. Everything
    /// answers [`Error::Cancelled`] from then on.
    pub fn cancel(&self) {
        self.exchange.cancel();
    }

    /// Has `begin` called before the next request is sent, by any clone: what watches over requests
    /// need not be there for those that have none.
    pub fn on_use(&self, begin: impl FnOnce(Self) + Send + 'static) {
        let exchange = Arc::downgrade(&self.exchange);
        self.exchange.transport().on_use(Box::new(move || {
            if let Some(exchange) = exchange.upgrade() {
                begin(Self { exchange });
            }
        }));
    }

    /// What a reference names: its manifest or index. The bytes have the digest that the
    /// reference is pinned to, and the one that the registry claims.
    pub fn resolve(&self, reference: &Reference) -> Result<Resolved, Error> {
        let repository = Repository::from(reference);
        let identifier = reference.identifier();
        self.fetch_manifest(&repository, &identifier, reference.digest, &reference.to_string())
    }

    /// The digest that a reference names now, without fetching what it names: to see whether a
    /// tag has moved. `None` if the registry does not say; then only
    /// [`resolve`](Self::resolve) can tell. Registries do not count this as a download.
    pub fn head(&self, reference: &Reference) -> Result<Option<BlobDigest>, Error> {
        let repository = Repository::from(reference);
        let name = reference.to_string();
        let call = Call {
            method: Method::Head,
            accept: ACCEPT,
            ..get(&repository, format!("/manifests/{}", reference.identifier()), &name)
        };
        let response = match self.exchange.retrying(|| self.exchange.attempt(&call)) {
            // Some registries know no HEAD.
            Err(Error::Status { status: 405 | 501, .. }) => return Ok(None),
            answer => answer?,
        };
        let place = response.url.to_string();
        let Some(text) = response.header("docker-content-digest") else {
            return Ok(None);
        };
        let claimed = claimed_digest(text, &place)?;
        match reference.digest {
            Some(expected) if claimed != expected => {
                Err(Error::DigestMismatch { url: place, expected, actual: claimed })
            }
            _ => Ok(Some(claimed)),
        }
    }

    /// The manifest or index of a digest; the bytes have that digest.
    pub fn manifest(&self, repository: &Repository, digest: BlobDigest) -> Result<Resolved, Error> {
        let name = format!("{repository}@{digest}");
        self.fetch_manifest(repository, &digest.to_string(), Some(digest), &name)
    }

    /// The image that a reference names for a platform: from an index the manifest that fits
    /// best, with its config. A manifest without index is taken as it is, whatever platform its
    /// config says.
    pub fn image(&self, reference: &Reference, platform: &Platform) -> Result<RemoteImage, Error> {
        let resolved = self.resolve(reference)?;
        self.image_of(reference, resolved, platform)
    }

    /// As [`image`](Self::image), of something already resolved.
    pub fn image_of(
        &self,
        reference: &Reference,
        resolved: Resolved,
        platform: &Platform,
    ) -> Result<RemoteImage, Error> {
        let repository = Repository::from(reference);
        let mut document = resolved.clone();
        for _ in 0..INDEX_DEPTH {
            if !document.is_index() {
                break;
            }
            let index = document.index()?;
            let chosen = index.select(platform).ok_or_else(|| Error::NoPlatform {
                reference: reference.to_string(),
                platform: platform.to_string(),
                available: platforms(&index.manifests),
            })?;
            document = self.manifest(&repository, chosen.digest)?;
            check_size(&document, chosen)?;
        }
        let manifest = document.manifest()?;
        let config_bytes = self.document_blob(&repository, &manifest.config)?;
        let place = format!("{repository}@{}", manifest.config.digest);
        let config = parse(&config_bytes, &place)?;
        Ok(RemoteImage {
            repository,
            resolved,
            manifest_document: document,
            manifest,
            config_bytes,
            config,
        })
    }

    /// A blob, as a stream that verifies itself and mends broken connections; see
    /// [`BlobReader`]. The first answer has come when this returns. A few are read from one
    /// registry at a time: this waits until one of them has ended or was dropped.
    pub fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<BlobReader, Error> {
        let permit = self.exchange.permit(&repository.registry)?;
        self.open_blob(repository, descriptor, Some(permit))
    }

    fn open_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        permit: Option<Permit>,
    ) -> Result<BlobReader, Error> {
        if is_foreign(descriptor) {
            return Err(Error::ForeignLayer {
                repository: repository.to_string(),
                digest: descriptor.digest,
            });
        }
        let origin = Origin::Repository(repository.clone());
        BlobReader::open(Arc::clone(&self.exchange), origin, descriptor, permit)
    }

    /// A small blob as a whole, such as an image config; an error if it is longer than 16 MiB.
    pub fn document_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, Error> {
        let name = format!("{repository}@{}", descriptor.digest);
        if descriptor.size > DOCUMENT_BYTES {
            return Err(Error::InvalidDocument {
                url: name,
                reason: format!("it is longer than {DOCUMENT_BYTES} bytes"),
            });
        }
        let mut reader = self.open_blob(repository, descriptor, None)?;
        let mut bytes = Vec::new();
        let mut read = std::io::Read::read_to_end(&mut reader, &mut bytes);
        while read.is_err() && reader.was_misled() {
            // The mirror that gave it is not asked again.
            reader = self.open_blob(repository, descriptor, None)?;
            bytes.clear();
            read = std::io::Read::read_to_end(&mut reader, &mut bytes);
        }
        read.map_err(|error| {
            Error::from_io(error).unwrap_or_else(|source| Error::Unreachable {
                registry: repository.registry.clone(),
                url: name,
                source,
            })
        })?;
        Ok(bytes)
    }

    fn fetch_manifest(
        &self,
        repository: &Repository,
        identifier: &str,
        pinned: Option<BlobDigest>,
        name: &str,
    ) -> Result<Resolved, Error> {
        let call =
            Call { accept: ACCEPT, ..get(repository, format!("/manifests/{identifier}"), name) };
        self.exchange.retrying(|| {
            let response = self.exchange.attempt(&call)?;
            let mirror = response.mirror.clone();
            read_manifest(response, pinned).map_err(|failure| match mirror {
                None => failure,
                // The next host may have the right one.
                Some(mirror) => {
                    mirror.put_aside();
                    Failure { again: Again::Later, ..failure }
                }
            })
        })
    }
}

/// Reads and verifies a manifest or an index.
pub(crate) fn read_manifest(
    response: Response,
    pinned: Option<BlobDigest>,
) -> Result<Resolved, Failure> {
    let place = response.url.to_string();
    let claimed = response
        .header("docker-content-digest")
        .map(|text| claimed_digest(text, &place))
        .transpose()?;
    let content_type = response.header("content-type").unwrap_or_default().to_owned();
    let announced = response.content_length().unwrap_or(0);
    let bytes = response.read(DOCUMENT_BYTES + 1).map_err(|source| Failure {
        error: Error::Interrupted {
            url: place.clone(),
            received_bytes: 0,
            expected_bytes: announced,
            source,
        },
        again: Again::Later,
    })?;
    if bytes.len() as u64 > DOCUMENT_BYTES {
        let reason = format!("it is longer than {DOCUMENT_BYTES} bytes");
        return Err(Error::InvalidDocument { url: place, reason }.into());
    }
    let actual = BlobDigest::of(&bytes);
    for expected in [pinned, claimed].into_iter().flatten() {
        if actual != expected {
            return Err(Error::DigestMismatch { url: place, expected, actual }.into());
        }
    }
    Ok(Resolved::new(bytes, &content_type, &place)?)
}

/// Whether a layer is kept outside of registries on purpose (image-spec, "Non-Distributable
/// Layers", and Docker's foreign layers).
pub fn is_foreign(descriptor: &Descriptor) -> bool {
    let urls = descriptor.other.get("urls").and_then(serde_json::Value::as_array);
    urls.is_some_and(|urls| !urls.is_empty())
        || descriptor.media_type.contains(".foreign.")
        || descriptor.media_type.contains(".nondistributable.")
}

/// A GET of a path below a repository.
pub(crate) fn get<'a>(repository: &'a Repository, path: String, reference: &'a str) -> Call<'a> {
    let access = Access::Pull;
    let method = Method::Get;
    Call { method, repository, path, at: None, access, accept: "", offset_bytes: 0, reference }
}

pub(crate) fn claimed_digest(text: &str, place: &str) -> Result<BlobDigest, Error> {
    text.trim()
        .parse()
        .map_err(|_| Error::UnknownDigest { digest: printable(text), place: place.to_owned() })
}

fn check_size(document: &Resolved, descriptor: &Descriptor) -> Result<(), Error> {
    if document.descriptor.size == descriptor.size {
        return Ok(());
    }
    Err(Error::SizeMismatch {
        url: descriptor.digest.to_string(),
        expected_bytes: descriptor.size,
        actual_bytes: document.descriptor.size,
    })
}

/// The platforms that an index has images for; attestations are none.
fn platforms(manifests: &[Descriptor]) -> Vec<String> {
    manifests
        .iter()
        .filter(|descriptor| {
            media_type::is_manifest(&descriptor.media_type)
                || media_type::is_index(&descriptor.media_type)
        })
        .filter_map(|descriptor| descriptor.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(|platform| printable(&platform.to_string()))
        .collect()
}
