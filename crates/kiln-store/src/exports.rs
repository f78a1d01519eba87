//! Files and directories that outputs were written to, so that one that is up to date is not
//! written again.
//!
//! A file counts as it was left when its device, inode, size, mtime and ctime are the same; a
//! directory, when that holds for all that was written into it. What else is in it is nobody's
//! concern, except that a directory's times tell of it, and it is written again. That
//! holds only if nobody could have changed it without changing these: it is remembered once the
//! clock by which the kernel dates files has gone on since it was written.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use kiln_core::digest::FieldHasher;
use rusqlite::OptionalExtension as _;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
use rustix::time::ClockId;

use crate::context_read::{Stamp, stamp_of};
use crate::error::Error;
use crate::store::Store;

/// How long to wait for the clock: some ticks of the slowest kernels.
const LONGEST_WAIT: Duration = Duration::from_millis(30);
const WAIT: Duration = Duration::from_millis(1);

/// The files that outputs were written to.
#[derive(Clone, Copy, Debug)]
pub struct Exports<'a> {
    store: &'a Store,
}

impl Store {
    /// The files that outputs were written to.
    pub fn exports(&self) -> Exports<'_> {
        Exports { store: self }
    }
}

impl Exports<'_> {
    /// Whether the file at `path` is what [`remember`](Self::remember) said that it holds, and
    /// that is `what`.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn is_current(self, path: &Path, what: &[u8; 32]) -> Result<bool, Error> {
        let Some((key, stamp)) = stamp(path) else { return Ok(false) };
        let known = self.known(&key)?;
        Ok(known.is_some_and(|(known, then)| known == *what && then == stamp_text(&stamp)))
    }

    /// The same of a directory, of which these paths, relative to it, were written.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn is_current_tree(
        self,
        directory: &Path,
        paths: &[Vec<u8>],
        what: &[u8; 32],
    ) -> Result<bool, Error> {
        let Ok(key) = std::path::absolute(directory) else { return Ok(false) };
        match self.known(key.as_os_str().as_bytes())? {
            Some((known, then)) if known == *what => Ok(tree_stamp(directory, paths).0 == then),
            _ => Ok(false),
        }
    }

    /// What was noted of a path: what it holds, and its stamp.
    fn known(self, key: &[u8]) -> Result<Option<([u8; 32], String)>, Error> {
        self.store.database().query("look for an output", |connection| {
            connection
                .prepare_cached("SELECT what, stamp FROM exports WHERE path = ?")?
                .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
    }

    /// Notes that the file at `path`, which was just written, holds `what`, some digest of it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn remember(self, path: &Path, what: &[u8; 32]) -> Result<(), Error> {
        let Some((key, stamp)) = stamp(path) else { return Ok(()) };
        self.note((&key, stamp.ctime_ns), what, &stamp_text(&stamp))
    }

    /// Notes that these paths below a directory were just written, and are `what`.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn remember_tree(
        self,
        directory: &Path,
        paths: &[Vec<u8>],
        what: &[u8; 32],
    ) -> Result<(), Error> {
        let Ok(key) = std::path::absolute(directory) else { return Ok(()) };
        let (stamp, last_ctime_ns) = tree_stamp(directory, paths);
        self.note((key.as_os_str().as_bytes(), last_ctime_ns), what, &stamp)
    }

    /// Notes a stamp, once nothing can change any more without showing it.
    fn note(
        self,
        (key, ctime_ns): (&[u8], i64),
        what: &[u8; 32],
        stamp: &str,
    ) -> Result<(), Error> {
        let mut waited = Duration::ZERO;
        while !is_past(ctime_ns) {
            if waited >= LONGEST_WAIT {
                return Ok(());
            }
            std::thread::sleep(WAIT);
            waited += WAIT;
        }
        self.store.database().change("note an output", |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO exports VALUES (?, ?, ?)")?
                .execute((key, what, stamp))
        })?;
        Ok(())
    }
}

