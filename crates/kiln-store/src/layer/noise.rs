//! Finding what no compressor makes smaller: archives within layers, images, wheels, keys.
//!
//! Deflate spends most of its time where it gains nothing. A small sample of each stretch of a
//! block tells that apart: noise has all bytes equally often, and no four of them twice. The
//! decision depends on the bytes alone and uses whole numbers only, so it is the same on every
//! machine; a wrong one costs size, never the result.

/// What is judged at once.
const STRETCH_BYTES: usize = 64 << 10;
/// How much of a stretch is looked at, in two parts.
const SAMPLE_BYTES: usize = 4096;
/// Noise has a sum of squared frequencies of 69,632, give or take 2,141; English text ten times that.
const LARGEST_SUM: u32 = 80_000;
/// How many times four bytes may be seen again: noise has them once in a hundred samples.
const MOST_REPETITIONS: usize = 16;
const HASH_BITS: u32 = 12;

/// Whether a run of bytes is worth compressing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texture {
    /// It will get smaller.
    Pattern,
    /// It will not.
    Noise,
}

/// Cuts a block into runs of one texture each.
pub(super) fn runs(block: &[u8]) -> Vec<(Texture, &[u8])> {
    let mut runs = Vec::new();
    let (mut start, mut current) = (0, None);
    for (number, stretch) in block.chunks(STRETCH_BYTES).enumerate() {
        let texture = texture(stretch);
        let at = number * STRETCH_BYTES;
        match current {
            Some(known) if known != texture => {
                runs.push((known, &block[start..at]));
                start = at;
            }
            _ => {}
        }
        current = Some(texture);
    }
    runs.push((current.unwrap_or(Texture::Pattern), &block[start..]));
    runs
}

fn texture(stretch: &[u8]) -> Texture {
    if stretch.len() < STRETCH_BYTES {
        return Texture::Pattern;
    }
    let part = SAMPLE_BYTES / 2;
    let middle = STRETCH_BYTES / 2;
    let mut counts = [0_u32; 256];
    for byte in stretch[..part].iter().chain(&stretch[middle..middle + part]) {
        counts[usize::from(*byte)] += 1;
    }
    if counts.iter().map(|count| count * count).sum::<u32>() > LARGEST_SUM {
        return Texture::Pattern;
    }
    let repetitions = repetitions(&stretch[..part]) + repetitions(&stretch[middle..middle + part]);
    if repetitions > MOST_REPETITIONS { Texture::Pattern } else { Texture::Noise }
}

/// How often four bytes in a row were there before.
fn repetitions(bytes: &[u8]) -> usize {
    let mut last = [0_u32; 1 << HASH_BITS];
    let mut found = 0;
    for window in bytes.windows(4) {
        let word = u32::from_le_bytes([window[0], window[1], window[2], window[3]]);
        let slot = word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
        let before = std::mem::replace(&mut last[slot as usize], word);
        found += usize::from(before == word && word != 0);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of a generator that no sample sees through.
    fn noise(length: usize) -> Vec<u8> {
        let mut reader = blake3::Hasher::new().update(b"noise").finalize_xof();
        let mut bytes = vec![0; length];
        reader.fill(&mut bytes);
        bytes
    }

    fn textures(block: &[u8]) -> Vec<(Texture, usize)> {
        runs(block).into_iter().map(|(texture, run)| (texture, run.len())).collect()
    }

    #[test]
    fn noise_is_told_from_the_rest() {
        use Texture::{Noise, Pattern};
        assert_eq!(textures(&noise(1 << 20)), [(Noise, 1 << 20)]);
        assert_eq!(textures(&[]), [(Pattern, 0)]);
        assert_eq!(textures(&vec![0; 200_000]), [(Pattern, 200_000)]);
        // All bytes equally often, in order: noise by frequency only.
        let counting: Vec<u8> = (0..1_u32 << 18).map(|n| n as u8).collect();
        assert_eq!(textures(&counting), [(Pattern, 1 << 18)]);
        let counting: Vec<u8> = (0..1_u32 << 16).flat_map(u32::to_le_bytes).collect();
        assert_eq!(textures(&counting), [(Pattern, 1 << 18)]);
        // Base64 and hexadecimal digits become smaller.
        let digits: Vec<u8> = noise(1 << 18).iter().map(|byte| b'0' + byte % 64).collect();
        assert_eq!(textures(&digits), [(Pattern, 1 << 18)]);
    }

    #[test]
    fn runs_make_up_the_block() {
        let text = b"fn main() { greeting(\"hello\"); }\n".repeat(6000);
        let block = [&noise(1 << 17)[..], &text[..1 << 17], &noise(1 << 16), b"end"].concat();
        assert_eq!(
            textures(&block),
            [
                (Texture::Noise, 1 << 17),
                (Texture::Pattern, 1 << 17),
                (Texture::Noise, 1 << 16),
                (Texture::Pattern, 3)
            ]
        );
        let whole: Vec<u8> = runs(&block).into_iter().flat_map(|(_, run)| run.to_vec()).collect();
        assert_eq!(whole, block);
    }
}
