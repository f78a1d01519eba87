//! Lists of patterns with exceptions: `.dockerignore` and `--exclude`.
//!
//! The last pattern that matches a path, or a directory above it, decides; `!` before a pattern
//! makes it an exception. Patterns are anchored at the context's root (`*.md` matches no
//! `docs/a.md`), trimmed and path-cleaned; `/` at the front and at the end of a line means
//! nothing. The dialect is that of [`Glob::ignore`].
//!
//! Two ways to ask, both moby's: [`Patterns::matches`] looks at one path and the directories
//! above it; [`Patterns::matches_in`] goes down a tree and carries what matched above. They differ
//! where an exception comes before anything that it takes back: for `a/b` and then `!a`, walking
//! keeps `a/b` out. Building walks.

use thiserror::Error;

use crate::glob::{BadPattern, Glob, last_segment};

/// A list of patterns that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternsError {
    /// A `!` with nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneException,
    /// A pattern with a syntax error.
    #[error(transparent)]
    Bad(#[from] BadPattern),
}

/// The reader of `.dockerignore` files.
#[derive(Debug)]
pub struct IgnoreFile;

impl IgnoreFile {
    /// The patterns of a `.dockerignore`: one a line, blanks around it dropped, lines that begin
    /// with `#` and empty lines left out, a byte order mark skipped.
    pub fn parse(text: &[u8]) -> Result<Patterns, PatternsError> {
        Patterns::new(Self::lines(text))
    }

    /// The lines as patterns, cleaned but not compiled.
    pub fn lines(text: &[u8]) -> Vec<String> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let text = String::from_utf8_lossy(text);
        let lines = text.split('\n').filter(|line| !line.starts_with('#'));
        let lines = lines.map(str::trim).filter(|line| !line.is_empty());
        let cleaned = lines.map(|line| match line.strip_prefix('!') {
            Some(pattern) => format!("!{}", relative(pattern.trim())),
            None => relative(line),
        });
        cleaned.collect()
    }
}

/// A cleaned pattern without the slash at its front.
fn relative(pattern: &str) -> String {
    if pattern.is_empty() {
        return String::new();
    }
    let cleaned = clean(pattern);
    match cleaned.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => cleaned,
    }
}

/// The shortest path that means the same: no `.`, no `a/..`, no doubled or trailing slashes.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// A compiled list of patterns.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    exceptions: bool,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    role: Role,
    glob: Glob,
    /// For exceptions: what must match of each directory on the way down.
    way: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Ignore,
    Exception,
}

/// One segment of an exception.
#[derive(Clone, Debug)]
enum Step {
    Segment(Glob),
    /// A `**` or a class, which may cross slashes: anything may follow.
    Anything,
}

impl Patterns {
    /// Compiles patterns in order; those that are blank are left out.
    pub fn new(patterns: Vec<String>) -> Result<Self, PatternsError> {
        let mut compiled = Self::default();
        for pattern in patterns {
            let trimmed = pattern.trim();
            if trimmed.is_empty() {
                continue;
            }
            compiled.add(&clean(trimmed))?;
        }
        Ok(compiled)
    }

    fn add(&mut self, cleaned: &str) -> Result<(), PatternsError> {
        let (role, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err(PatternsError::LoneException),
            Some(text) => (Role::Exception, text),
            None => (Role::Ignore, cleaned),
        };
        let glob = Glob::ignore(text)?;
        let way = match role {
            Role::Ignore => Vec::new(),
            Role::Exception => way(text)?,
        };
        self.exceptions |= role == Role::Exception;
        self.patterns.push(Pattern { text: text.to_owned(), role, glob, way });
        Ok(())
    }

