//! Names of images, and what is known of base images.
//!
//! The database is the truth; `index.json` (OCI image-spec, image-layout.md) is made from it, with
//! the full name as `org.opencontainers.image.ref.name`, so that other tools read the store as
//! `oci:ROOT:NAME`. A new `index.json` is written to `tmp/`, its inode is noted in the transaction
//! that changes the names, then it is renamed: an `index.json` of another inode is rewritten by
//! the next one who opens the store. Names that another tool writes into it are not kept.

use std::collections::BTreeSet;
use std::path::Path;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Index, Manifest, media_type};
use rusqlite::{Connection, OptionalExtension};

use crate::boot::inode;
use crate::database::{Database, Failure};
use crate::error::Error;
use crate::store::{Store, now_unix};

/// OCI image-spec, annotations.md.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An index without images.
pub(crate) const EMPTY: &str = concat!(
    r#"{"schemaVersion":2,"#,
    r#""mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#
);

/// The names of images of a store.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    store: &'a Store,
}

impl Store {
    /// The names of images.
    pub fn images(&self) -> Images<'_> {
        Images { store: self }
    }
}

impl Images<'_> {
    /// Gives the image of `descriptor` (a manifest or an index) the full name `name`; an image
    /// that had the name loses it. Nothing is written when it had the name already.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] when something of the image is not in the store, and it is not known
    /// where it could be had either ([`RemoteBlobs`](crate::remote_blobs::RemoteBlobs)).
    pub fn tag(self, name: &str, descriptor: &Descriptor) -> Result<(), Error> {
        if let Some(digest) = missing_blob(self.store, descriptor)? {
            return Err(Error::MissingBlob { digest });
        }
        let text = encode(descriptor);
        let is_new = self.store.database().query("find a name", |connection| {
            connection
                .prepare_cached("SELECT 1 FROM images WHERE name = ? AND descriptor = ?")?
                .exists((name, &text))
                .map(|exists| !exists)
        })?;
        if !is_new {
            return Ok(());
        }
        change_names(self.store, |connection| {
            connection.execute(
                "INSERT OR REPLACE INTO images (name, descriptor, updated) VALUES (?, ?, ?)",
                (name, &text, now_unix()),
            )?;
            Ok(())
        })
    }

    /// The image of this full name.
    pub fn resolve(self, name: &str) -> Result<Option<Descriptor>, Error> {
        let text: Option<String> = self.store.database().query("find a name", |connection| {
            connection
                .prepare_cached("SELECT descriptor FROM images WHERE name = ?")?
                .query_row([name], |row| row.get(0))
                .optional()
        })?;
        text.map(|text| decode(name, &text)).transpose()
    }

    /// All names with their images, sorted by name.
    pub fn list(self) -> Result<Vec<(String, Descriptor)>, Error> {
        let rows = self.store.database().query("list names", rows)?;
        decode_rows(rows)
    }

    /// Takes a name away; its blobs stay until they are pruned. Returns whether it was there.
    pub fn untag(self, name: &str) -> Result<bool, Error> {
        if self.resolve(name)?.is_none() {
            return Ok(false);
        }
        change_names(self.store, |connection| {
            connection.execute("DELETE FROM images WHERE name = ?", [name])?;
            Ok(())
        })?;
        Ok(true)
    }

    /// Notes that `reference` is the image of `manifest` on `platform`, so that a build needs no
    /// network to know it. The manifest and its config must be in the store; layers need not.
    ///
    /// # Errors
    /// [`Error::MissingBlob`].
    pub fn remember_base(
        self,
        reference: &str,
        platform: &str,
        manifest: &Descriptor,
    ) -> Result<(), Error> {
        if let Some(digest) = missing_base_blob(self.store, manifest)? {
            return Err(Error::MissingBlob { digest });
        }
        self.store.database().change("note a base image", |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO bases VALUES (?, ?, ?, ?)")?
                .execute((reference, platform, encode(manifest), now_unix()))
        })?;
        Ok(())
    }

    /// What [`Images::remember_base`] noted, if its manifest and config are still there.
    pub fn base(self, reference: &str, platform: &str) -> Result<Option<Descriptor>, Error> {
        let database = self.store.database();
        let found: Option<(String, u64)> = database.query("find a base image", |connection| {
            connection
                .prepare_cached(
                    "SELECT descriptor, used FROM bases WHERE reference = ? AND platform = ?",
                )?
                .query_row((reference, platform), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        let Some((text, used)) = found else {
            return Ok(None);
        };
        let manifest = decode(reference, &text)?;
        if missing_base_blob(self.store, &manifest)?.is_some() {
            return Ok(None);
        }
        let now = now_unix();
        if used + 3600 < now {
            database.change("note a base image", |connection| {
                connection.execute(
                    "UPDATE bases SET used = ? WHERE reference = ? AND platform = ?",
                    (now, reference, platform),
                )
            })?;
        }
        Ok(Some(manifest))
    }
}

fn encode(descriptor: &Descriptor) -> String {
    serde_json::to_string(descriptor).expect("a descriptor is JSON")
}

fn decode(name: &str, text: &str) -> Result<Descriptor, Error> {
    serde_json::from_str(text)
        .map_err(|source| Error::Document { what: format!("the descriptor of {name}"), source })
}

fn rows(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    connection
        .prepare_cached("SELECT name, descriptor FROM images ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn decode_rows(rows: Vec<(String, String)>) -> Result<Vec<(String, Descriptor)>, Error> {
    rows.into_iter()
        .map(|(name, text)| {
            let descriptor = decode(&name, &text)?;
            Ok((name, descriptor))
        })
        .collect()
}

/// The text of `index.json` for these names.
pub(crate) fn index_text(images: Vec<(String, Descriptor)>) -> String {
    let manifests = images
        .into_iter()
        .map(|(name, mut descriptor)| {
            descriptor.annotations.insert(REF_NAME.to_owned(), name);
            descriptor
        })
        .collect();
    serde_json::to_string(&Index::new(manifests)).expect("an index is JSON")
}

/// Changes the names and `index.json` together.
fn change_names(
    store: &Store,
    change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<(), Error> {
    let _lock = store.lock("index")?;
    let tmp = store.tmp_path()?;
    let result = store.database().write("change names", |transaction| {
        change(transaction)?;
        let text = index_text(decode_rows(rows(transaction)?)?);
        std::fs::write(&tmp, text).map_err(Error::io("write", &tmp))?;
        transaction.execute(
            "INSERT OR REPLACE INTO meta (name, value) VALUES ('index_inode', ?)",
            [inode(&tmp).map(|inode| inode as i64)],
        )?;
        Ok::<_, Failure>(())
    });
    if result.is_err() {
        let _ = std::fs::remove_file(&tmp);
        return result;
    }
    let path = store.path("index.json");
    std::fs::rename(&tmp, &path).map_err(Error::io("rename to", path))
}

/// Makes `index.json` anew.
pub(crate) fn rewrite_index(store: &Store) -> Result<(), Error> {
    change_names(store, |_| Ok(()))
}

/// The inode of the `index.json` that is there.
pub(crate) fn index_inode(store: &Store) -> Option<u64> {
    inode(&store.path("index.json"))
}

/// The first blob of an image that is not there, if any. Of an index, manifests of platforms that
/// were not fetched may be missing, but not all; so may blobs that are known to be elsewhere.
pub(crate) fn missing_blob(
    store: &Store,
    descriptor: &Descriptor,
) -> Result<Option<BlobDigest>, Error> {
    let mut blobs = BTreeSet::new();
    match collect_blobs(store, descriptor, &mut blobs) {
        Err(Error::MissingBlob { digest }) => Ok(Some(digest)),
        Err(error) => Err(error),
        Ok(()) => {
            for digest in blobs {
                if !store.remote_blobs().is_known(&digest)? {
                    return Ok(Some(digest));
                }
            }
            Ok(None)
        }
    }
}

/// Adds what an image consists of: its manifests, which must be there, configs and layers.
pub(crate) fn collect_blobs(
    store: &Store,
    descriptor: &Descriptor,
    blobs: &mut BTreeSet<BlobDigest>,
) -> Result<(), Error> {
    if !blobs.insert(descriptor.digest) {
        return Ok(());
    }
    let bytes = store.content().read(&descriptor.digest)?;
    if media_type::is_index(&descriptor.media_type) {
        let index: Index = parse(descriptor, &bytes)?;
        let mut is_missing = None;
        let mut is_any = index.manifests.is_empty();
        for manifest in &index.manifests {
            if store.content().has(&manifest.digest) {
                is_any = true;
                collect_blobs(store, manifest, blobs)?;
            } else {
                is_missing.get_or_insert(manifest.digest);
            }
        }
        return match is_missing {
            Some(digest) if !is_any => Err(Error::MissingBlob { digest }),
            _ => Ok(()),
        };
    }
    let manifest: Manifest = parse(descriptor, &bytes)?;
    blobs.insert(manifest.config.digest);
    blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
    Ok(())
}

fn parse<'a, T: serde::Deserialize<'a>>(
    descriptor: &Descriptor,
    bytes: &'a [u8],
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Document {
        what: format!("manifest {}", descriptor.digest),
        source,
    })
}

/// The manifest or config of a base image that is not there, if any.
pub(crate) fn missing_base_blob(
    store: &Store,
    descriptor: &Descriptor,
) -> Result<Option<BlobDigest>, Error> {
    let content = store.content();
    if !content.has(&descriptor.digest) {
        return Ok(Some(descriptor.digest));
    }
    if media_type::is_index(&descriptor.media_type) {
        return Ok(None);
    }
    let bytes = content.read(&descriptor.digest)?;
    let manifest: Manifest = parse(descriptor, &bytes)?;
    let config = manifest.config.digest;
    Ok((!content.has(&config)).then_some(config))
}

/// Remembered base images: reference, platform, descriptor, last use in seconds since 1970.
pub(crate) fn bases(store: &Store) -> Result<Vec<(String, String, Descriptor, u64)>, Error> {
    let rows: Vec<(String, String, String, u64)> =
        store.database().query("list base images", |connection| {
            connection
                .prepare("SELECT reference, platform, descriptor, used FROM bases")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                .collect()
        })?;
    rows.into_iter()
        .map(|(reference, platform, text, used)| {
            let descriptor = decode(&reference, &text)?;
            Ok((reference, platform, descriptor, used))
        })
        .collect()
}

/// Forgets a base image.
pub(crate) fn forget_base(store: &Store, reference: &str, platform: &str) -> Result<(), Error> {
    store.database().change("forget a base image", |connection| {
        connection.execute(
            "DELETE FROM bases WHERE reference = ? AND platform = ?",
            (reference, platform),
        )
    })?;
    Ok(())
}

/// Whether an image or base lacks something or does not parse; other errors are the disk's.
pub(crate) fn is_incomplete(result: Result<Option<BlobDigest>, Error>) -> Result<bool, Error> {
    match result {
        Ok(missing) => Ok(missing.is_some()),
        Err(Error::Document { .. } | Error::DigestMismatch { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes the names of images and bases away that are not whole. The index is not rewritten.
pub(crate) fn drop_incomplete(store: &Store) -> Result<(), Error> {
    for (name, descriptor) in store.images().list()? {
        if is_incomplete(missing_blob(store, &descriptor))? {
            store.database().change("forget a name", |connection| {
                connection.execute("DELETE FROM images WHERE name = ?", [&name])
            })?;
        }
    }
    for (reference, platform, descriptor, _) in bases(store)? {
        if is_incomplete(missing_base_blob(store, &descriptor))? {
            forget_base(store, &reference, &platform)?;
        }
    }
    Ok(())
}

/// Takes the names of an `index.json` into a new database, as far as it can be read.
pub(crate) fn restore(root: &Path, database: &Database) -> Result<(), Error> {
    let path = root.join("index.json");
    let Ok(bytes) = std::fs::read(&path) else {
        return Ok(());
    };
    let Ok(index) = serde_json::from_slice::<Index>(&bytes) else {
        return Ok(());
    };
    database.write("restore names", |transaction| {
        for mut descriptor in index.manifests {
            if let Some(name) = descriptor.annotations.remove(REF_NAME) {
                transaction.execute(
                    "INSERT OR REPLACE INTO images (name, descriptor, updated) VALUES (?, ?, ?)",
                    (name, encode(&descriptor), now_unix()),
                )?;
            }
        }
        Ok(())
    })
}
