//! Files that outputs were written to, so that one that is up to date is not written again.
//!
//! A file counts as it was left when its device, inode, size, mtime and ctime are the same. That
//! holds only if nobody could have changed it without changing these: it is remembered once the
//! clock by which the kernel dates files has gone on since it was written.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

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
        let known = self.store.database().query("look for an output", |connection| {
            connection
                .prepare_cached("SELECT what, stamp FROM exports WHERE path = ?")?
                .query_row([key], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?)))
                .optional()
        })?;
        Ok(known.is_some_and(|(known, then)| known == *what && then == stamp_text(&stamp)))
    }

    /// Notes that the file at `path`, which was just written, holds `what`, some digest of it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn remember(self, path: &Path, what: &[u8; 32]) -> Result<(), Error> {
        let Some((key, stamp)) = stamp(path) else { return Ok(()) };
        let mut waited = Duration::ZERO;
        while !is_past(&stamp) {
            if waited >= LONGEST_WAIT {
                return Ok(());
            }
            std::thread::sleep(WAIT);
            waited += WAIT;
        }
        self.store.database().change("note an output", |connection| {
            connection.prepare_cached("INSERT OR REPLACE INTO exports VALUES (?, ?, ?)")?.execute((
                key,
                what,
                stamp_text(&stamp),
            ))
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
fn is_past(stamp: &Stamp) -> bool {
    let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec) > stamp.ctime_ns
}

fn stamp_text(stamp: &Stamp) -> String {
    let Stamp { device, inode, size_bytes, mtime_ns, ctime_ns } = stamp;
    format!("{device} {inode} {size_bytes} {mtime_ns} {ctime_ns}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
