//! What is left to do behind a build, off everybody's critical path: what was thrown away is
//! deleted, what was written reaches the disk, the database's log is copied back.
//!
//! Nothing depends on it being done soon, or by the process that left it: the next that settles
//! does all of it. Until then a power cut costs the work of that build, and nothing else. It is no
//! process in the background: what outlives its command is in the way of whoever moves or removes
//! the store.

use crate::error::Error;
use crate::store::Store;

/// A log of this many bytes is copied back: whoever opens the database alone reads all of it.
const LOG_BYTES: u64 = 256 << 10;

impl Store {
    /// Whether this process, or one that died, left something to [`Store::settle`].
    pub fn is_unsettled(&self) -> bool {
        self.has_made_files() || self.has_long_log() || self.has_trash()
    }

    /// Does what is left to do; takes as long as the disk does.
    ///
    /// # Errors
    /// Of the disk. The next call tries again.
    pub fn settle(&self) -> Result<(), Error> {
        let is_long = self.has_long_log();
        self.delete_trash()?;
        self.mark_durable()?;
        if is_long { self.database().checkpoint() } else { Ok(()) }
    }

    fn has_long_log(&self) -> bool {
        let log = std::fs::metadata(self.path("db.sqlite-wal"));
        log.is_ok_and(|metadata| metadata.len() > LOG_BYTES)
    }
}
