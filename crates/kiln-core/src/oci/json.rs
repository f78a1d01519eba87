//! Documents as bytes, as Go's `encoding/json` writes them: `<`, `>`, `&` and the line separators
//! of Unicode as escapes. Equal documents of BuildKit and kiln have equal digests.

use serde::Serialize;

/// A document on one line.
///
/// # Panics
/// If the document cannot be written as JSON (a map whose keys are no strings).
pub fn to_json(document: &impl Serialize) -> Vec<u8> {
    escape(serde_json::to_vec(document).expect("a document is plain data"))
}

/// A document with one field a line, indented by two blanks (manifests and indexes).
///
/// # Panics
/// As [`to_json`].
pub fn to_indented_json(document: &impl Serialize) -> Vec<u8> {
    escape(serde_json::to_vec_pretty(document).expect("a document is plain data"))
}

/// All of these stand only inside of strings.
fn escape(bytes: Vec<u8>) -> Vec<u8> {
    const SEPARATOR: [u8; 2] = [0xe2, 0x80];
    let has_separator = |bytes: &[u8]| bytes.windows(2).any(|pair| pair == SEPARATOR);
    if !bytes.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&')) && !has_separator(&bytes) {
        return bytes;
    }
    let mut escaped = Vec::with_capacity(bytes.len() + 64);
    let mut rest = bytes.as_slice();
    while let Some(&first) = rest.first() {
        let (text, length) = match rest {
            [b'<', ..] => (&b"\\u003c"[..], 1),
            [b'>', ..] => (&b"\\u003e"[..], 1),
            [b'&', ..] => (&b"\\u0026"[..], 1),
            [0xe2, 0x80, 0xa8, ..] => (&b"\\u2028"[..], 3),
            [0xe2, 0x80, 0xa9, ..] => (&b"\\u2029"[..], 3),
            _ => (&[first][..], 1),
        };
        escaped.extend_from_slice(text);
        rest = &rest[length..];
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_in_go() {
        let text = |document: &str| String::from_utf8(to_json(&document)).expect("text");
        assert_eq!(text("a && b > \"c\""), r#""a \u0026\u0026 b \u003e \"c\"""#);
        assert_eq!(
            text("<\u{2028}\u{2029}\u{2014}é>"),
            "\"\\u003c\\u2028\\u2029\u{2014}é\\u003e\""
        );
        assert_eq!(text("plain \u{7f}\u{1}\n"), "\"plain \u{7f}\\u0001\\n\"");
        assert_eq!(to_indented_json(&["&"]), b"[\n  \"\\u0026\"\n]");
    }
}
