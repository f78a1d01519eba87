//! Reading a tar archive, member by member: ustar, pax and GNU long names.
//!
//! A reader of its own, because layers hold what general ones stumble over: attribute values
//! and names with newlines inside pax records, and sizes that only a pax record tells.
//! Sparse members are understood in pax's form; GNU's older one (type `S`) is refused, as by
//! BuildKit. Global pax headers are skipped, as containerd does. The archive ends at a zero block
//! or at the end of the stream, which may lack the padding of the last member.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use super::index::Timestamp;
use super::sparse::{self, Run, Sparse};
use super::tar_header::{
    BLOCK_BYTES, Block, Field, GID, LINK, MAGIC, MAJOR, MINOR, MODE, MTIME, NAME, PREFIX, SIZE,
    TYPE, UID, XATTR_PREFIX, take_record,
};
use crate::layer_error::LayerError;

/// The largest pax header or long name that is read into memory (Go's limit).
const EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// What a member's headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As written: perhaps absolute, with `.` or `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Target of a link.
    pub link: Vec<u8>,
    /// At most `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of a file.
    pub size_bytes: u64,
    /// Last modification.
    pub mtime: Timestamp,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// Another name of a member.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// What extension headers say about the member that follows them.
#[derive(Default)]
struct Extensions {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// The archive, at a header or in a member's bytes.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// What is left of the current member.
    remaining: u64,
    padding: u64,
    /// Where the bytes of the current member belong, if it is sparse.
    sparse: Option<Sparse>,
}

impl<R: Read> TarReader<R> {
    /// A reader of an archive that is not compressed.
    pub fn new(input: R) -> Self {
        Self { input, offset: 0, remaining: 0, padding: 0, sparse: None }
    }

    /// What it reads from.
    pub(super) fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    pub(super) fn malformed(&self, reason: &'static str) -> LayerError {
        LayerError::MalformedTar { offset: self.offset, reason }
    }

