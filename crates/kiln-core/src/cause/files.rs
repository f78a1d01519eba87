//! Files that differ, and the line that says so.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Files that a line names.
const SHOWN_FILES: usize = 3;

/// Files that are kept: more of them tell a person nothing.
const KEPT_FILES: usize = 2000;

/// Files that differ from those of an earlier build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChanges {
    /// What has them: `stage build`, `image nginx`, `context assets`; `None` is the build context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The files, by path.
    pub files: Vec<FileChange>,
    /// How many more there are that are not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: usize,
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Path in the context, or absolute in a stage; that of a directory ends with a slash, that of
    /// the context itself is empty.
    pub path: String,
    /// In what.
    pub changes: Vec<Change>,
}

/// In what a file differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is there now.
    Added,
    /// It was there.
    Removed,
    /// Its bytes.
    Content,
    /// Its permissions.
    Mode {
        /// Before.
        before: u32,
        /// Now.
        after: u32,
    },
    /// User and group.
    Owner {
        /// Before.
        before: (u32, u32),
        /// Now.
        after: (u32, u32),
    },
    /// Where a link points.
    Target {
        /// Before.
        before: String,
        /// Now.
        after: String,
    },
    /// What it is.
    Kind {
        /// Before.
        before: String,
        /// Now.
        after: String,
    },
    /// What a program may do (`security.capability`).
    Capability,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl FileChanges {
    /// These files of the build context (`None`), or of something else.
    pub fn new(of: Option<String>, mut files: Vec<FileChange>) -> Self {
        let unlisted = files.len().saturating_sub(KEPT_FILES);
        files.truncate(KEPT_FILES);
        Self { of, files, unlisted }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.files.len() + self.unlisted
    }

    /// [`FileChanges::list`], and of what.
    pub fn summary(&self) -> String {
        match &self.of {
            Some(of) => format!("{} in {of}", self.list()),
            None => self.list(),
        }
    }

    /// The first of them in one line: `a changed, b added and 12 more`. What came or went with its
    /// directory is not told apart.
    pub fn list(&self) -> String {
        let mut told: Vec<&FileChange> = Vec::new();
        let mut left_out: Vec<&FileChange> = Vec::new();
        for file in &self.files {
            let all = told.iter().chain(&left_out);
            if all.into_iter().any(|directory| file.comes_with(directory)) {
                continue;
            }
            let list = if told.len() < SHOWN_FILES { &mut told } else { &mut left_out };
            list.push(file);
        }
        // One more is named rather than counted.
        if left_out.len() == 1 && self.unlisted == 0 {
            told.append(&mut left_out);
        }
        let texts: Vec<String> = told.iter().map(ToString::to_string).collect();
        match left_out.len() + self.unlisted {
            0 => texts.join(", "),
            more => format!("{} and {more} more", texts.join(", ")),
        }
    }

    /// What stands above the list of all of them.
    pub(super) fn heading(&self) -> String {
        let of = self.of.as_deref().unwrap_or("the context");
        match self.count() {
            1 => format!("a file of {of} is not what it was"),
            count => format!("{count} files of {of} are not what they were"),
        }
    }
}

impl FileChange {
    /// Whether it was added or removed with the directory above it.
    fn comes_with(&self, directory: &Self) -> bool {
        directory.path.ends_with('/')
            && self.path.starts_with(&directory.path)
            && matches!(directory.changes.as_slice(), [Change::Added | Change::Removed])
            && self.changes == directory.changes
    }
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the context itself" } else { &self.path };
        let texts: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        let is_verb =
            |change: &Change| matches!(change, Change::Added | Change::Removed | Change::Content);
        let colon = if self.changes.first().is_some_and(is_verb) { "" } else { ":" };
        write!(f, "{path}{colon} {}", texts.join(", "))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added => f.write_str("added"),
            Self::Removed => f.write_str("removed"),
            Self::Content => f.write_str("changed"),
            Self::Mode { before, after } => write!(f, "mode {before:o} -> {after:o}"),
            Self::Owner { before, after } => {
                write!(f, "owner {}:{} -> {}:{}", before.0, before.1, after.0, after.1)
            }
            Self::Target { before, after } => write!(f, "target {before} -> {after}"),
            Self::Kind { before, after } => write!(f, "{before} -> {after}"),
            Self::Capability => f.write_str("capabilities changed"),
        }
    }
}
