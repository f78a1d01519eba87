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
/// Times follow BuildKit, so that an image whose layers all come from the cache is the same image
/// again; see [`history`].
pub fn assemble(draft: &ImageConfig, layers: &[ImageLayer]) -> ConfigBlob {
    let mut config = draft.clone();
    config.rootfs.diff_ids = Some(layers.iter().map(|layer| layer.diff_id).collect());
    config.history = history(&config.history, layers);
    if config.created.is_none() {
        config.created = config.history.iter().rev().find_map(|entry| entry.created.clone());
    }
    let bytes = serde_json::to_vec(&config).expect("an image config is plain data");
    let digest = BlobDigest::of(&bytes);
    ConfigBlob { bytes, digest }
}

/// The history with a time for every entry, as far as any is known.
///
/// 1. An entry that has a time (the base image's, or all with an epoch) keeps it.
/// 2. An entry with a layer has the time of that layer.
/// 3. The first entries that are left take the time of the first entry after them that has one,
///    so that an ENV before the first new layer is not as old as the base image; where none
///    follows, of the entry before them. All others take that of the entry before them.
fn history(entries: &[HistoryEntry], layers: &[ImageLayer]) -> Vec<HistoryEntry> {
    let mut entries = match_layers(entries, layers.len());
    let with_layer = entries.iter_mut().filter(|entry| !entry.empty_layer);
    for (entry, layer) in with_layer.zip(layers) {
        if entry.created.is_none() {
            entry.created = layer.created.and_then(rfc3339);
        }
    }
    let Some(first_untimed) = entries.iter().position(|entry| entry.created.is_none()) else {
        return entries;
    };
    let (before, rest) = entries.split_at_mut(first_untimed);
    let next = rest.iter().find_map(|entry| entry.created.clone());
    let mut time = next.or_else(|| before.last().and_then(|entry| entry.created.clone()));
    for entry in rest {
        match &entry.created {
            Some(own) => time = Some(own.clone()),
            None => entry.created.clone_from(&time),
        }
    }
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
    fn entries_between_layers_take_the_time_of_the_first_layer_after_an_untimed_entry() {
        let entries = [
            entry("RUN one", false, None),
            entry("ENV", true, None),
            entry("RUN two", false, None),
            entry("CMD", true, None),
            entry("RUN three", false, None),
            entry("USER", true, None),
        ];
        let layers = [1, 2, 3].map(|seconds| layer(Some(seconds)));
        let at = |second: u32| format!("1970-01-01T00:00:0{second}Z");
        assert_eq!(times(&entries, &layers), [at(1), at(2), at(2), at(2), at(3), at(3)]);
    }

    #[test]
    fn an_image_is_as_old_as_its_last_entry_unless_it_says_so_itself() {
        let created = |draft: &ImageConfig, layers: &[ImageLayer]| {
            let bytes = assemble(draft, layers).bytes;
            serde_json::from_slice::<ImageConfig>(&bytes).expect("a config").created
        };
        let mut draft = ImageConfig::default();
        assert_eq!(created(&draft, &[]), None);
        draft.history = vec![entry("RUN", false, None), entry("CMD", true, None)];
        let new = Some("1970-01-01T00:16:40Z".to_owned());
        assert_eq!(created(&draft, &[layer(Some(1000))]), new);
        draft.created = Some("2020-01-01T00:00:00Z".to_owned());
        assert_eq!(created(&draft, &[layer(Some(1000))]), draft.created);
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
