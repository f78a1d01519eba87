//! Compression of layers.
//!
//! The stream is cut into blocks ([`super::frames`] says where), and each is compressed on its
//! own ([`super::encoder`]). A file of many of those is valid gzip or zstd, and readers see their
//! concatenated contents. So the bytes depend on input and level only, never on the number of
//! threads, and memory is bounded by a few blocks per thread. A block that an older blob holds is
//! taken from there ([`Frames`]), compressed already.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_core::digest::BlobDigest;
use sha2::{Digest as _, Sha256};

use super::encoder::{Encoded, Encoder};
use super::frames::{BLOCK_BYTES, BlockKey, Cutter, Frame, Frames, OldFrames};
use super::resume::{DigestWriter, HashState};
use crate::layer_error::LayerError;

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A plain tar archive.
    Uncompressed,
    /// gzip.
    Gzip {
        /// 0 (stored) to 12; without one, what each block repays.
        level: Option<u32>,
    },
    /// zstd.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
}

impl Compression {
    /// gzip of the size that others make of it (zlib's level 6, within some percent), in a fraction of
    /// the time.
    pub const GZIP: Self = Self::Gzip { level: None };
    /// The level of gzip for most of what is in layers (programs, bytecode, packages): the size of zlib's
    /// level 6, in half the time of libdeflate's own 6.
    pub const USUAL_GZIP_LEVEL: u32 = 2;
    /// zstd at its own default level.
    pub const ZSTD: Self = Self::Zstd { level: 3 };

    /// What follows `…layer.v1.tar` in the media type of an OCI layer.
    pub const fn media_type_suffix(self) -> &'static str {
        match self {
            Self::Uncompressed => "",
            Self::Gzip { .. } => "+gzip",
            Self::Zstd { .. } => "+zstd",
        }
    }

    fn check(self) -> Result<(), LayerError> {
        let (compression, level, first, last) = match self {
            Self::Uncompressed | Self::Gzip { level: None } => return Ok(()),
            Self::Gzip { level: Some(level) } => ("gzip", i64::from(level), 0, 12),
            Self::Zstd { level } => ("zstd", i64::from(level), 1, 22),
        };
        if (first..=last).contains(&level) {
            Ok(())
        } else {
            Err(LayerError::CompressionLevel { compression, level, first, last })
        }
    }
}

/// A block, to be used again, and what became of it.
type Done = (Vec<u8>, io::Result<Encoded>);

/// A block on its way: which it is, the digest of the input after it, and what is to come of it.
struct Waiting {
    key: Option<BlockKey>,
    plain_state: HashState,
    result: Receiver<Done>,
}

struct Job {
    block: Vec<u8>,
    /// Where its compressed form goes.
    buffer: Vec<u8>,
    done: SyncSender<Done>,
}

/// Threads that compress blocks.
struct Pool {
    jobs: Sender<Job>,
    /// The blocks that they are at, oldest first.
    results: VecDeque<Waiting>,
    /// Buffers that are free: memory that the kernel need not clear again.
    buffers: Vec<Vec<u8>>,
}

impl Pool {
    fn start(compression: Compression, threads: NonZero<usize>) -> Self {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads.get() {
            let queue = Arc::clone(&queue);
            // It ends when the pool and with it the queue's sender is dropped.
            std::thread::spawn(move || {
                let mut encoder = Encoder::new(compression);
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { block, buffer, done }) = job else { return };
                    let encoded = match &mut encoder {
                        Ok(Some(encoder)) => encoder.encode(&block, buffer),
                        Ok(None) => Ok(Encoded { buffer: block.clone(), length: block.len() }),
                        Err(error) => Err(io::Error::other(error.to_string())),
                    };
                    // Nobody waits any more when the compressor was dropped.
                    let _ = done.send((block, encoded));
                }
            });
        }
        Self { jobs, results: VecDeque::new(), buffers: Vec::new() }
    }

    /// Compresses a block, unless `old` has it compressed already.
    fn submit(
        &mut self,
        block: Vec<u8>,
        old: Option<(&OldFrames, &BlockKey)>,
    ) -> io::Result<Receiver<Done>> {
        let (done, result) = sync_channel(1);
        let mut buffer = self.buffers.pop().unwrap_or_default();
        match old.and_then(|(old, key)| old.read(key, &mut buffer)) {
            Some(length) => {
                let encoded = Encoded { buffer, length };
                done.send((block, Ok(encoded))).map_err(|_| worker_gone())?;
            }
            None => self.jobs.send(Job { block, buffer, done }).map_err(|_| worker_gone())?,
        }
        Ok(result)
    }
}

fn worker_gone() -> io::Error {
    io::Error::other("a compressing thread has ended early")
}

/// What a [`Compressor`] made.
#[derive(Debug)]
pub struct Compressed<W> {
    /// The writer beneath, flushed.
    pub out: W,
    /// Digest of what went in.
    pub plain_digest: BlobDigest,
    /// Length of that in bytes.
    pub plain_bytes: u64,
    /// Digest of what came out.
    pub digest: BlobDigest,
    /// Length of that in bytes.
    pub size_bytes: u64,
    /// The blocks, if it was told what they are.
    pub frames: Frames,
}

