//! What a step changed: an overlay's upper directory without the files that are as they were.

use std::collections::{BTreeMap, BTreeSet};

use kiln_store::layer::{Entry, EntryKind, LayerIndex};
use kiln_store::layer_error::LayerError;

use crate::source_tree::{Node, NodeKind, SourceTree};

/// Takes out regular files that are equal to those below, times included; gives their paths too.
/// Another name of such a file that is new becomes a file of its own, as the link to the file
/// below cannot be expressed in a layer.
pub(super) fn without_unchanged(
    index: LayerIndex,
    below: &SourceTree,
) -> Result<(LayerIndex, Vec<Vec<u8>>), LayerError> {
    let mut unchanged = BTreeSet::new();
    for entry in index.entries() {
        let file = index.follow_link(entry);
        let is_equal = matches!(file.kind, EntryKind::File { .. })
            && below.node(&entry.path).is_some_and(|node| is_same(file, &node));
        if is_equal {
            unchanged.insert(entry.path.clone());
        }
    }
    if unchanged.is_empty() {
        return Ok((index, Vec::new()));
    }
    // Names of a file that goes, with the first of them that stays.
    let mut heirs: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut kept = Vec::new();
    for entry in index.entries().iter().filter(|entry| !unchanged.contains(&entry.path)) {
        let mut entry = entry.clone();
        if let EntryKind::HardLink { target } = &entry.kind
            && unchanged.contains(target)
        {
            entry.kind = if let Some(heir) = heirs.get(target) {
                EntryKind::HardLink { target: heir.clone() }
            } else {
                heirs.insert(target.clone(), entry.path.clone());
                index.follow_link(&entry).kind.clone()
            };
        }
        kept.push(entry);
    }
    Ok((LayerIndex::from_entries(kept)?, unchanged.into_iter().collect()))
}

fn is_same(file: &Entry, node: &Node) -> bool {
    let EntryKind::File { size_bytes, digest } = &file.kind else { return false };
    let capability = file.xattrs.get(b"security.capability".as_slice());
    let other_attributes = file.xattrs.len() - usize::from(capability.is_some());
    node.kind == NodeKind::File { size_bytes: *size_bytes, digest: Some(*digest) }
        && (node.mode, node.uid, node.gid) == (file.mode, file.uid, file.gid)
        && node.mtime == file.mtime
        && node.capability.as_ref() == capability
        && other_attributes == 0
}
