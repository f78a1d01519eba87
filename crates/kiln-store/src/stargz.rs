//! Layers as eStargz: what is known of those that were written.

use std::io::BufReader;

use kiln_core::digest::{BlobDigest, DiffId};
use rusqlite::OptionalExtension;

use crate::error::Error;
use crate::layer::{Stargz, decompressor, write_stargz};
use crate::layers::Layers;

const READ_BYTES: usize = 256 << 10;

impl Layers<'_> {
    /// What an archive of this diff ID was written to as eStargz at this level, if the store still has
    /// it.
    pub fn stargz(self, archive: &DiffId, level: u32) -> Result<Option<Stargz>, Error> {
        let known = self.store.database().query("find a layer as eStargz", |connection| {
            connection
                .prepare_cached(
                    "SELECT blob, size_bytes, diff_id, uncompressed_bytes, toc FROM stargz
                     WHERE archive = ? AND level = ?",
                )?
                .query_row((archive.as_bytes(), level), |row| {
                    Ok(Stargz {
                        archive: *archive,
                        digest: BlobDigest::from_bytes(row.get(0)?),
                        size_bytes: row.get(1)?,
                        diff_id: DiffId::from_bytes(row.get(2)?),
                        uncompressed_bytes: row.get(3)?,
                        toc: BlobDigest::from_bytes(row.get(4)?),
                    })
                })
                .optional()
        })?;
        let Some(known) = known else { return Ok(None) };
        let size_bytes = self.store.content().size(&known.digest)?;
        Ok((size_bytes == Some(known.size_bytes)).then_some(known))
    }

    /// Writes a layer, of which the store has the blob `from`, compressed or not, as eStargz.
    /// `is_over` is asked now and then whether to give up.
    ///
    /// # Errors
    /// [`Error::Damaged`] when `from` is not the layer of `archive`, or has no form as eStargz.
    pub fn write_stargz(
        self,
        (from, archive): (&BlobDigest, &DiffId),
        level: u32,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Stargz, Error> {
        let content = self.store.content();
        let damaged = |reason: String| Error::Damaged { digest: *from, reason };
        let blob = Stoppable { input: content.open(from)?, is_over };
        let input = BufReader::with_capacity(READ_BYTES, decompressor(blob));
        let mut writer = content.unhashed_writer()?;
        let written =
            write_stargz(input, level, &mut writer).map_err(|error| damaged(error.to_string()))?;
        if written.archive != *archive {
            return Err(damaged(format!("it has the diff ID {}, not {archive}", written.archive)));
        }
        writer.commit_known(written.digest, written.size_bytes)?;
        self.store.database().change("note a layer as eStargz", |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO stargz VALUES (?, ?, ?, ?, ?, ?, ?)")?
                .execute((
                    archive.as_bytes(),
                    level,
                    written.digest.as_bytes(),
                    written.size_bytes,
                    written.diff_id.as_bytes(),
                    written.uncompressed_bytes,
                    written.toc.as_bytes(),
                ))
        })?;
        Ok(written)
    }
}

/// A reader that fails once nobody waits any more.
struct Stoppable<'a, R> {
    input: R,
    is_over: &'a dyn Fn() -> bool,
}

impl<R: std::io::Read> std::io::Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if (self.is_over)() {
            return Err(std::io::Error::other("the build is over"));
        }
        self.input.read(buffer)
    }
}
