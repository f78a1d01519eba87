//! Why a build has no result.

use std::path::{Path, PathBuf};

use kiln_core::diagnostic::Diagnostic;
use kiln_core::digest::BlobDigest;
use kiln_core::source::Span;

/// Everything that ends a build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something is wrong with the Dockerfile, or with what the flags say about it.
    #[error("the Dockerfile cannot be built")]
    Invalid {
        /// What, all at once.
        diagnostics: Vec<Diagnostic>,
    },
    /// A step failed.
    #[error("{}", .0.message)]
    Step(Box<StepFailure>),
    /// An image could not be had.
    #[error("{message}")]
    Image {
        /// Which and why.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// A registry could not be reached, or is not able to answer.
    #[error("{message}")]
    Network {
        /// Which and why.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// The bytes of a layer that a shared cache had are not to be had any more, or are not what it
    /// claims. Within a build the step that makes the layer runs instead.
    #[error("{message}")]
    LostLayer {
        /// The blob.
        digest: BlobDigest,
        /// Which and why.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// The lock file has not what is needed.
    #[error("{message}")]
    Lock {
        /// What it lacks.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// The store.
    #[error(transparent)]
    Store(kiln_store::Error),
    /// A layer could not be read or written.
    #[error("{}", with_causes(.0))]
    Layer(#[from] kiln_store::layer_error::LayerError),
    /// A file of the user's or of an output.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was asked for cannot be done together, or not at all.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C.
    #[error("the build was canceled")]
    Canceled,
}

impl From<kiln_store::Error> for BuildError {
    fn from(error: kiln_store::Error) -> Self {
        if error.is_cancelled() { Self::Canceled } else { Self::Store(error) }
    }
}

/// A step that failed, and where it stands.
#[derive(Clone, Debug)]
pub struct StepFailure {
    /// Stable code: `run-failed`, `copy-failed`.
    pub code: &'static str,
    /// What happened, in one line.
    pub message: String,
    /// The instruction.
    pub span: Span,
    /// As progress showed it: `[app 2/5] RUN npm ci`.
    pub name: String,
    /// The last lines of its output, secrets hidden.
    pub last_output: Vec<String>,
    /// What to do next.
    pub help: Option<String>,
}

/// Why a step failed, before its place in the Dockerfile is known.
#[derive(Debug)]
pub(crate) enum StepError {
    /// It is about the step itself.
    Failed {
        /// Stable code.
        code: &'static str,
        /// One line.
        message: String,
        /// Its last output.
        last_output: Vec<String>,
        /// What to do next.
        help: Option<String>,
    },
    /// It is about the world.
    Build(BuildError),
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed { message, .. } => f.write_str(message),
            Self::Build(error) => error.fmt(f),
        }
    }
}

impl StepError {
    pub(crate) fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into(), last_output: Vec::new(), help: None }
    }

    pub(crate) fn with_help(mut self, text: impl Into<String>) -> Self {
        if let Self::Failed { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }
}

impl<E: Into<BuildError>> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::Build(error.into())
    }
}

/// An error with all that caused it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(&format!(": {more}"));
        }
        cause = error.source();
    }
    text
}

/// Gives an I/O error its path.
pub(crate) trait FileContext<T> {
    /// `action` is what was tried: `read`, `write`.
    fn at(self, action: &'static str, path: &Path) -> Result<T, BuildError>;
}

impl<T, E: Into<std::io::Error>> FileContext<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, BuildError> {
        self.map_err(|error| BuildError::File {
            action,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}
