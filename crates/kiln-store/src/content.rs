//! Blobs by digest: `blobs/sha256/HEX` of the OCI layout.
//!
//! A blob is written in `tmp/` while its digest is computed, and renamed to its name. What is at
//! a name is therefore whole; a second copy of a blob that is there is dropped.

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use kiln_core::digest::BlobDigest;
use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::store::Store;

/// Bytes read at once when a blob is hashed or copied.
const BUFFER_BYTES: usize = 256 << 10;

/// After so many bytes of a blob the disk begins to write them.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// The blobs of a store.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    store: &'a Store,
}

impl Store {
    /// The blobs.
    pub fn content(&self) -> Content<'_> {
        Content { store: self }
    }
}

impl Content<'_> {
    /// Where the blob of `digest` is, or would be.
    pub fn path(self, digest: &BlobDigest) -> PathBuf {
        self.store.path("blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is there.
    pub fn has(self, digest: &BlobDigest) -> bool {
        self.path(digest).is_file()
    }

    /// Its size in bytes; `None` when it is not there.
    pub fn size(self, digest: &BlobDigest) -> Result<Option<u64>, Error> {
        let path = self.path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("stat", path)(error)),
        }
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// [`Error::MissingBlob`], [`Error::Io`].
    pub fn open(self, digest: &BlobDigest) -> Result<File, Error> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::MissingBlob { digest: *digest },
            _ => Error::io("open", path)(error),
        })
    }

    /// Its bytes, verified: for manifests, configs and other small blobs.
    ///
    /// # Errors
    /// [`Error::MissingBlob`], [`Error::DigestMismatch`] when it is damaged, [`Error::Io`].
    pub fn read(self, digest: &BlobDigest) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        self.open(digest)?.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let actual = BlobDigest::of(&bytes);
        if actual == *digest {
            Ok(bytes)
        } else {
            Err(Error::DigestMismatch { path, expected: *digest, actual })
        }
    }

    /// Stores bytes; returns their digest. Costs a hash and a look when they are there already.
    pub fn put(self, bytes: &[u8]) -> Result<BlobDigest, Error> {
        let digest = BlobDigest::of(bytes);
        if self.size(&digest)? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.unhashed_writer()?;
        let path = writer.path.clone();
        writer.write_all(bytes).map_err(Error::io("write", path))?;
        writer.commit_known(digest, bytes.len() as u64)?;
        Ok(digest)
    }

    /// A writer that hashes what is written.
    pub fn writer(self) -> Result<BlobWriter, Error> {
        Ok(BlobWriter { inner: self.unhashed_writer()?, hasher: Sha256::new() })
    }

    /// A writer for one who hashes what is written himself, and is trusted to.
    pub fn unhashed_writer(self) -> Result<UnhashedBlobWriter, Error> {
        let (path, file) = self.store.tmp_file()?;
        Ok(UnhashedBlobWriter {
            store: self.store.clone(),
            path,
            file,
            size_bytes: 0,
            started_bytes: 0,
            is_committed: false,
        })
    }

    /// Copies a blob of another OCI layout: the file at `source`, which should be `digest` and
    /// `size_bytes` long. Shares blocks where the file system can; never hard-links, for the
    /// other layout's owner may write to its files.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] and [`Error::SizeMismatch`] when it is something else.
    pub fn import(self, source: &Path, digest: &BlobDigest, size_bytes: u64) -> Result<(), Error> {
        if self.size(digest)? == Some(size_bytes) {
            return Ok(());
        }
        let mut from = File::open(source).map_err(Error::io("open", source))?;
        let found = from.metadata().map_err(Error::io("stat", source))?.len();
        if found != size_bytes {
            return Err(Error::SizeMismatch {
                path: source.to_owned(),
                expected: size_bytes,
                actual: found,
            });
        }
        let mut writer = self.unhashed_writer()?;
        let actual = if rustix::fs::ioctl_ficlone(&writer.file, &from).is_ok() {
            writer.size_bytes = size_bytes;
            hash_file(&writer.path)?
        } else {
            copy_hashing(&mut from, source, &mut writer)?
        };
        if actual != *digest {
            return Err(Error::DigestMismatch {
                path: source.to_owned(),
                expected: *digest,
                actual,
            });
        }
        writer.commit_known(*digest, size_bytes)
    }

    /// The digests of all blobs, in no order. Files of other names are not listed.
    pub(crate) fn list(self) -> Result<Vec<BlobDigest>, Error> {
        let directory = self.store.path("blobs/sha256");
        let mut digests = Vec::new();
        let entries =
            std::fs::read_dir(&directory).map_err(Error::io("read directory", &directory))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("read directory", &directory))?;
            if let Some(digest) = parse_name(&entry.file_name().to_string_lossy()) {
                digests.push(digest);
            }
        }
        Ok(digests)
    }
}

