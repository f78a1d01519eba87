//! Patterns of `${x#p}`, `${x%p}` and `${x/p/r}`.
//!
//! `*` is any text, `?` any character (neither crosses a line end), `\*`, `\?`, `\\`, `\}` and
//! `\/` are the characters themselves; brackets are ordinary. Matching walks a set of positions,
//! so one match costs at most pattern × text and cannot blow up.

use thiserror::Error;

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// A backslash before a character that needs none.
    #[error("invalid escape '\\{0}'")]
    Escape(char),
    /// A backslash at the end.
    #[error("invalid escape '\\' at the end")]
    TrailingEscape,
    /// No mistake in the pattern: its replacements make the value too long.
    #[error("the result is too long")]
    TooLong,
}

/// Which end of the value a pattern is removed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// `#`
    Prefix,
    /// `%`
    Suffix,
}

impl Removal {
    fn sign(self) -> char {
        match self {
            Self::Prefix => '#',
            Self::Suffix => '%',
        }
    }

    /// A pattern without the sign that asks for the longest match.
    pub(super) fn stripped(self, pattern: &str) -> String {
        pattern.strip_prefix(self.sign()).unwrap_or(pattern).to_owned()
    }
}

/// Which of several matches from one place is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Shortest,
    Longest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    Any,
    Star,
}

/// `${value#pattern}` or `${value%pattern}`; a pattern that begins with another `#` or `%`
/// removes the longest match instead of the shortest.
pub(super) fn remove(value: &str, pattern: &str, side: Removal) -> Result<String, PatternError> {
    let (pattern, extent) = match pattern.strip_prefix(side.sign()) {
        Some(rest) => (rest, Extent::Longest),
        None => (pattern, Extent::Shortest),
    };
    let mut chars: Vec<char> = value.chars().collect();
    let tokens = match side {
        Removal::Prefix => compile(pattern)?,
        Removal::Suffix => compile(&reversed(pattern))?,
    };
    if side == Removal::Suffix {
        chars.reverse();
    }
    let matched = match_at(&tokens, &chars, extent).unwrap_or(0);
    let mut rest = chars.split_off(matched);
    if side == Removal::Suffix {
        rest.reverse();
    }
    Ok(rest.into_iter().collect())
}

/// The pattern from its end to its beginning; an escaped character stays behind its backslash.
///
/// A backslash at the end comes to stand before what it followed, and so may become an escape:
/// `*\\` removes a star. BuildKit does so.
fn reversed(pattern: &str) -> String {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        pieces.push((c, escaped));
    }
    pieces.into_iter().rev().flat_map(|(c, escaped)| std::iter::once(c).chain(escaped)).collect()
}

/// `${value/pattern/replacement}`: the first match.
pub(super) fn replace_first(
    value: &str,
    pattern: &str,
    replacement: &str,
) -> Result<String, PatternError> {
    let tokens = compile(pattern)?;
    let chars: Vec<char> = value.chars().collect();
    let Some((start, end)) = find(&tokens, &chars, 0) else {
        return Ok(value.to_owned());
    };
    let mut result: String = chars[..start].iter().collect();
    result.push_str(replacement);
    result.extend(&chars[end..]);
    Ok(result)
}

/// `${value//pattern/replacement}`: every match. An empty match right after another one does not
/// count; `$0`, `$name` and `$$` in the replacement are references (there are no groups, so a
/// name stands for nothing). The result may have about `limit` bytes.
pub(super) fn replace_all(
    value: &str,
    pattern: &str,
    replacement: &str,
    limit: usize,
) -> Result<String, PatternError> {
    let tokens = compile(pattern)?;
    let chars: Vec<char> = value.chars().collect();
    let mut result = String::new();
    let mut copied = 0;
    let mut search = 0;
    while let Some((start, end)) = find(&tokens, &chars, search) {
        result.extend(&chars[copied..start]);
        if end > copied || start == 0 {
            result.push_str(&fill_in(replacement, &chars[start..end]));
        }
        if result.len() > limit {
            return Err(PatternError::TooLong);
        }
        copied = end;
        search = end.max(search + 1);
        if search > chars.len() {
            break;
        }
    }
    result.extend(&chars[copied..]);
    Ok(result)
}

fn compile(pattern: &str) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => match chars.next() {
                Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(c),
                Some(c) => return Err(PatternError::Escape(c)),
                None => return Err(PatternError::TrailingEscape),
            },
            c => Token::Literal(c),
        });
    }
    Ok(tokens)
}

/// The first place from `from` on where the pattern matches, with its longest extent.
fn find(tokens: &[Token], chars: &[char], from: usize) -> Option<(usize, usize)> {
    let mut found: Option<(usize, usize)> = None;
    let mut active = vec![None; tokens.len() + 1];
    for position in from..=chars.len() {
        if found.is_none() {
            active[0].get_or_insert(position);
        }
        pass_stars(tokens, &mut active);
        if let Some(start) = active[tokens.len()]
            && found.is_none_or(|(first, _)| start <= first)
        {
            found = Some((start, position));
        }
        let Some(&c) = chars.get(position) else { break };
        // What began later than the match at hand is of no interest any more.
        for begun in &mut active {
            *begun = begun.filter(|start| found.is_none_or(|(first, _)| *start <= first));
        }
        active = step(tokens, &active, c);
        if found.is_some() && active.iter().all(Option::is_none) {
            break;
        }
    }
    found
}

/// How many characters the pattern matches at the beginning.
fn match_at(tokens: &[Token], chars: &[char], extent: Extent) -> Option<usize> {
    let mut active = vec![None; tokens.len() + 1];
    active[0] = Some(0);
    let mut found = None;
    for position in 0..=chars.len() {
        pass_stars(tokens, &mut active);
        if active[tokens.len()].is_some() {
            found = Some(position);
            if extent == Extent::Shortest {
                return found;
            }
        }
        let Some(&c) = chars.get(position) else { break };
        active = step(tokens, &active, c);
        if active.iter().all(Option::is_none) {
            break;
        }
    }
    found
}

/// How far the pattern may have come, and where that began at the earliest.
type Active = Vec<Option<usize>>;

/// A star may stand for nothing.
fn pass_stars(tokens: &[Token], active: &mut Active) {
    for (index, token) in tokens.iter().enumerate() {
        if *token == Token::Star {
            active[index + 1] = earlier(active[index + 1], active[index]);
        }
    }
}

/// All that goes on with the character `c`.
fn step(tokens: &[Token], active: &Active, c: char) -> Active {
    let mut next = vec![None; active.len()];
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Star if c != '\n' => next[index] = earlier(next[index], active[index]),
            Token::Any if c != '\n' => next[index + 1] = active[index],
            Token::Literal(literal) if *literal == c => next[index + 1] = active[index],
            _ => {}
        }
    }
    next
}

fn earlier(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The replacement with its references filled in.
fn fill_in(replacement: &str, matched: &[char]) -> String {
    let mut result = String::new();
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        match reference(rest) {
            Some((name, after)) => {
                if !name.is_empty() && name.chars().all(|c| c == '0') {
                    result.extend(matched);
                }
                rest = after;
            }
            None => result.push('$'),
        }
    }
    result.push_str(rest);
    result
}

/// The name after a `$`, in braces or not, and what follows.
fn reference(rest: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    if let Some(inner) = rest.strip_prefix('{') {
        let (name, after) = inner.split_once('}')?;
        return (!name.is_empty() && name.chars().all(is_name)).then_some((name, after));
    }
    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    (end > 0).then(|| rest.split_at(end))
}
