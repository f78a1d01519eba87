//! Glob patterns over slash-separated paths, compiled once and matched without backtracking
//! blow-up.
//!
//! Two dialects share the matcher:
//! - [`Glob::path`], wildcards of COPY and ADD sources: `*` and `?` stop at slashes, `[a-z]` and
//!   `[^a]` do not, `\c` is `c`; the rules of Go's `filepath.Match`;
//! - [`Glob::ignore`], lines of `.dockerignore`: the same with `**` for any text, where `**/`
//!   also stands for nothing; the rules of moby's patternmatcher.
//!
//! Not here: `{a,b}` and `[!a]` are ordinary text in both dialects.
//!
//! Known difference: moby hands patterns to a regular expression engine, so that there `\d`
//! means a digit, `^` inside a wildcard pattern anchors, and `*` or `?` inside brackets are still
//! wildcards. Here `\d` is `d`, and `^`, `[*]` and `[?]` mean these characters.

use thiserror::Error;

/// A pattern with an open bracket, an empty class, or a backslash at its end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("syntax error in pattern {pattern:?}")]
pub struct BadPattern {
    /// The pattern as written.
    pub pattern: String,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    /// Exactly this path.
    Exact(String),
    /// Whatever begins so (`dir/**`).
    Prefix(String),
    /// Whatever ends so (`**.md`).
    Suffix(String),
    /// This path, or whatever ends with a slash and this path (`**/name`).
    Below(String),
    /// Stars that stop at slashes, and no class.
    Segments(Wildcards),
    /// The same for the last segment only (`**/*.md`).
    LastSegment(Wildcards),
    /// Everything else.
    Automaton(Wildcards),
}

/// Tokens with the text that any match must begin and end with.
#[derive(Clone, Debug)]
struct Wildcards {
    tokens: Vec<Token>,
    prefix: String,
    suffix: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Literal(char),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `[…]`; may be a slash.
    Class(Class),
    /// `**` at the end: any text.
    Rest,
    /// `**` or `**/` before something: nothing, or any text up to a slash ([`Token::UpToSlash`]
    /// follows it).
    Deep,
    UpToSlash,
}

#[derive(Clone, Debug, PartialEq)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn matches(&self, c: char) -> bool {
        let within = self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
        within != self.negated
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Path,
    Ignore,
}

impl Glob {
    /// Compiles a wildcard of COPY or ADD.
    pub fn path(pattern: &str) -> Result<Self, BadPattern> {
        Self::compile(pattern, Dialect::Path)
    }

    /// Compiles a line of `.dockerignore` that is cleaned and has no `!`.
    pub fn ignore(pattern: &str) -> Result<Self, BadPattern> {
        Self::compile(pattern, Dialect::Ignore)
    }

    fn compile(pattern: &str, dialect: Dialect) -> Result<Self, BadPattern> {
        let tokens =
            tokenize(pattern, dialect).ok_or_else(|| BadPattern { pattern: pattern.to_owned() })?;
        Ok(Self {
            matcher: Matcher::new(
                tokens,
                pattern.starts_with("**/") || pattern.contains(['\\', ']']),
            ),
        })
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        self.matches_with_name(path, last_segment(path))
    }

    /// The same, given the path's [`last_segment`]: for many patterns on one path.
    pub(crate) fn matches_with_name(&self, path: &str, name: &str) -> bool {
        match &self.matcher {
            Matcher::Exact(exact) => path == exact,
            Matcher::Prefix(prefix) => begins(path, prefix),
            Matcher::Suffix(suffix) => ends(path, suffix),
            Matcher::Below(below) => {
                ends(path, below) && {
                    let before = &path[..path.len() - below.len()];
                    before.is_empty() || before.ends_with('/')
                }
            }
            Matcher::Segments(wildcards) => {
                wildcards.may_match(path) && segments(&wildcards.tokens, path)
            }
            Matcher::LastSegment(wildcards) => {
                wildcards.may_match(name) && segments(&wildcards.tokens, name)
            }
            Matcher::Automaton(wildcards) => {
                wildcards.may_match(path) && automaton(&wildcards.tokens, path)
            }
        }
    }
}

/// `starts_with` that looks at one byte first: most paths differ there, and comparing memory
/// costs a call.
fn begins(path: &str, prefix: &str) -> bool {
    let first = prefix.as_bytes().first();
    first.is_none() || (first == path.as_bytes().first() && path.starts_with(prefix))
}

/// `ends_with` in the same way.
fn ends(path: &str, suffix: &str) -> bool {
    let last = suffix.as_bytes().last();
    last.is_none() || (last == path.as_bytes().last() && path.ends_with(suffix))
}

/// What follows the last slash.
pub(crate) fn last_segment(path: &str) -> &str {
    let slash = path.bytes().rposition(|byte| byte == b'/');
    &path[slash.map_or(0, |slash| slash + 1)..]
}

impl Matcher {
    /// `name_below`: what follows `**` in front begins a segment (it does so after `**/`, and,
    /// oddly, in every pattern with a backslash or a `]`).
    fn new(tokens: Vec<Token>, name_below: bool) -> Self {
        if let Some(text) = literal(&tokens) {
            return Self::Exact(text);
        }
        if let [before @ .., Token::Rest] = tokens.as_slice()
            && let Some(text) = literal(before)
        {
            return Self::Prefix(text);
        }
        if let [Token::Deep, Token::UpToSlash, after @ ..] = tokens.as_slice() {
            if let Some(text) = literal(after) {
                return if name_below { Self::Below(text) } else { Self::Suffix(text) };
            }
            if is_plain(after) && !after.contains(&Token::Literal('/')) {
                return Self::LastSegment(Wildcards::new(after.to_vec()));
            }
        }
        if is_plain(&tokens) {
            Self::Segments(Wildcards::new(tokens))
        } else {
            Self::Automaton(Wildcards::new(tokens))
        }
    }
}

