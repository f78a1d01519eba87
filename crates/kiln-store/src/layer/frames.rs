//! Where a compressed layer is cut into blocks, and finding those of an older one again.
//!
//! A block ends after 1 MiB at the latest. Before that it ends where a file of the archive begins
//! that is large itself, or whose header has a certain hash, once the block has some size. So the
//! cuts depend on what is near them: when one file of a layer changes, the blocks of the others
//! stay the same, and their compressed form can be taken from the older blob. (The same idea as
//! in rsyncable gzip and in eStargz, with the tar's own headers instead of a rolling hash.)
//!
//! What is no tar is cut too, somewhere: every decision is a function of the bytes alone.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Longest block. Like all rules here a part of the format, as it shows in digests.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
/// Below this size a block ends only for a large file.
const SOME_BYTES: usize = 256 << 10;
/// One header in so many ends a block.
const ONE_IN: u64 = 64;
/// A tar's unit.
const UNIT_BYTES: usize = 512;
/// Where a ustar header has the size, in octal digits.
const SIZE_FIELD: std::ops::Range<usize> = 124..135;

/// One block of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// BLAKE3 of what it holds.
    pub(super) plain: [u8; 32],
    /// Length of that.
    pub(super) plain_bytes: u32,
    /// Length in the blob.
    pub(super) compressed_bytes: u32,
}

/// The blocks of a blob, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frames(Vec<Frame>);

impl Frames {
    pub(super) fn push(&mut self, frame: Frame) {
        self.0.push(frame);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As bytes: for each block its BLAKE3 and both lengths, little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 40);
        for frame in &self.0 {
            bytes.extend_from_slice(&frame.plain);
            bytes.extend_from_slice(&frame.plain_bytes.to_le_bytes());
            bytes.extend_from_slice(&frame.compressed_bytes.to_le_bytes());
        }
        bytes
    }

    /// What [`encode`](Self::encode) made; of other bytes, frames that nobody finds.
    pub fn decode(bytes: &[u8]) -> Self {
        let number = |bytes: &[u8]| {
            bytes.iter().rev().fold(0_u32, |number, byte| (number << 8) | u32::from(*byte))
        };
        let frames = bytes.chunks_exact(40).map(|frame| {
            let mut plain = [0; 32];
            plain.copy_from_slice(&frame[..32]);
            Frame {
                plain,
                plain_bytes: number(&frame[32..36]),
                compressed_bytes: number(&frame[36..40]),
            }
        });
        Self(frames.collect())
    }
}

/// The blocks of an older blob, to be used again.
#[derive(Debug)]
pub struct OldFrames {
    blob: File,
    /// Offset and length in the blob, by what a block holds.
    places: HashMap<([u8; 32], u32), (u64, u32)>,
}

impl OldFrames {
    /// `frames` are those of `blob`.
    pub fn new(blob: File, frames: &Frames) -> Self {
        let mut offset = 0;
        let mut places = HashMap::with_capacity(frames.0.len());
        for frame in &frames.0 {
            places.insert((frame.plain, frame.plain_bytes), (offset, frame.compressed_bytes));
            offset += u64::from(frame.compressed_bytes);
        }
        Self { blob, places }
    }

    /// The compressed form of a block; `None` when the blob has no such block.
    pub(super) fn read(&self, plain: &blake3::Hash, plain_bytes: usize) -> Option<Vec<u8>> {
        let key = (*plain.as_bytes(), u32::try_from(plain_bytes).ok()?);
        let (offset, length) = *self.places.get(&key)?;
        let mut frame = vec![0; length as usize];
        self.blob.read_exact_at(&mut frame, offset).ok().map(|()| frame)
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
        let hash = blake3::hash(&self.header);
        self.header.clear();
        self.until_header = size.next_multiple_of(UNIT_BYTES as u64);
        let number = hash.as_bytes()[..8].iter().fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
        let chosen = filled >= SOME_BYTES && number.is_multiple_of(ONE_IN);
        size >= BLOCK_BYTES as u64 || chosen
    }
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
        let frame = Frame { plain: [7; 32], plain_bytes: 1 << 20, compressed_bytes: 300_000 };
        let mut frames = Frames::default();
        frames.push(frame);
        frames.push(Frame { plain_bytes: 5, ..frame });
        assert_eq!(Frames::decode(&frames.encode()), frames);
    }
}
