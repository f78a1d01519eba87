//! What the store holds, one by one: what each thing is, what it costs on the disk, what it would cost to
//! have it again, and which blobs only it needs.
//!
//! Tagged images hold their blobs and unpacked layers; all else is cache.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use kiln_core::digest::{BlobDigest, DiffId};
use kiln_core::oci::{Descriptor, ImageConfig, Manifest};

use crate::error::Error;
use crate::gc::{children, disk_usage, packed};
use crate::images;
use crate::layers::LayerId;
use crate::store::Store;

/// What a thing in the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What a step changed, unpacked or packed.
    Layer,
    /// An image that builds begin with, as it came from a registry.
    Base,
    /// A directory of `RUN --mount=type=cache`.
    CacheMount,
    /// Digests of the files of a build context.
    Context,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Layer, Self::Base, Self::CacheMount, Self::Context];

    /// Its name, as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Base => "base",
            Self::CacheMount => "mount",
            Self::Context => "context",
        }
    }
}

/// Something that the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What it is.
    pub kind: Kind,
    /// By which it is named: a layer's id in hexadecimal, the id of a cache mount, a base's reference, the
    /// name of an index.
    pub id: String,
    /// The step that made it as progress shows it, else what it is.
    pub name: String,
    /// The stage of that step.
    pub stage: Option<String>,
    /// Its bytes on the disk that nothing else has a part in: without blobs.
    pub own_bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub used_unix: u64,
    /// How long the step took that made it, if that is known.
    pub made_in: Option<Duration>,
    /// Whether a tagged image needs it: it stays.
    pub is_held: bool,
    /// Of a base image: the platform that it is for.
    pub platform: Option<String>,
    /// Blobs that it needs.
    pub blobs: Vec<BlobDigest>,
}

/// All that the store holds.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Layers, bases, cache mounts, contexts.
    pub holdings: Vec<Holding>,
    /// The blobs with their sizes in bytes.
    pub blobs: BTreeMap<BlobDigest, u64>,
    /// Blobs of tagged images.
    pub held: BTreeSet<BlobDigest>,
    /// What is neither: the database, work in progress, what waits to be deleted.
    pub rest_bytes: u64,
}

impl Inventory {
    /// All of it, in bytes.
    pub fn total_bytes(&self) -> u64 {
        let own: u64 = self.holdings.iter().map(|holding| holding.own_bytes).sum();
        own + self.blobs.values().sum::<u64>() + self.rest_bytes
    }

    /// Bytes of what tagged images need.
    pub fn held_bytes(&self) -> u64 {
        let held = self.holdings.iter().filter(|holding| holding.is_held);
        held.map(|holding| holding.own_bytes).sum::<u64>() + self.sum(&self.held)
    }

    /// The bytes of something with all of its blobs, whoever else needs them.
    pub fn bytes_of(&self, holding: &Holding) -> u64 {
        holding.own_bytes + self.sum(&holding.blobs)
    }

    /// The bytes of blobs that something shares with another, or with a tagged image.
    pub fn shared_bytes_of(&self, holding: &Holding) -> u64 {
        let counts = self.counts();
        let is_shared = |digest: &&BlobDigest| counts.get(digest).is_some_and(|count| *count > 1);
        self.sum(holding.blobs.iter().filter(is_shared))
    }

    fn sum<'a>(&self, digests: impl IntoIterator<Item = &'a BlobDigest>) -> u64 {
        digests.into_iter().filter_map(|digest| self.blobs.get(digest)).sum()
    }

    /// How many need each blob; tagged images count as one.
    pub(crate) fn counts(&self) -> BTreeMap<BlobDigest, usize> {
        let mut counts: BTreeMap<BlobDigest, usize> = BTreeMap::new();
        let of_holdings = self.holdings.iter().flat_map(|holding| &holding.blobs);
        for digest in of_holdings.chain(&self.held) {
            *counts.entry(*digest).or_default() += 1;
        }
        counts
    }
}

