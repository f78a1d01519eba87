//! Headers of tar archives: the POSIX ustar block, its numbers, and pax extended records
//! (POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header").

/// Size of a block, the unit of an archive.
pub(super) const BLOCK_BYTES: usize = 512;
/// Prefix of pax keys that hold an extended attribute.
pub(super) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// A field of the header block, as (offset, length).
pub(super) type Field = (usize, usize);
pub(super) const NAME: Field = (0, 100);
pub(super) const MODE: Field = (100, 8);
pub(super) const UID: Field = (108, 8);
pub(super) const GID: Field = (116, 8);
pub(super) const SIZE: Field = (124, 12);
pub(super) const MTIME: Field = (136, 12);
pub(super) const CHECKSUM: Field = (148, 8);
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Field = (157, 100);
pub(super) const MAGIC: Field = (257, 8);
pub(super) const MAJOR: Field = (329, 8);
pub(super) const MINOR: Field = (337, 8);
pub(super) const PREFIX: Field = (345, 155);

/// One header block.
#[derive(Clone)]
pub(super) struct Block(pub(super) [u8; BLOCK_BYTES]);

impl Block {
    /// An empty ustar header of the given type flag.
    pub(super) fn new(type_flag: u8) -> Self {
        let mut block = Self([0; BLOCK_BYTES]);
        block.0[TYPE] = type_flag;
        block.put(MAGIC, b"ustar\x0000");
        block
    }

    pub(super) fn field(&self, (offset, length): Field) -> &[u8] {
        &self.0[offset..offset + length]
    }

    /// A text field up to its first NUL.
    pub(super) fn text(&self, field: Field) -> &[u8] {
        let bytes = self.field(field);
        bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
    }

    /// Stores at most as many bytes as the field has.
    pub(super) fn put(&mut self, (offset, length): Field, bytes: &[u8]) {
        let length = length.min(bytes.len());
        self.0[offset..offset + length].copy_from_slice(&bytes[..length]);
    }

    /// Stores a number in octal; false, and zero stored, when it does not fit.
    pub(super) fn put_number(&mut self, field: Field, number: u64) -> bool {
        let digits = field.1 - 1;
        let fits = number >> (3 * digits).min(63) == 0;
        let mut rest = if fits { number } else { 0 };
        for offset in (field.0..field.0 + digits).rev() {
            self.0[offset] = b'0' + (rest & 7) as u8;
            rest >>= 3;
        }
        fits
    }

    /// A number: octal digits among blanks, or base 256 when the first bit is set.
    pub(super) fn number(&self, field: Field) -> Option<i64> {
        let bytes = self.field(field);
        if bytes[0] & 0x80 != 0 {
            return base_256(bytes);
        }
        let text = bytes.trim_ascii_start();
        let text = text.split(|byte| *byte == 0 || *byte == b' ').next()?;
        text.iter().try_fold(0_i64, |number, digit| match digit {
            b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
            _ => None,
        })
    }

    /// The sum of the block's bytes with the checksum field as blanks.
    fn sum(&self) -> u64 {
        let all: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        let own: u64 = self.field(CHECKSUM).iter().map(|byte| u64::from(*byte)).sum();
        all - own + 8 * u64::from(b' ')
    }

    /// The same sum with signed bytes, as some old archivers made it.
    fn signed_sum(&self) -> i64 {
        let signed =
            |bytes: &[u8]| -> i64 { bytes.iter().map(|b| i64::from(b.cast_signed())).sum() };
        signed(&self.0) - signed(self.field(CHECKSUM)) + 8 * i64::from(b' ')
    }

    /// Stores the checksum; nothing may change afterwards.
    pub(super) fn seal(&mut self) {
        let sum = format!("{:06o}\0 ", self.sum());
        self.put(CHECKSUM, sum.as_bytes());
    }

