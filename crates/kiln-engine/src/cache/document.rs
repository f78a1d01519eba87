//! What a cache says about itself: the config of its image.
//!
//! `application/vnd.kiln.cache.config.v1+json`: `{"version": 1, "records": […]}`. Every record is one
//! step's result. The fields of a record are those of `kiln_store::CacheRecord`, with the layer as
//! descriptors: its index, its archive with the times that the files have, and archives with
//! times that follow an epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::cache_key::KeyParts;
use kiln_core::digest::{BlobDigest, CacheKey, ContentId, DiffId, Recipe};
use kiln_core::oci::{Descriptor, Manifest};
use serde::{Deserialize, Serialize};

/// The config's media type.
pub(super) const CONFIG: &str = "application/vnd.kiln.cache.config.v1+json";
/// The media type of a layer's index.
pub(super) const INDEX: &str = "application/vnd.kiln.cache.layer-index.v1";

const VERSION: u32 = 1;

/// The config of a cache's image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CacheDocument {
    version: u32,
    pub(super) records: Vec<SharedRecord>,
}

/// What a step made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SharedRecord {
    /// The keys that it is found by.
    pub(super) keys: Vec<CacheKey>,
    pub(super) recipe: Recipe,
    /// What its exact key is made of.
    pub(super) parts: KeyParts,
    /// Identity of the layer's files, and of their times.
    pub(super) content: ContentId,
    pub(super) times: ContentId,
    pub(super) created_unix: u64,
    pub(super) duration_ms: u64,
    pub(super) name: String,
    pub(super) index: Descriptor,
    pub(super) archives: Vec<SharedArchive>,
}

/// A layer as a blob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SharedArchive {
    /// The epoch that its times follow; without one they are the files' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<i64>,
    pub(super) diff_id: DiffId,
    /// What the store calls its compression.
    pub(super) codec: String,
    pub(super) blob: Descriptor,
}

impl CacheDocument {
    pub(super) fn new(records: Vec<SharedRecord>) -> Self {
        Self { version: VERSION, records }
    }

    /// The records of a config's bytes by key; those that contradict themselves, or name a blob
    /// that the manifest does not, are left out.
    pub(super) fn parse(
        bytes: &[u8],
        manifest: &Manifest,
    ) -> Result<BTreeMap<CacheKey, Arc<SharedRecord>>, String> {
        let document: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if document.version != VERSION {
            return Err(format!("version {} is unknown", document.version));
        }
        let sizes: BTreeMap<BlobDigest, u64> =
            manifest.layers.iter().map(|layer| (layer.digest, layer.size)).collect();
        let is_named = |blob: &Descriptor| sizes.get(&blob.digest) == Some(&blob.size);
        let mut records = BTreeMap::new();
        for record in document.records {
            let is_whole = is_named(&record.index)
                && record.own_archive().is_some()
                && record.archives.iter().all(|archive| is_named(&archive.blob))
                && record.keys.contains(&record.parts.key())
                && i64::try_from(record.created_unix).is_ok()
                && i64::try_from(record.duration_ms).is_ok();
            if !is_whole {
                continue;
            }
            let record = Arc::new(record);
            for key in &record.keys {
                records.insert(*key, Arc::clone(&record));
            }
        }
        Ok(records)
    }
}

impl SharedRecord {
    /// The archive that holds all that the layer's index says.
    pub(super) fn own_archive(&self) -> Option<&SharedArchive> {
        self.archives.iter().find(|archive| archive.epoch.is_none())
    }

    /// All blobs of the record.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.archives.iter().map(|archive| &archive.blob).chain([&self.index])
    }
}

#[cfg(test)]
mod tests {
    use kiln_core::cache_key::KeyPart;
    use proptest::prelude::*;

    use super::*;

    fn sample() -> (CacheDocument, Manifest) {
        let blob =
            |text: &str| Descriptor::new("x", BlobDigest::of(text.as_bytes()), text.len() as u64);
        let parts = KeyParts(vec![KeyPart { name: "command".into(), value: "true".into() }]);
        let record = SharedRecord {
            keys: vec![parts.key()],
            recipe: Recipe::from_bytes([1; 32]),
            parts,
            content: ContentId::from_bytes([2; 32]),
            times: ContentId::from_bytes([3; 32]),
            created_unix: 4,
            duration_ms: 5,
            name: "RUN true".into(),
            index: blob("index"),
            archives: vec![SharedArchive {
                epoch: None,
                diff_id: DiffId::from_bytes([6; 32]),
                codec: "gzip-2".into(),
                blob: blob("layer"),
            }],
        };
        let manifest = Manifest::new(blob("config"), vec![blob("index"), blob("layer")]);
        (CacheDocument::new(vec![record]), manifest)
    }

    fn parsed(document: &CacheDocument, manifest: &Manifest) -> usize {
        let bytes = serde_json::to_vec(document).expect("it is JSON");
        CacheDocument::parse(&bytes, manifest).expect("it can be read").len()
    }

    #[test]
    fn a_record_that_contradicts_itself_is_none() {
        let (document, manifest) = sample();
        assert_eq!(parsed(&document, &manifest), 1);
        let changes: [fn(&mut SharedRecord); 6] = [
            |record| record.keys = vec![CacheKey::from_bytes([9; 32])],
            |record| record.parts.0[0].value = "false".into(),
            |record| record.index.size += 1,
            |record| record.archives[0].blob.digest = BlobDigest::of(b"other"),
            |record| record.archives[0].epoch = Some(1),
            |record| record.created_unix = u64::MAX,
        ];
        for change in changes {
            let mut other = document.clone();
            change(&mut other.records[0]);
            assert_eq!(parsed(&other, &manifest), 0, "{other:?}");
        }
        let later = CacheDocument { version: 2, ..document };
        let bytes = serde_json::to_vec(&later).expect("it is JSON");
        assert_eq!(
            CacheDocument::parse(&bytes, &manifest).err().as_deref(),
            Some("version 2 is unknown")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..1000, byte: u8, noise: Vec<u8>) {
            let (document, manifest) = sample();
            let mut bytes = serde_json::to_vec(&document).expect("it is JSON");
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = CacheDocument::parse(&bytes, &manifest);
            let _ = CacheDocument::parse(&bytes[..at], &manifest);
            let _ = CacheDocument::parse(&noise, &manifest);
        }
    }
}
