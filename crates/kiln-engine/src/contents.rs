//! What a build took and made, file by file: asked when a report is made, from what the store still has, so
//! that it costs builds nothing.
//!
//! The files of the context are those that steps took, by the lists that are kept beside results
//! (`kiln_core::file_list`). Lists have no sizes: these come from the layers that the files went to, by
//! digest. What the store has no more is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kiln_core::cache_key::KeyPart;
use kiln_core::digest::{ContentId, DiffId};
use kiln_core::file_list::{self, DIGEST_BYTES};
use kiln_core::oci::{HistoryEntry, ImageConfig};
use kiln_core::report::{BuildReport, Contents, ContextContents, LayerContents, SizedFile};
use kiln_store::layer::{EntryKind, LayerIndex};
use kiln_store::{Layer, Store};

use crate::engine::Engine;
use crate::solve::{context_key, is_of_context};

/// Files of the context that are named, the largest.
const CONTEXT_FILES: usize = 20;
/// Files of each layer that are named, the largest.
const LAYER_FILES: usize = 5;

/// What a build took of its context, and the layers of its images.
pub fn contents(engine: &Engine, build: &BuildReport) -> Contents {
    Contents { context: context(&engine.store, build), layers: layers(&engine.store, build) }
}

/// Sizes of files by the start of their digests.
type Sizes = HashMap<[u8; DIGEST_BYTES], u64>;

fn context(store: &Store, build: &BuildReport) -> Option<ContextContents> {
    let mut paths: BTreeMap<Vec<u8>, [u8; DIGEST_BYTES]> = BTreeMap::new();
    let mut sizes = Sizes::new();
    for key in build.steps.iter().filter_map(|step| step.key) {
        let Ok(Some(record)) = store.cache_index().lookup(&key) else { continue };
        let of_context: Vec<&KeyPart> =
            record.parts.0.iter().filter(|part| is_of_context(&part.name)).collect();
        if of_context.is_empty() {
            continue;
        }
        let lists = store.cache_index().sources(&record.result.layer).ok().flatten();
        let own = store.layers().by_id(&record.result.layer).ok().flatten();
        add_sizes(own.as_ref(), &mut sizes);
        for content in of_context.iter().filter_map(|part| part.value.parse::<ContentId>().ok()) {
            add_sizes(mounted(store, content).as_ref(), &mut sizes);
            let list = lists.as_deref().and_then(|lists| file_list::find(lists, &content));
            paths.extend(list.and_then(file_list::files).unwrap_or_default());
        }
    }
    if paths.is_empty() {
        return None;
    }
    let files = paths.len();
    let sized = paths.into_iter().map(|(path, digest)| SizedFile {
        path: String::from_utf8_lossy(&path).into_owned(),
        size_bytes: sizes.get(&digest).copied().unwrap_or(0),
    });
    let sized: Vec<SizedFile> = sized.collect();
    let size_bytes = sized.iter().map(|file| file.size_bytes).sum();
    Some(ContextContents { files, size_bytes, largest: largest(sized, CONTEXT_FILES) })
}

/// The layer that files of a context were mounted from.
fn mounted(store: &Store, content: ContentId) -> Option<Layer> {
    let record = store.cache_index().lookup(&context_key(&content).key()).ok()??;
    store.layers().by_id(&record.result.layer).ok()?
}

fn add_sizes(layer: Option<&Layer>, sizes: &mut Sizes) {
    for entry in layer.and_then(index).iter().flat_map(LayerIndex::entries) {
        if let EntryKind::File { size_bytes, digest } = &entry.kind
            && let Some(start) = digest.as_bytes().first_chunk()
        {
            sizes.insert(*start, *size_bytes);
        }
    }
}

fn index(layer: &Layer) -> Option<LayerIndex> {
    LayerIndex::decode(&std::fs::read(&layer.index_path).ok()?).ok()
}

