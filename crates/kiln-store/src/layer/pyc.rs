//! Compiled Python holds the time of its source, and counts only while that is right.
//!
//! Source: PEP 552 and PEP 3147. A `.pyc` begins with a magic number of 4 bytes, then flags; flags
//! of 0 are followed by the source's modification time in seconds (32 bits, little-endian) and its
//! size. `a/__pycache__/b.cpython-312.pyc` is compiled from `a/b.py`, `a/b.pyc` from `a/b.py`.

use super::path::{join, split};

const FLAGS: std::ops::Range<usize> = 4..8;
const TIME: std::ops::Range<usize> = 8..12;
const HEADER_BYTES: usize = 16;

/// Where the source of compiled Python would be; nothing for another file.
pub(super) fn source(path: &[u8]) -> Option<Vec<u8>> {
    let (dir, name) = split(path);
    let stem = name.strip_suffix(b".pyc")?;
    let (above, last) = split(dir);
    if last != b"__pycache__" {
        return Some(join(dir, &[stem, b".py"].concat()));
    }
    let module = stem.split(|byte| *byte == b'.').next()?;
    Some(join(above, &[module, b".py"].concat()))
}

/// Gives the beginning of a `.pyc` another time of its source, if it has the `own` one.
pub(super) fn set_time(beginning: &mut [u8], own: u32, new: u32) {
    let is_timed = beginning.len() >= HEADER_BYTES && beginning[FLAGS] == [0; 4];
    if is_timed && beginning[TIME] == own.to_le_bytes() {
        beginning[TIME].copy_from_slice(&new.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let source =
            |path: &str| source(path.as_bytes()).map(|s| String::from_utf8(s).expect("text"));
        assert_eq!(source("a/__pycache__/b.cpython-312.pyc").as_deref(), Some("a/b.py"));
        assert_eq!(source("a/__pycache__/b.cpython-312.opt-1.pyc").as_deref(), Some("a/b.py"));
        assert_eq!(source("__pycache__/b.x.pyc").as_deref(), Some("b.py"));
        assert_eq!(source("a/b.pyc").as_deref(), Some("a/b.py"));
        assert_eq!(source("a/b.py"), None);
    }

    #[test]
    fn times() {
        let header = |flags: u8, time: u32| {
            let mut bytes = vec![0; 20];
            bytes[4] = flags;
            bytes[TIME].copy_from_slice(&time.to_le_bytes());
            bytes
        };
        let after = |flags, time| {
            let mut bytes = header(flags, time);
            set_time(&mut bytes, 700, 5);
            u32::from_le_bytes(bytes[TIME].try_into().expect("four bytes"))
        };
        assert_eq!(
            [after(0, 700), after(0, 701), after(1, 700), after(3, 700)],
            [5, 701, 700, 700]
        );
        set_time(&mut [0; 15], 0, 1);
    }
}
