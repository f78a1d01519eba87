//! What can go wrong on disk. Every variant names the path, digest or id that it is about.

use std::io;
use std::path::{Path, PathBuf};

use kiln_core::digest::BlobDigest;

use crate::layers::LayerId;

/// Why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `rename`.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The database refused.
    #[error("cannot {operation} in {}: {source}", path.display())]
    Database {
        /// What was tried, as a verb phrase: `look up cache records`.
        operation: &'static str,
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// The store was written by another version of kiln.
    #[error(
        "{} is a store of the format `{found}`, which this kiln does not know; \
         use the kiln that made it, or another root", path.display()
    )]
    UnknownVersion {
        /// Root of the store.
        path: PathBuf,
        /// What its `version` file says.
        found: String,
    },
    /// The directory holds other things.
    #[error(
        "{} is not empty and is no kiln store (it holds `{found}`); choose another root",
        path.display()
    )]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// A name in it that no store has.
        found: String,
    },
    /// A blob is needed that is not there.
    #[error("blob {digest} is not in the store")]
    MissingBlob {
        /// Which.
        digest: BlobDigest,
    },
    /// Bytes are not those that their digest promises.
    #[error("{} should be {expected}, but is {actual}", path.display())]
    DigestMismatch {
        /// Where the bytes are or came from.
        path: PathBuf,
        /// What was promised.
        expected: BlobDigest,
        /// What was found.
        actual: BlobDigest,
    },
    /// A blob has not the size that was promised.
    #[error("{} should have {expected} bytes, but has {actual}", path.display())]
    SizeMismatch {
        /// Where the bytes are or came from.
        path: PathBuf,
        /// What was promised.
        expected: u64,
        /// What was found.
        actual: u64,
    },
    /// A layer is needed that is not there.
    #[error("layer {id} is not in the store")]
    MissingLayer {
        /// Which.
        id: LayerId,
    },
    /// A layer's archive is not what it should be.
    #[error("layer {id} cannot be unpacked: {source}")]
    Layer {
        /// Which.
        id: LayerId,
        /// Why.
        source: Box<crate::layer_error::LayerError>,
    },
    /// A compressed blob is not what it should be.
    #[error("what is in {digest} is damaged: {reason}")]
    Damaged {
        /// The blob.
        digest: BlobDigest,
        /// Why.
        reason: String,
    },
    /// A document that the store keeps does not parse.
    #[error("{what} is damaged: {source}")]
    Document {
        /// What it is, in words.
        what: String,
        /// Why it does not parse.
        source: serde_json::Error,
    },
    /// A file of the build context kept changing while it was read.
    #[error("{} changed while it was read; build again when nothing writes it", path.display())]
    FileChanged {
        /// Which.
        path: PathBuf,
    },
    /// A digest of something other than a regular file was asked for.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Builds are using the store.
    #[error("{} is in use by a running build; try again when it has ended", path.display())]
    InUse {
        /// What is in use: the store's root, or a cache mount.
        path: PathBuf,
    },
    /// The wait for a lock was cancelled.
    #[error("cancelled while waiting for {}", path.display())]
    Cancelled {
        /// The lock.
        path: PathBuf,
    },
}

impl Error {
    /// Turns a failed system call on `path` into an error; `operation` is a verb.
    pub(crate) fn io<E: Into<io::Error>>(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { operation, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// Whether the disk (or the user's quota) is full: the user can mend it, kiln can't.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Database { source, .. } => {
                let extended = source.sqlite_error().map(|error| error.extended_code);
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
                    || extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
            }
            _ => false,
        }
    }

    /// Whether the wait for a lock was cancelled (Ctrl-C).
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// Whether it says that something is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
