//! Snapshots: what a step made, as an ordered chain of layers.

use std::sync::Arc;

use kiln_core::digest::{ContentId, FieldHasher};
use kiln_store::Layer;

use crate::base_image::BaseImage;

/// A chain of layers, lowest first; empty is the empty file system.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    layers: Vec<SnapshotLayer>,
    content: Option<ContentId>,
}

/// One layer of a snapshot.
#[derive(Clone, Debug)]
pub(crate) enum SnapshotLayer {
    /// A layer of a base image: fetched and unpacked only when something needs its files.
    Base {
        /// The image.
        image: Arc<BaseImage>,
        /// Which of its layers.
        position: usize,
    },
    /// A layer that a step made.
    Built {
        /// The layer.
        layer: Arc<Layer>,
        /// When it was made first, seconds since 1970: its time in the image's history.
        created: i64,
    },
}

impl Snapshot {
    /// The file system of an image.
    pub(crate) fn of_image(image: &Arc<BaseImage>) -> Self {
        let layers = (0..image.diff_ids.len())
            .map(|position| SnapshotLayer::Base { image: Arc::clone(image), position })
            .collect();
        let content = image
            .diff_ids
            .iter()
            .fold(None, |below, diff_id| Some(chain(below, "image layer", diff_id.as_bytes())));
        Self { layers, content }
    }

    /// This snapshot with one more layer on top.
    pub(crate) fn with_layer(&self, layer: Arc<Layer>, created: i64) -> Self {
        let content = chain(self.content, "layer", layer.content.as_bytes());
        let mut layers = self.layers.clone();
        layers.push(SnapshotLayer::Built { layer, created });
        Self { layers, content: Some(content) }
    }

    /// Identity of all that it holds; `None` for the empty file system.
    pub(crate) fn content(&self) -> Option<ContentId> {
        self.content
    }

    /// The image that it stands on, all of whose layers are its lowest ones.
    pub(crate) fn base(&self) -> Option<&Arc<BaseImage>> {
        match self.layers.first() {
            Some(SnapshotLayer::Base { image, .. }) => Some(image),
            _ => None,
        }
    }

    /// Lowest first.
    pub(crate) fn layers(&self) -> &[SnapshotLayer] {
        &self.layers
    }
}

/// The content of a chain: that of what is below, and of the layer on top.
fn chain(below: Option<ContentId>, kind: &str, layer: &[u8; 32]) -> ContentId {
    let mut hasher = FieldHasher::new("kiln snapshot 1");
    hasher.optional(below.map(|content| *content.as_bytes())).field(kind).field(layer);
    ContentId::from_bytes(hasher.finish())
}
