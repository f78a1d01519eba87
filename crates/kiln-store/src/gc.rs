//! Making less of what the store holds.
//!
//! Tagged images stay, with their blobs and unpacked layers. All else is cache: layers with their
//! records, blobs that no tagged image needs, remembered base images, cache mounts, context
//! indexes. A prune removes what nothing can use any more, then what was not used for long, then what
//! is worth the least until a cap holds. Layers do not pin each other: a record is found by
//! content, so an upper layer is of use again when a lower one was rebuilt.
//!
//! What something is worth is the time that it saves for each of its bytes, less the longer nobody
//! used it: GreedyDual-Size-Frequency (Cherkasova 1998) without its clock, as times of use are known.
//!
//! It runs only while no build does.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_core::digest::{BlobDigest, DiffId};

use crate::error::Error;
use crate::images;
use crate::inventory::{Holding, Inventory, Kind};
use crate::layers::LayerId;
use crate::store::{Store, now_unix};

/// Assumed of what comes from elsewhere, base images and the contents of cache mounts.
const DOWNLOAD_BYTES_PER_SECOND: f64 = 20e6;
/// Assumed of digests of files: bytes of an index, of which a file takes about a hundred.
const INDEXED_BYTES_PER_SECOND: f64 = 4e6;
/// A tenth less than the cap is left by [`Store::collect`], so that not each build collects.
const HEADROOM: u64 = 10;
/// With little room on the disk, this much cache stays all the same.
const KEPT_ON_FULL_DISK_BYTES: u64 = 10_000_000_000;

/// Which cache a prune is about; what is empty says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheFilter {
    /// Of these kinds.
    pub kinds: Vec<Kind>,
    /// Made by steps of these stages.
    pub stages: Vec<String>,
    /// With ids that begin so; ids of cache mounts are named whole.
    pub ids: Vec<String>,
}

impl CacheFilter {
    /// Whether it says anything.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.stages.is_empty() && self.ids.is_empty()
    }

    /// Whether it lets something through.
    pub fn has(&self, holding: &Holding) -> bool {
        let is_named = |id: &String| match holding.kind {
            Kind::CacheMount => holding.id == *id,
            _ => holding.id.starts_with(id.as_str()),
        };
        (self.kinds.is_empty() || self.kinds.contains(&holding.kind))
            && (self.stages.is_empty()
                || holding.stage.as_ref().is_some_and(|stage| self.stages.contains(stage)))
            && (self.ids.is_empty() || self.ids.iter().any(is_named))
    }
}

/// What to remove beside what nothing can use any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Cache that was not used for so long.
    pub older_than: Option<Duration>,
    /// The cache that is worth the least, until the store holds no more than so many bytes. Tagged
    /// images may hold more; they stay.
    pub max_bytes: Option<u64>,
    /// All cache.
    pub all: bool,
    /// Of what passes this alone.
    pub filter: CacheFilter,
}

/// What a prune removed, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Things that were removed, without blobs that nothing needed.
    pub removed: Vec<Holding>,
    /// Blobs.
    pub blobs: usize,
    /// Bytes of the disk that are free now.
    pub freed_bytes: u64,
}

impl Pruned {
    /// How many things of a kind were removed.
    pub fn count(&self, kind: Kind) -> usize {
        self.removed.iter().filter(|holding| holding.kind == kind).count()
    }
}

/// When a store makes room by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachePolicy {
    /// It holds no more than so many bytes after a build, tagged images aside.
    pub max_bytes: Option<u64>,
    /// Nothing stays that was not used for so long.
    pub older_than: Option<Duration>,
    /// Of its disk so much stays free, if more than some cache is left then.
    pub min_free: Option<FreeSpace>,
}

/// Room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeSpace {
    /// In bytes.
    Bytes(u64),
    /// In hundredths of the disk.
    Percent(u8),
}

impl Store {
    /// Removes cache, and deletes it before it returns.
    ///
    /// # Errors
    /// [`Error::InUse`] when a build runs.
    pub fn prune(&self, what: &Prune) -> Result<Pruned, Error> {
        let _lock = self.lock_exclusive()?;
        self.flush()?;
        let before = usage_with_orphans(self)?;
        remove_orphans(self)?;
        self.delete_trash()?;
        let inventory = self.inventory()?;
        let mut pruned = remove(self, &inventory, what)?;
        self.delete_trash()?;
        pruned.freed_bytes = before.saturating_sub(self.inventory()?.total_bytes());
        Ok(pruned)
    }

