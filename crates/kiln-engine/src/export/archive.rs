//! A tar of blobs of the store and of small documents, whose size is known before it is written.
//!
//! Members have short plain names, belong to root and have no time: the bytes depend on what is in
//! it alone.

use std::io::Write;
use std::path::Path;

use kiln_core::oci::Descriptor;
use kiln_store::layer::plain_header;

use super::image::copy_blob;
use crate::error::{BuildError, FileContext};
use crate::solve::Solver;

/// A tar's unit.
pub(super) const BLOCK_BYTES: u64 = 512;
/// Two empty blocks.
const END: [u8; 1024] = [0; 1024];

/// What is in a tar.
#[derive(Clone, Debug)]
pub(crate) enum Member {
    /// A directory, by its name with a slash.
    Directory(String),
    /// A document.
    Bytes(String, Vec<u8>),
    /// A blob of the store.
    Blob(String, Box<Descriptor>),
}

impl Member {
    /// A blob where an OCI layout has it.
    pub(crate) fn blob(descriptor: Descriptor) -> Self {
        Self::Blob(format!("blobs/sha256/{}", descriptor.digest.hex()), Box::new(descriptor))
    }

    /// Its header.
    pub(super) fn header(&self) -> [u8; BLOCK_BYTES as usize] {
        match self {
            Self::Directory(name) => plain_header(name, None),
            Self::Bytes(name, bytes) => plain_header(name, Some(bytes.len() as u64)),
            Self::Blob(name, descriptor) => plain_header(name, Some(descriptor.size)),
        }
    }

    /// The size of its content in bytes.
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Directory(_) => 0,
            Self::Bytes(_, bytes) => bytes.len() as u64,
            Self::Blob(_, descriptor) => descriptor.size,
        }
    }

    /// What fills its last block.
    pub(super) fn padding(&self) -> &'static [u8] {
        let size = self.size_bytes();
        &END[..(size.next_multiple_of(BLOCK_BYTES) - size) as usize]
    }

    /// Writes it to `out`, which is at `path`; `copy` writes what a blob holds.
    pub(super) fn write<W: Write>(
        &self,
        out: &mut W,
        path: &Path,
        copy: impl FnOnce(&mut W) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        out.write_all(&self.header()).at("write", path)?;
        match self {
            Self::Directory(_) => {}
            Self::Bytes(_, bytes) => out.write_all(bytes).at("write", path)?,
            Self::Blob(..) => copy(out)?,
        }
        out.write_all(self.padding()).at("write", path)
    }
}

/// Two members are equal when the same is written for both: blobs go by their names, which hold their
/// digests, and sizes.
impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(name), Self::Directory(other)) => name == other,
            (Self::Bytes(name, bytes), Self::Bytes(other, others)) => {
                name == other && bytes == others
            }
            (Self::Blob(name, blob), Self::Blob(other, others)) => {
                name == other && blob.size == others.size
            }
            _ => false,
        }
    }
}

impl Eq for Member {}

/// A tar to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Archive {
    /// Its members, in order.
    pub(crate) members: Vec<Member>,
}

impl Archive {
    /// The size of the tar in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        let padded =
            |member: &Member| BLOCK_BYTES + member.size_bytes().next_multiple_of(BLOCK_BYTES);
        self.members.iter().map(padded).sum::<u64>() + END.len() as u64
    }

    /// Writes it to `out`, which is at `path`, from the member of this number on.
    pub(crate) fn write(
        &self,
        solver: &Solver<'_>,
        first: usize,
        (out, path): (&mut impl Write, &Path),
    ) -> Result<(), BuildError> {
        for member in &self.members[first..] {
            member.write(out, path, |out| match member {
                Member::Blob(_, descriptor) => copy_blob(solver, descriptor, (out, path)),
                Member::Directory(_) | Member::Bytes(..) => Ok(()),
            })?;
        }
        out.write_all(&END).at("write", path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_known_and_others_read_the_headers() {
        let members = vec![
            Member::Directory("blobs/".to_owned()),
            Member::Bytes("a".to_owned(), b"xyz".to_vec()),
            Member::Bytes("whole".to_owned(), vec![1; 512]),
        ];
        let archive = Archive { members };
        let mut bytes = Vec::new();
        for member in &archive.members {
            bytes.extend(member.header());
            if let Member::Bytes(_, content) = member {
                bytes.extend(content);
            }
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.extend(END);
        assert_eq!(archive.size_bytes(), bytes.len() as u64);
        let mut names = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().expect("a tar") {
            let entry = entry.expect("an entry");
            names.push((entry.path().expect("a path").display().to_string(), entry.size()));
        }
        let expected = [("blobs/", 0), ("a", 3), ("whole", 512)];
        assert_eq!(names, expected.map(|(name, size)| (name.to_owned(), size)));
    }
}
