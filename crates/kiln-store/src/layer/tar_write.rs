//! Writing a layer as a tar archive (OCI image-spec, layer.md).
//!
//! The bytes depend on the index, the file contents and the options only: entries in the index's
//! order, pax records sorted, whole seconds, no user or group names. As `BuildKit` writes them:
//! pax records only where ustar has no room, the root directory left out, whiteouts as empty
//! files `.wh.NAME` of time 0, and of the extended attributes only `security.capability`. An
//! opaque directory has `.wh..wh..opq` as its first child. Whoever unpacks needs no look-ahead:
//! a directory comes before what it holds, a hard link after its target. Sockets and unchanged
//! entries are left out; the first new name of an unchanged file is a file of its own.
//!
//! Where times are rewritten, the time of its source in compiled Python is, too ([`pyc`]).
//!
//! A file that is itself called `.wh.x` is written as it is, and so deletes `x` for whoever reads
//! the archive: what `BuildKit` does.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;

use kiln_core::digest::FileDigest;
use rustix::fs::OFlags;

use super::beneath::Beneath;
use super::index::{Entry, EntryKind, LayerIndex};
use super::listing::{Bytes, Contents, Listing};
use super::path::{join, split};
use super::pyc;
use super::tar_header::{
    BLOCK_BYTES, Block, GID, LINK, MAJOR, MINOR, MODE, MTIME, NAME, PREFIX, SIZE, UID,
    XATTR_PREFIX, put_record,
};
use super::xattr::CAPABILITY;
use crate::layer_error::LayerError;

/// Prefix of names that mark a deletion.
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Name of the file that marks its directory as opaque.
pub(super) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
const READ_BYTES: usize = 256 << 10;

/// How a layer is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TarOptions {
    /// Which times files have.
    pub times: TarTimes,
    /// Which extended attributes are written.
    pub xattrs: TarXattrs,
}

/// Which times files have in an archive, in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TarTimes {
    /// Their own.
    #[default]
    Own,
    /// Their own, but none after this one (`rewrite-timestamp`).
    NotAfter(i64),
    /// All this one.
    All(i64),
}

impl TarTimes {
    /// The time that a file gets.
    fn of(self, entry: &Entry) -> i64 {
        let own = entry.mtime.seconds;
        match self {
            Self::Own => own,
            Self::NotAfter(latest) => own.min(latest),
            Self::All(time) => time,
        }
    }
}

/// Which extended attributes go into an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TarXattrs {
    /// Only `security.capability`, as in `BuildKit`'s layers.
    #[default]
    Capability,
    /// All that the index has, for archives that kiln reads back.
    All,
}

/// Writes the layer `index`, whose bytes are in `contents`, to `out`. Implied directories are
/// left out, as in the archive they come from.
///
/// # Errors
/// [`LayerError::Changed`] for a file whose size is not the index's, [`LayerError::Rewritten`] for
/// one outside of the store whose bytes are not, [`LayerError::Io`] and [`LayerError::Stream`].
pub fn write_tar<'a>(
    index: &LayerIndex,
    contents: impl Into<Contents<'a>>,
    options: &TarOptions,
    out: &mut impl Write,
) -> Result<(), LayerError> {
    write_tar_from(index, contents, options, (0, out))
}

/// [`write_tar`] without the first `skipped` bytes; files that lie in them are not read.
pub(super) fn write_tar_from<'a, W: Write>(
    index: &LayerIndex,
    contents: impl Into<Contents<'a>>,
    options: &TarOptions,
    (skipped, out): (u64, &mut W),
) -> Result<(), LayerError> {
    let files = match contents.into() {
        Contents::Directory(path) => Files::Beneath(Beneath::open(path)?),
        Contents::Listed(listing) => Files::Listed(listing),
    };
    let buffer = vec![0; READ_BYTES];
    walk_archive(index, options, &mut Writing { files, to: Rest { skipped, at: 0, out }, buffer })
}

/// What takes the parts of an archive, in order.
pub(super) trait ArchiveSink {
    /// Headers and padding.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), LayerError>;

    /// The contents of a file, which are not empty.
    fn contents(&mut self, file: &ArchiveFile<'_>) -> Result<(), LayerError>;
}

/// A file whose contents belong into an archive.
pub(super) struct ArchiveFile<'a> {
    /// Its position in the index.
    pub(super) position: usize,
    /// Its path there.
    pub(super) path: &'a [u8],
    /// Its size.
    pub(super) size_bytes: u64,
    /// Its digest.
    pub(super) digest: FileDigest,
    /// Of compiled Python: the time that its source has, and the one that it gets.
    pub(super) bytecode: Option<[u32; 2]>,
}

