//! Digests of the files of a build context, remembered between builds.
//!
//! A digest is found again by path, size, mtime, ctime, inode and device. Git's racy-clean rule
//! holds: a digest is remembered only if the file's times were older than the clock by more than
//! its granularity when its bytes began to be read, so that whatever is written later gets other
//! times. Files written just before a build are read again by the next one.
//!
//! Format of `contexts/HASH` (HASH of the root's path; all numbers little-endian): magic, number
//! of records u64, then in columns, sorted by path hash: path hashes u64; device u64, inode u64,
//! size u64, mtime i64 ns, ctime i64 ns and blake3 of the content; ages, one byte each; at last the
//! blake3 of all before. (Hashes stand apart so that a search stays within a few cache lines.)
//! Paths are kept as 64-bit hashes: two files that collide would still have to agree in inode and
//! times, which only two names of one file do. A file that is not exactly this counts as empty. It
//! is replaced by rename, and only when a digest is new; of two processes the later one wins, and
//! what the other had learnt is learnt again.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kiln_core::digest::FileDigest;

use crate::context_entry::{ContextEntry, EntryKind, full_path};
use crate::context_read::{Stamp, read_files};
use crate::error::Error;
use crate::store::Store;

const MAGIC: &[u8; 16] = b"kiln-context-1\n\0";
const HEADER_BYTES: usize = 24;
const HASH_BYTES: usize = 8;
const RECORD_BYTES: usize = 72;
const CHECKSUM_BYTES: usize = 32;
/// After so many saves that did not use it, a record is dropped.
const OLDEST_AGE: u8 = 8;
const BUFFER_BYTES: usize = 256 << 10;
const BATCH_FILES: usize = 32 << 10;
/// From this number of records on, an index is not kept in memory (about 5 MB).
const MANY_RECORDS: usize = 64 << 10;

/// What was learnt since the index was loaded.
#[derive(Debug)]
struct Fresh {
    hash: u64,
    stamp: Stamp,
    digest: FileDigest,
}

impl Fresh {
    fn key(&self) -> (u64, u64) {
        (self.hash, self.stamp.inode)
    }
}

/// The remembered digests of one build context.
#[derive(Debug)]
pub struct ContextIndex {
    store: Store,
    path: PathBuf,
    /// Whether the file was looked at: that is done when the first digest is asked for.
    is_loaded: bool,
    /// Of the records that were loaded, the file as it is; else empty.
    bytes: Vec<u8>,
    count: usize,
    is_used: Vec<bool>,
    /// Sorted by path hash and inode.
    fresh: Vec<Fresh>,
    is_saved: bool,
    files_read: usize,
}

impl Store {
    /// The remembered digests of the build context at `root`; none when they can't be read.
    pub fn context_index(&self, root: &Path) -> ContextIndex {
        let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let hash = blake3::hash(root.as_os_str().as_bytes()).to_hex();
        let path = self.path("contexts").join(&hash.as_str()[..32]);
        ContextIndex {
            store: self.clone(),
            path,
            is_loaded: false,
            bytes: Vec::new(),
            count: 0,
            is_used: Vec::new(),
            fresh: Vec::new(),
            is_saved: true,
            files_read: 0,
        }
    }
}

/// The number of records of an index file; 0 if it is damaged.
fn record_count(bytes: &[u8]) -> usize {
    let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return 0;
    };
    if body.len() < HEADER_BYTES || !body.starts_with(MAGIC) {
        return 0;
    }
    let count = number_at(body, MAGIC.len()) as usize;
    let expected = count
        .checked_mul(HASH_BYTES + RECORD_BYTES + 1)
        .and_then(|records| records.checked_add(HEADER_BYTES));
    if expected == Some(body.len()) && blake3::hash(body).as_bytes() == checksum {
        count
    } else {
        0
    }
}

fn number_at(bytes: &[u8], position: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[position..position + 8]);
    u64::from_le_bytes(number)
}

/// Spreads paths evenly; not meant to withstand those who look for collisions (see the head).
fn path_hash(path: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = path.len() as u64 ^ 0x243f_6a88_85a3_08d3;
    for chunk in path.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let product = u128::from(hash ^ u64::from_le_bytes(word)) * u128::from(FACTOR);
        hash = (product as u64) ^ (product >> 64) as u64 ^ hash.rotate_left(23);
    }
    let product = u128::from(hash) * u128::from(FACTOR);
    (product as u64) ^ (product >> 64) as u64
}

