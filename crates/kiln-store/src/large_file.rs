//! The digest of one large file, on several threads.
//!
//! BLAKE3 is a tree: parts whose sizes are powers of two are hashed by themselves and put together
//! afterwards (the BLAKE3 paper, sections 2.1 and 6.2). The result is that of one thread.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use blake3::hazmat::{
    ChainingValue, HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root,
    merge_subtrees_root,
};

/// From this size on, starting threads for a file pays.
pub(crate) const LARGE_BYTES: u64 = 32 << 20;
/// Largest part that one thread takes at a time; a power of two, and less than any large file.
const PART_BYTES: u64 = 4 << 20;
const READ_BYTES: usize = 256 << 10;
const MOST_THREADS: usize = 8;

/// A part of a file, and what it hashes to.
type Part = (u64, ChainingValue);

/// The digest of the first `size_bytes` of a file, which are at least [`LARGE_BYTES`].
///
/// # Errors
/// When the file is shorter ([`io::ErrorKind::UnexpectedEof`]), or can't be read.
pub(crate) fn hash_large(file: &File, size_bytes: u64) -> io::Result<blake3::Hash> {
    let mut starts = Vec::new();
    cut(0, size_bytes, &mut starts);
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<Vec<Part>> {
        let (mut parts, mut buffer) = (Vec::new(), vec![0; READ_BYTES]);
        while let Some(start) = starts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let end = (start + PART_BYTES).min(size_bytes);
            parts.push((*start, hash_part(file, (*start, end), &mut buffer)?));
        }
        Ok(parts)
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(MOST_THREADS).min(starts.len());
    let parts = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut parts = work();
        for helper in helpers {
            let more = helper.join().expect("a hashing thread does not panic");
            match (&mut parts, more) {
                (Ok(parts), Ok(more)) => parts.extend(more),
                (_, Err(error)) => parts = Err(error),
                (Err(_), Ok(_)) => {}
            }
        }
        parts
    });
    let mut parts = parts?;
    parts.sort_unstable_by_key(|(start, _)| *start);
    let mut parts = parts.into_iter().map(|(_, value)| value);
    let left = left_subtree_len(size_bytes);
    let (left, right) = (merge(left, &mut parts), merge(size_bytes - left, &mut parts));
    Ok(merge_subtrees_root(&left, &right, Mode::Hash))
}

/// Where the parts of a subtree begin.
fn cut(start: u64, length: u64, starts: &mut Vec<u64>) {
    if length <= PART_BYTES {
        starts.push(start);
        return;
    }
    let left = left_subtree_len(length);
    cut(start, left, starts);
    cut(start + left, length - left, starts);
}

/// The value of a subtree, from those of its parts.
fn merge(length: u64, parts: &mut impl Iterator<Item = ChainingValue>) -> ChainingValue {
    if length <= PART_BYTES {
        return parts.next().expect("each part was hashed");
    }
    let left = left_subtree_len(length);
    let (left, right) = (merge(left, parts), merge(length - left, parts));
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

fn hash_part(
    file: &File,
    (start, end): (u64, u64),
    buffer: &mut [u8],
) -> io::Result<ChainingValue> {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start);
    let mut at = start;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..length], at)?;
        hasher.update(&buffer[..length]);
        at += length as u64;
    }
    Ok(hasher.finalize_non_root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_one_thread() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=LARGE_BYTES + 3 * PART_BYTES)
            .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect();
        file.write_all_at(&bytes, 0).unwrap();
        let rest = [0, 1, 1023, 1024, 1025, PART_BYTES - 1, PART_BYTES, 3 * PART_BYTES + 1];
        for rest in rest {
            let size_bytes = LARGE_BYTES + rest;
            let expected = blake3::hash(&bytes[..size_bytes as usize]);
            assert_eq!(hash_large(&file, size_bytes).unwrap(), expected, "{rest}");
        }
        let too_much = hash_large(&file, bytes.len() as u64 + 1).unwrap_err();
        assert_eq!(too_much.kind(), io::ErrorKind::UnexpectedEof);
    }
}