impl Store {
    /// What the store holds. Walks through cache mounts that were used since this was last asked, and
    /// through layers whose size is not known yet.
    pub fn inventory(&self) -> Result<Inventory, Error> {
        let tagged = self.images().list()?.into_iter().map(|(_, descriptor)| descriptor);
        let mut held = BTreeSet::new();
        for descriptor in tagged {
            collect_whole(self, &descriptor, &mut held)?;
        }
        let mut holdings = layers(self, &diff_ids_of(self, &held)?)?;
        for (reference, platform, descriptor, used_unix) in images::bases(self)? {
            let mut blobs = BTreeSet::new();
            collect_whole(self, &descriptor, &mut blobs)?;
            holdings.push(Holding {
                kind: Kind::Base,
                name: format!("{reference} for {platform}"),
                id: reference,
                stage: None,
                own_bytes: 0,
                used_unix,
                made_in: None,
                is_held: false,
                platform: Some(platform),
                blobs: blobs.into_iter().collect(),
            });
        }
        for mount in self.cache_mounts().list()? {
            holdings.push(Holding {
                kind: Kind::CacheMount,
                name: mount.id.clone(),
                id: mount.id,
                stage: None,
                own_bytes: mount.size_bytes,
                used_unix: mount.last_used_unix,
                made_in: None,
                is_held: false,
                platform: None,
                blobs: Vec::new(),
            });
        }
        for path in children(&self.path("contexts"))? {
            let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            holdings.push(Holding {
                kind: Kind::Context,
                name: "digests of files".to_owned(),
                id,
                stage: None,
                own_bytes: disk_usage(&path)?,
                used_unix: modified_unix(&path),
                made_in: None,
                is_held: false,
                platform: None,
                blobs: Vec::new(),
            });
        }
        let mut blobs = BTreeMap::new();
        for digest in self.content().list()? {
            blobs.insert(digest, disk_usage(&self.content().path(&digest))?);
        }
        let mut rest_bytes = 0;
        for name in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm", "trash", "tmp"] {
            rest_bytes += disk_usage(&self.path(name))?;
        }
        Ok(Inventory { holdings, blobs, held, rest_bytes })
    }
}

