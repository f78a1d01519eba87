//! What a registry is given: blobs that it lacks, then manifests (distribution-spec 1.1, "Push").
//!
//! A blob that the repository has is not sent. One that another repository of the same registry
//! has is mounted from there, if the registry does that. Everything else is streamed from where it
//! is, never held in memory; see [`upload`](crate::upload).

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::Descriptor;

use crate::client::{ACCEPT, Client, claimed_digest};
use crate::error::Error;
use crate::exchange::{Access, Call};
use crate::http::{Body, Method};
use crate::repository::Repository;
use crate::upload::{Begun, Upload};

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub enum BlobSource {
    /// In memory: for what is small.
    Bytes(Vec<u8>),
    /// In a file, from this byte on.
    File {
        /// The file.
        path: PathBuf,
        /// The blob's first byte there.
        offset_bytes: u64,
    },
    /// In another repository, of this or another registry, that is asked like this client's own.
    Repository(Repository),
}

/// A blob that a repository shall have.
#[derive(Clone, Copy)]
pub struct BlobUpload<'a> {
    /// Its digest and size.
    pub descriptor: &'a Descriptor,
    /// Where its bytes are.
    pub source: &'a BlobSource,
    /// Repositories that are known to have it. The first one of the same registry is tried.
    pub mount_from: &'a [Repository],
    /// Told how many of its bytes were sent; after a broken connection, fewer again.
    pub progress: &'a (dyn Fn(u64) + 'a),
}

impl fmt::Debug for BlobUpload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobUpload")
            .field("descriptor", &self.descriptor)
            .field("source", &self.source)
            .field("mount_from", &self.mount_from)
            .finish_non_exhaustive()
    }
}

/// How a repository came to a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It had it.
    Existing,
    /// From another repository of the registry.
    Mounted,
    /// It was sent.
    Sent,
}

