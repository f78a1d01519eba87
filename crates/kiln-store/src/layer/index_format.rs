//! The binary form of a [`LayerIndex`].
//!
//! ```text
//! "kilnidx" version:u8  count:varint  entry*  checksum:16 bytes (blake3 of all before)
//!
//! entry = shared:varint  suffix:bytes            the path, after the previous one's first bytes
//!         tag:u8                                 kind | 0x10 opaque | 0x20 implied | 0x40 xattrs
//!                                                | 0x80 unchanged
//!         mode:varint uid:varint gid:varint
//!         seconds:zigzag nanoseconds:varint      (left out in the form that content ids hash)
//!         kind's own fields
//!         [count:varint (name:bytes value:bytes)*]
//! bytes = length:varint byte*
//! ```
//!
//! Numbers are LEB128. Decoding checks the checksum and the tree's shape; damaged or foreign
//! bytes are an error, never a panic, and never make it allocate more than their own length
//! warrants.

use kiln_core::digest::FileDigest;

use super::index::{Entry, EntryKind, LayerIndex, Timestamp};
use crate::layer_error::LayerError;

const MAGIC: &[u8; 7] = b"kilnidx";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 16;

const OPAQUE: u8 = 0x10;
const IMPLIED: u8 = 0x20;
const XATTRS: u8 = 0x40;
const UNCHANGED: u8 = 0x80;
const KIND: u8 = 0x0f;

const DIRECTORY: u8 = 0;
const FILE: u8 = 1;
const HARD_LINK: u8 = 2;
const SYMLINK: u8 = 3;
const CHAR_DEVICE: u8 = 4;
const BLOCK_DEVICE: u8 = 5;
const FIFO: u8 = 6;
const WHITEOUT: u8 = 7;
const SOCKET: u8 = 8;

/// Whether times and other things that are no content are written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Whole,
    Content,
}

impl LayerIndex {
    /// The index as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.entries.len() * 80);
        bytes.extend_from_slice(MAGIC);
        bytes.push(VERSION);
        self.write(&mut bytes, Form::Whole);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        bytes
    }

    /// Bytes that are equal exactly for layers of equal content.
    pub(super) fn encode_content(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.entries.len() * 72);
        self.write(&mut bytes, Form::Content);
        bytes
    }

    fn write(&self, bytes: &mut Vec<u8>, form: Form) {
        let mut implied = self.implied.iter().copied().peekable();
        let mut unchanged = self.unchanged.iter().copied().peekable();
        let mut previous: &[u8] = b"";
        put_number(bytes, self.entries.len() as u64);
        for (position, entry) in self.entries.iter().enumerate() {
            let shared = previous.iter().zip(&entry.path).take_while(|(a, b)| a == b).count();
            put_number(bytes, shared as u64);
            put_bytes(bytes, &entry.path[shared..]);
            let is_implied = implied.next_if_eq(&position).is_some() && form == Form::Whole;
            let mut tag = if is_implied { IMPLIED } else { 0 };
            if unchanged.next_if_eq(&position).is_some() {
                tag |= UNCHANGED;
            }
            put_entry(bytes, entry, form, tag);
            previous = &entry.path;
        }
    }

    /// The index that [`encode`](Self::encode) turned into `bytes`.
    ///
    /// # Errors
    /// [`LayerError::DamagedIndex`] or [`LayerError::InvalidEntry`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayerError> {
        let (body, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(damaged("it is too short"))?;
        let rest = body.strip_prefix(MAGIC).ok_or(damaged("it does not begin as one"))?;
        let (version, rest) = rest.split_first().ok_or(damaged("it is too short"))?;
        if *version != VERSION {
            return Err(damaged("its version is unknown"));
        }
        if blake3::hash(body).as_bytes()[..CHECKSUM_BYTES] != *checksum {
            return Err(damaged("its checksum is wrong"));
        }
        let mut input = Input(rest);
        let count = input.number()?;
        // No entry takes fewer than 8 bytes.
        if count > (rest.len() / 8) as u64 {
            return Err(damaged("it counts more entries than it has"));
        }
        let mut index = Self {
            entries: Vec::with_capacity(count as usize),
            implied: Vec::new(),
            unchanged: Vec::new(),
        };
        for position in 0..count as usize {
            let previous = index.entries.last().map_or(&b""[..], |entry| &entry.path);
            let (entry, tag) = input.entry(previous)?;
            index.entries.push(entry);
            if tag & IMPLIED != 0 {
                index.implied.push(position);
            }
            if tag & UNCHANGED != 0 {
                index.unchanged.push(position);
            }
        }
        if !input.0.is_empty() {
            return Err(damaged("something follows its last entry"));
        }
        index.check()?;
        Ok(index)
    }
}

