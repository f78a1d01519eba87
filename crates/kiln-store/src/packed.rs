//! Layers as archives: the blobs that layers were packed into, and layers that are there only as
//! such a blob, until something needs their files.

use std::io::{BufRead as _, BufReader, Write as _};

use kiln_core::digest::{BlobDigest, DiffId, FileDigest};
use rusqlite::{Connection, OptionalExtension};

use crate::error::Error;
use crate::layer::{
    BlobCheck, Frames, LayerIndex, OldFrames, Unpack, decompressor, extract, set_times, unpack,
};
use crate::layer_error::LayerError;
use crate::layers::{Layer, Layers};

const COPY_BYTES: usize = 256 << 10;

impl Layers<'_> {
    /// Forgets a blob that holds a layer of a shared cache, and where it was to be had, because
    /// nobody has it any more or it is not what it should be: it is lost
    /// ([`RemoteBlobs::is_lost`](crate::RemoteBlobs::is_lost)). A layer that is nowhere else is then
    /// no result of any step. `false` if no such layer was in it.
    pub fn forget_archive(self, digest: &BlobDigest) -> Result<bool, Error> {
        let is_known = self.store.database().write("forget where a layer is", |transaction| {
            let is_known: bool = transaction.query_row(
                "SELECT EXISTS (SELECT 1 FROM packed WHERE blob = ?1 AND
                    (diff_id IN (SELECT diff_id FROM layers WHERE times IS NOT NULL)
                     OR diff_id IN (SELECT diff_id FROM clamped)))",
                [digest.as_bytes()],
                |row| row.get(0),
            )?;
            if is_known {
                crate::remote_blobs::lose(transaction, digest)?;
            }
            Ok(is_known)
        })?;
        if is_known {
            crate::gc::forget_blobs(self.store, &[*digest])?;
        }
        Ok(is_known)
    }

    /// A blob of the store that holds the layer.
    pub fn archive(self, layer: &Layer) -> Result<Option<BlobDigest>, Error> {
        let Some(diff_id) = &layer.diff_id else { return Ok(None) };
        self.store
            .database()
            .query("find a packed layer", |connection| self.archive_of(connection, diff_id))
    }

    /// A blob that holds a layer of this diff ID.
    pub(crate) fn archive_of(
        self,
        connection: &Connection,
        diff_id: &DiffId,
    ) -> rusqlite::Result<Option<BlobDigest>> {
        let mut select =
            connection.prepare_cached("SELECT blob, size_bytes FROM packed WHERE diff_id = ?")?;
        let blobs = select.query_map([diff_id.as_bytes()], |row| {
            Ok((BlobDigest::from_bytes(row.get(0)?), row.get::<_, u64>(1)?))
        })?;
        for blob in blobs {
            let (digest, size_bytes) = blob?;
            // What cannot be looked at is not there.
            if self.store.content().size(&digest).ok().flatten() == Some(size_bytes) {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// The blob to fetch before a layer can be used that is there neither as a directory nor as an
    /// archive: it was taken from a shared cache, and `remote_blobs` knows where it is. With its
    /// size in bytes.
    pub fn missing_archive(self, layer: &Layer) -> Result<Option<(BlobDigest, u64)>, Error> {
        if layer.is_unpacked || layer.fs.is_dir() || self.archive(layer)?.is_some() {
            return Ok(None);
        }
        self.remote_archive(layer)
    }

    /// A blob of the layer that can be had elsewhere.
    pub(crate) fn remote_archive(self, layer: &Layer) -> Result<Option<(BlobDigest, u64)>, Error> {
        let Some(diff_id) = &layer.diff_id else { return Ok(None) };
        let found = self.store.database().query("find a packed layer", |connection| {
            connection
                .prepare_cached(
                    "SELECT packed.blob, packed.size_bytes FROM packed
                     JOIN remote_blobs ON remote_blobs.digest = packed.blob
                     WHERE packed.diff_id = ? LIMIT 1",
                )?
                .query_row([diff_id.as_bytes()], |row| {
                    Ok((BlobDigest::from_bytes(row.get(0)?), row.get(1)?))
                })
                .optional()
        })?;
        Ok(found)
    }

    /// Notes what packing a layer of this diff ID by `codec` gives, of which `remote_blobs` knows
    /// where it is: it need not be in the store. What is known already stays.
    pub fn remember_remote_packed(
        self,
        diff_id: &DiffId,
        codec: &str,
        (digest, size_bytes): (&BlobDigest, u64),
    ) -> Result<(), Error> {
        self.store.database().change("note a packed layer", |connection| {
            connection
                .prepare_cached("INSERT OR IGNORE INTO packed VALUES (?, ?, ?, ?)")?
                .execute((diff_id.as_bytes(), codec, digest.as_bytes(), size_bytes))
        })?;
        Ok(())
    }

    /// A compressed form, here or elsewhere, of the archive of which this is the digest, if the store
    /// does not have the archive itself. With its size in bytes.
    pub fn compressed(self, archive: &BlobDigest) -> Result<Option<(BlobDigest, u64)>, Error> {
        if self.store.content().has(archive) {
            return Ok(None);
        }
        let known = self.store.database().query("find a packed layer", |connection| {
            connection
                .prepare_cached(
                    "SELECT blob, size_bytes FROM packed WHERE diff_id = ?1 AND blob <> ?1",
                )?
                .query_map([archive.as_bytes()], |row| {
                    Ok((BlobDigest::from_bytes(row.get(0)?), row.get(1)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        for (blob, size_bytes) in known {
            if self.store.remote_blobs().is_at_hand(&blob)? {
                return Ok(Some((blob, size_bytes)));
            }
        }
        Ok(None)
    }

    /// Makes the archive of this digest and size in bytes of a compressed form that the store has.
    ///
    /// # Errors
    /// [`Error::Damaged`] when something else comes out, or nothing.
    pub fn decompress(
        self,
        compressed: &BlobDigest,
        (archive, size_bytes): (&BlobDigest, u64),
    ) -> Result<(), Error> {
        let content = self.store.content();
        let damaged = |reason: String| Error::Damaged { digest: *compressed, reason };
        let mut reader =
            BufReader::with_capacity(COPY_BYTES, decompressor(content.open(compressed)?));
        let mut writer = content.writer()?;
        loop {
            let bytes = reader.fill_buf().map_err(|error| damaged(error.to_string()))?;
            let length = bytes.len();
            if length == 0 {
                break;
            }
            writer.write_all(bytes).map_err(Error::io("write", &content.path(archive)))?;
            reader.consume(length);
        }
        let found_bytes = writer.size_bytes();
        if found_bytes != size_bytes {
            return Err(damaged(format!("it has {found_bytes} bytes, not {size_bytes}")));
        }
        match writer.commit(Some(*archive)) {
            Err(Error::DigestMismatch { expected, actual, .. }) => {
                Err(damaged(format!("it has the digest {actual}, not {expected}")))
            }
            result => result.map(drop),
        }
    }

    /// The layer with its directory, which is made of the layer's blob if it is not there.
    ///
    /// # Errors
    /// [`Error::MissingLayer`] when there is no blob, [`Error::Layer`] when it is damaged.
    pub fn unpack(self, layer: &Layer) -> Result<Layer, Error> {
        let done = || Layer { is_unpacked: true, ..layer.clone() };
        if layer.is_unpacked {
            return Ok(done());
        }
        let _lock = self.store.lock(&format!("unpack-{}", layer.id))?;
        if layer.fs.is_dir() {
            return Ok(done());
        }
        let missing = Error::MissingLayer { id: layer.id };
        let (Some(diff_id), Some(digest)) = (layer.diff_id, self.archive(layer)?) else {
            return Err(missing);
        };
        let blob = self.store.content().open(&digest)?;
        let working = self.begin()?;
        let failed = |source| Error::Layer { id: layer.id, source: Box::new(source) };
        let expected = (Unpack { digest, diff_id }, BlobCheck::Here);
        let found = unpack(blob, expected, Some(&working.upper)).map_err(failed)?;
        // What steps were done with went by the content that was claimed.
        if found.content_id() != layer.content {
            return Err(failed(LayerError::ContentMismatch));
        }
        let index =
            std::fs::read(&layer.index_path).map_err(Error::io("read", &layer.index_path))?;
        let index = LayerIndex::decode(&index).map_err(failed)?;
        set_times(&index, &working.upper).map_err(failed)?;
        // The archive may be on the disk already; the files are not.
        self.store.database().change("note a layer's files", |connection| {
            let note = "UPDATE layers SET boot = ? WHERE id = ?";
            connection.execute(note, (self.store.boot(), layer.id.as_bytes()))
        })?;
        std::fs::rename(&working.upper, &layer.fs).map_err(Error::io("rename to", &layer.fs))?;
        Ok(done())
    }

    /// The contents of small files of a layer that is an archive, which its index names with their
    /// digests; `None` if they can't be had without unpacking it.
    ///
    /// # Errors
    /// [`Error::Layer`] when it is damaged.
    pub fn extract(
        self,
        layer: &Layer,
        wanted: &[(&[u8], FileDigest)],
    ) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let Some(digest) = self.archive(layer)? else { return Ok(None) };
        let blob = self.store.content().open(&digest)?;
        let failed = |source| Error::Layer { id: layer.id, source: Box::new(source) };
        extract(blob, wanted).map_err(failed)
    }

    /// The blob that a layer of this diff ID was packed into by `codec` (`gzip-6`, `zstd-3`,
    /// `tar`), and its size in bytes; `None` when it was not, or the blob is gone. One that is known to be
    /// elsewhere is not gone.
    pub fn packed(self, diff_id: &DiffId, codec: &str) -> Result<Option<(BlobDigest, u64)>, Error> {
        let key = (diff_id.as_bytes(), codec);
        let database = self.store.database();
        let found = database.query("find a packed layer", |connection| {
            connection
                .prepare_cached(
                    "SELECT blob, size_bytes FROM packed WHERE diff_id = ? AND codec = ?",
                )?
                .query_row(key, |row| Ok((BlobDigest::from_bytes(row.get(0)?), row.get(1)?)))
                .optional()
        })?;
        let Some((digest, size_bytes)) = found else {
            return Ok(None);
        };
        if self.store.content().size(&digest)? == Some(size_bytes) {
            return Ok(Some((digest, size_bytes)));
        }
        if self.store.remote_blobs().is_known(&digest)? {
            return Ok(Some((digest, size_bytes)));
        }
        database.change("forget a packed layer", |connection| {
            connection.execute("DELETE FROM packed WHERE diff_id = ? AND codec = ?", key)
        })?;
        Ok(None)
    }

    /// Notes that packing a layer of this diff ID by `codec` gives this blob.
    ///
    /// # Errors
    /// [`Error::MissingBlob`].
    pub fn remember_packed(
        self,
        diff_id: &DiffId,
        codec: &str,
        digest: &BlobDigest,
    ) -> Result<(), Error> {
        let missing = || Error::MissingBlob { digest: *digest };
        let size_bytes = self.store.content().size(digest)?.ok_or_else(missing)?;
        self.store.database().change("note a packed layer", |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO packed VALUES (?, ?, ?, ?)")?
                .execute((diff_id.as_bytes(), codec, digest.as_bytes(), size_bytes))
        })?;
        Ok(())
    }

    /// Notes the blocks of a packed blob.
    pub fn remember_frames(self, digest: &BlobDigest, frames: &Frames) -> Result<(), Error> {
        if frames.is_empty() {
            return Ok(());
        }
        self.store.database().change("note a blob's blocks", |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO frames VALUES (?, ?)")?
                .execute((digest.as_bytes(), frames.encode()))
        })?;
        Ok(())
    }

    /// Blocks of the newest blob that `codec` made for another layer of a recipe: what a layer of
    /// that recipe has much in common with.
    pub fn old_frames(self, recipe: &[u8; 32], codec: &str) -> Result<Option<OldFrames>, Error> {
        let found = self.store.database().query("find an older blob", |connection| {
            connection
                .prepare_cached(
                    "SELECT packed.blob, frames.frames FROM records
                     JOIN layers ON layers.id = records.layer
                     JOIN packed ON packed.diff_id = layers.diff_id AND packed.codec = ?
                     JOIN frames ON frames.blob = packed.blob
                     WHERE records.recipe = ? ORDER BY records.seq DESC LIMIT 1",
                )?
                .query_row((codec, recipe), |row| {
                    let frames = Frames::decode(row.get_ref(1)?.as_blob()?);
                    Ok((BlobDigest::from_bytes(row.get(0)?), frames))
                })
                .optional()
        })?;
        let Some((digest, frames)) = found else { return Ok(None) };
        // It only saves time: a blob that is gone is none.
        let blob = self.store.content().open(&digest).ok();
        Ok(blob.map(|blob| OldFrames::new(blob, frames)))
    }
}