impl ContextIndex {
    /// The digests of regular files, in the order of `entries`; `root` is where their paths
    /// start. Files that are not known as they are now are read, in parallel.
    ///
    /// # Errors
    /// [`Error::FileChanged`] when a file is written while it is read, twice;
    /// [`Error::NotAFile`]; [`Error::Io`].
    pub fn digest_files(
        &mut self,
        root: &Path,
        entries: &[&ContextEntry],
    ) -> Result<Vec<FileDigest>, Error> {
        self.load();
        let mut digests = Vec::with_capacity(entries.len());
        let mut unknown = Vec::new();
        for (position, entry) in entries.iter().enumerate() {
            if entry.kind != EntryKind::File {
                return Err(Error::NotAFile { path: full_path(root, &entry.path) });
            }
            let digest = self.find(entry);
            if digest.is_none() {
                unknown.push(position);
            }
            digests.push(digest.unwrap_or(FileDigest::from_bytes([0; 32])));
        }
        if unknown.is_empty() {
            return Ok(digests);
        }
        self.files_read += unknown.len();
        self.fresh.reserve_exact(unknown.len());
        // In batches, so that what the threads return takes little memory.
        for batch in unknown.chunks(BATCH_FILES) {
            for read in read_files(root, entries, batch)? {
                digests[read.position] = read.digest;
                if read.is_trusted {
                    self.is_saved = false;
                    self.fresh.push(Fresh {
                        hash: path_hash(&entries[read.position].path),
                        stamp: read.stamp,
                        digest: read.digest,
                    });
                }
            }
        }
        self.sort_fresh();
        Ok(digests)
    }

    fn load(&mut self) {
        if self.is_loaded {
            return;
        }
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        self.count = record_count(&bytes);
        self.bytes = if self.count == 0 { Vec::new() } else { bytes };
        self.is_used = vec![false; self.count];
        self.is_loaded = true;
    }

    /// Saves an index of very many files at once, and frees its memory until a digest is asked for
    /// again: the build that goes on needs it for something else.
    ///
    /// # Errors
    /// Those of [`ContextIndex::save`].
    pub fn put_away(&mut self) -> Result<(), Error> {
        if self.count.max(self.fresh.len()) < MANY_RECORDS {
            return Ok(());
        }
        self.save()?;
        (self.bytes, self.count, self.is_used) = (Vec::new(), 0, Vec::new());
        self.fresh = Vec::new();
        self.is_loaded = false;
        Ok(())
    }

    /// How many files had to be read so far.
    pub fn files_read(&self) -> usize {
        self.files_read
    }

    fn find(&mut self, entry: &ContextEntry) -> Option<FileDigest> {
        let hash = path_hash(&entry.path);
        let stamp = Stamp {
            device: entry.device,
            inode: entry.inode,
            size_bytes: entry.size_bytes,
            mtime_ns: entry.mtime_ns,
            ctime_ns: entry.ctime_ns,
        };
        let known = self.fresh.binary_search_by_key(&(hash, entry.inode), Fresh::key);
        if let Ok(position) = known {
            let known = &self.fresh[position];
            return (known.stamp == stamp).then_some(known.digest);
        }
        let mut position = self.first_at_least(hash);
        while position < self.count && self.hash_at(position) == hash {
            if self.stamp_at(position) == stamp {
                self.is_used[position] = true;
                return Some(self.digest_at(position));
            }
            position += 1;
        }
        None
    }

    /// Of two versions of a file any one stays: the wrong one is no more than a miss.
    fn sort_fresh(&mut self) {
        self.fresh.sort_unstable_by_key(Fresh::key);
        self.fresh.dedup_by_key(|fresh| fresh.key());
    }