    /// The next member; its bytes are read with [`read`](Self::read). `None` at the end.
    pub fn next_member(&mut self) -> Result<Option<Member>, LayerError> {
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            self.skip()?;
            let Some(block) = self.block()? else {
                return if extended {
                    Err(self.malformed("it ends after an extension header"))
                } else {
                    Ok(None)
                };
            };
            let size = self.number(&block, SIZE)?;
            match block.0[TYPE] {
                b'x' => extensions.records.append(&mut self.pax(size)?),
                b'g' => {
                    self.remaining = size;
                    self.padding = padding(size);
                    continue;
                }
                b'L' => extensions.long_name = Some(self.long_text(size)?),
                b'K' => extensions.long_link = Some(self.long_text(size)?),
                _ => return self.member(&block, size, extensions).map(Some),
            }
            extended = true;
        }
    }

    /// Reads bytes of the current member; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let Some(mut sparse) = self.sparse.take() else { return self.read_stored(buffer) };
        let read = match sparse.next() {
            Run::Hole(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
                buffer[..length].fill(0);
                Ok(length)
            }
            Run::Data(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
                match self.read_stored(&mut buffer[..length])? {
                    0 if length > 0 => Err(self.malformed("a sparse file has too few bytes")),
                    length => Ok(length),
                }
            }
        };
        sparse.advance(*read.as_ref().unwrap_or(&0) as u64);
        self.sparse = Some(sparse);
        read
    }

    /// Reads bytes as they are in the archive.
    fn read_stored(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let length = self.read_some(&mut buffer[..most])?;
        if length == 0 {
            return Err(self.malformed("it ends in a member"));
        }
        self.remaining -= length as u64;
        Ok(length)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        loop {
            match self.input.read(buffer) {
                Ok(length) => {
                    self.offset += length as u64;
                    return Ok(length);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(LayerError::Stream { action: "read a layer archive", source });
                }
            }
        }
    }

    /// Skips what is left of the current member.
    fn skip(&mut self) -> Result<(), LayerError> {
        let mut buffer = [0; 8 << 10];
        let padding = self.padding;
        let mut left = self.remaining + padding;
        (self.remaining, self.padding, self.sparse) = (0, 0, None);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let length = self.read_some(&mut buffer[..most])?;
            if length == 0 && left <= padding {
                break;
            }
            if length == 0 {
                return Err(self.malformed("it ends in a member"));
            }
            left -= length as u64;
        }
        Ok(())
    }

    /// The next header block; `None` at the end of the archive.
    fn block(&mut self) -> Result<Option<Block>, LayerError> {
        let mut block = Block([0; BLOCK_BYTES]);
        let mut done = 0;
        while done < BLOCK_BYTES {
            match self.read_some(&mut block.0[done..])? {
                0 if done == 0 => return Ok(None),
                0 => return Err(self.malformed("it ends in a header")),
                length => done += length,
            }
        }
        if block.is_zero() {
            return Ok(None);
        }
        if !block.is_sealed() {
            return Err(self.malformed("a header's checksum is wrong"));
        }
        Ok(Some(block))
    }

    fn number(&self, block: &Block, field: Field) -> Result<u64, LayerError> {
        let number = block.number(field).and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| self.malformed("a header's number is invalid"))
    }

    fn small(&self, block: &Block, field: Field) -> Result<u32, LayerError> {
        u32::try_from(self.number(block, field)?)
            .map_err(|_| self.malformed("a header's number is out of range"))
    }

    /// The whole of an extension's bytes.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > EXTENSION_BYTES_MAX {
            return Err(self.malformed("an extension header is too large"));
        }
        (self.remaining, self.padding) = (size, padding(size));
        let mut bytes = vec![0; size as usize];
        let mut done = 0;
        while done < bytes.len() {
            done += self.read_stored(&mut bytes[done..])?;
        }
        Ok(bytes)
    }

    fn long_text(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        let mut text = self.extension(size)?;
        if let Some(end) = text.iter().position(|byte| *byte == 0) {
            text.truncate(end);
        }
        Ok(text)
    }

    fn pax(&mut self, size: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, LayerError> {
        let bytes = self.extension(size)?;
        let mut rest = &bytes[..];
        let mut records = BTreeMap::new();
        while !rest.is_empty() {
            let (key, value) =
                take_record(&mut rest).ok_or_else(|| self.malformed("a pax record is invalid"))?;
            match key {
                // The oldest form repeats two records instead of one with all of their values.
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    let map: &mut Vec<u8> = records.entry(sparse::MAP.to_vec()).or_default();
                    if !map.is_empty() {
                        map.push(b',');
                    }
                    map.extend_from_slice(value);
                }
                _ => {
                    records.insert(key.to_vec(), value.to_vec());
                }
            }
        }
        Ok(records)
    }

    fn member(
        &mut self,
        block: &Block,
        size: u64,
        mut extensions: Extensions,
    ) -> Result<Member, LayerError> {
        let device = matches!(block.0[TYPE], b'3' | b'4');
        let mut member = Member {
            path: extensions.long_name.take().unwrap_or_else(|| header_path(block)),
            kind: MemberKind::File,
            link: extensions.long_link.take().unwrap_or_else(|| block.text(LINK).to_vec()),
            mode: (self.number(block, MODE)? & 0o7777) as u32,
            uid: 0,
            gid: 0,
            size_bytes: size,
            mtime: Timestamp::default(),
            device: if device {
                (self.small(block, MAJOR)?, self.small(block, MINOR)?)
            } else {
                (0, 0)
            },
            xattrs: BTreeMap::new(),
        };
        let mut header = BTreeMap::from([("uid", UID), ("gid", GID), ("mtime", MTIME)]);
        for (key, value) in &extensions.records {
            self.apply_record(&mut member, key, value)?;
            if !value.is_empty() {
                header.retain(|name, _| name.as_bytes() != key);
            }
        }
        if header.contains_key("uid") {
            member.uid = self.small(block, UID)?;
        }
        if header.contains_key("gid") {
            member.gid = self.small(block, GID)?;
        }
        if header.contains_key("mtime") {
            let seconds = block.number(MTIME);
            let seconds = seconds.ok_or_else(|| self.malformed("a header's time is invalid"))?;
            member.mtime = Timestamp { seconds, nanoseconds: 0 };
        }
        // The kernel's device numbers have 12 and 20 bits.
        if member.device.0 >> 12 != 0 || member.device.1 >> 20 != 0 {
            return Err(self.malformed("a device number is out of range"));
        }
        if member.uid == u32::MAX || member.gid == u32::MAX {
            return Err(self.malformed("an owner is out of range"));
        }
        member.kind = kind(block.0[TYPE], &member.path)?;
        if member.kind != MemberKind::File {
            member.size_bytes = 0;
        }
        self.remaining = member.size_bytes;
        self.padding = padding(member.size_bytes);
        if member.kind == MemberKind::File {
            self.begin_sparse(&mut member, &extensions.records)?;
        }
        Ok(member)
    }

    /// Finds out whether a member is sparse, and gives it its real name and length.
    fn begin_sparse(
        &mut self,
        member: &mut Member,
        records: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), LayerError> {
        let record =
            |name: &str| records.get([b"GNU.sparse.", name.as_bytes()].concat().as_slice());
        let runs = match (record("major").map(Vec::as_slice), record("map")) {
            (Some(b"1"), _) => self.sparse_map()?,
            (None | Some(b"0"), Some(map)) => sparse::numbers(map)
                .ok_or_else(|| self.malformed("the map of a sparse file is invalid"))?,
            _ => return Ok(()),
        };
        let size = record("realsize").or(record("size")).and_then(|size| parse(size));
        let sparse = size.and_then(|size| Sparse::new(&runs, size));
        let sparse = sparse.ok_or_else(|| self.malformed("the map of a sparse file is invalid"))?;
        if let Some(name) = record("name") {
            member.path.clone_from(name);
        }
        member.size_bytes = sparse.size_bytes();
        self.sparse = Some(sparse);
        Ok(())
    }

    /// The map at the beginning of a member's bytes: how many runs, then two numbers for each, one
    /// on a line, in whole blocks.
    fn sparse_map(&mut self) -> Result<Vec<u64>, LayerError> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut digits = Vec::new();
        loop {
            let mut block = [0; BLOCK_BYTES];
            let mut done = 0;
            while done < BLOCK_BYTES {
                match self.read_stored(&mut block[done..])? {
                    0 => return Err(self.malformed("the map of a sparse file is cut off")),
                    length => done += length,
                }
            }
            for byte in block {
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let number = parse(&std::mem::take(&mut digits));
                numbers.push(
                    number.ok_or_else(|| self.malformed("the map of a sparse file is invalid"))?,
                );
                if numbers.len() as u64 > numbers[0].saturating_mul(2) {
                    numbers.remove(0);
                    return Ok(numbers);
                }
            }
            if digits.len() > BLOCK_BYTES || numbers.len() > sparse::RUNS_MAX {
                return Err(self.malformed("the map of a sparse file is too large"));
            }
        }
    }

    /// An empty value only takes back an earlier one (POSIX, pax), and those are gone already.
    fn apply_record(
        &self,
        member: &mut Member,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), LayerError> {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            member.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        if value.is_empty() {
            return Ok(());
        }
        let invalid = || self.malformed("a pax record's number is invalid");
        let number = || parse::<u64>(value).ok_or_else(invalid);
        let small = || parse::<u32>(value).ok_or_else(invalid);
        match key {
            b"path" | b"linkpath" if value.contains(&0) => {
                return Err(self.malformed("a pax record's path is invalid"));
            }
            b"path" => member.path = value.to_vec(),
            b"linkpath" => member.link = value.to_vec(),
            b"size" => {
                let size = number()?;
                // Room for padding, and the limit of every file system.
                member.size_bytes = i64::try_from(size).map_err(|_| invalid()).map(|_| size)?;
            }
            b"uid" => member.uid = small()?,
            b"gid" => member.gid = small()?,
            b"mtime" => member.mtime = time(value).ok_or_else(invalid)?,
            _ => {}
        }
        Ok(())
    }
}

