//! Expansion of words: quotes removed, escapes processed, variables substituted.
//!
//! Forms: `$x ${x} ${x:-w} ${x-w} ${x:+w} ${x+w} ${x:?e} ${x?e} ${x#p} ${x##p} ${x%p} ${x%%p}
//! ${x/p/r} ${x//p/r}`. Positional and special parameters (`$1`, `$$`, `$@`) are unset names.
//! Single quotes keep everything; double quotes keep all but `$` and an escaped `"`, `$` or
//! escape character; outside of quotes the escape character protects any character.
//!
//! Which instruction expands how, is the planner's knowledge: [`expand`] for nearly all words,
//! [`expand_words`] for EXPOSE, [`expand_body`] for here-documents of COPY and ADD,
//! [`expand_display`] for the names of steps.
//!
//! Source: the Dockerfile reference, "Environment replacement".

use std::collections::BTreeSet;

use thiserror::Error;

use super::lexer::{DEPTH_LIMIT, GROWTH_LIMIT, Mode, Output, process};
use super::substitution::PatternError;

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// Variables that were asked for and had a value.
    pub used: BTreeSet<String>,
    /// Variables that were asked for and had none.
    pub unset: BTreeSet<String>,
}

/// Words after expansion and splitting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpandedWords {
    /// The words; a variable's blanks split unless it is in double quotes.
    pub words: Vec<String>,
    /// Variables that were asked for and had a value.
    pub used: BTreeSet<String>,
    /// Variables that were asked for and had none.
    pub unset: BTreeSet<String>,
}

/// A word that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("failed to process {word:?}: {kind}")]
pub struct WordError {
    /// The word as written.
    pub word: String,
    /// What is wrong with it.
    pub kind: WordErrorKind,
}

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WordErrorKind {
    /// A `'` without its pair.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// A `"` without its pair.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// A `${` without its `}`.
    #[error("syntax error: missing '}}'")]
    Brace,
    /// A `${name` with nothing after it.
    #[error("unsupported modifier (end of text) in substitution: syntax error: missing '}}'")]
    BraceAfterName,
    /// `${x/p}` without its second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    Slash,
    /// `${}`, `${:…}`, `${{`.
    #[error("syntax error: bad substitution")]
    Substitution,
    /// Something else than the known forms after the name.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${x?message}` of an unset variable.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message, or the default one.
        message: String,
    },
    /// The pattern of `#`, `%` or `/`.
    #[error("invalid pattern ({pattern}) in substitution: {error}")]
    Pattern {
        /// The pattern after its own expansion.
        pattern: String,
        /// What is wrong with it.
        error: PatternError,
    },
    /// Substitutions inside substitutions beyond any use.
    #[error("substitutions are nested deeper than {DEPTH_LIMIT}")]
    Depth,
    /// Variables that make a text longer than anything could take.
    #[error("variables make it longer by more than {GROWTH_LIMIT} bytes")]
    TooLong,
}

impl WordErrorKind {
    /// Whether it says that there is too much of something.
    pub(super) fn is_limit(&self) -> bool {
        matches!(self, Self::Depth | Self::TooLong)
    }
}

/// What a variable name stands for.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands a word with the Dockerfile's `escape` character; `vars` tells values.
pub fn expand(word: &str, escape: char, vars: Variables<'_>) -> Result<Expansion, WordError> {
    process(word, escape, vars, Mode::default()).map(Output::text)
}

/// Expands a text and splits what comes out at blanks outside of quotes (EXPOSE).
pub fn expand_words(
    text: &str,
    escape: char,
    vars: Variables<'_>,
) -> Result<ExpandedWords, WordError> {
    let output = process(text, escape, vars, Mode { splits: true, ..Mode::default() })?;
    Ok(ExpandedWords { words: output.words, used: output.used, unset: output.unset })
}

/// Expands the body of a here-document (COPY, ADD): quotes are ordinary characters.
pub fn expand_body(body: &str, escape: char, vars: Variables<'_>) -> Result<Expansion, WordError> {
    let mode = Mode { plain_quotes: true, ..Mode::default() };
    process(body, escape, vars, mode).map(Output::text)
}

/// A line as a step's name shows it: quotes stay, set variables are expanded, unset ones are
/// left as written; a line that cannot be expanded is shown as it is.
pub fn expand_display(line: &str, escape: char, vars: Variables<'_>) -> String {
    let mode = Mode { raw_quotes: true, keep_unset: true, ..Mode::default() };
    process(line, escape, vars, mode).map_or_else(|_| line.to_owned(), |output| output.text)
}

/// The words of a line in which nothing is expanded and quotes and escapes stay; empty if a quote
/// or a brace is open.
pub(super) fn raw_words(line: &str) -> Vec<String> {
    let mode = Mode {
        raw_quotes: true,
        raw_escapes: true,
        keep_unset: true,
        splits: true,
        ..Mode::default()
    };
    process(line, '\\', &|_| None, mode).map_or_else(|_| Vec::new(), |output| output.words)
}

/// The words of a here-document's delimiter, with or without its quotes.
pub(super) fn delimiter_words(text: &str, raw_quotes: bool) -> Result<Vec<String>, WordError> {
    let mode = Mode { raw_quotes, keep_unset: true, splits: true, ..Mode::default() };
    process(text, '\\', &|_| None, mode).map(|output| output.words)
}
