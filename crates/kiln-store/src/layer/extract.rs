//! Taking a few small files out of an archive, without unpacking it.

use std::io::Read;

use kiln_core::digest::FileDigest;

use super::decompress::decompressor;
use super::path::clean;
use super::tar_read::{MemberKind, TarReader};
use crate::layer_error::LayerError;

/// Longer files are not read into memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The contents of the files `wanted`, which an archive's index names with their digests, in the
/// same order; `blob` may be compressed and is read no further than need be. `None` if the archive
/// holds one of them under another name, or it is too long: then it has to be unpacked.
///
/// # Errors
/// [`LayerError::Stream`], [`LayerError::MalformedTar`] and others of a damaged archive.
pub fn extract(
    blob: impl Read,
    wanted: &[(&[u8], FileDigest)],
) -> Result<Option<Vec<Vec<u8>>>, LayerError> {
    let mut found: Vec<Option<Vec<u8>>> = vec![None; wanted.len()];
    let mut tar = TarReader::new(decompressor(blob));
    while found.contains(&None) {
        let Some(member) = tar.next_member()? else { return Ok(None) };
        let path = clean(&member.path);
        let is_wanted = wanted.iter().any(|(wanted, _)| *wanted == path);
        if !is_wanted || member.kind != MemberKind::File || member.size_bytes > FILE_BYTES_MAX {
            continue;
        }
        let mut bytes = vec![0; member.size_bytes as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match tar.read(&mut bytes[filled..])? {
                0 => break,
                length => filled += length,
            }
        }
        bytes.truncate(filled);
        // A later member of this name may be the one.
        let digest = FileDigest::from_bytes(*blake3::hash(&bytes).as_bytes());
        for (slot, wanted) in found.iter_mut().zip(wanted) {
            if *wanted == (&path[..], digest) {
                *slot = Some(bytes.clone());
            }
        }
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn digest(text: &str) -> FileDigest {
        FileDigest::from_bytes(*blake3::hash(text.as_bytes()).as_bytes())
    }

    #[test]
    fn files_are_found_by_name_and_content() {
        let blob = archive(&[("etc/a", "old"), ("./etc/b", "b"), ("etc/a", "a"), ("c", "c")]);
        // What follows the last one is not read.
        let cut = &blob[..blob.len() - 1500];
        let wanted: [(&[u8], _); 2] = [(b"etc/a", digest("a")), (b"etc/b", digest("b"))];
        let found = extract(cut, &wanted).unwrap();
        assert_eq!(found, Some(vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(extract(&blob[..], &[(b"etc/c", digest("c"))]).unwrap(), None);
        assert_eq!(extract(&blob[..], &[(b"c", digest("d"))]).unwrap(), None);
    }
}
