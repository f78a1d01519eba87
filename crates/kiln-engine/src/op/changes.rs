//! Entries of a layer that is being listed, found by path.
//!
//! There may be very many, so each takes the memory of its entry and a few bytes: entries and
//! origins stand in the order in which they came, and a hash table holds their positions.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
use kiln_store::layer::{Entry, Origin};

/// Entries with their origins, each path once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    entries: Vec<Entry>,
    origins: Vec<Origin>,
    positions: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Changes {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, additional: usize) {
        self.entries.reserve_exact(additional);
        self.origins.reserve_exact(additional);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.positions.reserve(additional, |at| hasher.hash_one(&entries[*at as usize].path[..]));
    }

    fn position(&self, path: &[u8]) -> Option<usize> {
        let is_at = |at: &u32| self.entries[*at as usize].path == path;
        self.positions.find(self.hasher.hash_one(path), is_at).map(|at| *at as usize)
    }

    /// The entry of a path.
    pub(super) fn entry(&self, path: &[u8]) -> Option<&Entry> {
        self.position(path).map(|at| &self.entries[at])
    }

    /// The entry of a path, to be changed; its path stays.
    pub(super) fn entry_mut(&mut self, path: &[u8]) -> Option<&mut Entry> {
        self.position(path).map(|at| &mut self.entries[at])
    }

    /// All entries, in any order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Adds an entry, in place of the one that has its path.
    pub(super) fn insert(&mut self, entry: Entry, origin: Origin) {
        if let Some(at) = self.position(&entry.path) {
            (self.entries[at], self.origins[at]) = (entry, origin);
            return;
        }
        let at = self.entries.len() as u32;
        let hash = self.hasher.hash_one(&entry.path[..]);
        self.entries.push(entry);
        self.origins.push(origin);
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |at: &u32| hasher.hash_one(&entries[*at as usize].path[..]);
        self.positions.insert_unique(hash, at, rehash);
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, path: &[u8]) -> Option<(Entry, Origin)> {
        let at = self.position(path)?;
        self.forget(path, at);
        let last = self.entries.len() - 1;
        if at != last {
            let moved = self.entries[last].path.clone();
            self.forget(&moved, last);
            let (entries, hasher) = (&self.entries, &self.hasher);
            let rehash = |at: &u32| hasher.hash_one(&entries[*at as usize].path[..]);
            self.positions.insert_unique(self.hasher.hash_one(&moved[..]), at as u32, rehash);
        }
        Some((self.entries.swap_remove(at), self.origins.swap_remove(at)))
    }

    fn forget(&mut self, path: &[u8], at: usize) {
        let found = self.positions.find_entry(self.hasher.hash_one(path), |p| *p as usize == at);
        if let Ok(found) = found {
            found.remove();
        }
    }

    /// All entries, in any order, and the origin of each.
    pub(super) fn into_parts(self) -> (Vec<Entry>, Vec<Origin>) {
        (self.entries, self.origins)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kiln_store::layer::{EntryKind, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &[u8], mode: u32) -> Entry {
        let (kind, mtime) = (EntryKind::Fifo, Timestamp::default());
        Entry { path: path.to_vec(), kind, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0_u8..20, 0_u32..3), 0..200)) {
            let (mut map, mut changes) = (BTreeMap::new(), Changes::default());
            for (mode, (name, what)) in steps.into_iter().enumerate() {
                let (path, mode) = ([b'a' + name], mode as u32);
                match what {
                    0 => {
                        let removed = changes.remove(&path).map(|(entry, _)| entry.mode);
                        prop_assert_eq!(removed, map.remove(&path));
                    }
                    1 => if let Some(entry) = changes.entry_mut(&path) {
                        entry.mode = mode;
                        map.insert(path, mode);
                    },
                    _ => {
                        changes.insert(entry(&path, mode), Origin::Nowhere);
                        map.insert(path, mode);
                    }
                }
                let mut all: Vec<_> =
                    changes.entries().map(|entry| (entry.path.clone(), entry.mode)).collect();
                all.sort();
                prop_assert!(all.iter().map(|(path, mode)| (&path[..], *mode)).eq(
                    map.iter().map(|(path, mode)| (&path[..], *mode))
                ));
                for (path, mode) in &map {
                    prop_assert_eq!(changes.entry(path).map(|entry| entry.mode), Some(*mode));
                }
            }
        }
    }
}