    /// The first record whose path hash is not less. Hashes are spread evenly, so the search
    /// starts where it should be and widens from there.
    fn first_at_least(&self, hash: u64) -> usize {
        let guess = ((u128::from(hash) * self.count as u128) >> 64) as usize;
        let mut low = guess;
        let mut high = guess;
        let mut step = 16;
        while low > 0 && self.hash_at(low) >= hash {
            low = low.saturating_sub(step);
            step *= 2;
        }
        step = 16;
        while high < self.count && self.hash_at(high) < hash {
            high = (high + step).min(self.count);
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.hash_at(middle) < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn record(&self, position: usize) -> &[u8] {
        let records = HEADER_BYTES + self.count * HASH_BYTES;
        &self.bytes[records + position * RECORD_BYTES..][..RECORD_BYTES]
    }

    fn hash_at(&self, position: usize) -> u64 {
        number_at(&self.bytes, HEADER_BYTES + position * HASH_BYTES)
    }

    fn stamp_at(&self, position: usize) -> Stamp {
        let record = self.record(position);
        Stamp {
            device: number_at(record, 0),
            inode: number_at(record, 8),
            size_bytes: number_at(record, 16),
            mtime_ns: number_at(record, 24) as i64,
            ctime_ns: number_at(record, 32) as i64,
        }
    }

    fn digest_at(&self, position: usize) -> FileDigest {
        let mut digest = [0; 32];
        digest.copy_from_slice(&self.record(position)[40..]);
        FileDigest::from_bytes(digest)
    }

    /// Writes what was learnt, if anything was. What other builds of the same root knew stays for
    /// some saves.
    pub fn save(&mut self) -> Result<(), Error> {
        if self.is_saved {
            return Ok(());
        }
        let merged = self.merged();
        let (tmp, file) = self.store.tmp_file()?;
        let result = self.write(file, &merged).map_err(Error::io("write", &tmp)).and_then(|()| {
            std::fs::rename(&tmp, &self.path).map_err(Error::io("rename to", &self.path))
        });
        if result.is_err() {
            let _ = std::fs::remove_file(&tmp);
        }
        self.is_saved = result.is_ok();
        result
    }

    /// What the saved index consists of, in order.
    fn merged(&self) -> Vec<Saved<'_>> {
        let ages = HEADER_BYTES + self.count * (HASH_BYTES + RECORD_BYTES);
        let ages = self.bytes.get(ages..).unwrap_or_default();
        let mut merged = Vec::with_capacity(self.count + self.fresh.len());
        let mut fresh = self.fresh.iter().peekable();
        for (position, (is_used, age)) in self.is_used.iter().zip(ages).enumerate() {
            let hash = self.hash_at(position);
            while let Some(fresh) = fresh.next_if(|fresh| fresh.hash < hash) {
                merged.push(Saved::Fresh(fresh));
            }
            let is_replaced = fresh.peek().is_some_and(|fresh| fresh.hash == hash);
            let age = if *is_used { 0 } else { age.saturating_add(1) };
            if age <= OLDEST_AGE && !is_replaced {
                merged.push(Saved::Loaded { position, age });
            }
        }
        merged.extend(fresh.map(Saved::Fresh));
        merged
    }

    fn write(&self, file: File, merged: &[Saved<'_>]) -> std::io::Result<()> {
        let mut writer = HashingWriter {
            file,
            hasher: blake3::Hasher::new(),
            pending: Vec::with_capacity(BUFFER_BYTES + RECORD_BYTES),
        };
        writer.put(MAGIC)?;
        writer.put(&(merged.len() as u64).to_le_bytes())?;
        for saved in merged {
            let hash = match saved {
                Saved::Fresh(fresh) => fresh.hash,
                Saved::Loaded { position, .. } => self.hash_at(*position),
            };
            writer.put(&hash.to_le_bytes())?;
        }
        for saved in merged {
            match saved {
                Saved::Fresh(fresh) => writer.put(&encode(&fresh.stamp, &fresh.digest))?,
                Saved::Loaded { position, .. } => writer.put(self.record(*position))?,
            }
        }
        for saved in merged {
            match saved {
                Saved::Fresh(_) => writer.put(&[0])?,
                Saved::Loaded { age, .. } => writer.put(&[*age])?,
            }
        }
        writer.flush()?;
        let checksum = writer.hasher.finalize();
        writer.file.write_all(checksum.as_bytes())
    }
}

/// A record of a saved index.
enum Saved<'a> {
    Fresh(&'a Fresh),
    Loaded { position: usize, age: u8 },
}

/// Hashes what it writes, in pieces that are worth it.
struct HashingWriter {
    file: File,
    hasher: blake3::Hasher,
    pending: Vec<u8>,
}

impl HashingWriter {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.hasher.update(&self.pending);
        self.file.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

fn encode(stamp: &Stamp, digest: &FileDigest) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let numbers =
        [stamp.device, stamp.inode, stamp.size_bytes, stamp.mtime_ns as u64, stamp.ctime_ns as u64];
    for (slot, number) in record.chunks_exact_mut(8).zip(numbers) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    record[40..].copy_from_slice(digest.as_bytes());
    record
}