impl Client {
    /// Whether a repository has a blob. `false` also if the registry does not say.
    ///
    /// # Errors
    /// What keeps the registry from being reached, and a refused login.
    pub fn has_blob(&self, repository: &Repository, digest: BlobDigest) -> Result<bool, Error> {
        let name = format!("{repository}@{digest}");
        let call = Call {
            method: Method::Head,
            access: Access::Push,
            ..crate::client::get(repository, format!("/blobs/{digest}"), &name)
        };
        match self.exchange().retrying(|| self.exchange().attempt(&call)) {
            Ok(response) => Ok(response.status == 200),
            Err(Error::NotFound { .. } | Error::Status { status: 300..=499 | 501, .. }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The digest that a repository has under a tag or a digest; `None` if it has nothing, or does
    /// not say. This asks with the right to push, so that one token does for all of a push.
    ///
    /// # Errors
    /// What keeps the registry from being reached, and a refused login.
    pub fn pushed_digest(
        &self,
        repository: &Repository,
        identifier: &str,
    ) -> Result<Option<BlobDigest>, Error> {
        let name = manifest_name(repository, identifier);
        let call = Call {
            method: Method::Head,
            accept: ACCEPT,
            access: Access::Push,
            ..crate::client::get(repository, format!("/manifests/{identifier}"), &name)
        };
        match self.exchange().retrying(|| self.exchange().attempt(&call)) {
            Ok(response) => {
                let claimed = response.header("docker-content-digest");
                Ok(claimed.or(Some(identifier)).and_then(|text| text.trim().parse().ok()))
            }
            Err(Error::NotFound { .. } | Error::Status { status: 300..=499 | 501, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a repository a blob, unless it has it. A few are uploaded to one registry at a time:
    /// this waits until one of them has ended.
    ///
    /// # Errors
    /// What the registry answers after all attempts; [`Error::ReadFile`] and the errors of
    /// [`blob`](Self::blob) when the source cannot be read.
    pub fn push_blob(
        &self,
        repository: &Repository,
        blob: &BlobUpload<'_>,
    ) -> Result<Pushed, Error> {
        let _permit = self.exchange().upload_permit(&repository.registry)?;
        if self.has_blob(repository, blob.descriptor.digest)? {
            return Ok(Pushed::Existing);
        }
        let other = blob
            .mount_from
            .iter()
            .find(|other| other.registry == repository.registry && other.name != repository.name);
        let mut upload = Upload::new(self, repository, blob);
        if let Some(other) = other
            && upload.mount(&other.name)? == Begun::Mounted
        {
            return Ok(Pushed::Mounted);
        }
        upload.run()?;
        (blob.progress)(blob.descriptor.size);
        Ok(Pushed::Sent)
    }

    /// Puts a manifest or an index into a repository under a tag or its digest. The blobs and
    /// manifests that it names must be there. One with a subject is added to the list of what points
    /// to it where the registry does not do that itself. Gives its digest.
    ///
    /// # Errors
    /// What the registry answers after all attempts; [`Error::DigestMismatch`] when it claims to
    /// have got something else.
    pub fn push_manifest(
        &self,
        repository: &Repository,
        identifier: &str,
        (media_type, bytes): (&str, &[u8]),
    ) -> Result<BlobDigest, Error> {
        let expected = BlobDigest::of(bytes);
        let name = manifest_name(repository, identifier);
        let open = || Ok(Box::new(Cursor::new(bytes.to_vec())) as Box<dyn Read>);
        let body = Body {
            content_type: media_type,
            length_bytes: bytes.len() as u64,
            open: &open,
            ..Body::EMPTY
        };
        let call = Call {
            method: Method::Put(body),
            access: Access::Push,
            ..crate::client::get(repository, format!("/manifests/{identifier}"), &name)
        };
        let is_listed = self
            .exchange()
            .retrying(|| {
                let response = self.exchange().attempt(&call)?;
                check_claim(response.header("docker-content-digest"), expected, || {
                    response.url.to_string()
                })?;
                if !matches!(response.status, 200..=299) {
                    return Err(unexpected(response).into());
                }
                let is_listed = response.header("oci-subject").is_some();
                // The connection can be used again when the body was read.
                drop(response.message());
                Ok(is_listed)
            })
            .map_err(|error| refusal(error, repository))?;
        if !is_listed {
            self.list_pushed(repository, (media_type, bytes))?;
        }
        Ok(expected)
    }
}

/// The registry must have what was sent, if it says what it has.
pub(crate) fn check_claim(
    claimed: Option<&str>,
    expected: BlobDigest,
    place: impl Fn() -> String,
) -> Result<(), Error> {
    match claimed.map(|text| claimed_digest(text, &place())).transpose()? {
        Some(actual) if actual != expected => {
            Err(Error::DigestMismatch { url: place(), expected, actual })
        }
        _ => Ok(()),
    }
}

/// An answer that is no success, though no error either.
pub(crate) fn unexpected(response: crate::http::Response) -> Error {
    let (url, status) = (response.url.to_string(), response.status);
    Error::Status { url, status, message: response.message() }
}

/// What a registry means that takes nothing.
pub(crate) fn refusal(error: Error, repository: &Repository) -> Error {
    let Repository { registry, name } = repository.clone();
    match error {
        Error::NotFound { .. } => Error::NoRepository { registry, name },
        Error::Status { url, status: status @ (405 | 501), message } => {
            Error::ReadOnly { registry, url, status, message }
        }
        error => error,
    }
}

fn manifest_name(repository: &Repository, identifier: &str) -> String {
    let separator = if identifier.contains(':') { '@' } else { ':' };
    format!("{repository}{separator}{identifier}")
}

impl BlobSource {
    /// Starts to read a blob of this source.
    pub(crate) fn open(
        &self,
        client: &Client,
        descriptor: &Descriptor,
        skip_bytes: u64,
    ) -> Result<Box<dyn Read>, Error> {
        match self {
            Self::Bytes(bytes) => {
                let skip = usize::try_from(skip_bytes).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Box::new(Cursor::new(bytes[skip..].to_vec())))
            }
            Self::File { path, offset_bytes } => {
                let unread = |source| Error::ReadFile { path: path.clone(), source };
                let mut file = File::open(path).map_err(unread)?;
                file.seek(SeekFrom::Start(offset_bytes + skip_bytes)).map_err(unread)?;
                Ok(Box::new(Named { file, path: path.clone() }))
            }
            Self::Repository(repository) => {
                let mut reader = client.blob(repository, descriptor)?;
                // It verifies itself from its first byte on.
                io::copy(&mut reader.by_ref().take(skip_bytes), &mut io::sink()).map_err(
                    |error| {
                        Error::from_io(error).unwrap_or_else(|source| Error::Unread {
                            url: format!("{repository}@{}", descriptor.digest),
                            source,
                        })
                    },
                )?;
                Ok(Box::new(reader))
            }
        }
    }
}

/// A file whose errors name it.
struct Named {
    file: File,
    path: PathBuf,
}

impl Read for Named {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|source| match source.kind() {
            io::ErrorKind::Interrupted => source,
            _ => Error::ReadFile { path: self.path.clone(), source }.into(),
        })
    }
}
