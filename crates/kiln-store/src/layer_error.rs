//! What can go wrong with a layer: on disk, in its index, in its tar or in its compression.

use std::io;
use std::path::PathBuf;

use kiln_core::digest::{BlobDigest, DiffId};

/// Why a layer could not be read, written, packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A system call on a file of the layer failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// The file, on the host.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Reading or writing the layer's byte stream failed.
    #[error("cannot {action}")]
    Stream {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// The stream's own error.
        source: io::Error,
    },
    /// A file of the layer is not what the index says: it vanished, shrank or grew.
    #[error("{} changed while it was read: expected {expected_bytes} bytes, found {found_bytes}", path.display())]
    Changed {
        /// The file, on the host.
        path: PathBuf,
        /// Its size in bytes when it was indexed.
        expected_bytes: u64,
        /// How many bytes were there.
        found_bytes: u64,
    },
    /// A file has other bytes than those that were hashed a moment ago.
    #[error("{} was written to while it was read: its contents are not those that were seen first", path.display())]
    Rewritten {
        /// The file, on the host.
        path: PathBuf,
    },
    /// The directory that a layer was to be unpacked into holds something.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// An archive holds other files than the layer's index says.
    #[error("its files are not those that its index names")]
    ContentMismatch,
    /// Bytes that should be an encoded index are none.
    #[error("layer index is damaged: {reason}")]
    DamagedIndex {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A list of entries does not form a tree.
    #[error("layer entry `{path}`: {reason}")]
    InvalidEntry {
        /// The entry's path, lossily decoded.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The tar archive is malformed.
    #[error("layer archive is malformed near byte {offset}: {reason}")]
    MalformedTar {
        /// Offset in bytes into the uncompressed archive.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// An archive member cannot be unpacked as what it claims to be.
    #[error("layer archive member `{path}`: {reason}")]
    InvalidMember {
        /// The member's name, lossily decoded.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// An archive member of a type that has no meaning, or one that is not supported (GNU's
    /// sparse files, `S`).
    #[error("layer archive member `{path}`: unhandled tar header type {type_flag}")]
    UnknownType {
        /// The member's name, lossily decoded.
        path: String,
        /// The type, as in the header.
        type_flag: u8,
    },
    /// A hard link whose target is not in the same layer before it.
    #[error("layer archive member `{path}` links to `{target}`, which is not in the layer")]
    LinkTarget {
        /// The member's name, lossily decoded.
        path: String,
        /// The link's target, lossily decoded.
        target: String,
    },
    /// The blob is not the one that its descriptor names.
    #[error("layer blob is damaged: expected {expected}, found {found}")]
    BlobMismatch {
        /// The descriptor's digest.
        expected: BlobDigest,
        /// The digest of the bytes.
        found: BlobDigest,
    },
    /// The uncompressed layer is not the one that the image config names.
    #[error("layer does not match its image: expected diff ID {expected}, found {found}")]
    DiffIdMismatch {
        /// The diff ID of the image config.
        expected: DiffId,
        /// The diff ID of the bytes.
        found: DiffId,
    },
    /// The compression has no such level.
    #[error("{compression} has no level {level}: use {first} to {last}")]
    CompressionLevel {
        /// `gzip` or `zstd`.
        compression: &'static str,
        /// What was asked for.
        level: i64,
        /// The lowest level.
        first: i64,
        /// The highest level.
        last: i64,
    },
}

impl LayerError {
    /// For `map_err` on a stream's error.
    pub(crate) fn stream(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Stream { action, source }
    }

    pub(crate) fn member(path: &[u8], reason: &'static str) -> Self {
        Self::InvalidMember { path: String::from_utf8_lossy(path).into_owned(), reason }
    }

    pub(crate) fn entry(path: &[u8], reason: &'static str) -> Self {
        Self::InvalidEntry { path: String::from_utf8_lossy(path).into_owned(), reason }
    }
}
