//! What a step takes of a context or a stage, file by file, in few bytes: kept beside the result of
//! the step, so that "which file changed?" has an answer.
//!
//! A list has what enters the key of a step and nothing else: no times, no bytes. Format: entries
//! in the order of [`order`], each
//!
//! ```text
//! shared   varint   bytes of the path that are those of the entry before
//! rest     bytes    the others (a varint length, then the bytes)
//! tag      byte     bits 0-3 kind, bit 4 has attributes, bit 5 has a capability
//! attributes        varints mode + 1 (0: not part of the key), uid, gid; absent: as before
//! kind              file: 8 bytes of its digest; link: target as bytes; device: two varints
//! capability        8 bytes of its hash
//! ```
//!
//! Eight bytes of a digest tell two contents apart as surely as anyone needs who only wants to
//! know; what is reused is decided by whole digests, elsewhere.

use std::cmp::Ordering;

use crate::cause::{Change, FileChange};
use crate::digest::{ContentId, FileDigest};

/// Bytes of a digest that are kept.
pub const DIGEST_BYTES: usize = 8;
const ATTRIBUTES: u8 = 0x10;
const CAPABILITY: u8 = 0x20;

/// One file as a list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState<'a> {
    /// What it is.
    pub kind: FileKind<'a>,
    /// 07777; `None` when it is not part of the key.
    pub mode: Option<u32>,
    /// User and group; zero when they are not part of the key.
    pub owner: (u32, u32),
    /// Its capability, if it has one.
    pub capability: Option<&'a [u8]>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind<'a> {
    /// A directory.
    Directory,
    /// A regular file with its digest.
    File(FileDigest),
    /// A symbolic link with its target.
    Symlink(&'a [u8]),
    /// A device: character or not, major, minor.
    Device {
        /// Character device, else block device.
        character: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// The order of a list's paths: by component.
pub fn order(left: &[u8], right: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match left.iter().zip(right).find(|(a, b)| a != b) {
        Some((a, b)) => rank(*a).cmp(&rank(*b)),
        None => left.len().cmp(&right.len()),
    }
}

/// A list that is being made.
#[derive(Debug, Default)]
pub struct FileList {
    bytes: Vec<u8>,
    /// Path of the last file.
    before: Vec<u8>,
    /// Attributes of the last file.
    attributes: Option<(Option<u32>, (u32, u32))>,
}

impl FileList {
    /// Adds a file. They come in [`order`], each path once.
    pub fn add(&mut self, path: &[u8], file: &FileState<'_>) {
        let bytes = &mut self.bytes;
        let shared = self.before.iter().zip(path).take_while(|(a, b)| a == b).count();
        number(bytes, shared as u64);
        text(bytes, &path[shared..]);
        self.before.truncate(shared);
        self.before.extend_from_slice(&path[shared..]);
        let own = Some((file.mode, file.owner));
        let tag = tag(&file.kind)
            | if own == self.attributes { 0 } else { ATTRIBUTES }
            | if file.capability.is_some() { CAPABILITY } else { 0 };
        bytes.push(tag);
        if own != self.attributes {
            number(bytes, file.mode.map_or(0, |mode| u64::from(mode) + 1));
            number(bytes, u64::from(file.owner.0));
            number(bytes, u64::from(file.owner.1));
            self.attributes = own;
        }
        match file.kind {
            FileKind::Directory | FileKind::Fifo => {}
            FileKind::File(digest) => bytes.extend(&digest.as_bytes()[..DIGEST_BYTES]),
            FileKind::Symlink(target) => text(bytes, target),
            FileKind::Device { major, minor, .. } => {
                number(bytes, u64::from(major));
                number(bytes, u64::from(minor));
            }
        }
        if let Some(capability) = file.capability {
            bytes.extend(&blake3::hash(capability).as_bytes()[..DIGEST_BYTES]);
        }
    }

    /// The list.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

fn tag(kind: &FileKind<'_>) -> u8 {
    match kind {
        FileKind::Directory => 0,
        FileKind::File(_) => 1,
        FileKind::Symlink(_) => 2,
        FileKind::Device { character: true, .. } => 3,
        FileKind::Device { character: false, .. } => 4,
        FileKind::Fifo => 5,
    }
}

/// What a tag's kind is called.
fn kind_name(kind: u8) -> &'static str {
    match kind {
        0 => "directory",
        1 => "file",
        2 => "symbolic link",
        3 => "character device",
        4 => "block device",
        _ => "named pipe",
    }
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    number(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}

/// Several lists, each with the content that the files of it have in a key.
pub fn join(lists: &[(ContentId, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (content, list) in lists {
        bytes.extend(content.as_bytes());
        text(&mut bytes, list);
    }
    bytes
}

/// The list of this content among those that [`join`] put together.
pub fn find<'a>(joined: &'a [u8], content: &ContentId) -> Option<&'a [u8]> {
    let mut reader = Reader { bytes: joined };
    loop {
        let found: [u8; 32] = reader.take(32)?.try_into().ok()?;
        let list = reader.text()?;
        if found == *content.as_bytes() {
            return Some(list);
        }
    }
}

/// The regular files of a list, each with the start of its digest; `None` if it is damaged.
pub fn files(list: &[u8]) -> Option<Vec<(Vec<u8>, [u8; DIGEST_BYTES])>> {
    let mut entries = Entries::new(list);
    let mut files = Vec::new();
    loop {
        entries.advance()?;
        match &entries.entry {
            None => return Some(files),
            Some(Entry { kind: 1, value, .. }) => {
                files.push((entries.path.clone(), (*value).try_into().ok()?));
            }
            Some(_) => {}
        }
    }
}

/// What differs between two lists, in order; `None` if one of them is damaged.
pub fn differences(older: &[u8], newer: &[u8]) -> Option<Vec<FileChange>> {
    let (mut old, mut new) = (Entries::new(older), Entries::new(newer));
    let mut found = Vec::new();
    old.advance()?;
    new.advance()?;
    loop {
        let place = match (&old.entry, &new.entry) {
            (None, None) => return Some(found),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), Some(_)) => order(&old.path, &new.path),
        };
        match place {
            Ordering::Less => {
                found.push(old.change(Change::Removed));
                old.advance()?;
            }
            Ordering::Greater => {
                found.push(new.change(Change::Added));
                new.advance()?;
            }
            Ordering::Equal => {
                if let (Some(then), Some(now)) = (&old.entry, &new.entry)
                    && then != now
                {
                    let changes = changes(then, now);
                    if !changes.is_empty() {
                        found.push(FileChange { changes, ..new.change(Change::Content) });
                    }
                }
                old.advance()?;
                new.advance()?;
            }
        }
    }
}

fn changes(then: &Entry<'_>, now: &Entry<'_>) -> Vec<Change> {
    if then.kind != now.kind {
        let (before, after) = (kind_name(then.kind).to_owned(), kind_name(now.kind).to_owned());
        return vec![Change::Kind { before, after }];
    }
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut found = Vec::new();
    if then.value != now.value {
        found.push(match now.kind {
            2 => Change::Target { before: lossy(then.value), after: lossy(now.value) },
            _ => Change::Content,
        });
    }
    if let (Some(before), Some(after)) = (then.mode, now.mode)
        && before != after
    {
        found.push(Change::Mode { before, after });
    }
    if then.owner != now.owner {
        found.push(Change::Owner { before: then.owner, after: now.owner });
    }
    if then.capability != now.capability {
        found.push(Change::Capability);
    }
    found
}

/// What an entry says besides its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<'a> {
    kind: u8,
    mode: Option<u32>,
    owner: (u32, u32),
    /// Digest, target or numbers.
    value: &'a [u8],
    capability: &'a [u8],
}

/// Reads the entries of a list one after the other.
struct Entries<'a> {
    reader: Reader<'a>,
    path: Vec<u8>,
    attributes: (Option<u32>, (u32, u32)),
    entry: Option<Entry<'a>>,
}

