//! Giving implied directories the metadata that they have below.
//!
//! An archive may put `tmp/x` into a layer without naming `tmp`. Whoever unpacks it onto the
//! layers below leaves their `/tmp` as it is; but a layer that is unpacked on its own has to make
//! one up, and overlayfs shows the topmost directory's mode. So once the layers below are known,
//! the made-up directories take over what is there (as containerd does while it unpacks).

use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::beneath::Beneath;
use super::index::{EntryKind, LayerIndex};
use super::metadata::{self, Metadata, Owner};
use super::tree::Tree;
use crate::layer_error::LayerError;

/// The layer `index`, which lies in the directory `fs`, on top of `below`: its implied
/// directories get mode, owner, time and attributes of the directories that they hide, on disk
/// and in the index that is returned, which has no implied ones any more. The layer then belongs
/// to this chain. Without implied directories nothing happens.
///
/// # Errors
/// [`LayerError::Io`].
pub fn adopt(index: &LayerIndex, fs: &Path, below: &Tree) -> Result<LayerIndex, LayerError> {
    let mut adopted = index.clone();
    if index.implied.is_empty() {
        return Ok(adopted);
    }
    let beneath = Beneath::open(fs)?;
    for position in std::mem::take(&mut adopted.implied) {
        let entry = &mut adopted.entries[position];
        let Some((hidden, _)) = below.lookup(&entry.path) else {
            continue;
        };
        // What replaces something owes it nothing.
        let replaces = entry.kind == EntryKind::Directory { opaque: true };
        if replaces || !hidden.kind.is_directory() {
            continue;
        }
        let mut metadata = Metadata {
            mode: hidden.mode,
            uid: hidden.uid,
            gid: hidden.gid,
            mtime: hidden.mtime,
            xattrs: hidden.xattrs.clone(),
        };
        let fd = beneath.open_at(&entry.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        metadata::set(fd.as_fd(), &mut metadata, Owner::Unset)
            .map_err(beneath.failed("set the metadata of", &entry.path))?;
        let Metadata { mode, uid, gid, mtime, xattrs } = metadata;
        (entry.mode, entry.uid, entry.gid) = (mode, uid, gid);
        (entry.mtime, entry.xattrs) = (mtime, xattrs);
    }
    Ok(adopted)
}
