//! From a layer to its blob and back, in one pass each, on several threads.
//!
//! ```text
//! pack:   files ──write_tar──▶ blocks │ sha256 (diff ID) ──▶ │ compress ──▶ │ sha256, out
//! unpack: blob ──sha256──▶ │ decompress ──▶ │ sha256 (diff ID), apply_tar ──▶ files
//! ```
//!
//! `│` is a change of threads. Small layers are done on the calling thread alone.

use std::io::{self, Read, Write};
use std::path::Path;

use kiln_core::digest::{BlobDigest, DiffId};
use sha2::{Digest as _, Sha256};

use super::compress::{Compressed, Compression, Compressor};
use super::decompress::decompressor;
use super::frames::{Frames, OldFrames};
use super::index::LayerIndex;
use super::listing::Contents;
use super::outline::outline;
use super::pipe::{CHUNK_BYTES, PipeReader, SMALL_CHUNK_BYTES, is_hang_up, pipe, pipe_in};
use super::tar_apply::apply_buffered;
use super::tar_write::{TarOptions, write_tar_from};
use crate::layer_error::LayerError;

/// Blobs up to this size are unpacked without threads.
const SMALL_BLOB_BYTES: u64 = 128 << 10;

/// A layer's blob, as its descriptor and the image config will name it.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// Digest of the uncompressed archive.
    pub diff_id: DiffId,
    /// Digest of the blob.
    pub digest: BlobDigest,
    /// Size of the blob.
    pub size_bytes: u64,
    /// Size of the uncompressed archive.
    pub uncompressed_bytes: u64,
    /// The blob's blocks, for the next blob that is much like it.
    pub frames: Frames,
}

/// What a blob must turn out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpack {
    /// Digest of the blob, from its descriptor.
    pub digest: BlobDigest,
    /// Digest of the uncompressed archive, from the image config.
    pub diff_id: DiffId,
}

/// Who makes sure that a blob has the digest of its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobCheck {
    /// Whoever unpacks it.
    Here,
    /// The reader that it comes from: it fails before it hands out the last wrong byte.
    Reader,
}

/// How a layer becomes a blob.
#[derive(Debug)]
pub struct Packing<'a> {
    /// How it is compressed.
    pub compression: Compression,
    /// How its archive is written.
    pub options: &'a TarOptions,
    /// Blocks of an older blob of the same compression. They change no byte of the result.
    pub old: Option<OldFrames>,
}

/// Writes the layer `index`, whose bytes are in `contents`, as a blob to `out`. Its bytes depend
/// on the arguments only, not on the machine.
///
/// # Errors
/// Those of [`write_tar`] and [`Compressor::new`]; `out` then holds a part of the blob.
pub fn pack<'a>(
    index: &LayerIndex,
    contents: impl Into<Contents<'a>>,
    packing: Packing<'_>,
    out: &mut impl Write,
) -> Result<Packed, LayerError> {
    let contents = contents.into();
    let Packing { compression, options, old } = packing;
    let failed = |source| LayerError::Stream { action: "write a layer blob", source };
    let blocks = outline(index, options)?;
    let mut sink = Compressor::new(out, compression)?.reusing(blocks, old).map_err(failed)?;
    let skipped = sink.plain_bytes();
    let rest = sink.block_lengths();
    if rest.iter().sum::<usize>() < CHUNK_BYTES {
        write_tar_from(index, contents, options, (skipped, &mut sink))?;
        return sink.finish().map(packed).map_err(failed);
    }
    let (mut writer, reader) = pipe_in(rest);
    std::thread::scope(|scope| {
        let archive = scope.spawn(move || {
            write_tar_from(index, contents, options, (skipped, &mut writer))?;
            writer.finish().map_err(LayerError::stream("write a layer archive"))
        });
        let blob = drain(reader, &mut sink).and_then(|()| sink.finish());
        let written = archive.join().expect("the archive's thread does not panic");
        match (blob, written) {
            (Ok(blob), Ok(())) => Ok(packed(blob)),
            (Err(error), Err(_)) if !is_hang_up(&error) => Err(failed(error)),
            (_, Err(error)) => Err(error),
            (Err(error), Ok(())) => Err(failed(error)),
        }
    })
}

/// Writes an archive, uncompressed, as a blob to `out`. The bytes depend on the arguments only.
///
/// # Errors
/// Those of reading, of [`Compressor::new`] and of `out`, which then holds a part of the blob.
pub fn recompress(
    archive: impl Read,
    compression: Compression,
    out: &mut impl Write,
) -> Result<Packed, LayerError> {
    let failed = |source| LayerError::Stream { action: "compress a layer again", source };
    let mut sink = Compressor::new(out, compression)?;
    let mut archive = io::BufReader::with_capacity(CHUNK_BYTES, archive);
    io::copy(&mut archive, &mut sink).map_err(failed)?;
    sink.finish().map(packed).map_err(failed)
}

fn packed<W>(blob: Compressed<W>) -> Packed {
    let Compressed { plain_digest, plain_bytes, digest, size_bytes, frames, .. } = blob;
    let diff_id = DiffId::from_bytes(*plain_digest.as_bytes());
    Packed { diff_id, digest, size_bytes, uncompressed_bytes: plain_bytes, frames }
}