/// Hands all parts of the archive of a layer to `sink`.
pub(super) fn walk_archive(
    index: &LayerIndex,
    options: &TarOptions,
    sink: &mut impl ArchiveSink,
) -> Result<(), LayerError> {
    let mut writer = EntryWriter { index, options, sink };
    let mut left_out = [&index.implied[..], &index.unchanged].concat();
    left_out.sort_unstable();
    let mut left_out = left_out.into_iter().peekable();
    // The first new name of each unchanged file.
    let mut heirs: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for (position, entry) in index.entries.iter().enumerate() {
        let is_left_out =
            left_out.next_if_eq(&position).is_some() || entry.kind == EntryKind::Socket;
        if !entry.path.is_empty() && !is_left_out {
            match &entry.kind {
                EntryKind::HardLink { target } if index.is_unchanged(target) => {
                    let heir = *heirs.entry(target).or_insert(&entry.path);
                    let kind = if heir == entry.path {
                        index.follow_link(entry).kind.clone()
                    } else {
                        EntryKind::HardLink { target: heir.to_vec() }
                    };
                    writer.entry(&Entry { kind, ..entry.clone() }, position)?;
                }
                _ => writer.entry(entry, position)?,
            }
        }
        if entry.kind == (EntryKind::Directory { opaque: true }) {
            writer.mark(&join(&entry.path, OPAQUE_MARKER))?;
        }
    }
    writer.sink.bytes(&[0; 2 * BLOCK_BYTES])
}

/// What one header says.
struct Header<'a> {
    type_flag: u8,
    path: &'a [u8],
    link: &'a [u8],
    size_bytes: u64,
    device: (u32, u32),
}

/// Where the bytes of files are.
enum Files<'a> {
    Beneath(Beneath),
    Listed(&'a Listing),
}

/// Writes the parts of an archive with the bytes of its files.
struct Writing<'a, W> {
    files: Files<'a>,
    to: Rest<'a, W>,
    buffer: Vec<u8>,
}

/// A writer that leaves out the beginning.
struct Rest<'a, W> {
    skipped: u64,
    at: u64,
    out: &'a mut W,
}

impl<W: Write> Rest<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        let length = bytes.len() as u64;
        let left_out = self.skipped.saturating_sub(self.at).min(length);
        self.at += length;
        let bytes = &bytes[left_out as usize..];
        self.out.write_all(bytes).map_err(LayerError::stream("write a layer archive"))
    }

    /// Whether so many bytes are all left out; they count as written then.
    fn leaves_out(&mut self, length: u64) -> bool {
        let is_left_out = self.at + length <= self.skipped;
        self.at += if is_left_out { length } else { 0 };
        is_left_out
    }
}

impl<W: Write> ArchiveSink for Writing<'_, W> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.to.put(bytes)
    }

    fn contents(&mut self, file: &ArchiveFile<'_>) -> Result<(), LayerError> {
        if self.to.leaves_out(file.size_bytes) {
            return Ok(());
        }
        match &self.files {
            Files::Listed(listing) => {
                let bytes = Bytes::open(listing.origin(file.position), file.path)?;
                let expected = (file.size_bytes, file.digest);
                bytes.pass(expected, &mut self.buffer, |bytes| self.to.put(bytes))
            }
            Files::Beneath(beneath) => {
                let fd = beneath.open_at(file.path, OFlags::RDONLY)?;
                copy(&fd, (beneath, file), &mut self.buffer, &mut self.to)
            }
        }
    }
}

/// Copies a file of a layer's directory.
fn copy<W: Write>(
    fd: &impl AsFd,
    (beneath, file): (&Beneath, &ArchiveFile<'_>),
    buffer: &mut [u8],
    to: &mut Rest<'_, W>,
) -> Result<(), LayerError> {
    let size_bytes = file.size_bytes;
    let mut done = 0;
    // One read beyond the expected size finds a file that has grown, unless the buffer has
    // shown already that nothing follows.
    loop {
        let length = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer))
            .map_err(beneath.failed("read", file.path))?;
        if let (0, Some([own, new])) = (done, file.bytecode) {
            pyc::set_time(&mut buffer[..length], own, new);
        }
        done += length as u64;
        if done > size_bytes || (length == 0 && done < size_bytes) {
            return Err(LayerError::Changed {
                path: beneath.host_path(file.path),
                expected_bytes: size_bytes,
                found_bytes: done,
            });
        }
        to.put(&buffer[..length])?;
        if done == size_bytes && length < buffer.len() {
            return Ok(());
        }
    }
}

/// Turns the entries of an index into parts of an archive.
struct EntryWriter<'a, S> {
    index: &'a LayerIndex,
    options: &'a TarOptions,
    sink: &'a mut S,
}

