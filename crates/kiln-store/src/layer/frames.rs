//! Where a compressed layer is cut into blocks, and finding those of an older one again.
//!
//! A block ends after 1 MiB at the latest. Before that it ends where a file of the archive begins
//! that is large itself, or whose header has a certain hash, once the block has some size. So the
//! cuts depend on what is near them: when one file of a layer changes, the blocks of the others
//! stay the same, and their compressed form can be taken from the older blob. (The same idea as
//! in rsyncable gzip and in eStargz, with the tar's own headers instead of a rolling hash.)
//!
//! What a block holds is known from the layer's index alone ([`super::outline`]): where the cuts are
//! follows from the headers, and files enter by their digests. So a blob is remembered with the
//! keys of its blocks and the states of its digests after each; an archive that begins with the same
//! blocks takes them over without reading a file, and hashes only what comes after them.
//!
//! What is no tar is cut too, somewhere: every decision is a function of the bytes alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

use super::encoder::room;
use super::resume::HashState;

/// Longest block. Like all rules here a part of the format, as it shows in digests.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
/// Below this size a block ends only for a large file.
const SOME_BYTES: usize = 256 << 10;
/// One header in so many ends a block.
const ONE_IN: u64 = 64;
/// How much of an older blob is copied at a time.
const COPY_BYTES: usize = 256 << 10;
/// A tar's unit.
const UNIT_BYTES: usize = 512;
/// Where a ustar header has the size, in octal digits.
const SIZE_FIELD: std::ops::Range<usize> = 124..135;

/// What a block of an archive holds, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BlockKey {
    /// Hash of its headers and of the digests of its files.
    pub(super) hash: [u8; 32],
    /// Length of what it holds.
    pub(super) plain_bytes: u32,
}

impl BlockKey {
    /// How much of `bytes` belongs to this block, which has `filled` bytes.
    pub(super) fn cut(&self, filled: usize, bytes: &[u8]) -> Cut {
        let missing = self.plain_bytes as usize - filled;
        let length = bytes.len().min(missing);
        Cut { length, ends_block: length == missing }
    }
}

/// One block of a blob.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    /// What it holds.
    pub(super) key: BlockKey,
    /// Its length in the blob.
    pub(super) compressed_bytes: u32,
    /// The archive's digest after it.
    pub(super) plain_state: HashState,
    /// The blob's digest after it.
    pub(super) blob_state: HashState,
}

/// The blocks of a blob, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frames(Vec<Frame>);

const MAGIC: &[u8; 8] = b"frames 2";
const FRAME_BYTES: usize = 40 + 2 * HashState::BYTES;

impl Frames {
    pub(super) fn push(&mut self, frame: Frame) {
        self.0.push(frame);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn last(&self) -> Option<&Frame> {
        self.0.last()
    }

    /// Length of all blocks in the blob.
    pub(super) fn size_bytes(&self) -> u64 {
        self.0.iter().map(|frame| u64::from(frame.compressed_bytes)).sum()
    }

    /// Length of what they hold.
    pub(super) fn plain_bytes(&self) -> u64 {
        self.0.iter().map(|frame| u64::from(frame.key.plain_bytes)).sum()
    }

    /// As bytes, numbers little-endian: a magic, a state of a digest that only the same
    /// implementation writes so, then for each block its hash, both lengths and both states.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(HashState::probe().as_bytes());
        bytes.reserve(self.0.len() * FRAME_BYTES);
        for frame in &self.0 {
            bytes.extend_from_slice(&frame.key.hash);
            bytes.extend_from_slice(&frame.key.plain_bytes.to_le_bytes());
            bytes.extend_from_slice(&frame.compressed_bytes.to_le_bytes());
            bytes.extend_from_slice(frame.plain_state.as_bytes());
            bytes.extend_from_slice(frame.blob_state.as_bytes());
        }
        bytes
    }

    /// What [`encode`](Self::encode) made; of other bytes, none: they only save time.
    pub fn decode(bytes: &[u8]) -> Self {
        let body = bytes.strip_prefix(MAGIC);
        let body = body.and_then(|rest| rest.strip_prefix(HashState::probe().as_bytes()));
        let mut frames = Vec::new();
        let mut rest = body.unwrap_or_default();
        while let Some((frame, others)) = decode_frame(rest) {
            frames.push(frame);
            rest = others;
        }
        Self(frames)
    }
}

