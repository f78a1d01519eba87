//! An OCI layout in a tar file, or an archive of `docker save`, as it is read: only headers and
//! documents, until a blob is wanted.
//!
//! The names in a layout are short, so that plain headers (POSIX ustar) hold them; what extended
//! headers say of other files is passed over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use kiln_core::digest::BlobDigest;
use kiln_core::oci::Descriptor;

use super::docker_archive::{self, DockerLayout, Members};
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
    members: Members,
    index: Vec<u8>,
    /// What stands in for a layout's documents, if it is Docker's.
    docker: Option<DockerLayout>,
}

impl Archive {
    /// Reads the headers and `index.json`.
    pub(super) fn open(path: &Path) -> Result<Self, BuildError> {
        let mut file = File::open(path).at("read", path)?;
        let invalid = |reason: &str| BuildError::Image {
            message: format!("{} is no archive of an image: {reason}", path.display()),
            help: Some("`kiln build -o type=oci,dest=FILE` writes one".to_owned()),
        };
        let (mut members, mut links) = (Members::new(), BTreeMap::new());
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
            let name = text(&block[..100]).trim_start_matches("./").to_owned();
            match block[156] {
                b'0' | 0 => drop(members.insert(name, (at, size))),
                // Docker writes a layer once, and links to it.
                b'1' | b'2' => {
                    let target = linked(&name, &text(&block[157..257]), block[156]);
                    links.insert(name, target);
                }
                _ => {}
            }
            at = size
                .checked_next_multiple_of(BLOCK_BYTES)
                .and_then(|size| at.checked_add(size))
                .ok_or_else(|| invalid("a header is damaged"))?;
            file.seek(SeekFrom::Start(at)).at("read", path)?;
        }
        for (name, target) in links {
            if let Some(place) = members.get(&target).copied() {
                members.entry(name).or_insert(place);
            }
        }
        if !members.contains_key("index.json") && members.contains_key("manifest.json") {
            let docker = docker_archive::read(&mut file, &members).map_err(|why| invalid(&why))?;
            let index = docker.index.clone();
            return Ok(Self { path: path.to_owned(), members, index, docker: Some(docker) });
        }
        let (start, size) = *members
            .get("index.json")
            .ok_or_else(|| invalid("it has neither index.json nor manifest.json"))?;
        if size > INDEX_BYTES {
            return Err(invalid("its index.json is too long"));
        }
        file.seek(SeekFrom::Start(start)).at("read", path)?;
        let mut index = Vec::new();
        file.take(size).read_to_end(&mut index).at("read", path)?;
        Ok(Self { path: path.to_owned(), members, index, docker: None })
    }

    /// A manifest that the file stands for and does not have.
    pub(super) fn made(&self, digest: &BlobDigest) -> Option<&[u8]> {
        self.docker.as_ref()?.manifests.get(digest).map(Vec::as_slice)
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
        let digest = &descriptor.digest;
        let named = || self.members.get(&format!("blobs/sha256/{}", digest.hex()));
        let found = self.docker.as_ref().map_or_else(named, |docker| docker.blobs.get(digest));
        found
            .copied()
            .ok_or_else(|| broken(descriptor, &format!("it is missing in {}", self.path.display())))
    }
}

/// The member that a link leads to: a symbolic one (`2`) from its own directory.
fn linked(name: &str, target: &str, kind: u8) -> String {
    let mut parts: Vec<&str> = Vec::new();
    if kind == b'2' && !target.starts_with('/') {
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
        parts.extend(directory.split('/').filter(|part| !part.is_empty()));
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
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
