//! Contents of what was selected of a build context, as long as nothing in the context changes.
//!
//! A context of many files that is as it was costs its walk and one look-up: no digest is looked up
//! for any file. That is the same trust that [`context_index`](crate::context_index) puts into what
//! `lstat` says, racy-clean rule included, for all files at once.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use kiln_core::digest::ContentId;
use rusqlite::OptionalExtension as _;

use crate::context_entry::{ContextEntry, EntryKind};
use crate::context_read::{Stamp, is_older};
use crate::error::Error;
use crate::store::Store;

const BUFFER_BYTES: usize = 64 << 10;

/// What was selected of contexts.
#[derive(Clone, Copy, Debug)]
pub struct Selections<'a> {
    store: &'a Store,
}

impl Store {
    /// What was selected of contexts.
    pub fn selections(&self) -> Selections<'_> {
        Selections { store: self }
    }
}

impl Selections<'_> {
    /// The content of `selection` (some hash of how files are selected) in the context at `root`,
    /// if it was remembered of a context with this fingerprint.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn find(
        self,
        root: &Path,
        selection: &[u8; 32],
        fingerprint: &[u8; 32],
    ) -> Result<Option<ContentId>, Error> {
        self.store.database().query("look for a selection", |connection| {
            connection
                .prepare_cached(
                    "SELECT content FROM selections
                     WHERE root = ? AND selection = ? AND fingerprint = ?",
                )?
                .query_row((root.as_os_str().as_bytes(), selection, fingerprint), |row| {
                    Ok(ContentId::from_bytes(row.get(0)?))
                })
                .optional()
        })
    }

    /// Remembers it, in place of what it was before.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn remember(
        self,
        (root, selection): (&Path, &[u8; 32]),
        fingerprint: &[u8; 32],
        content: &ContentId,
    ) -> Result<(), Error> {
        self.store.database().change("note a selection", |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO selections VALUES (?, ?, ?, ?)")?
                .execute((root.as_os_str().as_bytes(), selection, fingerprint, content.as_bytes()))
        })?;
        Ok(())
    }
}

/// A hash of all that `lstat` says of these files, in their order; `None` when one of them changed
/// so shortly before `now`, when the walk began, that it could change again without showing it.
pub fn fingerprint(entries: &[ContextEntry], now: SystemTime) -> Option<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + 512);
    for entry in entries {
        let ContextEntry { path, kind, mode, nlink, size_bytes, mtime_ns, ctime_ns, .. } = entry;
        let ContextEntry { inode, device, .. } = entry;
        let stamp = Stamp {
            device: *device,
            inode: *inode,
            size_bytes: *size_bytes,
            mtime_ns: *mtime_ns,
            ctime_ns: *ctime_ns,
        };
        if !is_older(&stamp, now) {
            return None;
        }
        let (kind, target, numbers) = match kind {
            EntryKind::File => (0, &[][..], (0, 0)),
            EntryKind::Directory => (1, &[][..], (0, 0)),
            EntryKind::Symlink { target } => (2, &target[..], (0, 0)),
            EntryKind::Fifo => (3, &[][..], (0, 0)),
            EntryKind::CharDevice { major, minor } => (4, &[][..], (*major, *minor)),
            EntryKind::BlockDevice { major, minor } => (5, &[][..], (*major, *minor)),
            EntryKind::Socket => (6, &[][..], (0, 0)),
        };
        for bytes in [path, target] {
            buffer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            buffer.extend_from_slice(bytes);
        }
        for number in [kind, *mode, *nlink, numbers.0, numbers.1] {
            buffer.extend_from_slice(&number.to_le_bytes());
        }
        for number in [*size_bytes, *mtime_ns as u64, *ctime_ns as u64, *inode, *device] {
            buffer.extend_from_slice(&number.to_le_bytes());
        }
        if buffer.len() >= BUFFER_BYTES {
            hasher.update(&buffer);
            buffer.clear();
        }
    }
    Some(*hasher.update(&buffer).finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(path: &str) -> ContextEntry {
        ContextEntry {
            path: path.into(),
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size_bytes: 3,
            mtime_ns: 1_000_000_001,
            ctime_ns: 1_000_000_002,
            inode: 4,
            device: 5,
        }
    }

    #[test]
    fn whatever_lstat_says_is_part_of_the_fingerprint() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        let base = fingerprint(&[entry("a")], now);
        assert!(base.is_some());
        let changes: [fn(&mut ContextEntry); 9] = [
            |e| e.path = b"b".to_vec(),
            |e| e.kind = EntryKind::Symlink { target: b"".to_vec() },
            |e| e.mode = 0o755,
            |e| e.nlink = 2,
            |e| e.size_bytes = 4,
            |e| e.mtime_ns += 1,
            |e| e.ctime_ns += 1,
            |e| e.inode = 5,
            |e| e.device = 6,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = entry("a");
            change(&mut changed);
            assert_ne!(fingerprint(&[changed], now), base, "{number}");
        }
        assert_ne!(fingerprint(&[entry("a"), entry("a")], now), base);
    }

    #[test]
    fn what_has_just_changed_has_none() {
        let at = |nanoseconds| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
        assert_eq!(fingerprint(&[entry("a")], at(1_000_000_003)), None);
        assert!(fingerprint(&[entry("a")], at(1_100_000_000)).is_some());
    }
}