fn decode_frame(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let (hash, rest) = bytes.split_first_chunk()?;
    let (plain_bytes, rest) = rest.split_first_chunk()?;
    let (compressed_bytes, rest) = rest.split_first_chunk()?;
    let (plain_state, rest) = rest.split_first_chunk()?;
    let (blob_state, rest) = rest.split_first_chunk()?;
    let key = BlockKey { hash: *hash, plain_bytes: u32::from_le_bytes(*plain_bytes) };
    let frame = Frame {
        key,
        compressed_bytes: u32::from_le_bytes(*compressed_bytes),
        plain_state: HashState::from_bytes(*plain_state),
        blob_state: HashState::from_bytes(*blob_state),
    };
    Some((frame, rest))
}

/// The blocks of an older blob, to be used again.
#[derive(Debug)]
pub struct OldFrames {
    blob: File,
    frames: Frames,
    /// Offset and length in the blob, by what a block holds.
    places: HashMap<BlockKey, (u64, u32)>,
}

impl OldFrames {
    /// `frames` are those of `blob`.
    pub fn new(blob: File, frames: Frames) -> Self {
        let mut offset = 0;
        let mut places = HashMap::with_capacity(frames.0.len());
        for frame in &frames.0 {
            let Frame { key, compressed_bytes, .. } = frame;
            places.insert(*key, (offset, *compressed_bytes));
            offset += u64::from(*compressed_bytes);
        }
        // A blob that was cut short is of no use.
        let is_whole = blob.metadata().is_ok_and(|metadata| metadata.len() >= offset);
        if is_whole {
            return Self { blob, frames, places };
        }
        Self { blob, frames: Frames::default(), places: HashMap::new() }
    }

    /// The blocks that the blob and an archive of `blocks` both begin with.
    pub(super) fn beginning(&self, blocks: &[BlockKey]) -> Frames {
        let same = self.frames.0.iter().zip(blocks).take_while(|(old, new)| old.key == **new);
        Frames(same.map(|(old, _)| old.clone()).collect())
    }

    /// Copies the first `size_bytes` of the blob.
    pub(super) fn copy(&self, size_bytes: u64, out: &mut impl Write) -> io::Result<()> {
        let mut buffer = vec![0; COPY_BYTES];
        let mut done = 0;
        while done < size_bytes {
            let length = usize::try_from(size_bytes - done).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            self.blob.read_exact_at(&mut buffer[..length], done)?;
            out.write_all(&buffer[..length])?;
            done += length as u64;
        }
        Ok(())
    }

    /// Reads the compressed form of a block into `buffer`, which grows for that, and tells its length;
    /// `None` when the blob has no such block.
    pub(super) fn read(&self, key: &BlockKey, buffer: &mut Vec<u8>) -> Option<usize> {
        let (offset, length) = *self.places.get(key)?;
        let length = length as usize;
        self.blob.read_exact_at(room(buffer, 0, length), offset).ok()?;
        Some(length)
    }
}

/// How much of the input goes into the current block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes of the input.
    pub(super) length: usize,
    /// The block is complete with them.
    pub(super) ends_block: bool,
}

/// Follows the archive and says where blocks end.
#[derive(Debug)]
pub(super) struct Cutter {
    /// The header so far.
    header: Vec<u8>,
    /// Bytes of contents and padding until the next header.
    until_header: u64,
}

impl Default for Cutter {
    fn default() -> Self {
        Self { header: Vec::with_capacity(UNIT_BYTES), until_header: 0 }
    }
}

impl Cutter {
    /// As [`next_cut`](Self::next_cut), of at most `length` bytes of a file's contents.
    pub(super) fn next_cut_of_contents(&mut self, filled: usize, length: u64) -> Cut {
        let room = BLOCK_BYTES - filled;
        let length = usize::try_from(length).unwrap_or(room).min(room);
        self.until_header = self.until_header.saturating_sub(length as u64);
        Cut { length, ends_block: length == room }
    }

    /// How much of `bytes`, which are not empty, belongs to a block that has `filled` bytes. A
    /// block ends *after* a header that says so: what came before it need not be kept back.
    pub(super) fn next_cut(&mut self, filled: usize, bytes: &[u8]) -> Cut {
        let room = BLOCK_BYTES - filled;
        let bytes = &bytes[..bytes.len().min(room)];
        let mut length = 0;
        while length < bytes.len() {
            if self.until_header > 0 {
                let skipped = (bytes.len() - length)
                    .min(usize::try_from(self.until_header).unwrap_or(usize::MAX));
                self.until_header -= skipped as u64;
                length += skipped;
                continue;
            }
            let missing = (UNIT_BYTES - self.header.len()).min(bytes.len() - length);
            self.header.extend_from_slice(&bytes[length..length + missing]);
            length += missing;
            if self.header.len() == UNIT_BYTES && self.ends_here(filled + length) {
                return Cut { length, ends_block: true };
            }
        }
        Cut { length, ends_block: length == room }
    }

