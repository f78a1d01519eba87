//! The blocks of a layer's archive, known from its index, before any file is read.

use kiln_core::digest::FieldHasher;

use super::frames::{BlockKey, Cut, Cutter};
use super::index::LayerIndex;
use super::tar_write::{ArchiveFile, ArchiveSink, TarOptions, walk_archive};
use crate::layer_error::LayerError;

/// Version of the keys, and of how headers are written.
const FORMAT: &str = "kiln block 1";

/// The blocks into which the archive of a layer will be cut.
pub(super) fn outline(
    index: &LayerIndex,
    options: &TarOptions,
) -> Result<Vec<BlockKey>, LayerError> {
    let mut outline = Outline {
        cutter: Cutter::default(),
        hasher: FieldHasher::new(FORMAT),
        filled: 0,
        blocks: Vec::new(),
    };
    walk_archive(index, options, &mut outline)?;
    if outline.filled > 0 {
        outline.end_block();
    }
    Ok(outline.blocks)
}

/// The size of the archive of a layer, in bytes.
///
/// # Errors
/// Those of [`write_tar`](super::write_tar) that need no file.
pub fn archive_bytes(index: &LayerIndex, options: &TarOptions) -> Result<u64, LayerError> {
    let blocks = outline(index, options)?;
    Ok(blocks.iter().map(|block| u64::from(block.plain_bytes)).sum())
}

struct Outline {
    cutter: Cutter,
    /// Of the block so far.
    hasher: FieldHasher,
    filled: usize,
    blocks: Vec<BlockKey>,
}

impl Outline {
    fn advance(&mut self, cut: Cut) {
        self.filled += cut.length;
        if cut.ends_block {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        let hasher = std::mem::replace(&mut self.hasher, FieldHasher::new(FORMAT));
        let plain_bytes = std::mem::take(&mut self.filled) as u32;
        self.blocks.push(BlockKey { hash: hasher.finish(), plain_bytes });
    }
}

impl ArchiveSink for Outline {
    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            let cut = self.cutter.next_cut(self.filled, bytes);
            self.hasher.field(&bytes[..cut.length]);
            bytes = &bytes[cut.length..];
            self.advance(cut);
        }
        Ok(())
    }

    fn contents(&mut self, file: &ArchiveFile<'_>) -> Result<(), LayerError> {
        let mut done = 0;
        while done < file.size_bytes {
            let cut = self.cutter.next_cut_of_contents(self.filled, file.size_bytes - done);
            let [own, new] = file.bytecode.unwrap_or_default();
            self.hasher.field(file.digest.as_bytes()).number(done).number(cut.length as u64);
            self.hasher.number(u64::from(own) << 32 | u64::from(new));
            done += cut.length as u64;
            self.advance(cut);
        }
        Ok(())
    }
}
