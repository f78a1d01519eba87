//! Takes secrets out of a stream of bytes.

/// What is shown in place of a secret.
const MASK: &[u8] = b"***";

/// Shorter values are words like `1` that stand everywhere; hiding them would hide the output.
const SHORTEST_BYTES: usize = 4;

/// Replaces secrets in bytes that come in pieces: a secret cut in two is found too.
#[derive(Debug)]
pub(crate) struct Redactor {
    secrets: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Redactor {
    /// For these values; white space around one is not part of it.
    pub(crate) fn new(values: &[Vec<u8>]) -> Self {
        let mut secrets: Vec<Vec<u8>> = values
            .iter()
            .map(|value| value.trim_ascii().to_vec())
            .filter(|value| value.len() >= SHORTEST_BYTES)
            .collect();
        // A long secret may hold a short one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets, held: Vec::new() }
    }

    /// Takes more bytes, gives what can be shown now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.secrets.is_empty() {
            return bytes.to_vec();
        }
        self.held.extend_from_slice(bytes);
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let rest = &self.held[at..];
            if let Some(secret) = self.secrets.iter().find(|secret| rest.starts_with(secret)) {
                shown.extend_from_slice(MASK);
                at += secret.len();
            } else if self.secrets.iter().any(|secret| secret.starts_with(rest)) {
                break;
            } else {
                shown.push(rest[0]);
                at += 1;
            }
        }
        self.held.drain(..at);
        shown
    }

    /// What was held back, as no more comes.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(secrets: &[&str], pieces: &[&str]) -> String {
        let secrets: Vec<Vec<u8>> = secrets.iter().map(|s| s.as_bytes().to_vec()).collect();
        let mut redactor = Redactor::new(&secrets);
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(redactor.push(piece.as_bytes()));
        }
        out.extend(redactor.finish());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn secrets_are_masked_wherever_they_are_cut() {
        assert_eq!(shown(&["hunter2\n"], &["pass hunter2 ok"]), "pass *** ok");
        assert_eq!(shown(&["hunter2"], &["pass hun", "ter2 ok"]), "pass *** ok");
        assert_eq!(shown(&["hunter2"], &["h", "u", "n", "t"]), "hunt");
        assert_eq!(shown(&["abcd", "abcdef"], &["abcdef"]), "***");
        assert_eq!(shown(&["ab"], &["abc"]), "abc");
        assert_eq!(shown(&[], &["x"]), "x");
    }

    proptest::proptest! {
        #[test]
        fn it_does_not_matter_where_a_stream_is_cut(
            secret in "[ab]{4,6}",
            parts in proptest::collection::vec("[ab \n]{0,9}", 0..6),
            cuts in proptest::collection::vec(1..7_usize, 1..40),
        ) {
            let text = parts.join(&secret);
            let whole = shown(&[&secret], &[&text]);
            let mut pieces = Vec::new();
            let mut rest = text.as_str();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            proptest::prop_assert_eq!(shown(&[&secret], &pieces), whole.clone());
            proptest::prop_assert!(!whole.contains(&secret));
        }
    }
}
