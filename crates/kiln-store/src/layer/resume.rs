//! Digests that can be taken up again where an older stream was the same so far.

use std::io::{self, Write};

use kiln_core::digest::BlobDigest;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256};

/// What SHA-256 knows after the beginning of a stream, as `sha2` writes it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashState(SerializedState<Sha256>);

impl HashState {
    /// Length of its bytes.
    pub(super) const BYTES: usize = size_of::<SerializedState<Sha256>>();

    pub(super) fn of(hasher: &Sha256) -> Self {
        Self(hasher.serialize())
    }

    /// A hasher that goes on from here.
    pub(super) fn resume(&self) -> Option<Sha256> {
        Sha256::deserialize(&self.0).ok()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes.into())
    }

    /// The state after some known bytes: equal wherever states mean the same.
    pub(super) fn probe() -> Self {
        Self::of(&Sha256::new_with_prefix([7; 100]))
    }
}

/// A writer that passes everything on and takes its digest.
#[derive(Debug)]
pub struct DigestWriter<W> {
    out: W,
    hasher: Sha256,
    size_bytes: u64,
}

impl<W: Write> DigestWriter<W> {
    /// The state of the digest.
    pub(super) fn state(&self) -> HashState {
        HashState::of(&self.hasher)
    }

    /// Lets `copy` write `size_bytes` bytes beneath, after which the digest is in `state`.
    pub(super) fn resume(
        &mut self,
        (state, size_bytes): (&HashState, u64),
        copy: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        copy(&mut self.out)?;
        self.hasher = state.resume().ok_or(io::ErrorKind::InvalidData)?;
        self.size_bytes = size_bytes;
        Ok(())
    }

    /// Passes on to `out`.
    pub fn new(out: W) -> Self {
        Self { out, hasher: Sha256::new(), size_bytes: 0 }
    }

    /// The writer beneath, the digest of all that was written, and its length in bytes.
    pub fn finish(self) -> (W, BlobDigest, u64) {
        (self.out, BlobDigest::from_bytes(self.hasher.finalize().into()), self.size_bytes)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size_bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_goes_on_where_it_was() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
        for cut in [0, 1, 63, 64, 65, 512, 999, 1000] {
            let state = HashState::of(&Sha256::new_with_prefix(&bytes[..cut]));
            let stored: [u8; HashState::BYTES] = state.as_bytes().try_into().unwrap();
            let mut hasher = HashState::from_bytes(stored).resume().unwrap();
            hasher.update(&bytes[cut..]);
            assert_eq!(hasher.finalize()[..], Sha256::digest(&bytes)[..], "{cut}");
        }
    }
}
