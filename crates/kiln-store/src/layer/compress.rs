//! Compression of layers.
//!
//! The stream is cut into blocks ([`super::frames`] says where), and each is compressed on its
//! own: a gzip member (RFC 1952, 2.2) or a zstd frame (RFC 8878, 3.1). A file of many of those is
//! valid gzip or zstd, and readers see their concatenated contents. So the bytes depend on input
//! and level only, never on the number of threads, and memory is bounded by a few blocks per
//! thread. A block that an older blob holds is taken from there ([`Frames`]), compressed already.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::bufread::MultiGzDecoder;
use kiln_core::digest::BlobDigest;
use sha2::{Digest as _, Sha256};

use super::frames::{BLOCK_BYTES, Cutter, Frame, Frames, OldFrames};
use crate::layer_error::LayerError;

const READ_BYTES: usize = 128 << 10;

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A plain tar archive.
    Uncompressed,
    /// gzip.
    Gzip {
        /// 0 (stored) to 12.
        level: u32,
    },
    /// zstd.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
}

impl Compression {
    /// gzip at the level whose size is within some percent of zlib's default (6, as others use):
    /// 0.97 to 1.03 of it for sources, packages and programs, in two thirds of libdeflate's own 6.
    pub const GZIP: Self = Self::Gzip { level: 4 };
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
            Self::Uncompressed => return Ok(()),
            Self::Gzip { level } => ("gzip", i64::from(level), 0, 12),
            Self::Zstd { level } => ("zstd", i64::from(level), 1, 22),
        };
        if (first..=last).contains(&level) {
            Ok(())
        } else {
            Err(LayerError::CompressionLevel { compression, level, first, last })
        }
    }
}

/// Compresses single blocks.
enum Encoder {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    /// `None` for no compression.
    fn new(compression: Compression) -> io::Result<Option<Self>> {
        Ok(match compression {
            Compression::Uncompressed => None,
            Compression::Gzip { level } => {
                let level = libdeflater::CompressionLvl::new(level.cast_signed())
                    .map_err(|_| io::Error::other("libdeflate has no such level"))?;
                Some(Self::Gzip(libdeflater::Compressor::new(level)))
            }
            Compression::Zstd { level } => Some(Self::Zstd(zstd::bulk::Compressor::new(level)?)),
        })
    }

    fn encode(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => {
                let mut member = vec![0; encoder.gzip_compress_bound(block.len())];
                let length = encoder
                    .gzip_compress(block, &mut member)
                    .map_err(|error| io::Error::other(error.to_string()))?;
                member.truncate(length);
                Ok(member)
            }
            Self::Zstd(encoder) => encoder.compress(block),
        }
    }
}

/// A block, to be used again, and what became of it.
type Done = (Vec<u8>, io::Result<Vec<u8>>);

/// A block on its way: what it holds, and what is to come of it.
struct Waiting {
    plain: blake3::Hash,
    result: Receiver<Done>,
}

struct Job {
    block: Vec<u8>,
    done: SyncSender<Done>,
}

/// Threads that compress blocks, and the blocks that they are at, oldest first.
struct Pool {
    jobs: Sender<Job>,
    results: VecDeque<Waiting>,
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
                    let Ok(Job { block, done }) = job else { return };
                    let encoded = match &mut encoder {
                        Ok(Some(encoder)) => encoder.encode(&block),
                        Ok(None) => Ok(block.clone()),
                        Err(error) => Err(io::Error::other(error.to_string())),
                    };
                    // Nobody waits any more when the compressor was dropped.
                    let _ = done.send((block, encoded));
                }
            });
        }
        Self { jobs, results: VecDeque::new() }
    }

    /// Compresses a block, unless it is there `compressed` already.
    fn submit(
        &mut self,
        block: Vec<u8>,
        (plain, compressed): (blake3::Hash, Option<Vec<u8>>),
    ) -> io::Result<()> {
        let (done, result) = sync_channel(1);
        match compressed {
            Some(frame) => done.send((block, Ok(frame))).map_err(|_| worker_gone())?,
            None => self.jobs.send(Job { block, done }).map_err(|_| worker_gone())?,
        }
        self.results.push_back(Waiting { plain, result });
        Ok(())
    }
}

fn worker_gone() -> io::Error {
    io::Error::other("a compressing thread has ended early")
}