impl<S: ArchiveSink> EntryWriter<'_, S> {
    fn entry(&mut self, entry: &Entry, position: usize) -> Result<(), LayerError> {
        let (dir, name) = split(&entry.path);
        let mut header =
            Header { type_flag: b'0', path: &entry.path, link: b"", size_bytes: 0, device: (0, 0) };
        let mut with_slash = Vec::new();
        match &entry.kind {
            EntryKind::Whiteout => {
                let name = [WHITEOUT_PREFIX, name].concat();
                return self.mark(&join(dir, &name));
            }
            EntryKind::Directory { .. } => {
                header.type_flag = b'5';
                with_slash.extend_from_slice(&entry.path);
                with_slash.push(b'/');
            }
            EntryKind::File { size_bytes, .. } => header.size_bytes = *size_bytes,
            EntryKind::HardLink { target } => (header.type_flag, header.link) = (b'1', target),
            EntryKind::Symlink { target } => (header.type_flag, header.link) = (b'2', target),
            EntryKind::CharDevice { major, minor } => {
                (header.type_flag, header.device) = (b'3', (*major, *minor));
            }
            EntryKind::BlockDevice { major, minor } => {
                (header.type_flag, header.device) = (b'4', (*major, *minor));
            }
            EntryKind::Fifo => header.type_flag = b'6',
            // There is no type for it; it was left out above.
            EntryKind::Socket => return Ok(()),
        }
        if !with_slash.is_empty() {
            header.path = &with_slash;
        }
        let header = encode_header(&header, Some(entry), self.options);
        self.sink.bytes(&header)?;
        match entry.kind {
            EntryKind::File { size_bytes, digest } if size_bytes > 0 => {
                let (path, bytecode) = (&entry.path[..], self.bytecode(&entry.path));
                let file = ArchiveFile { position, path, size_bytes, digest, bytecode };
                self.sink.contents(&file)?;
                let padding = size_bytes.next_multiple_of(BLOCK_BYTES as u64) - size_bytes;
                self.sink.bytes(&[0; BLOCK_BYTES][..padding as usize])
            }
            _ => Ok(()),
        }
    }

    /// The times of the source of compiled Python, where they differ.
    fn bytecode(&self, path: &[u8]) -> Option<[u32; 2]> {
        if self.options.times == TarTimes::Own {
            return None;
        }
        let source = self.index.find(&pyc::source(path)?)?;
        let times = [source.mtime.seconds, self.options.times.of(source)];
        Some(times.map(|time| time as u32)).filter(|[own, new]| own != new)
    }

    /// Writes the empty file that is a whiteout or an opaque marker.
    fn mark(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let header = Header { type_flag: b'0', path, link: b"", size_bytes: 0, device: (0, 0) };
        let header = encode_header(&header, None, self.options);
        self.sink.bytes(&header)
    }
}

/// The header of one entry: a ustar block, after a pax one when it has no room for something.
/// Without an entry, owner, mode and time are 0.
fn encode_header(header: &Header<'_>, entry: Option<&Entry>, options: &TarOptions) -> Vec<u8> {
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut block = Block::new(header.type_flag);
    put_path(&mut block, header.path, &mut records);
    if header.link.is_ascii() && header.link.len() <= LINK.1 {
        block.put(LINK, header.link);
    } else {
        block.put(LINK, &ascii(header.link));
        records.insert(b"linkpath".to_vec(), header.link.to_vec());
    }
    let (mode, uid, gid) = entry.map_or((0, 0, 0), |entry| (entry.mode, entry.uid, entry.gid));
    block.put_number(MODE, mode.into());
    let mut number = |field, key: &[u8], number: u64| {
        if !block.put_number(field, number) {
            records.insert(key.to_vec(), number.to_string().into_bytes());
        }
    };
    number(UID, b"uid", uid.into());
    number(GID, b"gid", gid.into());
    number(SIZE, b"size", header.size_bytes);
    let mtime = match (entry, options.times) {
        (Some(entry), times) => times.of(entry),
        (None, TarTimes::All(time)) => time,
        (None, TarTimes::NotAfter(latest)) => latest.min(0),
        (None, TarTimes::Own) => 0,
    };
    if !block.put_number(MTIME, u64::try_from(mtime).unwrap_or(u64::MAX)) {
        records.insert(b"mtime".to_vec(), mtime.to_string().into_bytes());
    }
    // Device numbers of Linux have 12 and 20 bits: both fit.
    block.put_number(MAJOR, header.device.0.into());
    block.put_number(MINOR, header.device.1.into());
    for (name, value) in entry.iter().flat_map(|entry| &entry.xattrs) {
        if options.xattrs == TarXattrs::All || name == CAPABILITY {
            records.insert([XATTR_PREFIX, name].concat(), value.clone());
        }
    }
    block.seal();
    let mut bytes = encode_records(header.path, &records);
    bytes.extend_from_slice(&block.0);
    bytes
}

