//! The lines of an image's history, in BuildKit's wording.

use crate::oci::HistoryEntry;

/// What BuildKit writes beside each entry; tools look for it.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Whether an instruction made a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layered {
    /// It did; BuildKit marks commands and copies with `# buildkit`.
    Marked,
    /// It did, without the mark (WORKDIR).
    Plain,
    /// It changed the config only.
    No,
}

/// A history entry; `created` is known only with an epoch, else the layer's own time is filled in
/// when the image is assembled.
pub(super) fn entry(text: &str, layered: Layered, created: Option<String>) -> HistoryEntry {
    let mark = if layered == Layered::Marked { " # buildkit" } else { "" };
    HistoryEntry {
        created,
        created_by: Some(format!("{text}{mark}")),
        author: None,
        comment: Some(COMMENT.to_owned()),
        empty_layer: layered == Layered::No,
    }
}

/// `["a" "b"]`: how Go prints a list of quoted strings.
pub(super) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A Go string literal.
fn quoted(word: &str) -> String {
    let mut text = String::from('"');
    for character in word.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{7}' => text.push_str("\\a"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{b}' => text.push_str("\\v"),
            _ if is_printable(character) => text.push(character),
            _ => match u32::from(character) {
                code @ ..=0x7f => text.push_str(&format!("\\x{code:02x}")),
                code @ ..=0xffff => text.push_str(&format!("\\u{code:04x}")),
                code => text.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    text.push('"');
    text
}

/// Whether a character is shown as it is. The standard library tells by its own escapes, but it
/// also escapes single quotes and a combining mark that begins a text.
fn is_printable(character: char) -> bool {
    character == '\'' || !format!("a{character}").escape_debug().to_string().starts_with("a\\")
}

/// Nanoseconds as Go prints them: `0s`, `1.5s`, `250ms`, `1h0m3s`.
pub(super) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let decimal = |unit: u64| {
        let text = format!("{}.{:0width$}", total / unit, total % unit, width = digits(unit));
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(1_000_000)),
        _ => {
            let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
            let fraction = format!(".{:09}", rest % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
            let seconds = format!("{}{fraction}s", rest / 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

/// How many digits the numbers below a power of ten have.
fn digits(power_of_ten: u64) -> usize {
    power_of_ten.ilog10() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (250_000_000, "250ms"),
            (1_500_000, "1.5ms"),
            (1_000_000_000, "1s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (7_325_050_000_000, "2h2m5.05s"),
            (-1_500_000_000, "-1.5s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn strings_are_quoted_as_in_go() {
        let words = ["plain 'x'", "a\"b\\", "\u{0}\u{7f}\n", "é😀\u{301}", "\u{200b}\u{e0001}"];
        let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        assert_eq!(
            quoted,
            [
                r#""plain 'x'""#,
                r#""a\"b\\""#,
                r#""\x00\x7f\n""#,
                "\"é😀\u{301}\"",
                r#""\u200b\U000e0001""#,
            ]
        );
    }
}