fn kind(type_flag: u8, path: &[u8]) -> Result<MemberKind, LayerError> {
    Ok(match type_flag {
        // Archives from before POSIX mark directories by the slash only.
        0 if path.ends_with(b"/") => MemberKind::Directory,
        b'0' | 0 => MemberKind::File,
        b'1' => MemberKind::HardLink,
        b'2' => MemberKind::Symlink,
        b'3' => MemberKind::CharDevice,
        b'4' => MemberKind::BlockDevice,
        b'5' => MemberKind::Directory,
        b'6' => MemberKind::Fifo,
        _ => {
            return Err(LayerError::UnknownType {
                path: String::from_utf8_lossy(path).into_owned(),
                type_flag,
            });
        }
    })
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK_BYTES as u64
}

fn header_path(block: &Block) -> Vec<u8> {
    let name = block.text(NAME);
    // In GNU's older format the prefix's place holds other things.
    let prefix = if block.field(MAGIC).starts_with(b"ustar\0") { block.text(PREFIX) } else { b"" };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// A number of decimal digits.
pub(super) fn parse<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// A decimal time like `-1.25`.
fn time(value: &[u8]) -> Option<Timestamp> {
    let (sign, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, value),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole: i64 = parts.next().filter(|part| !part.is_empty()).and_then(parse)?;
    let fraction = parts.next().unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |position: usize| fraction.get(position).map_or(0, |digit| u32::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |number, position| number * 10 + digit(position));
    if sign > 0 || nanoseconds == 0 {
        return Some(Timestamp { seconds: sign * whole, nanoseconds });
    }
    Some(Timestamp { seconds: (-whole).checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_sign_and_fraction() {
        let at = |seconds, nanoseconds| Some(Timestamp { seconds, nanoseconds });
        assert_eq!(time(b"1700000000"), at(1_700_000_000, 0));
        assert_eq!(time(b"1.5"), at(1, 500_000_000));
        assert_eq!(time(b"1.0123456789"), at(1, 12_345_678));
        assert_eq!(time(b"-1"), at(-1, 0));
        assert_eq!(time(b"-0.5"), at(-1, 500_000_000));
        assert_eq!(time(b"-1.25"), at(-2, 750_000_000));
        for invalid in [&b""[..], b"-", b"1.x", b"x", b".5", b"+1", b"99999999999999999999"] {
            assert_eq!(time(invalid), None);
        }
    }
}
