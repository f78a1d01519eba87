//! How one block is compressed: gzip members (RFC 1952, 2.2; one for each run of [`super::noise`]) or a
//! zstd frame (RFC 8878, 3.1).
//!
//! Where nobody says how hard gzip is to try, a sample of each run decides. All of it depends on the
//! block's bytes alone.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;

use super::compress::Compression;
use super::noise::{Texture, runs};

/// What deflate does with noise.
const STORED_LEVEL: u32 = 0;
const USUAL_LEVEL: u32 = Compression::USUAL_GZIP_LEVEL;
/// Text: at the usual level it would be larger by 5 to 8 percent.
const THOROUGH_LEVEL: u32 = 4;
const SAMPLE_LEVEL: u32 = 1;
const SAMPLE_PARTS: usize = 4;
const SAMPLE_PART_BYTES: usize = 4096;
/// A sample of text gets smaller than this, in hundredths of it.
const MOST_PERCENT: usize = 35;

/// A block's compressed form, in a buffer that is longer and used again.
pub(super) struct Encoded {
    /// What is free again afterwards.
    pub(super) buffer: Vec<u8>,
    /// How much of it counts.
    pub(super) length: usize,
}

impl Encoded {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// Compresses single blocks.
pub(super) enum Encoder {
    Gzip(GzipEncoder),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    /// `None` for no compression.
    pub(super) fn new(compression: Compression) -> io::Result<Option<Self>> {
        Ok(match compression {
            Compression::Uncompressed => None,
            Compression::Gzip { level } => Some(Self::Gzip(GzipEncoder::new(level)?)),
            Compression::Zstd { level } => Some(Self::Zstd(zstd::bulk::Compressor::new(level)?)),
        })
    }

    /// Compresses a block into `buffer`, whose contents do not matter.
    pub(super) fn encode(&mut self, block: &[u8], mut buffer: Vec<u8>) -> io::Result<Encoded> {
        let mut length = 0;
        match self {
            Self::Gzip(encoder) => {
                for (texture, run) in runs(block) {
                    let encoder = encoder.for_run(texture, run)?;
                    let room = room(&mut buffer, length, encoder.gzip_compress_bound(run.len()));
                    length += deflate(encoder.gzip_compress(run, room))?;
                }
            }
            Self::Zstd(encoder) => {
                let room = room(&mut buffer, 0, zstd::compress_bound(block.len()));
                length = encoder.compress_to_buffer(block, room)?;
            }
        }
        Ok(Encoded { buffer, length })
    }
}

/// What compresses runs of different kinds, made when the first comes.
pub(super) struct GzipEncoder {
    level: Option<u32>,
    /// By level.
    encoders: BTreeMap<u32, libdeflater::Compressor>,
}

impl GzipEncoder {
    fn new(level: Option<u32>) -> io::Result<Self> {
        let mut encoder = Self { level, encoders: BTreeMap::new() };
        encoder.at(level.unwrap_or(USUAL_LEVEL))?;
        Ok(encoder)
    }

    fn at(&mut self, level: u32) -> io::Result<&mut libdeflater::Compressor> {
        match self.encoders.entry(level) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(free) => {
                let level = libdeflater::CompressionLvl::new(level.cast_signed())
                    .map_err(|_| io::Error::other("libdeflate has no such level"))?;
                Ok(free.insert(libdeflater::Compressor::new(level)))
            }
        }
    }

    /// What compresses this run.
    fn for_run(
        &mut self,
        texture: Texture,
        run: &[u8],
    ) -> io::Result<&mut libdeflater::Compressor> {
        let level = match (texture, self.level) {
            (Texture::Noise, _) => STORED_LEVEL,
            (Texture::Pattern, Some(level)) => level,
            (Texture::Pattern, None) if self.repays_search(run)? => THOROUGH_LEVEL,
            (Texture::Pattern, None) => USUAL_LEVEL,
        };
        self.at(level)
    }

    /// Whether a run gets so small that looking longer for what it repeats pays. Sources and headers
    /// are such; they lose most where nobody looks, and are quick to compress anyway. So are short runs.
    fn repays_search(&mut self, run: &[u8]) -> io::Result<bool> {
        if run.len() < SAMPLE_PARTS * SAMPLE_PART_BYTES {
            return Ok(true);
        }
        let mut sample = Vec::with_capacity(SAMPLE_PARTS * SAMPLE_PART_BYTES);
        for part in 0..SAMPLE_PARTS {
            let start = run.len() / SAMPLE_PARTS * part;
            sample.extend_from_slice(&run[start..start + SAMPLE_PART_BYTES]);
        }
        let encoder = self.at(SAMPLE_LEVEL)?;
        let mut room = vec![0; encoder.deflate_compress_bound(sample.len())];
        let length = deflate(encoder.deflate_compress(&sample, &mut room))?;
        Ok(length * 100 < sample.len() * MOST_PERCENT)
    }
}

fn deflate<E: fmt::Display>(result: Result<usize, E>) -> io::Result<usize> {
    result.map_err(|error| io::Error::other(error.to_string()))
}

/// So many bytes of a buffer from `start` on, which grows for that.
pub(super) fn room(buffer: &mut Vec<u8>, start: usize, length: usize) -> &mut [u8] {
    let end = start + length;
    if buffer.len() < end {
        buffer.reserve_exact(end - buffer.len());
        buffer.resize(end, 0);
    }
    &mut buffer[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(block: &[u8], level: Option<u32>) -> usize {
        let mut encoder = Encoder::new(Compression::Gzip { level }).unwrap().unwrap();
        // What is left in a buffer does not matter.
        encoder.encode(block, vec![7; 12_345]).unwrap().length
    }

    /// Lines of so many different words, which come in no order.
    fn words(count: u32) -> Vec<u8> {
        let word = |n: u32| n.wrapping_mul(2_654_435_761) % count * 7919;
        (0..60_000_u32).flat_map(|n| format!("{:x} ", word(n * n)).into_bytes()).collect()
    }

    #[test]
    fn text_is_searched_longer_than_what_hardly_repeats_itself() {
        let (text, other) = (words(300), words(50_000));
        assert_eq!(length(&text, None), length(&text, Some(THOROUGH_LEVEL)));
        assert_eq!(length(&other, None), length(&other, Some(USUAL_LEVEL)));
        assert_ne!(length(&other, Some(THOROUGH_LEVEL)), length(&other, Some(USUAL_LEVEL)));
        for short in [0, 1, 3, 5000] {
            let short = &other[..short];
            assert_eq!(length(short, None), length(short, Some(THOROUGH_LEVEL)));
        }
    }

    #[test]
    fn each_run_is_compressed_as_it_repays() {
        let mut reader = blake3::Hasher::new().update(b"noise").finalize_xof();
        let mut noise = vec![0; 1 << 18];
        reader.fill(&mut noise);
        let block = [&words(300)[..1 << 18], &noise, &words(50_000)[..1 << 18]].concat();
        let parts = block.chunks(1 << 18).map(|part| length(part, None)).sum::<usize>();
        assert_eq!(length(&block, None), parts);
    }
}