    /// Whether there are none, so that nothing matches.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The patterns as they were compiled, exceptions with their `!`.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.patterns.iter().map(|pattern| match pattern.role {
            Role::Ignore => pattern.text.clone(),
            Role::Exception => format!("!{}", pattern.text),
        })
    }

    /// Whether `path` (relative, slashes) is ignored, by itself or by a directory above it.
    pub fn matches(&self, path: &str) -> bool {
        self.matches_in(path, &MatchState::unknown()).0
    }

    /// Whether `path` is ignored, given what matched for the directory that holds it; and the
    /// state to hand on to what `path` holds.
    pub fn matches_in(&self, path: &str, parent: &MatchState) -> (bool, MatchState) {
        let mut state = MatchState::new(self.patterns.len());
        let ignored = self.walk(path, parent, |index| state.set(index));
        (ignored, state)
    }

    /// The same for a path that holds nothing.
    pub fn matches_file_in(&self, path: &str, parent: &MatchState) -> bool {
        self.walk(path, parent, |_| {})
    }

    fn walk(&self, path: &str, parent: &MatchState, mut matched: impl FnMut(usize)) -> bool {
        let name = last_segment(path);
        let mut ignored = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let could_change = (pattern.role == Role::Exception) == ignored;
            let hit = parent.contains(index)
                || (could_change
                    && (pattern.glob.matches_with_name(path, name)
                        || (!parent.known && pattern.matches_above(path))));
            if hit {
                matched(index);
                ignored = pattern.role == Role::Ignore;
            }
        }
        ignored
    }

    /// Whether an ignored directory must be entered all the same, as an exception could match
    /// something below it.
    pub fn may_descend(&self, dir_path: &str) -> bool {
        self.exceptions
            && self
                .patterns
                .iter()
                .filter(|pattern| pattern.role == Role::Exception)
                .any(|pattern| leads_below(&pattern.way, dir_path))
    }
}

impl Pattern {
    /// Whether it matches a directory above `path`.
    fn matches_above(&self, path: &str) -> bool {
        let mut slashes = path.match_indices('/');
        slashes.any(|(at, _)| self.glob.matches(&path[..at]))
    }
}

fn way(pattern: &str) -> Result<Vec<Step>, BadPattern> {
    let mut steps = Vec::new();
    for segment in pattern.split('/') {
        if segment.contains("**") || segment.contains('[') {
            steps.push(Step::Anything);
            break;
        }
        // A backslash before a slash protects nothing.
        let backslashes = segment.len() - segment.trim_end_matches('\\').len();
        let segment = &segment[..segment.len() - backslashes % 2];
        steps.push(Step::Segment(Glob::ignore(segment)?));
    }
    Ok(steps)
}

/// Whether something below `dir` could be reached by the steps.
fn leads_below(way: &[Step], dir: &str) -> bool {
    let mut steps = way.iter();
    for part in dir.split('/') {
        match steps.next() {
            Some(Step::Anything) => return true,
            Some(Step::Segment(glob)) if glob.matches(part) => {}
            None | Some(Step::Segment(_)) => return false,
        }
    }
    steps.next().is_some()
}

/// Which patterns matched a directory or one above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchState {
    known: bool,
    /// The first 64 patterns.
    first: u64,
    /// The others, 64 in each.
    more: Vec<u64>,
}

impl MatchState {
    /// The state of the root directory: nothing matched above.
    pub fn root() -> Self {
        Self { known: true, ..Self::default() }
    }

    fn unknown() -> Self {
        Self::default()
    }

    fn new(patterns: usize) -> Self {
        Self { known: true, first: 0, more: vec![0; patterns.saturating_sub(1) / 64] }
    }

    fn set(&mut self, index: usize) {
        if index < 64 {
            self.first |= 1 << index;
        } else {
            self.more[index / 64 - 1] |= 1 << (index % 64);
        }
    }

    fn contains(&self, index: usize) -> bool {
        let word = match (index / 64).checked_sub(1) {
            None => self.first,
            Some(word) => self.more.get(word).copied().unwrap_or(0),
        };
        word & (1 << (index % 64)) != 0
    }
}

#[cfg(test)]
mod tests;
