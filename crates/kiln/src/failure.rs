//! How a command fails, and the exit code of each way: the one place that knows them.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | ok |
//! | 1 | the build failed, or what it was given (a file, a Dockerfile, an image name) is wrong |
//! | 2 | usage: the command line cannot be what was meant |
//! | 3 | environment: disk, network, a feature of the kernel |
//! | 70 | a bug in kiln |
//! | 130 | interrupted |

use std::io;
use std::path::{Path, PathBuf};

use kiln_core::diagnostic::Diagnostic;
use kiln_core::source::SourceFile;

use crate::session::StepFailure;

/// Exit code of a usage error.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Exit code of a bug.
pub(crate) const EXIT_BUG: u8 = 70;

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line asks for something that cannot be.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do instead.
        help: Option<String>,
    },
    /// Something that the command was given is missing or wrong.
    #[error("{message}")]
    Input {
        /// Stable code of the message.
        code: &'static str,
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// The Dockerfile is wrong.
    #[error("{} is not valid", source_file.name())]
    Invalid {
        /// Its text.
        source_file: SourceFile,
        /// All that is wrong.
        diagnostics: Vec<Diagnostic>,
    },
    /// A step of a build failed.
    #[error("{}", failure.message)]
    Step {
        /// The Dockerfile.
        source_file: SourceFile,
        /// What failed.
        failure: Box<StepFailure>,
    },
    /// The machine cannot: disk, network, kernel.
    #[error("{message}")]
    Environment {
        /// What failed, on what.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {}", path.display(), reason(error))]
    File {
        /// What was tried: `open`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// A check found problems, which it has already shown.
    #[error("{problems} problems")]
    Problems {
        /// How many.
        problems: usize,
    },
    /// The user ended it.
    #[error("interrupted")]
    Interrupted,
}

/// What the system said, without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|number| format!(" (os error {number})"));
    let text = number.as_deref().and_then(|number| text.strip_suffix(number)).unwrap_or(&text);
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

impl Failure {
    /// A usage error.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: None }
    }

    /// Something given is wrong.
    pub(crate) fn input(code: &'static str, message: impl Into<String>) -> Self {
        Self::Input { code, message: message.into(), help: None }
    }

    /// Something of the machine is wrong.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::Environment { message: message.into(), help: None }
    }

    /// A file could not be read or written.
    pub(crate) fn file(action: &'static str, path: impl AsRef<Path>, error: io::Error) -> Self {
        Self::File { action, path: path.as_ref().to_owned(), error }
    }

    /// The same with a line of help; only where the kind has one.
    #[must_use]
    pub(crate) fn with_help(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Self::Usage { help, .. }
            | Self::Input { help, .. }
            | Self::Environment { help, .. } => *help = Some(text.into()),
            _ => {}
        }
        self
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Input { .. }
            | Self::Invalid { .. }
            | Self::Step { .. }
            | Self::Problems { .. } => 1,
            Self::Usage { .. } => EXIT_USAGE,
            Self::Environment { .. } => 3,
            Self::File { error, .. } => match error.kind() {
                // A file that is not there was named wrongly; anything else is the machine's.
                io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => 1,
                _ => 3,
            },
            Self::Interrupted => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_code() {
        assert_eq!(Failure::usage("x").exit_code(), 2);
        assert_eq!(Failure::input("x", "x").exit_code(), 1);
        assert_eq!(Failure::environment("x").exit_code(), 3);
        assert_eq!(Failure::Interrupted.exit_code(), 130);
        let missing = Failure::file("open", "x", io::ErrorKind::NotFound.into());
        let full = Failure::file("write", "x", io::ErrorKind::StorageFull.into());
        assert_eq!((missing.exit_code(), full.exit_code()), (1, 3));
    }
}
