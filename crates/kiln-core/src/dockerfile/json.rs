//! JSON arrays of strings: the exec form.
//!
//! Every string has its range, which a JSON library does not tell. Strings follow RFC 8259 as
//! Go reads it: an unpaired surrogate becomes U+FFFD, control characters are refused.

use std::ops::Range;

use serde_json::Value;

/// Why a text is no array of strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotStrings {
    /// No JSON array: the shell form is meant.
    NotAnArray,
    /// An array, but with something else than strings in it; its range.
    OtherElement(Range<usize>),
}

/// The strings of the JSON array that `text` is, each with its range in `text`.
pub(super) fn string_array(text: &str) -> Result<Vec<(String, Range<usize>)>, NotStrings> {
    let mut reader = Reader { text, at: 0 };
    reader.at = text.len() - text.trim_start().len();
    reader.array().ok_or(NotStrings::NotAnArray)?
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

type Strings = Vec<(String, Range<usize>)>;

impl Reader<'_> {
    /// The whole array up to the end of the text; `None` where it is no JSON.
    fn array(&mut self) -> Option<Result<Strings, NotStrings>> {
        let mut strings = Vec::new();
        let mut other = None;
        self.eat('[')?;
        self.blanks();
        if self.eat(']').is_none() {
            loop {
                self.blanks();
                let start = self.at;
                if self.rest().starts_with('"') {
                    let string = self.string()?;
                    strings.push((string, start..self.at));
                } else {
                    self.value()?;
                    other.get_or_insert(start..self.at);
                }
                self.blanks();
                if self.eat(',').is_none() {
                    self.eat(']')?;
                    break;
                }
            }
        }
        self.blanks();
        if !self.rest().is_empty() {
            return None;
        }
        Some(match other {
            Some(range) => Err(NotStrings::OtherElement(range)),
            None => Ok(strings),
        })
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn eat(&mut self, c: char) -> Option<()> {
        self.rest().starts_with(c).then(|| self.at += c.len_utf8())
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// Any value but a string.
    fn value(&mut self) -> Option<()> {
        let mut stream = serde_json::Deserializer::from_str(self.rest()).into_iter::<Value>();
        stream.next()?.ok()?;
        let length = stream.byte_offset();
        self.at += length;
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        self.eat('"')?;
        let mut out = String::new();
        loop {
            let c = self.rest().chars().next()?;
            self.at += c.len_utf8();
            match c {
                '"' => return Some(out),
                '\\' => out.push(self.escape()?),
                '\0'..='\x1f' => return None,
                _ => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(match c {
            '"' | '\\' | '/' => c,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode()?,
            _ => return None,
        })
    }

    fn unicode(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if let Some(c) = char::from_u32(first) {
            return Some(c);
        }
        let before = self.at;
        if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            }
        }
        self.at = before;
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Option<Vec<String>> {
        let strings = string_array(text).ok()?;
        Some(strings.into_iter().map(|(string, _)| string).collect())
    }

    #[test]
    fn strings_are_decoded() {
        let text = r#" [ "a\"b" ,"\u0041\ud83d\ude00\ud800x" , "/\/\b\f\n\r\t" ] "#;
        let expected = ["a\"b", "A😀\u{fffd}x", "//\x08\x0c\n\r\t"].map(str::to_owned);
        assert_eq!(strings(text), Some(expected.to_vec()));
        assert_eq!(strings("[]"), Some(vec![]));
        assert_eq!(string_array(" [\"é\"]").map(|s| s[0].1.clone()), Ok(2..6));
    }

    #[test]
    fn what_is_no_json_is_told_from_what_is_no_string() {
        for text in [
            "",
            "x",
            "['a']",
            "[\"a\"",
            "[\"a\",]",
            "[\"a\"] b",
            "[\"\\x\"]",
            "[\"\t\"]",
            "[",
            "[a]",
            "[\"\\ud83d\\u12\"]",
            "[1",
        ] {
            assert_eq!(string_array(text), Err(NotStrings::NotAnArray), "{text}");
        }
        for text in ["[1]", "[null]", "[\"a\", [\"b\"]]", "[{\"a\": [1.5e3]}, true]"] {
            let result = string_array(text);
            assert!(matches!(result, Err(NotStrings::OtherElement(_))), "{text}");
        }
    }
}
