//! How much the store holds, and making it less.
//!
//! Tagged images stay, with their blobs and unpacked layers. All else is cache: layers with their
//! records, blobs that no tagged image needs, remembered base images, cache mounts, context
//! indexes. `prune` removes what nothing can use any more, then what was not used for long, then
//! the least recently used until a cap holds. Layers do not pin each other: a record is found by
//! content, so an upper layer is of use again when a lower one was rebuilt.
//!
//! It runs only while no build does.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use kiln_core::digest::{BlobDigest, DiffId};
use kiln_core::oci::{ImageConfig, Manifest};

use crate::error::Error;
use crate::images;
use crate::layers::LayerId;
use crate::store::{Store, now_unix};

/// Bytes on the disk, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs of the OCI layout.
    pub blobs_bytes: u64,
    /// Unpacked layers.
    pub layers_bytes: u64,
    /// Cache mounts.
    pub cache_mounts_bytes: u64,
    /// Context indexes.
    pub contexts_bytes: u64,
    /// The database with its log.
    pub database_bytes: u64,
    /// What waits to be deleted, and work in progress.
    pub trash_bytes: u64,
}

impl Usage {
    /// All together.
    pub fn total_bytes(&self) -> u64 {
        self.blobs_bytes
            + self.layers_bytes
            + self.cache_mounts_bytes
            + self.contexts_bytes
            + self.database_bytes
            + self.trash_bytes
    }
}

/// What to remove beside what nothing can use any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Cache that was not used for so long.
    pub older_than: Option<Duration>,
    /// The least recently used cache, until the store holds no more than so many bytes. Tagged
    /// images may hold more; they stay.
    pub max_bytes: Option<u64>,
    /// All cache.
    pub all: bool,
}

/// What a prune removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers, with their cache records.
    pub layers: usize,
    /// Blobs.
    pub blobs: usize,
    /// Cache mounts.
    pub cache_mounts: usize,
    /// Bytes of the disk that are free now.
    pub freed_bytes: u64,
}

impl Store {
    /// How much the store holds. Walks through all of it, except layers whose size is known.
    pub fn usage(&self) -> Result<Usage, Error> {
        let layers = layers(self)?;
        let mut database_bytes = 0;
        for name in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"] {
            database_bytes += disk_usage(&self.path(name))?;
        }
        Ok(Usage {
            blobs_bytes: disk_usage(&self.path("blobs"))?,
            layers_bytes: layers.iter().map(|layer| layer.size_bytes).sum(),
            cache_mounts_bytes: disk_usage(&self.path("cache-mounts"))?,
            contexts_bytes: disk_usage(&self.path("contexts"))?,
            database_bytes,
            trash_bytes: disk_usage(&self.path("trash"))? + disk_usage(&self.path("tmp"))?,
        })
    }

    /// Removes cache, and deletes it before it returns.
    ///
    /// # Errors
    /// [`Error::InUse`] when a build runs.
    pub fn prune(&self, what: &Prune) -> Result<Pruned, Error> {
        let _lock = self.lock_exclusive()?;
        self.flush()?;
        let before = self.usage()?.total_bytes();
        let mut pruned = Pruned::default();
        remove_orphans(self)?;
        if what.all || what.older_than.is_some() {
            let limit = what
                .older_than
                .filter(|_| !what.all)
                .map_or(u64::MAX, |age| now_unix().saturating_sub(age.as_secs()));
            let chosen = candidates(self)?
                .into_iter()
                .filter(|candidate| candidate.used_unix < limit)
                .collect();
            remove(self, chosen, &mut pruned)?;
        }
        remove_unreferenced_blobs(self, &mut pruned)?;
        self.delete_trash()?;
        if let Some(max_bytes) = what.max_bytes {
            shrink(self, max_bytes, &mut pruned)?;
        }
        self.delete_trash()?;
        let after = self.usage()?.total_bytes();
        pruned.freed_bytes = before.saturating_sub(after);
        Ok(pruned)
    }
}

/// Something that may go, and when it was last used.
struct Candidate {
    used_unix: u64,
    size_bytes: u64,
    kind: CandidateKind,
}

enum CandidateKind {
    Layer(LayerId),
    Base { reference: String, platform: String },
    CacheMount(String),
    Context(PathBuf),
}

struct LayerRow {
    id: LayerId,
    diff_id: Option<DiffId>,
    size_bytes: u64,
    used_unix: u64,
}