    /// Whether the checksum is right.
    pub(super) fn is_sealed(&self) -> bool {
        let stored = self.number(CHECKSUM);
        stored == Some(self.sum().cast_signed()) || stored == Some(self.signed_sum())
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

fn base_256(bytes: &[u8]) -> Option<i64> {
    // The first bit marks the encoding, the second one is the sign.
    let negative = bytes[0] & 0x40 != 0;
    let first = if negative { bytes[0] | 0x80 } else { bytes[0] & 0x7f };
    let start = if negative { -1_i64 } else { 0 };
    std::iter::once(&first)
        .chain(&bytes[1..])
        .try_fold(start, |number, byte| number.checked_mul(256)?.checked_add(i64::from(*byte)))
}

/// The header of a directory or file of root's with a short name of plain characters and no time,
/// as archives of images have them. Sizes past 8 GiB are written in base 256 (GNU tar's form).
pub fn plain_header(name: &str, size_bytes: Option<u64>) -> [u8; BLOCK_BYTES] {
    let mut block = Block::new(if size_bytes.is_some() { b'0' } else { b'5' });
    block.put(NAME, name.as_bytes());
    block.put_number(MODE, if size_bytes.is_some() { 0o644 } else { 0o755 });
    for field in [UID, GID, MTIME] {
        block.put_number(field, 0);
    }
    let size_bytes = size_bytes.unwrap_or(0);
    if !block.put_number(SIZE, size_bytes) {
        let mut wide = [0; 12];
        wide[0] = 0x80;
        wide[4..].copy_from_slice(&size_bytes.to_be_bytes());
        block.put(SIZE, &wide);
    }
    block.seal();
    block.0
}

/// Appends the record `length key=value\n`; its length counts itself.
pub(super) fn put_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).to_string().len() != digits {
        digits += 1;
    }
    records.extend_from_slice((rest + digits).to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Takes the first record off `records`, as (key, value); `None` when it is malformed.
pub(super) fn take_record<'a>(records: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let blank = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length = std::str::from_utf8(&records[..blank]).ok()?.parse::<usize>().ok()?;
    if length <= blank + 1 || length > records.len() {
        return None;
    }
    let (record, rest) = records.split_at(length);
    let record = record[blank + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    *records = rest;
    Some((&record[..equals], &record[equals + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_every_notation() {
        let mut block = Block::new(b'0');
        for (bytes, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"0000648\0", None),
            (b"77777777", Some(0o77_777_777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff", Some(0x3fff_ffff_ffff_ffff)),
        ] {
            block.0[UID.0..UID.0 + 8].copy_from_slice(bytes);
            assert_eq!(block.number(UID), expected, "{bytes:?}");
        }
        block.put(SIZE, b"\x80\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(block.number(SIZE), None);
    }

    #[test]
    fn octal_fields_know_their_limit() {
        let mut block = Block::new(b'0');
        assert!(block.put_number(UID, 0o7_777_777) && block.field(UID) == b"7777777\0");
        assert!(!block.put_number(UID, 0o10_000_000) && block.field(UID) == b"0000000\0");
        assert!(block.put_number(SIZE, 0o77_777_777_777));
        assert!(!block.put_number(SIZE, 8 << 30));
    }

    #[test]
    fn record_lengths_count_themselves() {
        for length in [0, 1, 85, 86, 87, 88, 89, 90, 91, 980, 990, 9_990] {
            let value = vec![b'\n'; length];
            let mut records = Vec::new();
            put_record(&mut records, b"path", &value);
            put_record(&mut records, b"a", b"=");
            let mut rest = &records[..];
            assert_eq!(take_record(&mut rest), Some((&b"path"[..], &value[..])));
            assert_eq!(take_record(&mut rest), Some((&b"a"[..], &b"="[..])));
            assert!(rest.is_empty());
        }
        for damaged in [&b"5 a=b\n"[..], b"7 a=b\n", b"6 a b\n", b"0 a=b\n", b"-6 a=b\n", b"6a=b\n"]
        {
            assert_eq!(take_record(&mut &*damaged), None);
        }
    }

    #[test]
    fn checksums_seal() {
        let mut block = Block::new(b'5');
        block.put(NAME, b"dir/");
        assert!(!block.is_sealed());
        block.seal();
        assert!(block.is_sealed());
        block.0[0] ^= 1;
        assert!(!block.is_sealed());
    }
}