impl Wildcards {
    fn new(tokens: Vec<Token>) -> Self {
        let character = |token: &Token| match token {
            Token::Literal(c) => Some(*c),
            _ => None,
        };
        let prefix = tokens.iter().map_while(character).collect();
        let suffix: String = tokens.iter().rev().map_while(character).collect();
        Self { prefix, suffix: suffix.chars().rev().collect(), tokens }
    }

    /// A cheap refusal of most paths.
    fn may_match(&self, path: &str) -> bool {
        begins(path, &self.prefix) && ends(path, &self.suffix)
    }
}

/// The text that the tokens are, if there is no wildcard among them.
fn literal(tokens: &[Token]) -> Option<String> {
    let characters = tokens.iter().map(|token| match token {
        Token::Literal(c) => Some(*c),
        _ => None,
    });
    characters.collect()
}

fn is_plain(tokens: &[Token]) -> bool {
    let plain = |token: &Token| matches!(token, Token::Literal(_) | Token::Any | Token::Star);
    tokens.iter().all(plain)
}

fn tokenize(pattern: &str, dialect: Dialect) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if dialect == Dialect::Ignore && chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    tokens.push(Token::Rest);
                } else {
                    tokens.extend([Token::Deep, Token::UpToSlash]);
                }
            }
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::Any),
            '[' => {
                let class = class(&mut chars)?;
                // `[b-a]` is an error to moby, and nothing to Go.
                if dialect == Dialect::Ignore && class.ranges.iter().any(|(low, high)| low > high) {
                    return None;
                }
                tokens.push(Token::Class(class));
            }
            '\\' => tokens.push(Token::Literal(chars.next()?)),
            c => tokens.push(Token::Literal(c)),
        }
    }
    Some(tokens)
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// After `[`: ranges up to `]`; none is an error.
fn class(chars: &mut Characters<'_>) -> Option<Class> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Class { negated, ranges });
        }
        let low = class_character(chars)?;
        let high = match chars.next_if_eq(&'-') {
            Some(_) => class_character(chars)?,
            None => low,
        };
        ranges.push((low, high));
    }
}

fn class_character(chars: &mut Characters<'_>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

/// Literals, `?` and `*` only: one place to go back to is enough, as a star cannot cross a slash.
fn segments(tokens: &[Token], path: &str) -> bool {
    let mut index = 0;
    let mut rest = path;
    let mut star: Option<(usize, &str)> = None;
    loop {
        let mut chars = rest.chars();
        let next = chars.next();
        match (tokens.get(index), next) {
            (None, None) => return true,
            (Some(Token::Star), _) => {
                index += 1;
                star = Some((index, rest));
                continue;
            }
            (Some(Token::Any), Some(c)) if c != '/' => {
                index += 1;
                rest = chars.as_str();
                continue;
            }
            (Some(Token::Literal(literal)), Some(c)) if *literal == c => {
                index += 1;
                rest = chars.as_str();
                continue;
            }
            _ => {}
        }
        // Let the last star eat one character more.
        let Some((after_star, from)) = star else {
            return false;
        };
        let mut chars = from.chars();
        match chars.next() {
            Some(c) if c != '/' => {
                rest = chars.as_str();
                star = Some((after_star, rest));
                index = after_star;
            }
            _ => return false,
        }
    }
}

/// Any tokens: the set of places in the pattern where a match may be, character by character.
fn automaton(tokens: &[Token], path: &str) -> bool {
    let mut places = Places::new(tokens.len() + 1);
    let mut next = Places::new(tokens.len() + 1);
    places.enter(tokens, 0);
    for c in path.chars() {
        next.clear();
        for &place in &places.active {
            match tokens.get(place) {
                Some(Token::Literal(literal)) if *literal == c => next.enter(tokens, place + 1),
                Some(Token::Any) if c != '/' => next.enter(tokens, place + 1),
                Some(Token::Star) if c != '/' => next.enter(tokens, place),
                Some(Token::Class(class)) if class.matches(c) => next.enter(tokens, place + 1),
                Some(Token::Rest) => next.enter(tokens, place),
                Some(Token::UpToSlash) => {
                    next.enter(tokens, place);
                    if c == '/' {
                        next.enter(tokens, place + 1);
                    }
                }
                _ => {}
            }
        }
        if next.active.is_empty() {
            return false;
        }
        std::mem::swap(&mut places, &mut next);
    }
    places.member[tokens.len()]
}

struct Places {
    active: Vec<usize>,
    member: Vec<bool>,
}

impl Places {
    fn new(size: usize) -> Self {
        Self { active: Vec::with_capacity(size), member: vec![false; size] }
    }

    fn clear(&mut self) {
        for place in self.active.drain(..) {
            self.member[place] = false;
        }
    }

    /// Adds a place, and those that are reached from it without a character.
    fn enter(&mut self, tokens: &[Token], mut place: usize) {
        loop {
            if std::mem::replace(&mut self.member[place], true) {
                return;
            }
            self.active.push(place);
            match tokens.get(place) {
                Some(Token::Star | Token::Rest) => place += 1,
                Some(Token::Deep) => {
                    self.enter(tokens, place + 1);
                    place += 2;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
