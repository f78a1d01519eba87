//! What a build sees of snapshots: layers, their indexes, and the merged view of a chain.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_store::Layer;
use kiln_store::layer::{LayerIndex, Tree};

use super::{Solver, lock};
use crate::base_image::Want;
use crate::base_image::unpack;
use crate::error::{BuildError, FileContext};
use crate::snapshot::{Snapshot, SnapshotLayer};
use crate::source_tree::SourceTree;

impl Solver<'_> {
    /// Brings all layers of the image that a snapshot stands on, at the same time.
    fn bring(&self, snapshot: &Snapshot, want: Want) -> Result<(), BuildError> {
        match snapshot.base() {
            Some(image) => image.bring(&self.fetcher, want),
            None => Ok(()),
        }
    }

    /// The layer of a snapshot's layer: its index, and perhaps no files yet.
    pub(super) fn layer(&self, layer: &SnapshotLayer) -> Result<Arc<Layer>, BuildError> {
        match layer {
            SnapshotLayer::Built { layer, .. } => Ok(Arc::clone(layer)),
            SnapshotLayer::Base { image, position } => image.layer(&self.fetcher, *position),
        }
    }

    /// The same with its files.
    pub(crate) fn files(&self, layer: &SnapshotLayer) -> Result<Arc<Layer>, BuildError> {
        let layer = self.layer(layer)?;
        if layer.is_unpacked {
            return Ok(layer);
        }
        Ok(Arc::new(unpack(&self.fetcher, &layer)?))
    }

    /// The directories of a snapshot's layers, lowest first.
    pub(crate) fn layer_dirs(&self, snapshot: &Snapshot) -> Result<Vec<PathBuf>, BuildError> {
        self.bring(snapshot, Want::Files)?;
        snapshot.layers().iter().map(|layer| Ok(self.files(layer)?.fs.clone())).collect()
    }

    /// The merged view of a snapshot whose files are all there to be read.
    pub(crate) fn tree_with_files(&self, snapshot: &Snapshot) -> Result<SourceTree, BuildError> {
        self.layer_dirs(snapshot)?;
        self.tree(snapshot)
    }

    /// The merged view of a snapshot; its files need not be there.
    pub(crate) fn tree(&self, snapshot: &Snapshot) -> Result<SourceTree, BuildError> {
        if let Some(tree) = lock(&self.trees).get(&snapshot.content()) {
            return Ok(tree.clone());
        }
        let tree = self.index_tree(snapshot)?;
        let dirs = snapshot.layers().iter().map(|layer| Ok(self.layer(layer)?.fs.clone()));
        let dirs = dirs.collect::<Result<Vec<_>, BuildError>>()?;
        let tree = SourceTree::of_layers(tree, dirs);
        lock(&self.trees).insert(snapshot.content(), tree.clone());
        Ok(tree)
    }

    /// The indexes of a snapshot's layers, merged.
    pub(super) fn index_tree(&self, snapshot: &Snapshot) -> Result<Arc<Tree>, BuildError> {
        self.bring(snapshot, Want::Indexes)?;
        let indexes = snapshot.layers().iter().map(|layer| self.index(&*self.layer(layer)?));
        Ok(Arc::new(Tree::new(indexes.collect::<Result<Vec<_>, BuildError>>()?)))
    }

    /// The index of a layer.
    pub(crate) fn index(&self, layer: &Layer) -> Result<Arc<LayerIndex>, BuildError> {
        if let Some(index) = lock(&self.indexes).get(&layer.fs) {
            return Ok(Arc::clone(index));
        }
        let bytes = std::fs::read(&layer.index_path).at("read", &layer.index_path)?;
        let index = Arc::new(LayerIndex::decode(&bytes)?);
        lock(&self.indexes).insert(layer.fs.clone(), Arc::clone(&index));
        Ok(index)
    }
}
