//! An OCI layout in a tar file, as it is read: only headers, until a blob is wanted.
//!
//! The names in a layout are short, so that plain headers (POSIX ustar) hold them; what extended
//! headers say of other files is passed over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use kiln_core::oci::Descriptor;

use super::tree::broken;
use crate::error::{BuildError, FileContext};

const BLOCK_BYTES: u64 = 512;

/// `index.json` is not longer than this.
const INDEX_BYTES: u64 = 16 << 20;

/// A layout in a file.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    /// First byte and size of each file.
    members: BTreeMap<String, (u64, u64)>,
    index: Vec<u8>,
}

impl Archive {
    /// Reads the headers and `index.json`.
    pub(super) fn open(path: &Path) -> Result<Self, BuildError> {
        let mut file = File::open(path).at("read", path)?;
        let invalid = |reason: &str| BuildError::Image {
            message: format!("{} is no OCI archive: {reason}", path.display()),
            help: Some("`kiln build -o type=oci,dest=FILE` writes one".to_owned()),
        };
        let mut members = BTreeMap::new();
        let mut at = 0;
        loop {
            let mut block = [0; BLOCK_BYTES as usize];
            match file.read_exact(&mut block) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    if at == 0 {
                        return Err(invalid("it is no tar file"));
                    }
                    break;
                }
                Err(error) => return Err(error).at("read", path),
            }
            if block.iter().all(|byte| *byte == 0) {
                break;
            }
            if at == 0 && block.starts_with(&[0x1f, 0x8b]) {
                return Err(invalid("it is compressed"));
            }
            if &block[257..262] != b"ustar" {
                return Err(invalid("it is no tar file"));
            }
            let size = number(&block[124..136]).ok_or_else(|| invalid("a header is damaged"))?;
            at += BLOCK_BYTES;
            if matches!(block[156], b'0' | 0) {
                let name = text(&block[..100]);
                members.insert(name.trim_start_matches("./").to_owned(), (at, size));
            }
            at = size
                .checked_next_multiple_of(BLOCK_BYTES)
                .and_then(|size| at.checked_add(size))
                .ok_or_else(|| invalid("a header is damaged"))?;
            file.seek(SeekFrom::Start(at)).at("read", path)?;
        }
        let (start, size) = *members.get("index.json").ok_or_else(|| {
            invalid(if members.contains_key("manifest.json") {
                "it is an archive of `docker save` without a layout"
            } else {
                "it has no index.json"
            })
        })?;
        if size > INDEX_BYTES {
            return Err(invalid("its index.json is too long"));
        }
        file.seek(SeekFrom::Start(start)).at("read", path)?;
        let mut index = Vec::new();
        file.take(size).read_to_end(&mut index).at("read", path)?;
        Ok(Self { path: path.to_owned(), members, index })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `index.json`
    pub(super) fn index(&self) -> &[u8] {
        &self.index
    }

    /// First byte and size of a blob.
    pub(super) fn member(&self, descriptor: &Descriptor) -> Result<(u64, u64), BuildError> {
        let name = format!("blobs/sha256/{}", descriptor.digest.hex());
        let found = self.members.get(&name).copied();
        found
            .ok_or_else(|| broken(descriptor, &format!("it is missing in {}", self.path.display())))
    }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// Octal, or base 256 (GNU tar) for what is longer.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let start = u64::from(field[0] & 0x7f);
        return field[1..].iter().try_fold(start, |number, byte| {
            number.checked_mul(256)?.checked_add(u64::from(*byte))
        });
    }
    let text = text(field);
    let digits = text.trim();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}
