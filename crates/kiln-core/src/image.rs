//! From a target and its layers to an image: its config as bytes.

use jiff::Timestamp;

use crate::digest::{BlobDigest, DiffId};
use crate::oci::{HistoryEntry, to_json};
use crate::plan::Target;

/// What BuildKit writes beside entries that no instruction made.
const EXPORTER_COMMENT: &str = "buildkit.exporter.image.v0";

/// A layer of the image, as the config needs it.
#[derive(Clone, Debug)]
pub struct ImageLayer {
    /// sha256 of its tar.
    pub diff_id: DiffId,
    /// When it was made, seconds since 1970; `None` for layers of the base image, whose history
    /// has its own times.
    pub created: Option<i64>,
    /// What it is, for a history that does not speak of it.
    pub description: String,
}

/// A config as bytes: immutable from here on.
#[derive(Clone, Debug)]
pub struct ConfigBlob {
    /// The document.
    pub bytes: Vec<u8>,
    /// Its digest, which Docker calls the image ID.
    pub digest: BlobDigest,
    /// When the image was made, seconds since 1970, as far as it is known.
    pub created: Option<i64>,
}

/// Seconds since 1970 as an RFC 3339 time in UTC; `None` outside the years that can be written.
pub fn rfc3339(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// Completes a target's config with the layers that were made, lowest first.
///
/// Times follow BuildKit, so that an image whose layers all come from the cache is the same image
/// again; see [`history`]. With an epoch, entries of the base keep their times and all others are
/// not younger than it.
pub fn assemble(target: &Target, layers: &[ImageLayer]) -> ConfigBlob {
    let mut config = target.image.clone();
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
    config.rootfs.diff_ids = (!diff_ids.is_empty()).then_some(diff_ids);
    config.history = history(&config.history, layers);
    if let Some(epoch) = target.epoch {
        clamp(&mut config.history, &target.base_history, epoch);
    }
    config.created = config.history.iter().rev().find_map(|entry| entry.created.clone());
    let bytes = to_json(&config);
    let digest = BlobDigest::of(&bytes);
    let created = config.created.as_deref().and_then(time).map(Timestamp::as_second);
    ConfigBlob { bytes, digest, created }
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Sets times after `epoch`, and missing ones, to it; the entries that the image shares with its
/// base stay as they are.
fn clamp(entries: &mut [HistoryEntry], base: &[HistoryEntry], epoch: i64) {
    let shared = entries.iter().zip(base).take_while(|(entry, base)| entry == base).count();
    let limit = Timestamp::from_second(epoch).ok();
    for entry in &mut entries[shared..] {
        let own = entry.created.as_deref().and_then(time);
        if own.is_none() || own > limit {
            entry.created = rfc3339(epoch);
        }
    }
}

/// The history with a time for every entry, as far as any is known.
///
/// 1. An entry that has a time (the base image's, or all with an epoch) keeps it.
/// 2. An entry with a layer has the time of that layer.
/// 3. The first entries that are left take the time of the first entry after them that has one,
///    so that an ENV before the first new layer is not as old as the base image; where none
///    follows, of the entry before them. All others take that of the entry before them.
fn history(entries: &[HistoryEntry], layers: &[ImageLayer]) -> Vec<HistoryEntry> {
    let mut entries = match_layers(entries, layers);
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
/// As with BuildKit, the first entries and the first layers belong together: layers without an
/// entry get one at the end, and entries without a layer are the last ones.
fn match_layers(entries: &[HistoryEntry], layers: &[ImageLayer]) -> Vec<HistoryEntry> {
    let mut entries = entries.to_vec();
    let mut described = 0;
    for entry in entries.iter_mut().filter(|entry| !entry.empty_layer) {
        entry.empty_layer = described == layers.len();
        described += usize::from(!entry.empty_layer);
    }
    entries.extend(layers[described..].iter().map(|layer| HistoryEntry {
        created: layer.created.and_then(rfc3339),
        created_by: Some(layer.description.clone()),
        comment: Some(EXPORTER_COMMENT.to_owned()),
        ..HistoryEntry::default()
    }));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ImageConfig;

    fn entry(text: &str, empty_layer: bool, created: Option<&str>) -> HistoryEntry {
        HistoryEntry {
            created: created.map(str::to_owned),
            created_by: Some(text.to_owned()),
            empty_layer,
            ..HistoryEntry::default()
        }
    }

    fn layer(created: Option<i64>) -> ImageLayer {
        let description = "a layer".to_owned();
        ImageLayer { diff_id: DiffId::from_bytes([7; 32]), created, description }
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

    fn target(history: Vec<HistoryEntry>, base: usize, epoch: Option<i64>) -> Target {
        Target {
            name: "app".to_owned(),
            platform: crate::oci::Platform::new("linux", "amd64", None),
            root: crate::plan::Input::Scratch,
            base_history: history[..base].to_vec(),
            image: ImageConfig { history, ..ImageConfig::default() },
            epoch,
        }
    }

    fn assembled(target: &Target, layers: &[ImageLayer]) -> (ImageConfig, Option<i64>) {
        let blob = assemble(target, layers);
        (serde_json::from_slice(&blob.bytes).expect("a config"), blob.created)
    }

    #[test]
    fn an_image_is_as_old_as_its_last_entry() {
        let (config, created) = assembled(&target(Vec::new(), 0, None), &[]);
        assert_eq!((config.created, created, config.rootfs.diff_ids), (None, None, None));
        let history = vec![entry("RUN", false, None), entry("CMD", true, None)];
        let (config, created) = assembled(&target(history, 0, None), &[layer(Some(1000))]);
        assert_eq!(config.created.as_deref(), Some("1970-01-01T00:16:40Z"));
        assert_eq!(created, Some(1000));
    }

    #[test]
    fn an_epoch_leaves_the_times_of_the_base() {
        let (old, new) = ("1970-01-01T00:00:01Z", "2030-01-01T00:00:00.5Z");
        let base = [entry("a", false, Some(new)), entry("b", true, Some(old))];
        let own = [entry("RUN", false, None), entry("CMD", true, Some(new))];
        let history = || base.iter().chain(&own).cloned().collect::<Vec<_>>();
        let epoch = "1970-01-01T00:01:00Z";
        let layers = [layer(None), layer(Some(7000))];
        let times = |base: usize| -> Vec<String> {
            let (config, _) = assembled(&target(history(), base, Some(60)), &layers);
            config.history.into_iter().map(|entry| entry.created.unwrap_or_default()).collect()
        };
        assert_eq!(times(2), [new, old, epoch, epoch]);
        assert_eq!(times(0), [epoch, old, epoch, epoch]);
    }

    #[test]
    fn config_only_images_keep_the_time_of_their_base() {
        let base = "2020-01-01T00:00:00Z";
        let entries = [entry("base", false, Some(base)), entry("ENV", true, None)];
        assert_eq!(times(&entries, &[layer(None)]), [base, base]);
    }

    #[test]
    fn history_and_layers_agree() {
        let two = [layer(None), layer(Some(1000))];
        let none = history(&[], &two);
        assert_eq!(none.len(), 2);
        assert_eq!(none[1].created_by.as_deref(), Some("a layer"));
        let entries = [entry("a", false, None), entry("e", true, None), entry("b", false, None)];
        let surplus: Vec<bool> =
            history(&entries, &two[..1]).iter().map(|entry| entry.empty_layer).collect();
        assert_eq!(surplus, [false, true, true]);
    }
}
