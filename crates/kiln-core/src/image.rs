//! From a target and its layers to an image: config and manifest as bytes.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::digest::{BlobDigest, DiffId};
use crate::oci::{Descriptor, HistoryEntry, ImageConfig, Manifest, media_type};

/// A layer of the image, as the config needs it.
#[derive(Clone, Debug)]
pub struct ImageLayer {
    /// sha256 of its tar.
    pub diff_id: DiffId,
    /// When it was made, seconds since 1970; `None` for layers of the base image, whose history
    /// has its own times.
    pub created: Option<i64>,
}

/// A config as bytes: immutable from here on.
#[derive(Clone, Debug)]
pub struct ConfigBlob {
    /// The document.
    pub bytes: Vec<u8>,
    /// Its digest, which Docker calls the image ID.
    pub digest: BlobDigest,
}

/// Seconds since 1970 as an RFC 3339 time in UTC; `None` outside the years that can be written.
pub fn rfc3339(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// Completes a target's config with the layers that were made, lowest first.
///
/// Times follow BuildKit: an entry with a layer has the layer's time, one without has that of the
/// layer before it (those before the first new layer have its time), so that an image whose
/// layers all come from the cache is the same image again.
pub fn assemble(draft: &ImageConfig, layers: &[ImageLayer]) -> ConfigBlob {
    let mut config = draft.clone();
    config.rootfs.diff_ids = Some(layers.iter().map(|layer| layer.diff_id).collect());
    config.history = history(&config.history, layers);
    if config.created.is_none() || layers.iter().any(|layer| layer.created.is_some()) {
        let last = config.history.iter().rev().find_map(|entry| entry.created.clone());
        config.created = last.or(config.created);
    }
    let bytes = serde_json::to_vec(&config).expect("an image config is plain data");
    let digest = BlobDigest::of(&bytes);
    ConfigBlob { bytes, digest }
}

fn history(entries: &[HistoryEntry], layers: &[ImageLayer]) -> Vec<HistoryEntry> {
    let mut entries = match_layers(entries, layers.len());
    let mut times = layers.iter();
    for entry in entries.iter_mut().filter(|entry| !entry.empty_layer) {
        let layer = times.next().and_then(|layer| layer.created);
        if entry.created.is_none() {
            entry.created = layer.and_then(rfc3339);
        }
    }
    let first_unknown = entries.iter().position(|entry| entry.created.is_none());
    let Some(first_unknown) = first_unknown else {
        return entries;
    };
    let later = entries[first_unknown..].iter().find_map(|entry| entry.created.clone());
    let earlier = entries[..first_unknown].iter().rev().find_map(|entry| entry.created.clone());
    let mut time = later.or(earlier);
    for entry in &mut entries {
        match &entry.created {
            Some(own) => time = Some(own.clone()),
            None => entry.created.clone_from(&time),
        }
    }
    // Entries before the first new layer take its time, not that of the base image.
    entries
}

/// A base image's history may speak of more or fewer layers than it has; the lists must agree.
fn match_layers(entries: &[HistoryEntry], layers: usize) -> Vec<HistoryEntry> {
    let mut entries = entries.to_vec();
    let described = entries.iter().filter(|entry| !entry.empty_layer).count();
    if described < layers {
        let missing = HistoryEntry {
            comment: Some("layer of an image without history".to_owned()),
            ..HistoryEntry::default()
        };
        entries.splice(0..0, std::iter::repeat_n(missing, layers - described));
    }
    let mut surplus = described.saturating_sub(layers);
    for entry in entries.iter_mut().filter(|entry| !entry.empty_layer) {
        if surplus == 0 {
            break;
        }
        entry.empty_layer = true;
        surplus -= 1;
    }
    entries
}

/// The manifest of an image: bytes and descriptor.
pub fn manifest(config: &Descriptor, layers: Vec<Descriptor>) -> (Vec<u8>, Descriptor) {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: config.clone(),
        layers,
        annotations: BTreeMap::new(),
        other: serde_json::Map::new(),
    };
    let bytes = serde_json::to_vec(&manifest).expect("a manifest is plain data");
    let descriptor =
        Descriptor::new(media_type::OCI_MANIFEST, BlobDigest::of(&bytes), bytes.len() as u64);
    (bytes, descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, empty_layer: bool, created: Option<&str>) -> HistoryEntry {
        HistoryEntry {
            created: created.map(str::to_owned),
            created_by: Some(text.to_owned()),
            empty_layer,
            ..HistoryEntry::default()
        }
    }

    fn layer(created: Option<i64>) -> ImageLayer {
        ImageLayer { diff_id: DiffId::from_bytes([7; 32]), created }
    }

    fn times(entries: &[HistoryEntry], layers: &[ImageLayer]) -> Vec<String> {
        history(entries, layers).into_iter().map(|e| e.created.unwrap_or_default()).collect()
    }

    #[test]
    fn entries_take_the_times_of_their_layers() {
        let base = "2020-01-01T00:00:00Z";
        let entries = [
            entry("base", false, Some(base)),
            entry("ENV", true, None),
            entry("RUN", false, None),
            entry("CMD", true, None),
        ];
        let new = "1970-01-01T00:16:40Z";
        let layers = [layer(None), layer(Some(1000))];
        assert_eq!(times(&entries, &layers), [base, new, new, new]);
    }

    #[test]
    fn config_only_images_keep_the_time_of_their_base() {
        let base = "2020-01-01T00:00:00Z";
        let entries = [entry("base", false, Some(base)), entry("ENV", true, None)];
        assert_eq!(times(&entries, &[layer(None)]), [base, base]);
    }

    #[test]
    fn history_and_layers_agree() {
        let none = history(&[], &[layer(None), layer(None)]);
        assert_eq!(none.len(), 2);
        let surplus = history(&[entry("a", false, None), entry("b", false, None)], &[layer(None)]);
        assert_eq!(surplus.iter().filter(|entry| !entry.empty_layer).count(), 1);
    }
}
