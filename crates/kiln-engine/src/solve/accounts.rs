//! Users and groups of a file system for `--chown` and WORKDIR. No layer is unpacked for them: of
//! one that is an archive, the two files are taken out.

use kiln_core::digest::FileDigest;
use kiln_store::layer::{EntryKind, LastSymlink, Tree};

use super::Solver;
use crate::base_image::{bring, unpack};
use crate::error::{BuildError, FileContext};
use crate::snapshot::{Snapshot, SnapshotLayer};
use crate::source_tree::as_path;
use crate::user::Accounts;

/// A file of a layer.
struct Place {
    /// Position of the layer, counted from the lowest.
    layer: usize,
    path: Vec<u8>,
    digest: FileDigest,
}

impl Solver<'_> {
    /// The accounts of a file system. A file that is not there, or is none, is an empty one.
    pub(super) fn accounts(&self, snapshot: &Snapshot) -> Result<Accounts, BuildError> {
        let tree = self.index_tree(snapshot)?;
        let places = ["etc/passwd", "etc/group"].map(|path| place(&tree, path));
        let mut texts = [String::new(), String::new()];
        for (position, layer) in snapshot.layers().iter().enumerate() {
            let here = |place: &&Place| place.layer == position;
            let wanted: Vec<&Place> = places.iter().flatten().filter(here).collect();
            if wanted.is_empty() {
                continue;
            }
            let mut contents = self.contents(layer, &wanted)?.into_iter();
            for (text, place) in texts.iter_mut().zip(&places) {
                if place.as_ref().is_some_and(|place| place.layer == position) {
                    let bytes = contents.next().unwrap_or_default();
                    *text = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        let [passwd, group] = texts;
        Ok(Accounts::parse(&passwd, &group))
    }

    /// The contents of files of one layer.
    fn contents(
        &self,
        layer: &SnapshotLayer,
        wanted: &[&Place],
    ) -> Result<Vec<Vec<u8>>, BuildError> {
        let mut layer = self.layer(layer)?;
        if !layer.is_unpacked {
            bring(&self.fetcher, &layer)?;
            let files: Vec<(&[u8], FileDigest)> =
                wanted.iter().map(|place| (&place.path[..], place.digest)).collect();
            if let Some(contents) = self.engine.store.layers().extract(&layer, &files)? {
                return Ok(contents);
            }
            layer = unpack(&self.fetcher, &layer)?.into();
        }
        let read = |place: &&Place| {
            let path = layer.fs.join(as_path(&place.path));
            std::fs::read(&path).at("read", &path)
        };
        wanted.iter().map(read).collect()
    }
}

/// Where the bytes of a regular file are, links followed.
fn place(tree: &Tree, path: &str) -> Option<Place> {
    let path = tree.resolve(path.as_bytes(), LastSymlink::Follow).ok()?;
    let (entry, layer) = tree.lookup(&path)?;
    let file = tree.file(entry, layer);
    match file.kind {
        EntryKind::File { digest, .. } => Some(Place { layer, path: file.path.clone(), digest }),
        _ => None,
    }
}