/// The layers of all images, each once, lowest first.
fn layers(store: &Store, build: &BuildReport) -> Vec<LayerContents> {
    let platforms: BTreeSet<&String> = build.images.iter().map(|image| &image.platform).collect();
    let mut order: Vec<DiffId> = Vec::new();
    let mut known: BTreeMap<DiffId, LayerContents> = BTreeMap::new();
    for image in &build.images {
        let config = image.id.and_then(|id| store.content().read(&id).ok());
        let config = config.and_then(|bytes| serde_json::from_slice::<ImageConfig>(&bytes).ok());
        let Some(config) = config else { continue };
        let name = match platforms.len() {
            1 => image.target.clone(),
            _ => format!("{} ({})", image.target, image.platform),
        };
        let mut texts = config.history.iter().filter(|entry| !entry.empty_layer).map(instruction);
        for diff_id in config.rootfs.diff_ids.iter().flatten() {
            let text = texts.next().unwrap_or_default();
            let layer = known.entry(*diff_id).or_insert_with(|| {
                order.push(*diff_id);
                layer(store, diff_id, text)
            });
            if layer.images.last() != Some(&name) {
                layer.images.push(name.clone());
            }
        }
    }
    order.iter().filter_map(|diff_id| known.remove(diff_id)).collect()
}

fn layer(store: &Store, diff_id: &DiffId, instruction: String) -> LayerContents {
    let empty = LayerContents { instruction, ..LayerContents::default() };
    let found = store.layers().by_diff_id(diff_id).ok().flatten();
    let Some(index) = found.as_ref().and_then(index) else { return empty };
    let files: Vec<SizedFile> = index
        .entries()
        .iter()
        .filter_map(|entry| match &entry.kind {
            EntryKind::File { size_bytes, .. } => Some(SizedFile {
                path: String::from_utf8_lossy(&entry.path).into_owned(),
                size_bytes: *size_bytes,
            }),
            _ => None,
        })
        .collect();
    LayerContents {
        files: Some(files.len()),
        size_bytes: Some(index.size_bytes()),
        largest: largest(files, LAYER_FILES),
        ..empty
    }
}

/// An instruction as the Dockerfile has it, of what builders note in images.
fn instruction(entry: &HistoryEntry) -> String {
    let text = entry.created_by.as_deref().unwrap_or_default();
    let text = text.strip_suffix("# buildkit").unwrap_or(text).trim();
    let text = text.strip_prefix("/bin/sh -c #(nop)").unwrap_or(text).trim_start();
    // Where the base has no history, layers are described by what was done.
    if let Some(command) = text.strip_prefix("mount / from exec /bin/sh -c ") {
        return format!("RUN {command}");
    }
    let (keyword, rest) = text.split_once(' ').unwrap_or((text, ""));
    // `|2 A=1 B=2 /bin/sh -c make`: build arguments stand before the shell.
    let command = rest
        .split_once("/bin/sh -c ")
        .filter(|(before, _)| before.is_empty() || before.starts_with('|'));
    match command {
        Some((_, command)) if keyword == "RUN" => format!("RUN {command}"),
        _ => text.to_owned(),
    }
}

fn largest(mut files: Vec<SizedFile>, count: usize) -> Vec<SizedFile> {
    files.sort_by(|one, other| {
        other.size_bytes.cmp(&one.size_bytes).then_with(|| one.path.cmp(&other.path))
    });
    files.truncate(count);
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_shown_as_they_were_written() {
        let shown = |text: &str| {
            instruction(&HistoryEntry {
                created_by: Some(text.to_owned()),
                ..HistoryEntry::default()
            })
        };
        assert_eq!(shown("RUN /bin/sh -c uv sync # buildkit"), "RUN uv sync");
        assert_eq!(shown("RUN |1 A=1 /bin/sh -c uv sync # buildkit"), "RUN uv sync");
        assert_eq!(shown("mount / from exec /bin/sh -c uv sync"), "RUN uv sync");
        assert_eq!(shown("COPY src /app # buildkit"), "COPY src /app");
        assert_eq!(shown("/bin/sh -c #(nop) ADD file:1 in / "), "ADD file:1 in /");
        assert_eq!(shown("RUN echo /bin/sh -c x # buildkit"), "RUN echo /bin/sh -c x");
        assert_eq!(shown(""), "");
    }
}