    /// What [`prune`](Self::prune) would remove; nothing is.
    ///
    /// # Errors
    /// Of the database and the disk.
    pub fn prunable(&self, what: &Prune) -> Result<Pruned, Error> {
        self.flush()?;
        let inventory = self.inventory()?;
        let choice = choose(&inventory, what, now_unix());
        let is_chosen = |(position, _): &(usize, &Holding)| choice.holdings.contains(position);
        let removed = inventory.holdings.iter().enumerate().filter(is_chosen);
        Ok(Pruned {
            removed: removed.map(|(_, holding)| holding.clone()).collect(),
            blobs: choice.blobs.len(),
            freed_bytes: choice.freed_bytes,
        })
    }

    /// Makes room as the policy says, if it has to and no build runs.
    ///
    /// # Errors
    /// Of the database and the disk.
    pub fn collect(&self, policy: &CachePolicy) -> Result<Option<Pruned>, Error> {
        let on_disk = self.disk();
        let wanted = match (policy.min_free, on_disk) {
            (Some(FreeSpace::Bytes(bytes)), _) => bytes,
            (Some(FreeSpace::Percent(percent)), Some((size, _))) => size / 100 * u64::from(percent),
            _ => 0,
        };
        let missing = on_disk.map_or(0, |(_, free)| wanted.saturating_sub(free));
        if missing == 0 && policy.max_bytes.is_none() && policy.older_than.is_none() {
            return Ok(None);
        }
        let _lock = match self.lock_exclusive() {
            // Whoever is at work looks again behind it.
            Err(Error::InUse { .. }) => return Ok(None),
            lock => lock?,
        };
        self.flush()?;
        let inventory = self.inventory()?;
        let total = inventory.total_bytes();
        let cap = policy.max_bytes.filter(|cap| total > *cap).map(|cap| cap - cap / HEADROOM);
        let room =
            (missing > 0).then(|| total.saturating_sub(missing).max(KEPT_ON_FULL_DISK_BYTES));
        let what = Prune {
            older_than: policy.older_than,
            max_bytes: cap.into_iter().chain(room).min(),
            ..Prune::default()
        };
        let choice = choose(&inventory, &what, now_unix());
        if choice.holdings.is_empty() {
            return Ok(None);
        }
        let mut pruned = remove(self, &inventory, &what)?;
        self.delete_trash()?;
        pruned.freed_bytes = choice.freed_bytes;
        Ok(Some(pruned))
    }

    /// Size and free room of the disk, in bytes.
    fn disk(&self) -> Option<(u64, u64)> {
        let disk = rustix::fs::statvfs(self.root()).ok()?;
        Some((disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize))
    }
}

/// What is to go.
#[derive(Debug, Default)]
struct Choice {
    /// By position.
    holdings: BTreeSet<usize>,
    /// That nothing which stays needs.
    blobs: Vec<BlobDigest>,
    freed_bytes: u64,
}

/// What to remove of an inventory, in the second `now` since 1970.
fn choose(inventory: &Inventory, what: &Prune, now: u64) -> Choice {
    let mut counts = inventory.counts();
    let mut choice = Choice::default();
    let take = |choice: &mut Choice, counts: &mut BTreeMap<BlobDigest, usize>, position: usize| {
        let holding = &inventory.holdings[position];
        choice.holdings.insert(position);
        choice.freed_bytes += holding.own_bytes;
        for digest in &holding.blobs {
            if let Some(count) = counts.get_mut(digest) {
                *count -= 1;
                if let (0, Some(bytes)) = (*count, inventory.blobs.get(digest)) {
                    choice.freed_bytes += bytes;
                }
            }
        }
    };
    for (digest, bytes) in &inventory.blobs {
        if !counts.contains_key(digest) {
            choice.freed_bytes += bytes;
        }
    }
    let mut left = Vec::new();
    for (position, holding) in inventory.holdings.iter().enumerate() {
        let is_old = what
            .older_than
            .is_some_and(|age| holding.used_unix < now.saturating_sub(age.as_secs()));
        // A filter alone means all that passes it.
        let is_meant = what.all
            || is_old
            || (!what.filter.is_empty() && what.older_than.is_none() && what.max_bytes.is_none());
        if holding.is_held || !what.filter.has(holding) {
            continue;
        }
        if is_meant {
            take(&mut choice, &mut counts, position);
        } else {
            left.push(position);
        }
    }
    if let Some(cap) = what.max_bytes {
        let total = inventory.total_bytes();
        let worths: BTreeMap<usize, f64> = left
            .iter()
            .map(|position| (*position, worth(inventory, &inventory.holdings[*position], now)))
            .collect();
        left.sort_by(|a, b| worths[a].total_cmp(&worths[b]));
        for position in left {
            if total - choice.freed_bytes <= cap {
                break;
            }
            take(&mut choice, &mut counts, position);
        }
    }
    let is_needed = |digest: &BlobDigest| counts.get(digest).is_some_and(|count| *count > 0);
    choice.blobs = inventory.blobs.keys().filter(|digest| !is_needed(digest)).copied().collect();
    choice
}