/// The name under which a regular file is remembered, and its stamp.
fn stamp(path: &Path) -> Option<(Vec<u8>, Stamp)> {
    let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).ok()?;
    let is_file = FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile;
    let path = std::path::absolute(path).ok().filter(|_| is_file)?;
    Some((path.as_os_str().as_bytes().to_vec(), stamp_of(&stat)))
}

/// Whether a change from now on shows in the times.
fn is_past(ctime_ns: i64) -> bool {
    let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec) > ctime_ns
}

/// The stamps of all paths as one, and the last of their ctimes.
fn tree_stamp(directory: &Path, paths: &[Vec<u8>]) -> (String, i64) {
    let mut hasher = FieldHasher::new("kiln stamps 1");
    let mut last_ctime_ns = i64::MIN;
    for path in paths {
        let path = directory.join(OsStr::from_bytes(path));
        // What could not be made is not there each time.
        let stat = statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).ok();
        let text = stat.map(|stat| {
            let stamp = stamp_of(&stat);
            last_ctime_ns = last_ctime_ns.max(stamp.ctime_ns);
            format!("{} {}", stat.stx_mode, stamp_text(&stamp))
        });
        hasher.field(text.unwrap_or_default());
    }
    (blake3::Hash::from(hasher.finish()).to_hex().to_string(), last_ctime_ns)
}

fn stamp_text(stamp: &Stamp) -> String {
    let Stamp { device, inode, size_bytes, mtime_ns, ctime_ns } = stamp;
    format!("{device} {inode} {size_bytes} {mtime_ns} {ctime_ns}")
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_is_current_until_something_of_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let out = dir.path().join("out");
        std::fs::create_dir_all(out.join("d")).unwrap();
        std::fs::write(out.join("d/f"), "one").unwrap();
        let paths: Vec<Vec<u8>> = ["d", "d/f", "device"].map(Vec::from).to_vec();
        let what = [1; 32];
        let is_current = || store.exports().is_current_tree(&out, &paths, &what).unwrap();
        let remember = || store.exports().remember_tree(&out, &paths, &what).unwrap();
        assert!(!is_current());
        remember();
        assert!(is_current());
        assert!(!store.exports().is_current_tree(&out, &paths, &[2; 32]).unwrap());
        assert!(!store.exports().is_current_tree(&out, &paths[..2], &what).unwrap());
        let changes: [&dyn Fn(); 4] = [
            &|| std::fs::write(out.join("d/f"), "two").unwrap(),
            &|| std::fs::write(out.join("device"), "").unwrap(),
            &|| std::fs::set_permissions(out.join("d"), Permissions::from_mode(0o700)).unwrap(),
            &|| std::fs::remove_file(out.join("d/f")).unwrap(),
        ];
        for change in changes {
            remember();
            assert!(is_current());
            change();
            assert!(!is_current());
        }
        // What lies beside is not kiln's.
        remember();
        std::fs::write(out.join("other"), "").unwrap();
        assert!(is_current());
    }

    #[test]
    fn what_was_touched_is_not_current() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let file = dir.path().join("image.tar");
        let (one, two) = ([1; 32], [2; 32]);
        assert!(!store.exports().is_current(&file, &one).unwrap());
        std::fs::write(&file, "one").unwrap();
        assert!(!store.exports().is_current(&file, &one).unwrap());
        store.exports().remember(&file, &one).unwrap();
        assert!(store.exports().is_current(&file, &one).unwrap());
        assert!(!store.exports().is_current(&file, &two).unwrap());

        // The same size at once, by the same inode.
        std::fs::write(&file, "two").unwrap();
        assert!(!store.exports().is_current(&file, &one).unwrap());
        store.exports().remember(&file, &two).unwrap();
        assert!(store.exports().is_current(&file, &two).unwrap());

        std::fs::remove_file(&file).unwrap();
        assert!(!store.exports().is_current(&file, &two).unwrap());
        std::os::unix::fs::symlink("elsewhere", &file).unwrap();
        store.exports().remember(&file, &one).unwrap();
        assert!(!store.exports().is_current(&file, &one).unwrap());
    }
}