/// Stores a path: as it is, split at a slash, or as a pax record.
fn put_path(block: &mut Block, path: &[u8], records: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    if path.is_ascii() {
        if path.len() <= NAME.1 {
            return block.put(NAME, path);
        }
        // The slash that ends a directory's path is no place to split.
        let inner = &path[..path.len() - 1];
        let slash = inner[..inner.len().min(PREFIX.1 + 1)].iter().rposition(|b| *b == b'/');
        if let Some(slash) = slash.filter(|slash| *slash > 0 && path.len() - slash - 1 <= NAME.1) {
            block.put(PREFIX, &path[..slash]);
            return block.put(NAME, &path[slash + 1..]);
        }
    }
    block.put(NAME, &ascii(path));
    records.insert(b"path".to_vec(), path.to_vec());
}

/// The pax header with `records`, or nothing when there are none.
fn encode_records(path: &[u8], records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        put_record(&mut body, key, value);
    }
    if body.is_empty() {
        return body;
    }
    let (dir, name) = split(path.strip_suffix(b"/").unwrap_or(path));
    let name = ascii(&join(&join(dir, b"PaxHeaders.0"), name));
    let name = name[..name.len().min(NAME.1)].trim_ascii_end();
    let mut block = Block::new(b'x');
    block.put(NAME, name.strip_suffix(b"/").unwrap_or(name));
    for field in [MODE, UID, GID, MTIME, MAJOR, MINOR] {
        block.put_number(field, 0);
    }
    block.put_number(SIZE, body.len() as u64);
    block.seal();
    let mut bytes = block.0.to_vec();
    bytes.append(&mut body);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

/// What is left of a name for readers that know no pax records.
fn ascii(name: &[u8]) -> Vec<u8> {
    name.iter().copied().filter(u8::is_ascii).collect()
}

#[cfg(test)]
mod tests {
    use super::super::index::Timestamp;
    use super::super::tar_read::TarReader;
    use super::*;

    /// Headers alone: nobody wants to write the 9 GiB.
    #[test]
    fn what_ustar_has_no_room_for_is_read_back() {
        for size_bytes in [0, (8 << 30) - 1, 8 << 30, 9 << 40] {
            for (uid, gid) in [(0, 0), (2_097_151, 2_097_152), (u32::MAX - 1, 5)] {
                for seconds in [-1, 0, (1 << 33) - 1, 1 << 33, i64::MAX] {
                    for path in [&b"short"[..], b"d/", "größe".as_bytes(), &[b'n'; 300]] {
                        let entry = Entry {
                            path: path.to_vec(),
                            kind: EntryKind::Fifo,
                            mode: 0o6755,
                            uid,
                            gid,
                            mtime: Timestamp { seconds, nanoseconds: 7 },
                            xattrs: BTreeMap::from([(CAPABILITY.to_vec(), b"\n\0=".to_vec())]),
                        };
                        let link = path;
                        let header =
                            Header { type_flag: b'0', path, link, size_bytes, device: (4095, 7) };
                        let bytes = encode_header(&header, Some(&entry), &TarOptions::default());
                        assert_eq!(bytes.len() % BLOCK_BYTES, 0);
                        let member = TarReader::new(&bytes[..]).next_member().unwrap().unwrap();
                        assert_eq!((&member.path[..], &member.link[..]), (path, link));
                        assert_eq!((member.uid, member.gid), (uid, gid));
                        assert_eq!((member.mode, member.size_bytes), (0o6755, size_bytes));
                        assert_eq!(member.mtime, Timestamp { seconds, nanoseconds: 0 });
                        assert_eq!(member.xattrs, entry.xattrs);
                    }
                }
            }
        }
    }

    #[test]
    fn long_names_are_split_where_ustar_allows_it() {
        let records = |path: &[u8]| {
            let mut records = BTreeMap::new();
            put_path(&mut Block::new(b'0'), path, &mut records);
            records.len()
        };
        let dir = [b'd'; 155];
        assert_eq!(records(&[&dir[..], b"/", &[b'n'; 100]].concat()), 0);
        assert_eq!(records(&[&dir[..], b"/", &[b'n'; 101]].concat()), 1);
        assert_eq!(records(&[&dir[..], b"d/", &[b'n'; 100]].concat()), 1);
        assert_eq!(records(&[&dir[..], b"/", &[b'n'; 99], b"/"].concat()), 0);
        assert_eq!(records(&[b'n'; 100]), 0);
        assert_eq!(records(&[b'n'; 101]), 1);
        assert_eq!(records("ß".as_bytes()), 1);
    }
}