/// A writer that compresses what it gets into another one, and takes the digests of both.
///
/// Call [`finish`](Self::finish) at the end: a compressor that is only dropped leaves half a
/// stream.
pub struct Compressor<W: Write> {
    out: DigestWriter<W>,
    /// Digest of the input; nothing without compression, as it is that of the output.
    plain: Option<Sha256>,
    plain_bytes: u64,
    compression: Compression,
    threads: NonZero<usize>,
    /// The block so far; without compression only its length is known.
    block: Vec<u8>,
    filled: usize,
    cutter: Cutter,
    pool: Option<Pool>,
    /// The blocks to come, if they are known; else the cutter says where they end.
    keys: std::iter::Peekable<std::vec::IntoIter<BlockKey>>,
    old: Option<OldFrames>,
    frames: Frames,
}

impl<W: Write> fmt::Debug for Compressor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl<W: Write> Compressor<W> {
    /// Compresses into `out` on as many threads as the machine has cores.
    ///
    /// # Errors
    /// [`LayerError::CompressionLevel`].
    pub fn new(out: W, compression: Compression) -> Result<Self, LayerError> {
        let cores = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        Self::with_threads(out, compression, cores)
    }

    /// Compresses into `out` on `threads` threads; the bytes are the same for any number.
    ///
    /// # Errors
    /// [`LayerError::CompressionLevel`].
    pub fn with_threads(
        out: W,
        compression: Compression,
        threads: NonZero<usize>,
    ) -> Result<Self, LayerError> {
        compression.check()?;
        Ok(Self {
            out: DigestWriter::new(out),
            plain: (compression != Compression::Uncompressed).then(Sha256::new),
            plain_bytes: 0,
            compression,
            threads,
            block: Vec::new(),
            filled: 0,
            cutter: Cutter::default(),
            pool: None,
            keys: Vec::new().into_iter().peekable(),
            old: None,
            frames: Frames::default(),
        })
    }

    /// Prepares for an archive that is cut into these blocks. Those that `old` begins with are
    /// copied at once, and the archive is to be written from where they end
    /// ([`plain_bytes`](Self::plain_bytes)); others that it has are not compressed again. It must
    /// come of the same compression; the bytes are then the same as without it.
    ///
    /// # Errors
    /// Those of reading the older blob, and of the writer beneath.
    pub(super) fn reusing(
        mut self,
        blocks: Vec<BlockKey>,
        old: Option<OldFrames>,
    ) -> io::Result<Self> {
        let same = old.as_ref().map(|old| old.beginning(&blocks)).unwrap_or_default();
        if let (Some(old), Some(last)) = (&old, same.last()) {
            let plain = last.plain_state.resume().ok_or(io::ErrorKind::InvalidData)?;
            let size_bytes = same.size_bytes();
            self.out.resume((&last.blob_state, size_bytes), |out| old.copy(size_bytes, out))?;
            self.plain = self.plain.is_some().then_some(plain);
            self.plain_bytes = same.plain_bytes();
            self.frames = same;
        }
        self.keys = blocks.into_iter().peekable();
        self.keys.by_ref().take(self.frames.count()).for_each(drop);
        self.old = old;
        Ok(self)
    }

    /// Length of the input so far.
    pub(super) fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// The lengths of the blocks that are still to come.
    pub(super) fn block_lengths(&self) -> Vec<usize> {
        self.keys.clone().map(|key| key.plain_bytes as usize).collect()
    }

    fn plain_state(&self) -> HashState {
        self.plain.as_ref().map_or_else(|| self.out.state(), HashState::of)
    }

    /// Takes the next of the blocks that it knows of, whole, and gives back one that is empty.
    pub(super) fn write_block(&mut self, block: Vec<u8>) -> io::Result<Vec<u8>> {
        (self.filled, self.plain_bytes) = (block.len(), self.plain_bytes + block.len() as u64);
        let Some(plain) = &mut self.plain else {
            self.out.write_all(&block)?;
            self.submit()?;
            return Ok(block);
        };
        plain.update(&block);
        self.block = block;
        if self.is_alone() {
            return Ok(Vec::new());
        }
        self.submit()?;
        Ok(std::mem::take(&mut self.block))
    }

    /// Whether one block is all that there is: it needs no threads.
    fn is_alone(&self) -> bool {
        self.pool.is_none() && self.keys.len() == 1
    }

    /// Hands the block to the pool, and writes out what must not wait any longer.
    fn submit(&mut self) -> io::Result<()> {
        let (compression, threads) = (self.compression, self.threads);
        let (length, plain_state) = (std::mem::take(&mut self.filled), self.plain_state());
        let key = self.keys.next();
        if compression == Compression::Uncompressed {
            self.note((key, plain_state), (length, length));
            return Ok(());
        }
        let old = self.old.as_ref().zip(key.as_ref());
        let pool = self.pool.get_or_insert_with(|| Pool::start(compression, threads));
        let result = pool.submit(std::mem::take(&mut self.block), old)?;
        pool.results.push_back(Waiting { key, plain_state, result });
        if pool.results.len() > 2 * threads.get() {
            self.block = self.write_oldest()?;
        }
        Ok(())
    }