fn drain<W: Write>(mut reader: PipeReader, sink: &mut Compressor<W>) -> io::Result<()> {
    while let Some(block) = reader.next_chunk()? {
        reader.give_back(sink.write_block(block)?);
    }
    Ok(())
}

/// A reader that takes the digest of what passes.
struct DigestReader<R> {
    input: R,
    /// Nothing where the digest is known otherwise.
    hasher: Option<Sha256>,
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..length]);
        }
        Ok(length)
    }
}

/// Unpacks a layer's blob, compressed or not, into the directory `dest`, which is made if it is
/// missing and must be empty. Returns the layer's index; without a directory that is all that it
/// does.
///
/// # Errors
/// [`LayerError::BlobMismatch`] and [`LayerError::DiffIdMismatch`] when it is not the expected
/// layer, otherwise those of [`apply_tar`](super::apply_tar). `dest` then holds something that
/// must not be used.
pub fn unpack(
    mut blob: impl Read + Send,
    (expected, check): (Unpack, BlobCheck),
    dest: Option<&Path>,
) -> Result<LayerIndex, LayerError> {
    let mut head = Vec::new();
    (&mut blob)
        .take(SMALL_BLOB_BYTES + 1)
        .read_to_end(&mut head)
        .map_err(LayerError::stream("read a layer blob"))?;
    if head.len() as u64 <= SMALL_BLOB_BYTES {
        if check == BlobCheck::Here {
            check_blob(BlobDigest::of(&head), expected)?;
        }
        return apply(decompressor(&head[..]), expected, dest);
    }
    unpack_threaded(io::Cursor::new(head).chain(blob), (expected, check), dest)
}

fn check_blob(found: BlobDigest, expected: Unpack) -> Result<(), LayerError> {
    let expected = expected.digest;
    if found == expected { Ok(()) } else { Err(LayerError::BlobMismatch { expected, found }) }
}

/// Applies the archive, reads on to the end, and checks the diff ID.
fn apply(
    archive: impl Read,
    expected: Unpack,
    dest: Option<&Path>,
) -> Result<LayerIndex, LayerError> {
    // Of an uncompressed layer the blob's digest says it all.
    let hasher = (expected.diff_id.as_blob() != expected.digest).then(Sha256::new);
    let mut archive = DigestReader { input: archive, hasher };
    let index = apply_buffered(&mut archive, dest)?;
    io::copy(&mut archive, &mut io::sink()).map_err(LayerError::stream("read a layer archive"))?;
    if let Some(hasher) = archive.hasher {
        let found = DiffId::from_bytes(hasher.finalize().into());
        if found != expected.diff_id {
            return Err(LayerError::DiffIdMismatch { expected: expected.diff_id, found });
        }
    }
    Ok(index)
}

fn unpack_threaded(
    mut blob: impl Read + Send,
    (expected, check): (Unpack, BlobCheck),
    dest: Option<&Path>,
) -> Result<LayerIndex, LayerError> {
    let (mut raw_writer, raw_reader) = pipe(SMALL_CHUNK_BYTES);
    let (mut tar_writer, tar_reader) = pipe(SMALL_CHUNK_BYTES);
    let mut hasher = (check == BlobCheck::Here).then(Sha256::new);
    let (applied, decompressed, read) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            raw_writer.fill(&mut blob, |bytes| {
                if let Some(hasher) = &mut hasher {
                    hasher.update(bytes);
                }
            })?;
            raw_writer.finish()
        });
        let decompressing = scope.spawn(move || {
            tar_writer.fill(&mut decompressor(raw_reader), |_| {})?;
            tar_writer.finish()
        });
        let applied = apply(tar_reader, expected, dest);
        let decompressed = decompressing.join().expect("the decompressing thread does not panic");
        (applied, decompressed, reading.join().expect("the reading thread does not panic"))
    });
    if let Err(error) = read {
        if !is_hang_up(&error) {
            return Err(LayerError::Stream { action: "read a layer blob", source: error });
        }
        // Something did not like the blob. When it is damaged, that is the thing to say; but
        // a full disk is no reason to download the rest.
        if !matches!(applied, Err(LayerError::Io { .. } | LayerError::NotEmpty { .. })) {
            io::copy(&mut blob, &mut DigestSink(hasher.as_mut()))
                .map_err(LayerError::stream("read a layer blob"))?;
            check_hashed(hasher, expected)?;
        }
    } else {
        check_hashed(hasher, expected)?;
    }
    match decompressed {
        Err(source) if !is_hang_up(&source) => {
            Err(LayerError::Stream { action: "decompress a layer", source })
        }
        _ => applied,
    }
}

fn check_hashed(hasher: Option<Sha256>, expected: Unpack) -> Result<(), LayerError> {
    match hasher {
        Some(hasher) => check_blob(BlobDigest::from_bytes(hasher.finalize().into()), expected),
        None => Ok(()),
    }
}

struct DigestSink<'a>(Option<&'a mut Sha256>);

impl Write for DigestSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(hasher) = &mut self.0 {
            hasher.update(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