fn damaged(reason: &'static str) -> LayerError {
    LayerError::DamagedIndex { reason }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_bytes(bytes: &mut Vec<u8>, field: &[u8]) {
    put_number(bytes, field.len() as u64);
    bytes.extend_from_slice(field);
}

fn put_entry(bytes: &mut Vec<u8>, entry: &Entry, form: Form, mut tag: u8) {
    tag |= match &entry.kind {
        EntryKind::Directory { opaque: false } => DIRECTORY,
        EntryKind::Directory { opaque: true } => DIRECTORY | OPAQUE,
        EntryKind::File { .. } => FILE,
        EntryKind::HardLink { .. } => HARD_LINK,
        EntryKind::Symlink { .. } => SYMLINK,
        EntryKind::CharDevice { .. } => CHAR_DEVICE,
        EntryKind::BlockDevice { .. } => BLOCK_DEVICE,
        EntryKind::Fifo => FIFO,
        EntryKind::Whiteout => WHITEOUT,
        EntryKind::Socket => SOCKET,
    };
    if !entry.xattrs.is_empty() {
        tag |= XATTRS;
    }
    bytes.push(tag);
    put_number(bytes, entry.mode.into());
    put_number(bytes, entry.uid.into());
    put_number(bytes, entry.gid.into());
    if form == Form::Whole {
        let seconds = entry.mtime.seconds;
        put_number(bytes, ((seconds << 1) ^ (seconds >> 63)).cast_unsigned());
        put_number(bytes, entry.mtime.nanoseconds.into());
    }
    match &entry.kind {
        EntryKind::File { size_bytes, digest } => {
            put_number(bytes, *size_bytes);
            bytes.extend_from_slice(digest.as_bytes());
        }
        EntryKind::HardLink { target } | EntryKind::Symlink { target } => put_bytes(bytes, target),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            put_number(bytes, (*major).into());
            put_number(bytes, (*minor).into());
        }
        EntryKind::Directory { .. } | EntryKind::Fifo | EntryKind::Socket | EntryKind::Whiteout => {
        }
    }
    if !entry.xattrs.is_empty() {
        put_number(bytes, entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            put_bytes(bytes, name);
            put_bytes(bytes, value);
        }
    }
}

/// What is left to decode.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8, LayerError> {
        let (byte, rest) = self.0.split_first().ok_or(damaged("it ends in an entry"))?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u64, LayerError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            number |= bits << shift;
            if byte < 0x80 {
                return if shift == 63 && bits > 1 {
                    Err(damaged("a number is out of range"))
                } else {
                    Ok(number)
                };
            }
        }
        Err(damaged("a number is out of range"))
    }

    fn small(&mut self) -> Result<u32, LayerError> {
        u32::try_from(self.number()?).map_err(|_| damaged("a number is out of range"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], LayerError> {
        let length = usize::try_from(length).map_err(|_| damaged("a length is out of range"))?;
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or(damaged("it ends in an entry"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Result<&'a [u8], LayerError> {
        let length = self.number()?;
        self.take(length)
    }

    /// An entry and its tag.
    fn entry(&mut self, previous: &[u8]) -> Result<(Entry, u8), LayerError> {
        let shared = usize::try_from(self.number()?).ok();
        let shared = shared
            .and_then(|shared| previous.get(..shared))
            .ok_or(damaged("a path shares more than there is"))?;
        let suffix = self.bytes()?;
        let mut path = Vec::with_capacity(shared.len() + suffix.len());
        path.extend_from_slice(shared);
        path.extend_from_slice(suffix);
        let tag = self.byte()?;
        let mut entry = Entry {
            path,
            kind: EntryKind::Fifo,
            mode: self.small()?,
            uid: self.small()?,
            gid: self.small()?,
            mtime: self.time()?,
            xattrs: std::collections::BTreeMap::new(),
        };
        entry.kind = self.kind(tag)?;
        if tag & XATTRS != 0 {
            for _ in 0..self.number()? {
                let name = self.bytes()?.to_vec();
                entry.xattrs.insert(name, self.bytes()?.to_vec());
            }
        }
        Ok((entry, tag))
    }

    fn time(&mut self) -> Result<Timestamp, LayerError> {
        let zigzag = self.number()?;
        let seconds = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        Ok(Timestamp { seconds, nanoseconds: self.small()? })
    }

    fn kind(&mut self, tag: u8) -> Result<EntryKind, LayerError> {
        Ok(match tag & KIND {
            DIRECTORY => EntryKind::Directory { opaque: tag & OPAQUE != 0 },
            FILE => {
                let size_bytes = self.number()?;
                let digest = self.take(32)?.try_into().expect("32 bytes were taken");
                EntryKind::File { size_bytes, digest: FileDigest::from_bytes(digest) }
            }
            HARD_LINK => EntryKind::HardLink { target: self.bytes()?.to_vec() },
            SYMLINK => EntryKind::Symlink { target: self.bytes()?.to_vec() },
            CHAR_DEVICE => EntryKind::CharDevice { major: self.small()?, minor: self.small()? },
            BLOCK_DEVICE => EntryKind::BlockDevice { major: self.small()?, minor: self.small()? },
            FIFO => EntryKind::Fifo,
            WHITEOUT => EntryKind::Whiteout,
            SOCKET => EntryKind::Socket,
            _ => return Err(damaged("an entry's kind is unknown")),
        })
    }
}
