//! The lexer behind [`super::words`]: quotes, escapes, `$`.
//!
//! It goes through the text once and builds both the expanded text and the words that it splits
//! into. It never fails on unknown characters, only on open quotes and braces and on what stands
//! in a brace.

use std::collections::BTreeSet;

use super::substitution::{self, PatternError, Removal};
use super::words::{Expansion, Variables, WordError, WordErrorKind};

/// How deep `${a:-${b:-…}}` may nest.
pub(super) const DEPTH_LIMIT: usize = 64;

/// How many bytes variables may add to one text: `ENV A=$A$A` again and again would fill any
/// memory. No command can be given more.
pub(super) const GROWTH_LIMIT: usize = 1 << 20;

/// The same for a text that is only shown.
const SHOWN_GROWTH_LIMIT: usize = 1 << 16;

/// What the variants of expansion differ in.
#[derive(Clone, Copy, Default)]
pub(super) struct Mode {
    /// Quotes stay in the result.
    pub(super) raw_quotes: bool,
    /// Escape characters stay in the result.
    pub(super) raw_escapes: bool,
    /// Quotes mean nothing.
    pub(super) plain_quotes: bool,
    /// A reference to an unset variable stays as written.
    pub(super) keep_unset: bool,
    /// The words are asked for, too.
    pub(super) splits: bool,
}

/// What came out, as one text and as words.
pub(super) struct Output {
    pub(super) text: String,
    pub(super) words: Vec<String>,
    pub(super) used: BTreeSet<String>,
    pub(super) unset: BTreeSet<String>,
}

impl Output {
    /// Without the words.
    pub(super) fn text(self) -> Expansion {
        Expansion { text: self.text, used: self.used, unset: self.unset }
    }
}

/// Runs the lexer over a whole text.
pub(super) fn process(
    word: &str,
    escape: char,
    vars: Variables<'_>,
    mode: Mode,
) -> Result<Output, WordError> {
    let mut lexer = Lexer {
        chars: Cursor { rest: word.strip_prefix('\u{feff}').unwrap_or(word) },
        escape,
        vars,
        mode,
        used: BTreeSet::new(),
        unset: BTreeSet::new(),
        depth: 0,
        room: if mode.keep_unset { SHOWN_GROWTH_LIMIT } else { GROWTH_LIMIT },
        current: String::new(),
    };
    match lexer.until(None) {
        Ok((text, words)) => Ok(Output { text, words, used: lexer.used, unset: lexer.unset }),
        Err(kind) => Err(WordError { word: word.to_owned(), kind }),
    }
}

/// The text that is still to be read.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        self.next_if(|_| true)
    }

    fn next_if(&mut self, wanted: impl FnOnce(char) -> bool) -> Option<char> {
        let c = self.peek().filter(|c| wanted(*c))?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// All characters before the first that is not of ASCII or ends it: most of a text is in such runs.
    fn run(&mut self, ends: impl Fn(u8) -> bool) -> &'a str {
        let is_end = |byte: u8| !byte.is_ascii() || ends(byte);
        let length = self.rest.bytes().position(is_end).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(length);
        self.rest = rest;
        run
    }
}

struct Lexer<'a> {
    chars: Cursor<'a>,
    escape: char,
    vars: Variables<'a>,
    mode: Mode,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
    depth: usize,
    /// How many bytes variables may still add.
    room: usize,
    /// The word that is being collected. There is one for all depths, as in BuildKit: what stands
    /// before a `${x:-y}` in its word is lost, so `80${X:-80}` splits into `80`.
    current: String,
}

/// What follows the name in `${name…}`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Default,
    Alternative,
    Required,
    Remove(Removal),
    /// After a colon: refused, but only once its word has been read.
    Unknown,
}

/// Whether an empty value counts as none (the colon in `${x:-w}`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Counts,
    IsUnset,
}

