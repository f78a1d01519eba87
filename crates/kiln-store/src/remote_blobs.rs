//! Where layers' blobs come from: an image may be in the store while some of its layers are not,
//! because nothing has needed them yet. What needs one later fetches it from there.
//!
//! An OCI layout may lack blobs that are found elsewhere (OCI image-spec, image-layout.md). Only
//! layers are ever left out: manifests and configs of an image are always in the store.
//!
//! The text of a place is whatever its writer can read: kiln's engine writes repositories. The empty
//! one stands for a blob that was lost.

use std::collections::BTreeSet;

use kiln_core::digest::BlobDigest;
use rusqlite::Transaction;

use crate::error::Error;
use crate::store::{Store, now_unix};

/// Places of blobs outside of a store.
#[derive(Clone, Copy, Debug)]
pub struct RemoteBlobs<'a> {
    store: &'a Store,
}

impl Store {
    /// Places of blobs outside of the store.
    pub fn remote_blobs(&self) -> RemoteBlobs<'_> {
        RemoteBlobs { store: self }
    }
}

impl RemoteBlobs<'_> {
    /// Notes that these blobs can be had from `place`. Nothing is written when it was known.
    pub fn note(self, digests: &[BlobDigest], place: &str) -> Result<(), Error> {
        let mut new = Vec::new();
        for digest in digests {
            if !self.places(digest)?.iter().any(|known| known == place) {
                new.push(digest);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        self.store.database().write("note where blobs are", |transaction| {
            let mut insert = transaction
                .prepare_cached("INSERT OR REPLACE INTO remote_blobs VALUES (?, ?, ?)")?;
            for digest in &new {
                insert.execute((digest.as_bytes(), place, now_unix()))?;
            }
            Ok(())
        })
    }

    /// Where a blob can be had, the place that was noted last first.
    pub fn places(self, digest: &BlobDigest) -> Result<Vec<String>, Error> {
        self.store.database().query("find where a blob is", |connection| {
            connection
                .prepare_cached(
                    "SELECT place FROM remote_blobs WHERE digest = ? AND place <> ''
                     ORDER BY noted DESC, place",
                )?
                .query_map([digest.as_bytes()], |row| row.get(0))?
                .collect()
        })
    }

    /// Whether a blob is in the store, or it is known where it, or one of which it can be made, can
    /// be had.
    pub(crate) fn is_known(self, digest: &BlobDigest) -> Result<bool, Error> {
        Ok(self.is_at_hand(digest)? || self.store.layers().compressed(digest)?.is_some())
    }

    /// Whether a blob is in the store, or it is known where it can be had.
    pub(crate) fn is_at_hand(self, digest: &BlobDigest) -> Result<bool, Error> {
        Ok(self.store.content().has(digest) || !self.places(digest)?.is_empty())
    }

    /// Whether a blob turned out to be lost: whoever claims to have it is not believed any more,
    /// until the store is pruned.
    pub fn is_lost(self, digest: &BlobDigest) -> Result<bool, Error> {
        self.store.database().query("find where a blob is", |connection| {
            connection
                .prepare_cached("SELECT 1 FROM remote_blobs WHERE digest = ? AND place = ''")?
                .exists([digest.as_bytes()])
        })
    }

    /// Forgets the places of all other blobs.
    pub(crate) fn retain(self, needed: &BTreeSet<BlobDigest>) -> Result<(), Error> {
        self.store.database().write("forget where blobs are", |transaction| {
            let known = transaction
                .prepare("SELECT DISTINCT digest FROM remote_blobs")?
                .query_map([], |row| row.get(0).map(BlobDigest::from_bytes))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let mut delete = transaction.prepare("DELETE FROM remote_blobs WHERE digest = ?")?;
            for digest in known.iter().filter(|digest| !needed.contains(digest)) {
                delete.execute([digest.as_bytes()])?;
            }
            Ok(())
        })
    }
}

/// Notes that no place that is known has a blob.
pub(crate) fn lose(transaction: &Transaction<'_>, digest: &BlobDigest) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM remote_blobs WHERE digest = ?", [digest.as_bytes()])?;
    let row = (digest.as_bytes(), "", now_unix());
    transaction.execute("INSERT INTO remote_blobs VALUES (?, ?, ?)", row)?;
    Ok(())
}