/// All layers; sizes that were not known are measured and noted.
fn layers(store: &Store) -> Result<Vec<LayerRow>, Error> {
    let rows = store.database().query("list layers", |connection| {
        connection
            .prepare("SELECT id, diff_id, size_bytes, used FROM layers ORDER BY seq")?
            .query_map([], |row| {
                Ok((
                    LayerId::from_bytes(row.get(0)?),
                    row.get::<_, Option<_>>(1)?.map(DiffId::from_bytes),
                    row.get::<_, Option<u64>>(2)?,
                    row.get(3)?,
                ))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
    })?;
    let mut layers = Vec::with_capacity(rows.len());
    for (id, diff_id, known, used_unix) in rows {
        let size_bytes = if let Some(size_bytes) = known {
            size_bytes
        } else {
            let size_bytes = disk_usage(&store.layers().directory(&id))?;
            store.database().change("note a size", |connection| {
                connection.execute(
                    "UPDATE layers SET size_bytes = ? WHERE id = ?",
                    (size_bytes, id.as_bytes()),
                )
            })?;
            size_bytes
        };
        layers.push(LayerRow { id, diff_id, size_bytes, used_unix });
    }
    Ok(layers)
}

/// What may go, the least recently used first.
fn candidates(store: &Store) -> Result<Vec<Candidate>, Error> {
    let tagged = tagged_diff_ids(store)?;
    let mut found = Vec::new();
    for layer in layers(store)? {
        if layer.diff_id.is_some_and(|diff_id| tagged.contains(&diff_id)) {
            continue;
        }
        found.push(Candidate {
            used_unix: layer.used_unix,
            size_bytes: layer.size_bytes,
            kind: CandidateKind::Layer(layer.id),
        });
    }
    for (reference, platform, _, used_unix) in images::bases(store)? {
        found.push(Candidate {
            used_unix,
            // Its blobs may be shared; they are counted when they are gone.
            size_bytes: 0,
            kind: CandidateKind::Base { reference, platform },
        });
    }
    for mount in store.cache_mounts().list()? {
        found.push(Candidate {
            used_unix: mount.last_used_unix,
            size_bytes: mount.size_bytes,
            kind: CandidateKind::CacheMount(mount.id),
        });
    }
    for path in children(&store.path("contexts"))? {
        found.push(Candidate {
            used_unix: modified_unix(&path),
            size_bytes: disk_usage(&path)?,
            kind: CandidateKind::Context(path),
        });
    }
    found.sort_by_key(|candidate| candidate.used_unix);
    Ok(found)
}

fn remove(store: &Store, chosen: Vec<Candidate>, pruned: &mut Pruned) -> Result<(), Error> {
    let mut layers = Vec::new();
    for candidate in chosen {
        match candidate.kind {
            CandidateKind::Layer(id) => layers.push(id),
            CandidateKind::Base { reference, platform } => {
                images::forget_base(store, &reference, &platform)?;
            }
            CandidateKind::CacheMount(id) => match store.cache_mounts().remove(&id) {
                Ok(was_there) => pruned.cache_mounts += usize::from(was_there),
                Err(Error::InUse { .. }) => {}
                Err(error) => return Err(error),
            },
            CandidateKind::Context(path) => store.discard(&path)?,
        }
    }
    pruned.layers += layers.len();
    store.layers().remove(&layers)
}

/// Removes the least recently used cache until the store holds at most `max_bytes`.
fn shrink(store: &Store, max_bytes: u64, pruned: &mut Pruned) -> Result<(), Error> {
    let mut candidates = candidates(store)?.into_iter().peekable();
    loop {
        let mut excess = store.usage()?.total_bytes().saturating_sub(max_bytes);
        if excess == 0 || candidates.peek().is_none() {
            return Ok(());
        }
        let mut chosen = Vec::new();
        while excess > 0
            && let Some(candidate) = candidates.next()
        {
            excess = excess.saturating_sub(candidate.size_bytes);
            let is_base = matches!(candidate.kind, CandidateKind::Base { .. });
            chosen.push(candidate);
            if is_base {
                // What it frees shows only when its blobs are gone.
                break;
            }
        }
        remove(store, chosen, pruned)?;
        remove_unreferenced_blobs(store, pruned)?;
        store.delete_trash()?;
    }
}

/// Diff IDs of the layers of tagged images.
fn tagged_diff_ids(store: &Store) -> Result<BTreeSet<DiffId>, Error> {
    let mut blobs = BTreeSet::new();
    for (_, descriptor) in store.images().list()? {
        collect_whole(store, &descriptor, &mut blobs)?;
    }
    let mut diff_ids = BTreeSet::new();
    for digest in blobs {
        // Manifests and configs are small; layers are not worth reading.
        if store.content().size(&digest)?.is_none_or(|size| size > 4 << 20) {
            continue;
        }
        let bytes = store.content().read(&digest)?;
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes)
            && let Ok(config) = store.content().read(&manifest.config.digest)
            && let Ok(config) = serde_json::from_slice::<ImageConfig>(&config)
        {
            diff_ids.extend(config.rootfs.diff_ids.into_iter().flatten());
        }
    }
    Ok(diff_ids)
}

/// As `collect_blobs`; an image that is not whole keeps what there is of it.
fn collect_whole(
    store: &Store,
    descriptor: &kiln_core::oci::Descriptor,
    blobs: &mut BTreeSet<BlobDigest>,
) -> Result<(), Error> {
    match images::collect_blobs(store, descriptor, blobs) {
        Err(Error::MissingBlob { .. } | Error::Document { .. } | Error::DigestMismatch { .. }) => {
            Ok(())
        }
        result => result,
    }
}

/// Moves layer directories without a row, and rows without a directory, out of the way.
fn remove_orphans(store: &Store) -> Result<(), Error> {
    for directory in store.layers().list_directories()? {
        match directory {
            Ok(id) => {
                store.layers().discard_unrecorded(id)?;
            }
            Err(path) => store.discard(&path)?,
        }
    }
    let gone: Vec<LayerId> = layers(store)?
        .into_iter()
        .map(|layer| layer.id)
        .filter(|id| !store.layers().directory(id).exists())
        .collect();
    store.layers().remove(&gone)
}

/// Moves blobs to the trash that no tagged image, base image or live layer needs.
fn remove_unreferenced_blobs(store: &Store, pruned: &mut Pruned) -> Result<(), Error> {
    let mut needed = BTreeSet::new();
    for (_, descriptor) in store.images().list()? {
        collect_whole(store, &descriptor, &mut needed)?;
    }
    for (_, _, descriptor, _) in images::bases(store)? {
        collect_whole(store, &descriptor, &mut needed)?;
    }
    let live: BTreeSet<DiffId> = layers(store)?.iter().filter_map(|layer| layer.diff_id).collect();
    let packed = packed(store)?;
    for (digest, diff_ids) in &packed {
        if diff_ids.iter().any(|diff_id| live.contains(diff_id)) {
            needed.insert(*digest);
        }
    }
    store.remote_blobs().retain(&needed)?;
    let doomed: Vec<BlobDigest> =
        store.content().list()?.into_iter().filter(|digest| !needed.contains(digest)).collect();
    forget_blobs(store, &doomed)?;
    pruned.blobs += doomed.len();
    Ok(())
}

/// Forgets blobs, then moves them to the trash.
pub(crate) fn forget_blobs(store: &Store, digests: &[BlobDigest]) -> Result<(), Error> {
    store.database().write("forget blobs", |transaction| {
        let mut blobs = transaction.prepare("DELETE FROM blobs WHERE digest = ?")?;
        let mut packed = transaction.prepare("DELETE FROM packed WHERE blob = ?")?;
        let mut stargz = transaction.prepare("DELETE FROM stargz WHERE blob = ?")?;
        let mut frames = transaction.prepare("DELETE FROM frames WHERE blob = ?")?;
        for digest in digests {
            blobs.execute([digest.as_bytes()])?;
            packed.execute([digest.as_bytes()])?;
            stargz.execute([digest.as_bytes()])?;
            frames.execute([digest.as_bytes()])?;
        }
        Ok(())
    })?;
    digests.iter().try_for_each(|digest| store.discard(&store.content().path(digest)))
}

/// Which diff IDs each packed blob is for.
pub(crate) fn packed(store: &Store) -> Result<BTreeMap<BlobDigest, Vec<DiffId>>, Error> {
    let rows: Vec<(BlobDigest, DiffId)> =
        store.database().query("list packed layers", |connection| {
            connection
                .prepare("SELECT blob, diff_id FROM packed UNION SELECT blob, archive FROM stargz")?
                .query_map([], |row| {
                    let blob = BlobDigest::from_bytes(row.get(0)?);
                    Ok((blob, DiffId::from_bytes(row.get(1)?)))
                })?
                .collect()
        })?;
    let mut packed: BTreeMap<BlobDigest, Vec<DiffId>> = BTreeMap::new();
    for (blob, diff_id) in rows {
        packed.entry(blob).or_default().push(diff_id);
    }
    Ok(packed)
}

/// The paths in a directory, sorted; none if it is gone.
pub(crate) fn children(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read directory", directory)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(Error::io("read directory", directory))?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

fn modified_unix(path: &Path) -> u64 {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs())
}

/// Bytes that a file or tree takes on the disk; hard links count once. What vanishes meanwhile
/// does not count.
pub(crate) fn disk_usage(path: &Path) -> Result<u64, Error> {
    let mut total = 0;
    let mut linked = BTreeSet::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("stat", path)(error)),
        };
        if metadata.nlink() < 2
            || metadata.is_dir()
            || linked.insert((metadata.dev(), metadata.ino()))
        {
            total += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            match children(&path) {
                Ok(paths) => pending.extend(paths),
                Err(Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(total)
}