impl<'a> Entries<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let attributes = (None, (0, 0));
        Self { reader: Reader { bytes }, path: Vec::new(), attributes, entry: None }
    }

    /// Goes on to the next entry, or to the end; `None` if there is something else.
    fn advance(&mut self) -> Option<()> {
        self.entry = None;
        if self.reader.bytes.is_empty() {
            return Some(());
        }
        let shared = self.reader.number()? as usize;
        if shared > self.path.len() {
            return None;
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(self.reader.text()?);
        let tag = *self.reader.take(1)?.first()?;
        if tag & ATTRIBUTES != 0 {
            let mode = self.reader.number()?;
            let owner = (self.reader.number()? as u32, self.reader.number()? as u32);
            self.attributes = (mode.checked_sub(1).map(|mode| mode as u32), owner);
        }
        let kind = tag & 0x0f;
        let value = match kind {
            0 | 5 => &[],
            1 => self.reader.take(DIGEST_BYTES)?,
            2 => self.reader.text()?,
            3 | 4 => self.reader.numbers()?,
            _ => return None,
        };
        let capability =
            if tag & CAPABILITY == 0 { &[] } else { self.reader.take(DIGEST_BYTES)? };
        let (mode, owner) = self.attributes;
        self.entry = Some(Entry { kind, mode, owner, value, capability });
        Some(())
    }

    fn change(&self, change: Change) -> FileChange {
        let mut path = String::from_utf8_lossy(&self.path).into_owned();
        if self.entry.is_some_and(|entry| entry.kind == 0) && !path.is_empty() {
            path.push('/');
        }
        FileChange { path, changes: vec![change] }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// Two numbers as they stand.
    fn numbers(&mut self) -> Option<&'a [u8]> {
        let all = self.bytes;
        self.number()?;
        self.number()?;
        Some(&all[..all.len() - self.bytes.len()])
    }
}

#[cfg(test)]
#[path = "file_list_tests.rs"]
mod tests;