/// The layers, those of the diff IDs `tagged` held.
fn layers(store: &Store, tagged: &BTreeSet<DiffId>) -> Result<Vec<Holding>, Error> {
    struct Row {
        id: LayerId,
        diff_id: Option<DiffId>,
        size_bytes: Option<u64>,
        used_unix: u64,
        made: Option<(String, u64)>,
    }
    let rows = store.database().query("list layers", |connection| {
        connection
            .prepare(
                "SELECT id, diff_id, size_bytes, used,
                    (SELECT name FROM records WHERE layer = layers.id ORDER BY seq DESC LIMIT 1),
                    (SELECT MAX(duration_ms) FROM records WHERE layer = layers.id)
                 FROM layers ORDER BY layers.seq",
            )?
            .query_map([], |row| {
                let name: Option<String> = row.get(4)?;
                let duration_ms: Option<u64> = row.get(5)?;
                Ok(Row {
                    id: LayerId::from_bytes(row.get(0)?),
                    diff_id: row.get::<_, Option<_>>(1)?.map(DiffId::from_bytes),
                    size_bytes: row.get(2)?,
                    used_unix: row.get(3)?,
                    made: name.zip(duration_ms),
                })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
    })?;
    let archives = archives(store)?;
    let mut holdings = Vec::with_capacity(rows.len());
    for Row { id, diff_id, size_bytes, used_unix, made } in rows {
        let own_bytes = match size_bytes {
            Some(size_bytes) => size_bytes,
            None => measure(store, &id)?,
        };
        let (name, made_in) = made.map_or_else(
            || ("layer of a base image".to_owned(), None),
            |(name, duration_ms)| (name, Some(Duration::from_millis(duration_ms))),
        );
        holdings.push(Holding {
            kind: Kind::Layer,
            id: id.to_string(),
            stage: stage(&name).map(str::to_owned),
            name,
            own_bytes,
            used_unix,
            made_in,
            is_held: diff_id.is_some_and(|diff_id| tagged.contains(&diff_id)),
            platform: None,
            blobs: archives.get(&id).cloned().unwrap_or_default(),
        });
    }
    Ok(holdings)
}

/// Measures a layer, and notes its size.
fn measure(store: &Store, id: &LayerId) -> Result<u64, Error> {
    let size_bytes = disk_usage(&store.layers().directory(id))?;
    store.database().change("note a size", |connection| {
        connection
            .execute("UPDATE layers SET size_bytes = ? WHERE id = ?", (size_bytes, id.as_bytes()))
    })?;
    Ok(size_bytes)
}

/// The blobs that layers were packed into, with their own times or with others.
fn archives(store: &Store) -> Result<BTreeMap<LayerId, Vec<BlobDigest>>, Error> {
    let mut of_diff_ids: BTreeMap<DiffId, Vec<BlobDigest>> = BTreeMap::new();
    for (blob, diff_ids) in packed(store)? {
        for diff_id in diff_ids {
            of_diff_ids.entry(diff_id).or_default().push(blob);
        }
    }
    let pairs: Vec<(LayerId, DiffId)> =
        store.database().query("list the diff IDs of layers", |connection| {
            connection
                .prepare(
                    "SELECT id, diff_id FROM layers WHERE diff_id IS NOT NULL
                     UNION SELECT layer, diff_id FROM clamped",
                )?
                .query_map([], |row| {
                    Ok((LayerId::from_bytes(row.get(0)?), DiffId::from_bytes(row.get(1)?)))
                })?
                .collect()
        })?;
    let mut archives: BTreeMap<LayerId, Vec<BlobDigest>> = BTreeMap::new();
    for (id, diff_id) in pairs {
        let blobs = of_diff_ids.get(&diff_id).into_iter().flatten().copied();
        let known = archives.entry(id).or_default();
        known.extend(blobs);
        known.sort_unstable();
        known.dedup();
    }
    Ok(archives)
}

/// The stage of a step by its name, without the platform.
fn stage(name: &str) -> Option<&str> {
    let stage = kiln_core::report::stage(name).rsplit(' ').next()?;
    (!stage.is_empty()).then_some(stage)
}

/// Diff IDs of the layers of the images among these blobs.
fn diff_ids_of(store: &Store, blobs: &BTreeSet<BlobDigest>) -> Result<BTreeSet<DiffId>, Error> {
    let mut diff_ids = BTreeSet::new();
    for digest in blobs {
        // Manifests and configs are small; layers are not worth reading.
        if store.content().size(digest)?.is_none_or(|size| size > 4 << 20) {
            continue;
        }
        let bytes = store.content().read(digest)?;
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
    descriptor: &Descriptor,
    blobs: &mut BTreeSet<BlobDigest>,
) -> Result<(), Error> {
    match images::collect_blobs(store, descriptor, blobs) {
        Err(Error::MissingBlob { .. } | Error::Document { .. } | Error::DigestMismatch { .. }) => {
            Ok(())
        }
        result => result,
    }
}

fn modified_unix(path: &std::path::Path) -> u64 {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let since = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_from_the_names_of_steps() {
        assert_eq!(stage("[app 2/5] RUN make"), Some("app"));
        assert_eq!(stage("[linux/arm64 app 2/5] COPY . ."), Some("app"));
        assert_eq!(stage("[app  2/15] RUN make"), Some("app"));
        assert_eq!(stage("[2/5] RUN make"), None);
        assert_eq!(stage("[internal] load build context"), None);
        assert_eq!(stage("layer of a base image"), None);
    }
}
