//! Why a step was not answered by the cache, as a value: what differs from the last build of the
//! same Dockerfile. Every cause is known, none is guessed; where only a part can be known, the
//! cause says that part.

mod compare;
mod files;
mod settings;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use compare::{Comparison, Difference, Extent};
pub use files::{Change, FileChange, FileChanges};
pub use settings::{Naming, settings};

/// Longest value or instruction that a line shows, in characters.
const SHOWN_CHARACTERS: usize = 60;

/// One reason for a step to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cause {
    /// Nothing like it was ever done.
    New,
    /// It was done for another build, but was no part of the last one of this Dockerfile.
    NotInLastBuild,
    /// It was done for another build; this Dockerfile was not built before, as far as is known.
    NoEarlierBuild,
    /// `--no-cache`
    NoCache,
    /// `--no-cache-filter`
    NoCacheFilter,
    /// The last build did the same, and the result is no longer in the store.
    ResultGone,
    /// The last build tried the same, and it failed.
    FailedBefore,
    /// The last build began the same, and was ended.
    CanceledBefore,
    /// The last build did it, but what it was made of is no longer in the store.
    RecordGone,
    /// Something that the Dockerfile or the command line says.
    Setting {
        /// What: `command`, `build-arg VERSION`, `--chown`.
        name: String,
        /// Its value before, if there was one that may be shown.
        before: Option<String>,
        /// Its value now, if there is one that may be shown.
        after: Option<String>,
        /// What became of it.
        change: SettingChange,
    },
    /// Files of a context or a stage.
    Files(FileChanges),
    /// The tag of a base image points to another image.
    BaseMoved {
        /// The image's name.
        reference: String,
        /// Digest of its manifest before.
        before: String,
        /// Digest of its manifest now.
        after: String,
    },
    /// The Dockerfile names another base image.
    BaseReplaced {
        /// Its name before.
        before: String,
        /// Its name now.
        after: String,
    },
    /// An earlier step.
    Step {
        /// Its instruction: `RUN apt-get update`.
        instruction: String,
        /// Its line in the Dockerfile.
        line: Option<usize>,
        /// Its stage, when it is another one's.
        stage: Option<String>,
        /// What it did.
        change: StepChange,
        /// Which of its files count, when the step takes only some.
        files: Option<FileChanges>,
    },
    /// Something whose parts are not known, as it is written.
    Content {
        /// What: `` `src` of the context``.
        what: String,
    },
}

/// What became of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingChange {
    /// It is new.
    Added,
    /// It is another one.
    Changed,
    /// It is gone.
    Removed,
}

/// What an earlier step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepChange {
    /// The same instruction made other files.
    OtherFiles,
    /// The instruction is another one, and made other files.
    Changed,
    /// It did not stand below.
    Added,
    /// It no longer stands below.
    Removed,
    /// It stands somewhere else.
    Moved,
}

impl Cause {
    /// Whether there is nothing that a person has to look at: what is new has to run.
    pub fn is_new(&self) -> bool {
        matches!(self, Self::New | Self::NotInLastBuild | Self::NoEarlierBuild)
    }

    /// The files that it names.
    pub fn files(&self) -> Option<&FileChanges> {
        match self {
            Self::Files(files) => Some(files),
            Self::Step { files, .. } => files.as_ref(),
            _ => None,
        }
    }

    /// Itself without the files that [`Cause::files`] names.
    pub fn heading(&self) -> String {
        match self {
            Self::Step { instruction, line, stage, change, .. } => {
                step_text((instruction, *line, stage.as_deref()), *change)
            }
            Self::Files(files) => files.heading(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("this instruction has not run before"),
            Self::NotInLastBuild => f.write_str("the last build did not have this instruction"),
            Self::NoEarlierBuild => {
                f.write_str("no earlier build of this Dockerfile is known to compare with")
            }
            Self::NoCache => f.write_str("--no-cache"),
            Self::NoCacheFilter => f.write_str("--no-cache-filter"),
            Self::ResultGone => {
                f.write_str("nothing changed, but its result is no longer in the store")
            }
            Self::FailedBefore => f.write_str("it failed in the last build"),
            Self::CanceledBefore => f.write_str("the last build ended before it did"),
            Self::RecordGone => f.write_str("the record of its last run is no longer in the store"),
            Self::Setting { name, before, after, change } => {
                setting(f, name, (before.as_deref(), after.as_deref()), *change)
            }
            Self::Files(files) => f.write_str(&files.summary()),
            Self::BaseMoved { reference, before, after } => {
                write!(f, "base image moved: {reference} {} -> {}", short(before), short(after))
            }
            Self::BaseReplaced { before, after } => {
                write!(f, "base image changed: {before} -> {after}")
            }
            Self::Step { instruction, line, stage, change, files } => {
                f.write_str(&step_text((instruction, *line, stage.as_deref()), *change))?;
                match files {
                    Some(files) => write!(f, ": {}", files.list()),
                    None => Ok(()),
                }
            }
            Self::Content { what } => write!(f, "{what} changed"),
        }
    }
}

fn setting(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    (before, after): (Option<&str>, Option<&str>),
    change: SettingChange,
) -> fmt::Result {
    // Which of its characters differ is for `kiln explain`; a line shows where they begin.
    let (before, after) = (before.map(shown), after.map(shown));
    match (change, before, after) {
        (SettingChange::Changed, Some(before), Some(after)) if before != after => {
            write!(f, "{name} changed: {before} -> {after}")
        }
        (SettingChange::Changed, ..) => write!(f, "{name} changed"),
        (SettingChange::Added, _, Some(after)) => write!(f, "{name} added: {after}"),
        (SettingChange::Added, ..) => write!(f, "{name} added"),
        (SettingChange::Removed, Some(before), _) => write!(f, "{name} removed: {before}"),
        (SettingChange::Removed, ..) => write!(f, "{name} removed"),
    }
}

fn step_text(
    (instruction, line, stage): (&str, Option<usize>, Option<&str>),
    change: StepChange,
) -> String {
    let place = match (stage, line) {
        (None, None) => String::new(),
        (None, Some(line)) => format!(" (line {line})"),
        (Some(stage), None) => format!(" (stage {stage})"),
        (Some(stage), Some(line)) => format!(" (stage {stage}, line {line})"),
    };
    let what = match change {
        StepChange::OtherFiles => "made other files",
        StepChange::Changed => "was changed, and made other files",
        StepChange::Added => "now comes before it",
        StepChange::Removed => "no longer comes before it",
        StepChange::Moved => "was moved",
    };
    format!("{}{place} {what}", shown(instruction))
}

/// A text in one line, cut off.
pub(crate) fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut characters = line.char_indices();
    match characters.nth(SHOWN_CHARACTERS) {
        Some(_) => {
            let (end, _) = line.char_indices().nth(SHOWN_CHARACTERS - 1).unwrap_or((0, ' '));
            format!("{}…", line[..end].trim_end())
        }
        None => line,
    }
}

/// `sha256:0123456789ab…`
fn short(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) if hex.len() > 12 => format!("{algorithm}:{}…", &hex[..12]),
        _ => digest.to_owned(),
    }
}

#[cfg(test)]
mod tests;
