//! `type=inline`: a cache inside of the image that was built.
//!
//! The field `vnd.kiln.cache.v1` of the image's config, which other programs skip:
//! `{"version": 1, "records": […]}`. A record is as one of a [`super::document`], but says by a number
//! which of the image's layers it is about. It holds nothing that differs from machine to machine or
//! with the layers' compression, so the image stays the same image wherever it is built.
//!
//! There is no index of a layer: a hit fetches the layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::cache_key::KeyParts;
use kiln_core::digest::{CacheKey, ContentId, Recipe};
use kiln_core::oci::{Manifest, RootFs};
use kiln_core::plan::Target;
use serde::{Deserialize, Serialize};

use super::document::{SharedArchive, SharedRecord};
use crate::error::BuildError;
use crate::export::image::codec;
use crate::outputs::chain;
use crate::request::{ImageOptions, LayerCompression};
use crate::snapshot::{Snapshot, SnapshotLayer};
use crate::solve::{Solver, fits_archive};

/// The field of the config.
const FIELD: &str = "vnd.kiln.cache.v1";

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct InlineDocument {
    version: u32,
    records: Vec<InlineRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InlineRecord {
    /// Position in the image's layers, the lowest is 0.
    layer: usize,
    /// The epoch that the layer's times follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    recipe: Recipe,
    parts: KeyParts,
    content: ContentId,
    times: ContentId,
    created_unix: u64,
    name: String,
}

/// What is read of an image's config.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default, rename = "vnd.kiln.cache.v1")]
    cache: Option<InlineDocument>,
    #[serde(default)]
    rootfs: RootFs,
}

/// The bytes of an image's config with the records of the steps that made its layers. `epoch` is
/// that of the layers' times.
pub(crate) fn with_records(
    solver: &Solver<'_>,
    (target, snapshot): (&Target, &Snapshot),
    epoch: Option<i64>,
    config: &[u8],
) -> Result<Vec<u8>, BuildError> {
    let mut records = Vec::new();
    // Both lists begin at the top; the lowest layers are no step's.
    let layers = snapshot.layers().iter().enumerate().rev();
    for (step, (position, layer)) in chain(solver.plan, target.root).into_iter().zip(layers) {
        let SnapshotLayer::Built { layer, .. } = layer else { break };
        let Some(key) = solver.journal.key(&step) else { continue };
        let Some(known) = solver.lookup(&key)? else { continue };
        let times = solver.engine.store.layers().times_of(&layer.id)?;
        let Some(times) = times.filter(|_| known.result.layer == layer.id) else { continue };
        if !fits_archive(&*solver.index(layer)?) {
            continue;
        }
        records.push(InlineRecord {
            layer: position,
            epoch,
            recipe: Recipe::from_bytes(solver.plan.steps[&step].recipe),
            parts: known.parts,
            content: known.result.content,
            times,
            created_unix: known.created_unix,
            name: solver.plan.steps[&step].name.clone(),
        });
    }
    records.reverse();
    let mut document: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(config).expect("a config is an object");
    let cache = serde_json::to_value(InlineDocument { version: VERSION, records });
    document.insert(FIELD.to_owned(), cache.expect("records are JSON"));
    Ok(serde_json::to_vec(&document).expect("it was JSON"))
}

/// The records of an image's config by key; `None` if it has none.
pub(super) fn parse(
    config: &[u8],
    manifest: &Manifest,
) -> Result<Option<BTreeMap<CacheKey, Arc<SharedRecord>>>, String> {
    let config: Config = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    let Some(document) = config.cache else { return Ok(None) };
    if document.version != VERSION {
        return Err(format!("version {} is unknown", document.version));
    }
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    let mut records = BTreeMap::new();
    for record in document.records {
        let layer = manifest.layers.get(record.layer).zip(diff_ids.get(record.layer));
        let Some((blob, diff_id)) = layer else { continue };
        if i64::try_from(record.created_unix).is_err() {
            continue;
        }
        let archive = |epoch| SharedArchive {
            epoch,
            diff_id: *diff_id,
            codec: codec_of(&blob.media_type),
            blob: blob.clone(),
        };
        // A layer with an epoch's times has no other ones here.
        let clamped = record.epoch.map(|epoch| archive(Some(epoch)));
        let key = record.parts.key();
        let shared = SharedRecord {
            keys: vec![key],
            recipe: record.recipe,
            parts: record.parts,
            content: record.content,
            times: record.times,
            created_unix: record.created_unix,
            duration_ms: 0,
            name: record.name,
            index: None,
            archives: std::iter::once(archive(None)).chain(clamped).collect(),
        };
        records.insert(key, Arc::new(shared));
    }
    Ok(Some(records))
}

/// What the store calls the usual compression of this type: the image does not say the level.
fn codec_of(media_type: &str) -> String {
    let compression = if media_type.ends_with("gzip") {
        LayerCompression::Gzip
    } else if media_type.ends_with("zstd") {
        LayerCompression::Zstd
    } else {
        LayerCompression::Uncompressed
    };
    codec(&ImageOptions { compression, ..ImageOptions::default() }).1
}