    /// Reads the header that is complete now. `filled` is the size of the block with it.
    fn ends_here(&mut self, filled: usize) -> bool {
        let size = octal(&self.header[SIZE_FIELD]);
        self.until_header = size.next_multiple_of(UNIT_BYTES as u64);
        let chosen = filled >= SOME_BYTES && mixed(&self.header).is_multiple_of(ONE_IN);
        self.header.clear();
        size >= BLOCK_BYTES as u64 || chosen
    }
}

/// A number that a header's bytes stir well: quick, and nobody gains by foreseeing it.
fn mixed(header: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, _) = header.as_chunks::<8>();
    let hash = words.iter().fold(FACTOR, |hash, word| {
        (hash ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR).rotate_left(29)
    });
    hash ^ hash >> 32
}

/// A number of a header; what is no digit ends it.
fn octal(digits: &[u8]) -> u64 {
    let digits = digits.iter().take_while(|digit| (b'0'..=b'7').contains(digit));
    digits.fold(0, |number, digit| number * 8 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar of files, and the lengths of its blocks when it is written in pieces of `piece`.
    fn cuts(files: &[(String, Vec<u8>)], piece: usize) -> Vec<Vec<u8>> {
        let mut archive = Vec::new();
        for (name, contents) in files {
            archive
                .extend(super::super::tar_header::plain_header(name, Some(contents.len() as u64)));
            archive.extend(contents);
            archive.resize(archive.len().next_multiple_of(UNIT_BYTES), 0);
        }
        let (mut cutter, mut blocks, mut block) = (Cutter::default(), Vec::new(), Vec::new());
        for mut bytes in archive.chunks(piece) {
            while !bytes.is_empty() {
                let cut = cutter.next_cut(block.len(), bytes);
                block.extend_from_slice(&bytes[..cut.length]);
                bytes = &bytes[cut.length..];
                if cut.ends_block {
                    blocks.push(std::mem::take(&mut block));
                }
            }
        }
        blocks.push(block);
        blocks
    }

    fn files(count: usize) -> Vec<(String, Vec<u8>)> {
        (0..count).map(|n| (format!("dir/file{n}"), vec![n as u8; 3000 + n % 700])).collect()
    }

    #[test]
    fn the_size_of_writes_does_not_matter() {
        let files = files(2000);
        let whole = cuts(&files, usize::MAX);
        assert!(whole.len() > 8, "{}", whole.len());
        assert!(whole.iter().all(|block| block.len() <= BLOCK_BYTES));
        for piece in [1, 511, 512, 70_001] {
            assert!(cuts(&files, piece) == whole);
        }
    }

    #[test]
    fn a_change_reaches_few_blocks() {
        let mut files = files(3000);
        files.push(("large".to_owned(), (0..5_000_000_u32).map(|n| n as u8).collect()));
        let before = cuts(&files, usize::MAX);
        files[1200].1.extend_from_slice(b"one more line\n");
        files.insert(10, ("new".to_owned(), vec![1; 4000]));
        let after = cuts(&files, usize::MAX);
        let new = after.iter().filter(|block| !before.contains(block)).count();
        assert!(new <= 4, "{new} of {}", after.len());
    }

    #[test]
    fn frames_are_read_back() {
        let key = BlockKey { hash: [7; 32], plain_bytes: 1 << 20 };
        let (plain_state, blob_state) = (HashState::probe(), HashState::probe());
        let frame = Frame { key, compressed_bytes: 300_000, plain_state, blob_state };
        let mut frames = Frames::default();
        frames.push(frame.clone());
        frames.push(Frame { key: BlockKey { plain_bytes: 5, ..key }, ..frame });
        let mut bytes = frames.encode();
        assert_eq!(Frames::decode(&bytes), frames);
        // Another implementation's states, an older format.
        bytes[20] ^= 1;
        assert!(Frames::decode(&bytes).is_empty());
        assert!(Frames::decode(&[1; 80]).is_empty());
    }
}
