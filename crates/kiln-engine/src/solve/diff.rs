//! What a step changed: an overlay's upper directory without the files that are as they were.

use std::collections::BTreeSet;

use kiln_store::layer::{Entry, EntryKind, LayerIndex};
use kiln_store::layer_error::LayerError;

use crate::source_tree::{Node, NodeKind, SourceTree};

/// Takes out regular files that are equal to those below, times included; gives their paths too.
/// Where such a file has a new name as well, it stays, marked as unchanged: later steps see the
/// link, which an archive cannot express.
pub(super) fn without_unchanged(
    index: LayerIndex,
    below: &SourceTree,
) -> Result<(LayerIndex, Vec<Vec<u8>>), LayerError> {
    let mut unchanged = BTreeSet::new();
    // First names of files that have a new one.
    let mut renamed: BTreeSet<&[u8]> = BTreeSet::new();
    for entry in index.entries() {
        let file = index.follow_link(entry);
        if !matches!(file.kind, EntryKind::File { .. }) {
            continue;
        }
        if below.node(&entry.path).is_some_and(|node| is_same(file, &node)) {
            unchanged.insert(entry.path.clone());
        } else {
            renamed.insert(&file.path);
        }
    }
    if unchanged.is_empty() {
        return Ok((index, Vec::new()));
    }
    let has_new_name = |entry: &Entry| renamed.contains(&index.follow_link(entry).path[..]);
    let is_dropped = |entry: &&Entry| unchanged.contains(&entry.path) && !has_new_name(entry);
    let dropped: Vec<Vec<u8>> =
        index.entries().iter().filter(is_dropped).map(|entry| entry.path.clone()).collect();
    let kept = index.entries().iter().filter(|entry| !is_dropped(entry)).cloned().collect();
    let kept = LayerIndex::from_entries(kept)?;
    Ok((kept.with_unchanged(unchanged.iter().map(Vec::as_slice)), dropped))
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