#[expect(clippy::cast_precision_loss, reason = "worths are compared, roughly")]
/// Seconds that a byte of something saves, halved when it was not used for a day, and so on.
fn worth(inventory: &Inventory, holding: &Holding, now: u64) -> f64 {
    let bytes = inventory.bytes_of(holding).max(1) as f64;
    let seconds = match (holding.kind, holding.made_in) {
        (Kind::Context, _) => bytes / INDEXED_BYTES_PER_SECOND,
        (_, Some(made_in)) => made_in.as_secs_f64() + 0.001,
        (_, None) => bytes / DOWNLOAD_BYTES_PER_SECOND,
    };
    let days = now.saturating_sub(holding.used_unix) as f64 / 86_400.0;
    seconds / bytes / (1.0 + days)
}

/// Removes what is chosen; the caller holds the store.
fn remove(store: &Store, inventory: &Inventory, what: &Prune) -> Result<Pruned, Error> {
    let choice = choose(inventory, what, now_unix());
    let mut pruned = Pruned::default();
    let mut layers = Vec::new();
    for position in &choice.holdings {
        let holding = &inventory.holdings[*position];
        let is_gone = match holding.kind {
            Kind::Layer => {
                layers.extend(holding.id.parse::<LayerId>());
                true
            }
            Kind::Base => {
                let platform = holding.platform.as_deref().unwrap_or_default();
                images::forget_base(store, &holding.id, platform)?;
                true
            }
            Kind::CacheMount => match store.cache_mounts().remove(&holding.id) {
                Ok(was_there) => was_there,
                Err(Error::InUse { .. }) => false,
                Err(error) => return Err(error),
            },
            Kind::Context => {
                store.discard(&store.path("contexts").join(&holding.id))?;
                true
            }
        };
        if !is_gone {
            continue;
        }
        pruned.removed.push(holding.clone());
    }
    store.layers().remove(&layers)?;
    let doomed: BTreeSet<&BlobDigest> = choice.blobs.iter().collect();
    let stay = |digest: &&BlobDigest| !doomed.contains(digest);
    let of_left = |(position, holding): (usize, &Holding)| {
        (!choice.holdings.contains(&position)).then(|| holding.blobs.clone())
    };
    let needed = inventory.holdings.iter().enumerate().filter_map(of_left).flatten();
    let needed: BTreeSet<BlobDigest> =
        needed.chain(inventory.held.iter().filter(stay).copied()).collect();
    store.remote_blobs().retain(&needed)?;
    forget_blobs(store, &choice.blobs)?;
    pruned.blobs = choice.blobs.len();
    pruned.freed_bytes = choice.freed_bytes;
    Ok(pruned)
}

/// All bytes, also of layers that no row knows.
fn usage_with_orphans(store: &Store) -> Result<u64, Error> {
    let mut orphans = 0;
    for directory in store.layers().list_directories()? {
        orphans += match directory {
            Ok(id) if store.layers().by_id(&id)?.is_some() => 0,
            Ok(id) => disk_usage(&store.layers().directory(&id))?,
            Err(path) => disk_usage(&path)?,
        };
    }
    Ok(store.inventory()?.total_bytes() + orphans)
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
    let known: Vec<LayerId> = store.database().query("list layers", |connection| {
        connection
            .prepare("SELECT id FROM layers")?
            .query_map([], |row| row.get(0).map(LayerId::from_bytes))?
            .collect()
    })?;
    let is_gone = |id: &LayerId| !store.layers().directory(id).exists();
    let gone: Vec<LayerId> = known.into_iter().filter(is_gone).collect();
    store.layers().remove(&gone)
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
