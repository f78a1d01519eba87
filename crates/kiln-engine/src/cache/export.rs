//! `--cache-to`: the results of a build's steps as an image, to where others find it.

use std::collections::{BTreeMap, BTreeSet};

use kiln_core::digest::{BlobDigest, Recipe, StepId};
use kiln_core::oci::{Descriptor, Manifest, media_type, to_json};
use kiln_core::plan::Op;

use super::document::{CONFIG, CacheDocument, INDEX, SharedArchive, SharedRecord};
use crate::error::{BuildError, FileContext};
use crate::export::image::{codec, pack_layer};
use crate::outputs::chain;
use crate::request::{CacheExport, CacheMode, CachePlace, ExportFailure, ImageOptions, MediaTypes};
use crate::snapshot::SnapshotLayer;
use crate::solve::{Done, Solved, Solver, fits_archive};
use crate::transfer::send_cache;

/// Results of the steps.
type Results = BTreeMap<StepId, Done>;

/// Writes all caches that the request asks for.
pub(crate) fn export(solver: &Solver<'_>, results: &Results) -> Result<(), BuildError> {
    for wanted in &solver.request.cache_to {
        let result = export_one(solver, results, wanted);
        match result {
            Err(error) if wanted.on_failure == ExportFailure::Warns => {
                // What is lost can be made again, and then be exported.
                if matches!(error, BuildError::Canceled | BuildError::LostLayer { .. }) {
                    return Err(error);
                }
                solver.activities.warn(format!("cache export to {}: {error}", wanted.place));
            }
            result => result?,
        }
    }
    Ok(())
}

fn export_one(
    solver: &Solver<'_>,
    results: &Results,
    wanted: &CacheExport,
) -> Result<(), BuildError> {
    if let CachePlace::Objects(cache) = &wanted.place
        && let Some(absence) = cache.absence
    {
        solver.activities.warn(format!("no cache export to {}: {absence}", wanted.place));
        return Ok(());
    }
    let activity = solver.activities.start("preparing build cache for export");
    let image = image(solver, results, wanted);
    activity.finish(&image);
    send_cache(solver, &image?, &wanted.place)
}

/// The cache as an image in the store; gives its manifest.
fn image(
    solver: &Solver<'_>,
    results: &Results,
    wanted: &CacheExport,
) -> Result<Descriptor, BuildError> {
    let content = solver.engine.store.content();
    let mut records = Vec::new();
    for (step, epochs) in steps(solver, wanted.mode) {
        if let Some(done) = results.get(&step)
            && let Some(record) = record(solver, (step, done), (&wanted.options, &epochs))?
        {
            records.push(record);
        }
    }
    let mut seen: BTreeSet<BlobDigest> = BTreeSet::new();
    let blobs = records.iter().flat_map(SharedRecord::blobs);
    let layers = blobs.filter(|blob| seen.insert(blob.digest)).cloned().collect();
    let config = to_json(&CacheDocument::new(records));
    content.put(&config)?;
    let config = Descriptor::new(CONFIG, BlobDigest::of(&config), config.len() as u64);
    let manifest_type = match wanted.options.media_types {
        MediaTypes::Oci => media_type::OCI_MANIFEST,
        MediaTypes::Docker => media_type::DOCKER_MANIFEST,
    };
    let manifest = to_json(&Manifest {
        media_type: Some(manifest_type.to_owned()),
        ..Manifest::new(config, layers)
    });
    content.put(&manifest)?;
    Ok(Descriptor::new(manifest_type, BlobDigest::of(&manifest), manifest.len() as u64))
}

/// The steps whose results are exported, with the epochs of the images that hold their layers.
fn steps(solver: &Solver<'_>, mode: CacheMode) -> BTreeMap<StepId, BTreeSet<i64>> {
    let mut found: BTreeMap<StepId, BTreeSet<i64>> = BTreeMap::new();
    if mode == CacheMode::Max {
        found.extend(solver.plan.steps.keys().map(|id| (*id, BTreeSet::new())));
    }
    for target in &solver.plan.targets {
        for step in chain(solver.plan, target.root) {
            found.entry(step).or_default().extend(target.epoch);
        }
    }
    found.retain(|id, _| matches!(solver.plan.steps[id].op, Op::Exec(_) | Op::File(_)));
    found
}

/// What a cache says of a step; `None` if an archive would not say all of its layer.
fn record(
    solver: &Solver<'_>,
    (step, done): (StepId, &Done),
    (options, epochs): (&ImageOptions, &BTreeSet<i64>),
) -> Result<Option<SharedRecord>, BuildError> {
    let store = &solver.engine.store;
    let Solved::Snapshot(snapshot) = &done.solved else { return Ok(None) };
    let Some(SnapshotLayer::Built { layer, .. }) = snapshot.layers().last() else {
        return Ok(None);
    };
    let Some(key) = solver.journal.key(&step) else { return Ok(None) };
    let Some(known) = solver.lookup(&key)? else { return Ok(None) };
    let times = store.layers().times_of(&layer.id)?;
    let Some(times) = times.filter(|_| known.result.layer == layer.id) else { return Ok(None) };
    if !fits_archive(&*solver.index(layer)?) {
        return Ok(None);
    }
    let (_, codec, _) = codec(options);
    let mut archives = Vec::new();
    for epoch in std::iter::once(None).chain(epochs.iter().copied().map(Some)) {
        let form = (options, epoch);
        let (diff_id, blob) = pack_layer(solver, layer, form, None, &|| solver.is_canceled())?;
        archives.push(SharedArchive { epoch, diff_id, codec: codec.clone(), blob });
    }
    let index = std::fs::read(&layer.index_path).at("read", &layer.index_path)?;
    store.content().put(&index)?;
    let mut keys = store.cache_index().keys_of(&known)?;
    if !keys.contains(&key) {
        keys.push(key);
    }
    keys.sort_unstable();
    Ok(Some(SharedRecord {
        keys,
        recipe: Recipe::from_bytes(known.recipe),
        parts: known.parts,
        content: known.result.content,
        times,
        created_unix: known.created_unix,
        duration_ms: known.duration_ms,
        name: known.name,
        index: Some(Descriptor::new(INDEX, BlobDigest::of(&index), index.len() as u64)),
        archives,
    }))
}