    /// Writes the oldest block out and returns its emptied input.
    fn write_oldest(&mut self) -> io::Result<Vec<u8>> {
        let pool = self.pool.as_mut().ok_or_else(worker_gone)?;
        let Waiting { key, plain_state, result } =
            pool.results.pop_front().ok_or_else(worker_gone)?;
        let (mut block, encoded) = result.recv().map_err(|_| worker_gone())?;
        let encoded = encoded?;
        self.out.write_all(encoded.bytes())?;
        let length = encoded.length;
        pool.buffers.push(encoded.buffer);
        self.note((key, plain_state), (block.len(), length));
        block.clear();
        Ok(block)
    }

    /// Remembers a block that was written.
    fn note(
        &mut self,
        (key, plain_state): (Option<BlockKey>, HashState),
        (plain_bytes, compressed_bytes): (usize, usize),
    ) {
        let Some(key) = key else { return };
        debug_assert_eq!(
            key.plain_bytes as usize, plain_bytes,
            "an archive is as long as was said"
        );
        let (compressed_bytes, blob_state) = (compressed_bytes as u32, self.out.state());
        self.frames.push(Frame { key, compressed_bytes, plain_state, blob_state });
    }

    /// Compresses the rest.
    ///
    /// # Errors
    /// Those of the writer beneath.
    pub fn finish(mut self) -> io::Result<Compressed<W>> {
        while self.pool.as_ref().is_some_and(|pool| !pool.results.is_empty()) {
            if self.filled > 0 {
                self.submit()?;
            }
            self.write_oldest()?;
        }
        // No input at all is one empty member.
        if self.filled > 0 || self.plain_bytes == 0 {
            let plain_state = self.plain_state();
            let key = self.keys.next();
            let length = match Encoder::new(self.compression)? {
                Some(mut encoder) => {
                    let encoded = encoder.encode(&self.block, Vec::new())?;
                    self.out.write_all(encoded.bytes())?;
                    encoded.length
                }
                None => self.filled,
            };
            self.note((key, plain_state), (self.filled, length));
        }
        self.out.flush()?;
        let (out, digest, size_bytes) = self.out.finish();
        let plain = self.plain.map(|hasher| BlobDigest::from_bytes(hasher.finalize().into()));
        Ok(Compressed {
            out,
            plain_digest: plain.unwrap_or(digest),
            plain_bytes: self.plain_bytes,
            digest,
            size_bytes,
            frames: self.frames,
        })
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let cut = match self.keys.peek() {
            Some(key) => key.cut(self.filled, bytes),
            None => self.cutter.next_cut(self.filled, bytes),
        };
        let bytes = &bytes[..cut.length];
        if let Some(plain) = &mut self.plain {
            plain.update(bytes);
            let filled = self.block.len() + bytes.len();
            if self.block.capacity() < BLOCK_BYTES && filled > BLOCK_BYTES / 16 {
                self.block.reserve_exact(BLOCK_BYTES - self.block.len());
            }
            self.block.extend_from_slice(bytes);
        } else {
            self.out.write_all(bytes)?;
        }
        self.filled += cut.length;
        self.plain_bytes += cut.length as u64;
        if cut.ends_block && !self.is_alone() {
            self.submit()?;
        }
        Ok(cut.length)
    }

    /// Does nothing: a block that is cut short would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes blocks that are known, and gives what came out with the most buffers that there were.
    fn write(keys: &[BlockKey], old: Option<OldFrames>) -> (Vec<u8>, Frames, usize) {
        let threads = NonZero::new(2).unwrap();
        let compressor = Compressor::with_threads(Vec::new(), Compression::GZIP, threads).unwrap();
        let mut compressor = compressor.reusing(keys.to_vec(), old).unwrap();
        let mut most = 0;
        for key in keys {
            let block = vec![key.hash[0]; key.plain_bytes as usize];
            compressor.write_block(block).unwrap();
            let pool = compressor.pool.as_ref().unwrap();
            most = most.max(pool.buffers.len() + pool.results.len());
        }
        let done = compressor.finish().unwrap();
        (done.out, done.frames, most)
    }

    #[test]
    fn memory_does_not_grow_with_the_blocks() {
        let key = |number: u8| BlockKey { hash: [number; 32], plain_bytes: 3000 };
        let mut keys: Vec<BlockKey> = (0..60).map(key).collect();
        let (blob, frames, compressed) = write(&keys, None);
        keys[0].hash = [99; 32];
        let (expected, _, _) = write(&keys, None);
        let older = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(older.path(), blob).unwrap();
        let old = OldFrames::new(older.reopen().unwrap(), frames);
        let (again, _, taken_over) = write(&keys, Some(old));
        assert!(again == expected);
        assert!(compressed <= 6 && taken_over <= 6, "{compressed} {taken_over}");
    }
}