/// A writer that compresses what it gets into another one.
///
/// Call [`finish`](Self::finish) at the end: a compressor that is only dropped leaves half a
/// stream.
pub struct Compressor<W: Write> {
    out: W,
    compression: Compression,
    threads: NonZero<usize>,
    block: Vec<u8>,
    cutter: Cutter,
    pool: Option<Pool>,
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
            out,
            compression,
            threads,
            block: Vec::new(),
            cutter: Cutter::default(),
            pool: None,
            old: None,
            frames: Frames::default(),
        })
    }

    /// Takes blocks that `old` holds from there instead of compressing them again. It must come of
    /// the same compression; the bytes are then the same as without it.
    #[must_use]
    pub fn reusing(self, old: Option<OldFrames>) -> Self {
        Self { old, ..self }
    }

    /// Hands the block to the pool, and writes out what must not wait any longer.
    fn submit(&mut self) -> io::Result<()> {
        let (compression, threads) = (self.compression, self.threads);
        let plain = blake3::hash(&self.block);
        let known = self.old.as_ref().and_then(|old| old.read(&plain, self.block.len()));
        let pool = self.pool.get_or_insert_with(|| Pool::start(compression, threads));
        pool.submit(std::mem::take(&mut self.block), (plain, known))?;
        if pool.results.len() > 2 * threads.get() {
            self.block = self.write_oldest()?;
        }
        Ok(())
    }

    /// Writes the oldest block out and returns its emptied input.
    fn write_oldest(&mut self) -> io::Result<Vec<u8>> {
        let oldest = self.pool.as_mut().and_then(|pool| pool.results.pop_front());
        let Waiting { plain, result } = oldest.ok_or_else(worker_gone)?;
        let (mut block, encoded) = result.recv().map_err(|_| worker_gone())?;
        self.put(plain, block.len(), &encoded?)?;
        block.clear();
        Ok(block)
    }

    fn put(&mut self, plain: blake3::Hash, length: usize, encoded: &[u8]) -> io::Result<()> {
        self.out.write_all(encoded)?;
        self.frames.push(Frame {
            plain: *plain.as_bytes(),
            plain_bytes: length as u32,
            compressed_bytes: encoded.len() as u32,
        });
        Ok(())
    }

    /// Compresses the rest and returns the writer beneath, flushed, and the blocks that it got;
    /// none without compression.
    ///
    /// # Errors
    /// Those of the writer beneath.
    pub fn finish(mut self) -> io::Result<(W, Frames)> {
        while self.pool.as_ref().is_some_and(|pool| !pool.results.is_empty()) {
            if !self.block.is_empty() {
                self.submit()?;
            }
            self.write_oldest()?;
        }
        // No input at all is one empty member.
        if (!self.block.is_empty() || self.frames.is_empty())
            && let Some(mut encoder) = Encoder::new(self.compression)?
        {
            let block = std::mem::take(&mut self.block);
            let encoded = encoder.encode(&block)?;
            self.put(blake3::hash(&block), block.len(), &encoded)?;
        }
        self.out.flush()?;
        Ok((self.out, self.frames))
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.compression == Compression::Uncompressed {
            return self.out.write(bytes);
        }
        if self.block.capacity() < BLOCK_BYTES && self.block.len() + bytes.len() > BLOCK_BYTES / 16
        {
            self.block.reserve_exact(BLOCK_BYTES - self.block.len());
        }
        let cut = self.cutter.next_cut(self.block.len(), bytes);
        self.block.extend_from_slice(&bytes[..cut.length]);
        if cut.ends_block {
            self.submit()?;
        }
        Ok(cut.length)
    }

    /// Does nothing: a block that is cut short would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum Decoder<R: Read> {
    /// Nothing was read yet.
    Start(Option<R>),
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Source<R>>),
}

/// The reader that [`decompressor`] returns.
pub struct Decompressor<R: Read>(Decoder<R>);

impl<R: Read> fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

/// Reads what `reader` holds uncompressed: its first bytes tell gzip (also of many members) and
/// zstd (also of many frames); anything else is passed on as it is.
pub fn decompressor<R: Read>(reader: R) -> Decompressor<R> {
    Decompressor(Decoder::Start(Some(reader)))
}

impl<R: Read> Decompressor<R> {
    fn detect(mut reader: R) -> io::Result<Decoder<R>> {
        let mut head = Vec::with_capacity(4);
        (&mut reader).take(4).read_to_end(&mut head)?;
        let gzip = head.starts_with(&[0x1f, 0x8b]);
        // A zstd frame or a skippable one, which may come first.
        let zstd = head == [0x28, 0xb5, 0x2f, 0xfd]
            || matches!(head[..], [first, 0x2a, 0x4d, 0x18] if first & 0xf0 == 0x50);
        let source = BufReader::with_capacity(READ_BYTES, Cursor::new(head).chain(reader));
        Ok(if gzip {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else if zstd {
            Decoder::Zstd(zstd::stream::read::Decoder::with_buffer(source)?)
        } else {
            Decoder::Plain(source)
        })
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Decoder::Start(reader) = &mut self.0 {
            let reader = reader.take().ok_or_else(|| io::Error::other("reading has failed"))?;
            self.0 = Self::detect(reader)?;
        }
        match &mut self.0 {
            Decoder::Start(_) => Ok(0),
            Decoder::Plain(reader) => reader.read(buffer),
            Decoder::Gzip(reader) => reader.read(buffer),
            Decoder::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// A writer that passes everything on and takes its digest.
#[derive(Debug)]
pub struct DigestWriter<W> {
    out: W,
    hasher: Sha256,
    size_bytes: u64,
}

impl<W: Write> DigestWriter<W> {
    /// Passes on to `out`.
    pub fn new(out: W) -> Self {
        Self { out, hasher: Sha256::new(), size_bytes: 0 }
    }

    /// The writer beneath, the digest of all that was written, and its length in bytes.
    pub fn finish(self) -> (W, BlobDigest, u64) {
        (self.out, BlobDigest::from_bytes(self.hasher.finalize().into()), self.size_bytes)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size_bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
