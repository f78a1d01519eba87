//! Sparse files in pax archives: which bytes of a file an archive holds.
//!
//! GNU tar writes three forms, 0.0 and 0.1 with the map in pax records, 1.0 with the map in front
//! of the bytes. All say pairs of offset and length, ascending; what lies between is zero.

use super::tar_read::parse;

/// The pax record with the whole map.
pub(super) const MAP: &[u8] = b"GNU.sparse.map";
/// Most numbers that a map may have: more than a file of many gigabytes needs.
pub(super) const RUNS_MAX: usize = 1 << 20;

/// The map of one file, and how far it has been read.
#[derive(Debug)]
pub(super) struct Sparse {
    /// Offset and length of each run of bytes, the last first.
    runs: Vec<(u64, u64)>,
    position: u64,
    size_bytes: u64,
}

/// What comes next in a sparse file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Zeros that the archive does not hold; none at the end of the file.
    Hole(u64),
    /// Bytes of the archive.
    Data(u64),
}

impl Sparse {
    /// A map of pairs of numbers for a file of this size; `None` if it is not one.
    pub(super) fn new(numbers: &[u64], size_bytes: u64) -> Option<Self> {
        if !numbers.len().is_multiple_of(2)
            || numbers.len() > RUNS_MAX
            || i64::try_from(size_bytes).is_err()
        {
            return None;
        }
        let mut runs: Vec<(u64, u64)> = Vec::with_capacity(numbers.len() / 2);
        let mut end = 0;
        for pair in numbers.chunks_exact(2) {
            if pair[0] < end {
                return None;
            }
            end = pair[0].checked_add(pair[1])?;
            if pair[1] > 0 {
                runs.push((pair[0], pair[1]));
            }
        }
        runs.reverse();
        (end <= size_bytes).then_some(Self { runs, position: 0, size_bytes })
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The run at the current position.
    pub(super) fn next(&self) -> Run {
        match self.runs.last() {
            None => Run::Hole(self.size_bytes - self.position),
            Some((offset, _)) if *offset > self.position => Run::Hole(offset - self.position),
            Some((offset, length)) => Run::Data(offset + length - self.position),
        }
    }

    /// Moves on by bytes of the run at hand.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.position += bytes;
        if self.runs.last().is_some_and(|(offset, length)| offset + length <= self.position) {
            self.runs.pop();
        }
    }
}

/// Numbers between commas.
pub(super) fn numbers(map: &[u8]) -> Option<Vec<u64>> {
    if map.is_empty() {
        return Some(Vec::new());
    }
    map.split(|byte| *byte == b',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_holes_take_turns() {
        let mut sparse = Sparse::new(&[2, 3, 10, 0], 10).unwrap();
        let mut seen = Vec::new();
        loop {
            let run = sparse.next();
            seen.push(run);
            match run {
                Run::Hole(0) => break,
                Run::Hole(length) | Run::Data(length) => sparse.advance(length),
            }
        }
        assert_eq!(seen, [Run::Hole(2), Run::Data(3), Run::Hole(5), Run::Hole(0)]);
        for (invalid, size) in
            [(&[1][..], 9), (&[3, 2, 1, 1], 9), (&[0, 9], 8), (&[u64::MAX, 1], 9)]
        {
            assert!(Sparse::new(invalid, size).is_none());
        }
        assert_eq!(numbers(b"1,20,3"), Some(vec![1, 20, 3]));
        assert_eq!(numbers(b"1,,3"), None);
    }
}