/// The digest whose blob has this file name.
pub(crate) fn parse_name(name: &str) -> Option<BlobDigest> {
    format!("sha256:{name}").parse().ok()
}

/// The sha256 of a file.
pub(crate) fn hash_file(path: &Path) -> Result<BlobDigest, Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok(BlobDigest::from_bytes(hasher.finalize().into()));
        }
        hasher.update(&buffer[..count]);
    }
}

fn copy_hashing(
    from: &mut File,
    source: &Path,
    writer: &mut UnhashedBlobWriter,
) -> Result<BlobDigest, Error> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).map_err(Error::io("read", source))?;
        if count == 0 {
            return Ok(BlobDigest::from_bytes(hasher.finalize().into()));
        }
        hasher.update(&buffer[..count]);
        writer.write_all(&buffer[..count]).map_err(Error::io("write", &writer.path))?;
    }
}

/// Writes a blob whose digest is not known yet. Dropping it without a commit leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    inner: UnhashedBlobWriter,
    hasher: Sha256,
}

impl BlobWriter {
    /// Puts the blob in its place; returns its digest and size in bytes.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when it is not the `expected` one.
    pub fn commit(self, expected: Option<BlobDigest>) -> Result<(BlobDigest, u64), Error> {
        let digest = BlobDigest::from_bytes(self.hasher.finalize().into());
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(Error::DigestMismatch {
                path: self.inner.path.clone(),
                expected,
                actual: digest,
            });
        }
        let size_bytes = self.inner.size_bytes;
        self.inner.commit_known(digest, size_bytes)?;
        Ok((digest, size_bytes))
    }

    /// Bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.inner.size_bytes
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a blob that its writer hashes. Dropping it without a commit leaves nothing.
#[derive(Debug)]
pub struct UnhashedBlobWriter {
    store: Store,
    path: PathBuf,
    file: File,
    size_bytes: u64,
    /// Of these, the kernel was told to write so many to the disk.
    started_bytes: u64,
    is_committed: bool,
}

impl UnhashedBlobWriter {
    /// Puts the blob in its place under the digest that the caller computed.
    ///
    /// # Errors
    /// [`Error::SizeMismatch`] when not `size_bytes` were written.
    pub fn commit_known(mut self, digest: BlobDigest, size_bytes: u64) -> Result<(), Error> {
        if size_bytes != self.size_bytes {
            return Err(Error::SizeMismatch {
                path: self.path.clone(),
                expected: size_bytes,
                actual: self.size_bytes,
            });
        }
        let content = self.store.content();
        if content.size(&digest)? == Some(size_bytes) {
            return Ok(());
        }
        let target = content.path(&digest);
        std::fs::rename(&self.path, &target).map_err(Error::io("rename to", target))?;
        self.is_committed = true;
        Ok(())
    }
}

impl Write for UnhashedBlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.size_bytes += count as u64;
        let due_bytes = self.size_bytes - self.started_bytes;
        if due_bytes >= WRITE_BACK_BYTES {
            // Begins to write what is dirty, waits for nothing; only a hint. The disk works while
            // the processor does, and little is left to wait for behind the build.
            let length = NonZeroU64::new(due_bytes);
            let _ = fadvise(&self.file, self.started_bytes, length, Advice::DontNeed);
            self.started_bytes = self.size_bytes;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for UnhashedBlobWriter {
    fn drop(&mut self) {
        if !self.is_committed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