impl Lexer<'_> {
    /// Everything up to `stop` (eaten), or to the end; as one text and as words.
    fn until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), WordErrorKind> {
        // Most of a text stays as it is.
        let length = if stop.is_none() { self.chars.rest.len() } else { 0 };
        let mut result = String::with_capacity(length);
        let mut words = Vec::new();
        self.current.clear();
        while let Some(c) = self.chars.peek() {
            if Some(c) == stop {
                self.chars.next();
                self.end_word(&mut words);
                return Ok((result, words));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    if self.mode.splits {
                        value.chars().for_each(|c| self.push(c, &mut words));
                    }
                    result.push_str(&value);
                }
                '\'' | '"' if !self.mode.plain_quotes => {
                    let quoted = self.quoted()?;
                    self.collect(&quoted);
                    result.push_str(&quoted);
                }
                '<' => {
                    let redirection = self.redirection();
                    self.collect(&redirection);
                    result.push_str(&redirection);
                }
                _ => self.plain(stop, &mut result, &mut words),
            }
        }
        match stop {
            None => {
                self.end_word(&mut words);
                Ok((result, words))
            }
            Some('/') => Err(WordErrorKind::Slash),
            Some(_) => Err(WordErrorKind::Brace),
        }
    }

    /// The same with escapes kept or not, for the inside of a substitution.
    fn nested(&mut self, stop: char, raw_escapes: bool) -> Result<String, WordErrorKind> {
        if self.depth == DEPTH_LIMIT {
            return Err(WordErrorKind::Depth);
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.mode.raw_escapes, raw_escapes);
        let result = self.until(Some(stop));
        self.mode.raw_escapes = outer;
        self.depth -= 1;
        match result {
            Ok((text, _)) => Ok(text),
            // What is missing at the end of the text is first of all this.
            Err(kind) if self.chars.peek().is_some() || kind.is_limit() => Err(kind),
            Err(_) if stop == '/' => Err(WordErrorKind::Slash),
            Err(_) => Err(WordErrorKind::Brace),
        }
    }

    fn plain(&mut self, stop: Option<char>, result: &mut String, words: &mut Vec<String>) {
        let escape = self.escape;
        let run = self.chars.run(|byte| {
            let c = char::from(byte);
            matches!(c, '$' | '\'' | '"' | '<' | ' ')
                || c.is_control()
                || c == escape
                || Some(c) == stop
        });
        if !run.is_empty() {
            self.collect(run);
            result.push_str(run);
            return;
        }
        let Some(c) = self.chars.next() else { return };
        if c != self.escape {
            self.push(c, words);
            result.push(c);
            return;
        }
        let kept = result.len();
        if self.mode.raw_escapes {
            result.push(c);
        }
        result.extend(self.chars.next());
        self.collect(&result[kept..]);
    }

    /// Adds to the word at hand.
    fn collect(&mut self, text: &str) {
        if self.mode.splits {
            self.current.push_str(text);
        }
    }

    /// A character outside of quotes: a blank ends the word.
    fn push(&mut self, c: char, words: &mut Vec<String>) {
        if c.is_whitespace() {
            self.end_word(words);
        } else if self.mode.splits {
            self.current.push(c);
        }
    }

    fn end_word(&mut self, words: &mut Vec<String>) {
        if !self.current.is_empty() {
            words.push(std::mem::take(&mut self.current));
        }
    }

    fn quoted(&mut self) -> Result<String, WordErrorKind> {
        let quote = self.chars.next().unwrap_or('"');
        let mut result = String::new();
        if self.mode.raw_quotes {
            result.push(quote);
        }
        if quote == '\'' {
            self.single_quoted(&mut result)?;
        } else {
            self.double_quoted(&mut result)?;
        }
        if self.mode.raw_quotes {
            result.push(quote);
        }
        Ok(result)
    }

    fn single_quoted(&mut self, result: &mut String) -> Result<(), WordErrorKind> {
        let rest = std::mem::take(&mut self.chars.rest);
        let (inside, rest) = rest.split_once('\'').ok_or(WordErrorKind::SingleQuote)?;
        result.push_str(inside);
        self.chars.rest = rest;
        Ok(())
    }

    fn double_quoted(&mut self, result: &mut String) -> Result<(), WordErrorKind> {
        let escape = self.escape;
        loop {
            let run = |byte| matches!(byte, b'$' | b'"') || char::from(byte) == escape;
            result.push_str(self.chars.run(run));
            let Some(c) = self.chars.peek() else { break };
            if c == '$' {
                result.push_str(&self.dollar()?);
                continue;
            }
            self.chars.next();
            if c == '"' {
                return Ok(());
            }
            if c != self.escape {
                result.push(c);
                continue;
            }
            if self.mode.raw_escapes {
                result.push(c);
            }
            match self.chars.peek() {
                None => {}
                Some(next) if next == '"' || next == '$' || next == self.escape => {
                    self.chars.next();
                    result.push(next);
                }
                Some(_) => result.push(c),
            }
        }
        Err(WordErrorKind::DoubleQuote)
    }

    /// `<`, or `<<` with the blanks after it: those belong to a here-document's word.
    fn redirection(&mut self) -> String {
        let mut result = String::from("<");
        self.chars.next();
        if self.chars.next_if(|c| c == '<').is_some() {
            result.push('<');
            while let Some(blank) = self.chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                result.push(blank);
            }
        }
        result
    }

    fn dollar(&mut self) -> Result<String, WordErrorKind> {
        let value = self.reference()?;
        self.room = self.room.checked_sub(value.len()).ok_or(WordErrorKind::TooLong)?;
        Ok(value)
    }

    /// What a `$` and the following stand for.
    fn reference(&mut self) -> Result<String, WordErrorKind> {
        self.chars.next();
        if self.chars.next_if(|c| c == '{').is_some() {
            return self.braced();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.value(&name) {
            None if self.mode.keep_unset => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    /// After `${`.
    fn braced(&mut self) -> Result<String, WordErrorKind> {
        match self.chars.peek() {
            None => return Err(WordErrorKind::Brace),
            Some('{' | '}' | ':') => return Err(WordErrorKind::Substitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            None => Err(WordErrorKind::BraceAfterName),
            Some('}') => match self.value(&name) {
                None if self.mode.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some('/') => self.replace(&name),
            Some(':') => match self.chars.next() {
                None => Err(WordErrorKind::Brace),
                Some(c) => self.modified(&name, c, Empty::IsUnset),
            },
            Some(c) => self.modified(&name, c, Empty::Counts),
        }
    }

    /// `${name-word}` and its like, after the operator's first character.
    fn modified(&mut self, name: &str, c: char, empty: Empty) -> Result<String, WordErrorKind> {
        let colon = if empty == Empty::IsUnset { ":" } else { "" };
        let operator = match c {
            '-' => Operator::Default,
            '+' => Operator::Alternative,
            '?' => Operator::Required,
            '#' if empty == Empty::Counts => Operator::Remove(Removal::Prefix),
            '%' if empty == Empty::Counts => Operator::Remove(Removal::Suffix),
            _ if empty == Empty::Counts => return Err(WordErrorKind::Modifier(c.to_string())),
            '#' | '%' => return Err(WordErrorKind::Modifier(format!(":{c}"))),
            _ => Operator::Unknown,
        };
        let word = self.nested('}', matches!(operator, Operator::Remove(_)))?;
        let value = self.value(name);
        if value.is_none() && self.mode.keep_unset {
            return Ok(format!("${{{name}{colon}{c}{word}}}"));
        }
        let usable = match &value {
            Some(value) => !(value.is_empty() && empty == Empty::IsUnset),
            None => false,
        };
        let text = value.clone().unwrap_or_default();
        match operator {
            Operator::Default => Ok(if usable { text } else { word }),
            Operator::Alternative => Ok(if usable { word } else { String::new() }),
            Operator::Required if usable => Ok(text),
            Operator::Required => Err(required(name, value.is_some(), word)),
            Operator::Remove(side) => substitution::remove(&text, &word, side)
                .map_err(|error| WordErrorKind::Pattern { pattern: side.stripped(&word), error }),
            Operator::Unknown => Err(WordErrorKind::Modifier(format!(":{c}"))),
        }
    }

    /// After `${name/`.
    fn replace(&mut self, name: &str) -> Result<String, WordErrorKind> {
        let all = self.chars.next_if(|c| c == '/').is_some();
        let pattern = self.nested('/', true)?;
        let replacement = self.nested('}', true)?;
        let value = self.value(name);
        if value.is_none() && self.mode.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        let result = if all {
            substitution::replace_all(&value, &pattern, &replacement, self.room)
        } else {
            substitution::replace_first(&value, &pattern, &replacement)
        };
        match result {
            Err(PatternError::TooLong) => Err(WordErrorKind::TooLong),
            result => result.map_err(|error| WordErrorKind::Pattern { pattern, error }),
        }
    }

    /// Digits, one special parameter, or a name; empty where none of them stands.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let Some(first) = self.chars.peek() else {
            return name;
        };
        if is_digit(first) {
            while let Some(digit) = self.chars.next_if(is_digit) {
                name.push(digit);
            }
        } else if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
            self.chars.next();
            name.push(first);
        } else {
            while let Some(c) = self.chars.next_if(is_name) {
                name.push(c);
            }
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.vars)(name);
        let names = if value.is_some() { &mut self.used } else { &mut self.unset };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value
    }
}

/// Where the ten decimal digits of each script other than ASCII begin (Unicode 15, `Nd`).
const DIGITS: [u32; 65] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6,
    0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50,
    0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650,
    0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50,
    0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// A decimal digit of any script.
fn is_digit(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    let after = DIGITS.partition_point(|start| *start <= c as u32);
    after > 0 && c as u32 - DIGITS[after - 1] < 10
}

/// What names are made of: letters, digits and `_`.
fn is_name(c: char) -> bool {
    c.is_alphabetic() || is_digit(c) || c == '_'
}

fn required(name: &str, is_set: bool, word: String) -> WordErrorKind {
    let message = match (word.is_empty(), is_set) {
        (false, _) => word,
        (true, true) => "is not allowed to be empty".to_owned(),
        (true, false) => "is not allowed to be unset".to_owned(),
    };
    WordErrorKind::Required { name: name.to_owned(), message }
}
