//! Digests, each kind a type of its own, so that a wrong one does not compile.
//!
//! OCI digests are sha256 and print as `sha256:<64 hex>` (OCI image-spec, descriptor.md,
//! "Digests"). kiln's own ids are blake3 and print as 64 hex digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {expected} digest")]
pub struct DigestError {
    /// What was given.
    pub text: String,
    /// What would have been right.
    pub expected: &'static str,
}

/// Each byte by the formatter's own way would be a tenth of an unchanged build.
fn write_hex(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
}

fn parse_hex(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From the raw 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The raw 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// 64 lower-case hex digits, without a prefix.
            pub fn hex(&self) -> String {
                let text = self.to_string();
                text[$prefix.len()..].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.strip_prefix($prefix)
                    .and_then(parse_hex)
                    .map(Self)
                    .ok_or_else(|| DigestError { text: text.to_owned(), expected: $expected })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type!(
    /// sha256 of a blob as it is stored or sent: a compressed layer, a config, a manifest.
    BlobDigest,
    "sha256:",
    "sha256"
);
digest_type!(
    /// sha256 of a layer's uncompressed tar (OCI image-spec, config.md, "Layer `DiffID`").
    DiffId,
    "sha256:",
    "sha256"
);
digest_type!(
    /// Identity of a chain of layers (OCI image-spec, config.md, "Layer `ChainID`").
    ChainId,
    "sha256:",
    "sha256"
);
digest_type!(
    /// blake3 of file contents.
    FileDigest,
    "",
    "blake3"
);
digest_type!(
    /// What a layer, a snapshot or a selection of files holds: paths, types, modes, owners,
    /// link targets, extended attributes and bytes; never times.
    ContentId,
    "",
    "blake3"
);
digest_type!(
    /// Under which the result of a step is remembered; made only by `cache_key`.
    CacheKey,
    "",
    "blake3"
);
digest_type!(
    /// What a step does, apart from what it works on; made only by `cache_key`.
    Recipe,
    "",
    "blake3"
);
digest_type!(
    /// Identity of a step in a plan: its recipe and those of its inputs.
    StepId,
    "",
    "blake3"
);

impl BlobDigest {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl DiffId {
    /// An uncompressed layer's blob digest is its diff ID.
    pub const fn as_blob(&self) -> BlobDigest {
        BlobDigest(self.0)
    }
}

impl ChainId {
    /// The chain of `diff_ids`, lowest first; `None` for no layers.
    pub fn of(diff_ids: &[DiffId]) -> Option<Self> {
        let (first, rest) = diff_ids.split_first()?;
        Some(rest.iter().fold(Self(first.0), |chain, diff_id| {
            Self(BlobDigest::of(format!("{chain} {diff_id}").as_bytes()).0)
        }))
    }
}

impl FileDigest {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Hashes a sequence of fields so that no two different sequences give the same bytes: every
/// field is tagged with its length.
#[derive(Clone, Debug)]
pub struct FieldHasher {
    hasher: blake3::Hasher,
    /// What was not handed on yet: BLAKE3 is quick with much at a time only.
    pending: Vec<u8>,
}

/// How much is handed on at once.
const PENDING_BYTES: usize = 16 << 10;

impl FieldHasher {
    /// A hasher for one purpose; `domain` keeps purposes apart and carries the format version.
    pub fn new(domain: &str) -> Self {
        let mut hasher = Self { hasher: blake3::Hasher::new(), pending: Vec::new() };
        hasher.field(domain);
        hasher
    }

    /// Adds one field.
    pub fn field(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.pending.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        if bytes.len() < PENDING_BYTES {
            self.pending.extend_from_slice(bytes);
        }
        if self.pending.len() >= PENDING_BYTES || bytes.len() >= PENDING_BYTES {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
        if bytes.len() >= PENDING_BYTES {
            self.hasher.update(bytes);
        }
        self
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.field(number.to_le_bytes())
    }

    /// Adds a field that may be absent; absent and empty differ.
    pub fn optional(&mut self, bytes: Option<impl AsRef<[u8]>>) -> &mut Self {
        match bytes {
            None => self.number(0),
            Some(bytes) => self.number(1).field(bytes),
        }
    }

    /// Adds a list; its length is part of it.
    pub fn list<T: AsRef<[u8]>>(&mut self, items: impl IntoIterator<Item = T>) -> &mut Self {
        let items: Vec<T> = items.into_iter().collect();
        self.number(items.len() as u64);
        for item in items {
            self.field(item);
        }
        self
    }

    /// The 32 bytes.
    pub fn finish(&self) -> [u8; 32] {
        let mut hasher = self.hasher.clone();
        *hasher.update(&self.pending).finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_print_and_parse() {
        let empty = BlobDigest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(empty.to_string(), text);
        assert_eq!(text.parse(), Ok(empty));
        assert_eq!(empty.hex(), text[7..]);
        assert!(text.to_uppercase().parse::<BlobDigest>().is_err());
        assert!("sha256:00".parse::<BlobDigest>().is_err());
    }

    #[test]
    fn chain_id_of_the_specification() {
        let a = DiffId::from_bytes([1; 32]);
        let b = DiffId::from_bytes([2; 32]);
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]).map(|c| *c.as_bytes()), Some([1; 32]));
        let expected = BlobDigest::of(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::of(&[a, b]).map(|c| *c.as_bytes()), Some(*expected.as_bytes()));
    }

    #[test]
    fn the_size_of_fields_does_not_matter() {
        let sizes =
            [0, 1, 100, PENDING_BYTES - 1, PENDING_BYTES, 3 * PENDING_BYTES, 5, 16_000, 400];
        let mut fields = FieldHasher::new("t");
        let mut plain = blake3::Hasher::new();
        plain.update(&1_u64.to_le_bytes()).update(b"t");
        for (number, size) in sizes.into_iter().enumerate() {
            let field = vec![number as u8; size];
            fields.field(&field);
            plain.update(&(size as u64).to_le_bytes()).update(&field);
            assert_eq!(fields.finish(), *plain.finalize().as_bytes());
        }
    }

    #[test]
    fn fields_do_not_run_together() {
        let one = FieldHasher::new("t").field("ab").field("c").finish();
        let two = FieldHasher::new("t").field("a").field("bc").finish();
        assert_ne!(one, two);
        let absent = FieldHasher::new("t").optional(None::<&str>).finish();
        let empty = FieldHasher::new("t").optional(Some("")).finish();
        assert_ne!(absent, empty);
    }
}
